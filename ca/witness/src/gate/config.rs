//! The gate's configuration: one TOML file. Paths in it are relative to its own folder.
//!
//! ```toml
//! key = "pkcs11:token=gate;object=gate"     # ECDSA P-256
//! state = "state"
//! listen = "127.0.0.1:8445"
//! policy = "policy.toml"                    # this team's own copy
//! policy-arc = "1.3.6.1.4.1.32473.1"
//! domains = ["control.example", "prod.example"]
//! witness-policy = "witnesses.policy"       # without it, signed checkpoints are enough
//! grace = "10m"                             # how long leaves go on while witnesses are away
//! activator = "activator.toml"              # a witness's configuration, to certify attestation keys by; without it, none
//!
//! [[authority]]
//! custody = "prod.custody.json"             # from `undercroft keys create --gate`
//! domain = "prod.example"
//! certificate = "prod.pem"                  # from the ceremony; leave both out until then
//! log = "prod.vkey"                         # from `undercroft doctor`
//! urls = { crl = "http://pki.example/prod.crl", certificate = "http://pki.example/prod.cer" }
//! server-names = []                         # DNS names of the daemon in this domain
//! enrols = false                            # for the control domain: whether enrolled callers get certificates
//! ca-callers = ["spiffe://control.example/spire/prod"]   # whose CA certificates this team has approved
//! gates = ["gate-a.pem", "gate-b.pem"]      # all gates of the key, in the order in which it was made with them
//! rate = { most = 600, per = "1m" }
//! ca-rate = { most = 4, per = "1h" }        # and of these, CA certificates
//! crl-lifetime = "7d"                       # for how long its CRLs may be good; without it, it signs none
//!
//! [[device]]
//! name = "gate"
//! uri = "pkcs11:token=gate?module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
//! pin-file = "gate.pin"
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_ca::certificate::{AuthorityCertificate, public_key_from_pem};
use undercroft_ca::custody::CustodyFile;
use undercroft_ca::names::{DnsName, TrustDomain, parse_trust_domain};
use undercroft_ca::policy::{Known, Policy};
use undercroft_ca::profile::{Kind, PolicyArc, Profile, ProfileConfig};
use undercroft_ca::review::Review;
use undercroft_ca::strict_toml;
use undercroft_ca::tbs::Urls;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{Failure, read_text, tokens};
use undercroft_keymgr::{Backend, DeviceConfig, KeyUri, Secrecy, Tokens};
use undercroft_keys::KeyAlgorithm;
use undercroft_tpm_wire::{Name, PublicArea, policy};

use super::rate::{CRL_RATE, Rate, RateConfig};
use super::{Assured, GatedAuthority, Issuing, is_gated};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    key: String,
    state: PathBuf,
    listen: SocketAddr,
    policy: PathBuf,
    policy_arc: PolicyArc,
    domains: Vec<String>,
    #[serde(default = "svid")]
    caller_profile: String,
    witness_policy: Option<PathBuf>,
    grace: Option<Lifetime>,
    activator: Option<PathBuf>,
    #[serde(default, rename = "profile")]
    profiles: Vec<ProfileConfig>,
    #[serde(default, rename = "authority")]
    authorities: Vec<AuthorityConfig>,
    #[serde(default, rename = "device")]
    devices: Vec<DeviceConfig>,
}

