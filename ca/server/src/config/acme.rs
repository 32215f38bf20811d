//! How devices are served: the ACME server, and the CA for attestation keys.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::Uri;
use undercroft_attestors::chain::Certificate;
use undercroft_ca::certificate::{Constraints, certificates_from_pem};
use undercroft_ca::nodes::NodePolicy;
use undercroft_ca::policy::Known;
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::service::{AttestationAuthority, Devices, IdTemplate};
use undercroft_cli::{Failure, read_text};
use undercroft_keys::KeyAlgorithm;

use super::raw::{AcmeConfig, AttestationConfig};
use super::{Domain, read_node_policy};

/// How devices are served.
#[derive(Debug)]
pub struct AcmeSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How clients write its address; no slash at its end.
    pub url: String,
    /// Who gets what.
    pub devices: Arc<Devices>,
    /// Which TPMs are believed; none if no attestation keys are certified.
    pub tpms: Option<NodePolicy>,
}

impl AcmeSettings {
    pub(super) fn new(
        config: AcmeConfig,
        domains: &[Domain],
        known: Known<'_>,
        base: &Path,
    ) -> Result<Self, Failure> {
        let wrong = |field: &str, what: String| Failure::usage(format!("{field}: {what}"));
        let url = config.url.trim_end_matches('/');
        let parsed: Uri = url.parse().map_err(|error| wrong("url", format!("`{url}`: {error}")))?;
        let is_bare = parsed.query().is_none() && matches!(parsed.path(), "" | "/");
        if parsed.scheme_str() != Some("https") || parsed.host().is_none() || !is_bare {
            return Err(wrong("url", format!("`{url}` is not https:// and a name, without a path")));
        }
        let domain = domains.iter().find(|domain| domain.name.as_str() == config.domain);
        let domain = domain.ok_or_else(|| {
            wrong("domain", format!("there is no [[domain]] of the name `{}`", config.domain))
        })?;
        profile("profile", &config.profile, Kind::Svid, known)?;
        let template =
            IdTemplate::parse(&config.spiffe_id, &domain.name).map_err(|what| wrong("spiffe-id", what))?;
        let mut roots = Vec::new();
        if let Some(file) = &config.attestation_roots {
            let path = base.join(file);
            let during = |what: String| wrong("attestation-roots", format!("{}: {what}", path.display()));
            let ders =
                certificates_from_pem(&read_text(&path)?).map_err(|error| during(error.to_string()))?;
            for der in ders {
                // Whoever is below an authority of ours, as a SPIRE server may be, could name any device.
                if domain.roots.iter().any(|root| root.der() == der) {
                    return Err(during(
                        "it is a root of the domain, below which others than the attestation CA issue".into(),
                    ));
                }
                roots.push(Certificate::from_der(&der).map_err(|error| during(error.to_string()))?);
            }
        }
        if config.attestation.is_none() && roots.is_empty() {
            return Err(wrong(
                "attestation",
                "without [acme.attestation] and attestation-roots no attestation key would be believed"
                    .into(),
            ));
        }
        let attestation =
            config.attestation.map(|config| attestation(config, domain, known, base)).transpose();
        let attestation = attestation.map_err(|failure| failure.during("attestation"))?;
        let (authority, tpms) = attestation.unzip();
        Ok(Self {
            listen: config.listen,
            url: url.to_owned(),
            devices: Arc::new(Devices::new(domain.name.clone(), config.profile, template, roots, authority)),
            tpms,
        })
    }
}

fn attestation(
    config: AttestationConfig,
    domain: &Domain,
    known: Known<'_>,
    base: &Path,
) -> Result<(AttestationAuthority, NodePolicy), Failure> {
    let wrong = |what: String| Failure::usage(format!("authority `{}`: {what}", config.authority));
    let found = domain.authorities.iter().find(|authority| authority.name == config.authority);
    let found = found.ok_or_else(|| wrong(format!("`{}` has none of that name", domain.name.as_str())))?;
    if !found.gates.is_empty() {
        return Err(wrong("it has gates, which do not know these grants; name another".into()));
    }
    if matches!(found.algorithm, KeyAlgorithm::RsaPss(_)) {
        return Err(wrong("verifiers of TPM statements do not know RSA-PSS; name another".into()));
    }
    if *found.certificate.constraints() != Constraints::None {
        return Err(wrong(
            "its certificate has name constraints, which verifiers of TPM statements refuse".into(),
        ));
    }
    let profile = profile("profile", &config.profile, Kind::AttestationKey, known)?;
    let tpms = read_node_policy(&base.join(&config.tpm_policy), known)
        .map_err(|failure| failure.during("tpm-policy"))?;
    Ok((AttestationAuthority { authority: config.authority, profile }, tpms))
}

fn profile(field: &str, name: &str, kind: Kind, known: Known<'_>) -> Result<Profile, Failure> {
    let found = known.profiles.iter().find(|profile| profile.name() == name && profile.kind() == kind);
    found.cloned().ok_or_else(|| {
        let kind = Profile::standard(kind);
        Failure::usage(format!("{field}: `{name}` is no profile of kind {}", kind.name()))
    })
}
