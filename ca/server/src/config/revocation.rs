//! How the revocations of authorities are published.

use std::collections::BTreeMap;

use undercroft_ca::tbs::HttpUrl;
use undercroft_ca::time::Lifetime;
use undercroft_cli::Failure;
use undercroft_keymgr::KeyUri;
use undercroft_keys::KeyAlgorithm;

use super::Domain;
use super::raw::AuthorityConfig;

/// The shortest life of a CRL or a response: it is made anew at half of it.
const SHORTEST: Lifetime = Lifetime::seconds(60);

/// How the revocations of an authority are published.
#[derive(Debug)]
pub struct Revocation {
    /// From thisUpdate to nextUpdate of complete CRLs.
    pub crl_lifetime: Lifetime,
    /// Of delta CRLs; there are none if it is absent.
    pub delta_lifetime: Option<Lifetime>,
    /// Its OCSP responder.
    pub ocsp: Option<Ocsp>,
}

/// An OCSP responder.
#[derive(Debug)]
pub struct Ocsp {
    /// Its key.
    pub key: KeyUri,
    /// What that is and how it signs.
    pub algorithm: KeyAlgorithm,
    /// From thisUpdate to nextUpdate of its responses.
    pub lifetime: Lifetime,
}

impl Revocation {
    pub(super) fn of(config: &AuthorityConfig) -> Result<Option<Self>, Failure> {
        let wrong = |what: &str| Failure::usage(format!("authority `{}`: {what}", config.name));
        let Some(revocation) = &config.revocation else {
            return match config.urls.crl_shards {
                None => Ok(None),
                Some(_) => Err(wrong(
                    "crl-shards is set and there is no [domain.authority.revocation], so that nobody would make the CRLs that certificates name",
                )),
            };
        };
        if config.gates.is_some() && revocation.ocsp_key.is_some() {
            return Err(wrong(
                "revocation: gates agree to certificates of callers and to CRLs, and to no OCSP responder; leave ocsp-key and ocsp-algorithm out, and publish CRLs",
            ));
        }
        let lives =
            [Some(revocation.crl_lifetime), revocation.delta_lifetime, Some(revocation.ocsp_lifetime)];
        if lives.into_iter().flatten().any(|life| life < SHORTEST) {
            return Err(wrong(
                "revocation: nothing lives shorter than a minute, since it is made anew at half of its life",
            ));
        }
        if revocation.delta_lifetime.is_some_and(|delta| delta >= revocation.crl_lifetime) {
            return Err(wrong("revocation: delta-lifetime must be shorter than crl-lifetime"));
        }
        let ocsp = match (&revocation.ocsp_key, &revocation.ocsp_algorithm, &config.urls.ocsp) {
            (None, None, _) => None,
            (Some(key), Some(algorithm), Some(_)) => Some(Ocsp {
                key: key.parse()?,
                algorithm: algorithm.parse().map_err(|error| wrong(&format!("ocsp-algorithm: {error}")))?,
                lifetime: revocation.ocsp_lifetime,
            }),
            _ => {
                return Err(wrong("revocation: a responder has ocsp-key, ocsp-algorithm and `ocsp` in urls"));
            }
        };
        Ok(Some(Self {
            crl_lifetime: revocation.crl_lifetime,
            delta_lifetime: revocation.delta_lifetime,
            ocsp,
        }))
    }
}

/// What is published is served, and each thing at a path of its own.
pub(super) fn places_are_distinct(domains: &[Domain], is_served: bool) -> Result<(), Failure> {
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for domain in domains {
        for authority in domain.authorities.iter().filter(|authority| authority.revocation.is_some()) {
            let own = format!("authority `{}` of `{}`", authority.name, domain.name.as_str());
            if !is_served {
                return Err(Failure::usage(format!(
                    "{own} publishes its revocations, and nothing is served over HTTP; set `logs` in [listen]"
                )));
            }
            let urls = &authority.urls;
            let shards = (0..urls.crl_shards.map_or(0, undercroft_ca::revocation::Shards::count))
                .map(|shard| urls.shard(shard));
            let crls = std::iter::once(urls.crl.clone()).chain(shards);
            let crls: Vec<HttpUrl> = crls.flat_map(|url| [url.delta(), url]).collect();
            for url in crls.iter().chain([&urls.certificate]) {
                if let Some(other) = places.insert(url.path().to_owned(), own.clone()) {
                    return Err(Failure::usage(format!(
                        "{} is the path of a URL of {other} and of {own}: give each a path of its own",
                        url.path()
                    )));
                }
            }
        }
    }
    Ok(())
}