fn svid() -> String {
    "svid".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AuthorityConfig {
    custody: PathBuf,
    domain: String,
    /// With `log`, or neither.
    certificate: Option<PathBuf>,
    log: Option<PathBuf>,
    urls: Urls,
    #[serde(default)]
    server_names: Vec<DnsName>,
    #[serde(default)]
    enrols: bool,
    #[serde(default)]
    ca_callers: BTreeSet<String>,
    /// The public keys (PEM) of all gates of the key, in the order in which it was made with them.
    gates: Vec<PathBuf>,
    rate: RateConfig,
    /// For how long its CRLs may be good. Without it the key signs none.
    crl_lifetime: Option<Lifetime>,
    /// Needed where there are `ca-callers`.
    ca_rate: Option<RateConfig>,
}

/// A configuration whose parts agree with each other.
pub struct Config {
    /// The gate's key.
    pub key: KeyUri,
    /// The folder of its state.
    pub state: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The keys that it releases.
    pub authorities: Vec<GatedAuthority>,
    /// Whose cosignatures checkpoints must have.
    pub witnesses: Option<Assured>,
    /// As whom it certifies attestation keys, if it does: TPMs know a gate by a P-256 key, and statements are Ed25519
    /// cosignatures.
    pub activator: Option<crate::config::Config>,
    /// The devices.
    pub tokens: Tokens,
}

impl Config {
    /// Reads the file at `path`. `backends` are those that the program was built with.
    ///
    /// # Errors
    /// The file, or one that it names, cannot be read, or contradicts itself.
    pub fn read(
        path: &Path,
        secrecy: Secrecy,
        backends: fn(Secrecy) -> Vec<Box<dyn Backend>>,
    ) -> Result<Self, Failure> {
        let raw: RawConfig = strict_toml::parse(&path.display().to_string(), &read_text(path)?)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let domains = raw.domains.iter().map(|name| parse_trust_domain(name));
        let domains: Vec<TrustDomain> =
            domains.collect::<Result<_, _>>().map_err(|error| wrong(format!("domains: {error}")))?;
        let mut profiles: Vec<_> = Kind::ALL.into_iter().map(Profile::standard).collect();
        for profile in raw.profiles {
            profiles.push(Profile::from_config(profile).map_err(|error| wrong(format!("profile: {error}")))?);
        }
        let caller_profile = profiles.iter().find(|profile| profile.name() == raw.caller_profile);
        let caller_profile = caller_profile
            .ok_or_else(|| wrong(format!("caller-profile: there is no profile `{}`", raw.caller_profile)))?;
        let policy_path = base.join(&raw.policy);
        let known = Known { domains: &domains, profiles: &profiles };
        let policy = Policy::parse(&policy_path.display().to_string(), &read_text(&policy_path)?, known)?;
        let authorities = raw
            .authorities
            .into_iter()
            .map(|authority| read_authority(authority, base, &policy, raw.policy_arc, caller_profile))
            .collect::<Result<_, _>>()?;
        let witnesses = match (raw.witness_policy, raw.grace) {
            (None, None) => None,
            (None, Some(_)) => return Err(wrong("grace: there is no witness-policy".to_owned())),
            (Some(file), grace) => {
                let file = base.join(file);
                let policy = read_text(&file)?
                    .parse()
                    .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
                Some(Assured { policy, grace: grace.unwrap_or(Lifetime::seconds(0)) })
            }
        };
        Ok(Self {
            key: raw.key.parse()?,
            state: base.join(raw.state),
            listen: raw.listen,
            authorities,
            witnesses,
            activator: raw
                .activator
                .map(|file| read_activator(&base.join(file), secrecy, backends))
                .transpose()?,
            tokens: tokens(raw.devices, base, secrecy, backends(secrecy))?,
        })
    }
}

fn read_activator(
    path: &Path,
    secrecy: Secrecy,
    backends: fn(Secrecy) -> Vec<Box<dyn Backend>>,
) -> Result<crate::config::Config, Failure> {
    let config = crate::config::Config::read(path, secrecy, backends(secrecy))?;
    if config.endorsement.is_none() || config.listen.is_some() {
        return Err(Failure::usage(format!(
            "{}: a gate's activator has endorsement-anchors, and no listen: the gate listens for it",
            path.display()
        )));
    }
    Ok(config)
}

fn read_authority(
    config: AuthorityConfig,
    base: &Path,
    own: &Policy,
    arc: PolicyArc,
    caller_profile: &Profile,
) -> Result<GatedAuthority, Failure> {
    let path = base.join(&config.custody);
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let file: CustodyFile =
        serde_json::from_str(&read_text(&path)?).map_err(|error| wrong(error.to_string()))?;
    let area = PublicArea::parse(&file.tpm_public_area().map_err(wrong)?);
    let area = area.map_err(|error| wrong(error.to_string()))?;
    is_gated(&area).map_err(wrong)?;
    if !config.ca_callers.is_empty() && config.ca_rate.is_none() {
        return Err(wrong("ca-callers without ca-rate: each CA certificate could make many".into()));
    }
    let gates = config.gates.iter().map(|path| read_gate(&base.join(path)));
    let gates = gates.collect::<Result<Vec<_>, _>>()?;
    // Else somebody else could release it, too, whom this team does not know.
    if policy::gated_by(&gates)[..] != area.auth_policy[..] {
        return Err(wrong(
            "the key was made with other gates than those in `gates`, or in another order; nobody knows who may release it".into(),
        ));
    }
    let public_key = area.public_key().map_err(|error| wrong(error.to_string()))?;
    let algorithm: KeyAlgorithm = file.algorithm.parse().map_err(|error| wrong(format!("{error}")))?;
    let domain = parse_trust_domain(&config.domain).map_err(|error| Failure::usage(error.to_string()))?;
    let issuing = match (config.certificate, config.log) {
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(wrong("give the authority both its certificate and its log, or neither yet".into()));
        }
        (Some(certificate), Some(log)) => {
            let log_path = base.join(log);
            let log = read_text(&log_path)?
                .trim_end()
                .parse()
                .map_err(|error| Failure::usage(format!("{}: {error}", log_path.display())))?;
            let path = base.join(certificate);
            let certificate = AuthorityCertificate::from_pem(&read_text(&path)?)
                .map_err(|error| Failure::from(error).during(path.display()))?;
            if *certificate.public_key() != public_key || certificate.uris() != [domain.id_string()] {
                return Err(Failure::usage(format!(
                    "{}: it is not the certificate of this key for {}",
                    path.display(),
                    domain.id_string()
                )));
            }
            let review = Review {
                issuer: Review::issuer(&certificate, algorithm, config.urls),
                domain,
                policy: own.clone(),
                arc,
                enrols: config.enrols.then(|| caller_profile.clone()),
                server_names: config.server_names,
                authorities: config.ca_callers,
                crls: config.crl_lifetime,
            };
            Some(Issuing {
                log,
                review,
                rate: Rate::new(config.rate),
                ca_rate: config.ca_rate.map(Rate::new),
                crl_rate: Rate::new(CRL_RATE),
            })
        }
    };
    Ok(GatedAuthority { area, public_key, issuing })
}

fn read_gate(path: &Path) -> Result<Name, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let key = public_key_from_pem(&read_text(path)?).map_err(|error| wrong(error.to_string()))?;
    let area = PublicArea::of_gate(&key).ok_or_else(|| wrong("a gate's key is ecdsa-p256".into()))?;
    Ok(area.name())
}
