//! The daemon's configuration: one TOML file, read strictly, then validated.
//!
//! Paths in it are relative to its own folder.

mod acme;
mod gates;
mod hardware;
mod installation;
mod raw;
mod revocation;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Uri;
use undercroft_attestors::custody::Demand;
use undercroft_attestors::trust::Trust;
use undercroft_ca::approval::Roster;
use undercroft_ca::certificate::{AuthorityCertificate, Constraints, certificates_from_pem};
use undercroft_ca::log_key::{LogOf, origin};
use undercroft_ca::names::{DnsName, SpiffeId, TrustDomain, parse_spiffe_id, parse_trust_domain};
use undercroft_ca::nodes::NodePolicy;
use undercroft_ca::policy::{Known, Policy};
use undercroft_ca::profile::{Assured, Kind, PolicyArc, Profile};
use undercroft_ca::strict_toml;
use undercroft_ca::tbs::Urls;
use undercroft_ca::time::Lifetime;
use undercroft_cli::{Failure, read_text, tokens, trust};
use undercroft_keymgr::{Backend, KeyUri, Secrecy, Tokens};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Digest;
use undercroft_log::note::KeyName;
use undercroft_log::witnesses::WitnessPolicy;

pub use acme::AcmeSettings;
pub use gates::GateAddress;
pub use hardware::Hardware;
pub(crate) use hardware::hexadecimal;
pub use installation::Installation;
use raw::{AuthorityConfig, CeremonyConfig, Config as RawConfig, DomainConfig};
pub use revocation::{Ocsp, Revocation};

/// A configuration whose parts agree with each other.
#[derive(Debug)]
pub struct Config {
    /// SHA-256 of its text.
    pub digest: Digest,
    /// Whether software keys are accepted.
    pub development: bool,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the logs are served over HTTP, if they are.
    pub listen_logs: Option<SocketAddr>,
    /// Where administration listens.
    pub admin_socket: PathBuf,
    /// The users who may administer.
    pub admin_users: BTreeSet<u32>,
    /// The database file.
    pub database: PathBuf,
    /// The devices.
    pub tokens: Tokens,
    /// Who is believed about TPMs.
    pub trust: Arc<Trust>,
    /// How often custody is proved again of every key.
    pub custody_every: Lifetime,
    /// The domains, the control domain first.
    pub domains: Vec<Domain>,
    /// The policy.
    pub policy: Policy,
    /// How devices are served; none if they are not.
    pub acme: Option<AcmeSettings>,
    /// How nodes are judged; none if they do not attest here.
    pub node_policy: Option<NodePolicy>,
    /// The arc of the certificate policies.
    pub policy_arc: PolicyArc,
    /// The profile of enrolled callers.
    pub caller_profile: Profile,
    /// Every profile.
    pub profiles: Vec<Profile>,
    /// Whose cosignatures checkpoints need; none if nobody's.
    pub witnesses: Option<Arc<WitnessPolicy>>,
    /// How long leaves go on while too few witnesses answer.
    pub witness_grace: Lifetime,
    /// Transcripts that the control log takes note of.
    pub ceremonies: Vec<Ceremony>,
    /// Who may approve that a log goes on under another origin, and that the roots of a domain change; nobody if there is
    /// no roster.
    pub recovery: Option<Roster>,
}

/// A domain.
#[derive(Debug)]
pub struct Domain {
    /// Its name.
    pub name: TrustDomain,
    /// The origin of its log.
    pub origin: KeyName,
    /// The key of its log.
    pub log_key: KeyUri,
    /// The key of the second line of its checkpoints, ECDSA on P-256.
    pub second_log_key: Option<KeyUri>,
    /// Its roots: those of its first bundle, and those that rotations speak of.
    pub roots: Vec<AuthorityCertificate>,
    /// How often those who take its bundle should look for a newer one.
    pub refresh_hint: Lifetime,
    /// Those whom its rotations wait for.
    pub consumers: Vec<SpiffeId>,
    /// Its authorities.
    pub authorities: Vec<Authority>,
    /// The names by which clients reach the daemon as a member of this domain; none if it is none.
    pub server_names: Vec<DnsName>,
    /// What custody the keys of its authorities must have.
    pub custody: Demand,
    /// What custody the keys of its log must have.
    pub log_custody: Demand,
    /// What devices remember of its log.
    pub hardware: Vec<Hardware>,
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// Its certificate.
    pub certificate: AuthorityCertificate,
    /// Its key.
    pub key: KeyUri,
    /// The same key in other tokens, for when that one is not available.
    pub replicas: Vec<KeyUri>,
    /// What the key is and how it signs.
    pub algorithm: KeyAlgorithm,
    /// Where its CRL and certificate are published.
    pub urls: Urls,
    /// The gates that its key was made with; none if it is not gated.
    pub gates: Vec<GateAddress>,
    /// How its revocations are published, if they are.
    pub revocation: Option<Revocation>,
}

/// A ceremony's transcript.
#[derive(Debug)]
pub struct Ceremony {
    /// SHA-256 of its plan.
    pub plan: Digest,
    /// The folder of the transcript.
    pub transcript: PathBuf,
}

impl Config {
    /// Reads and validates the file at `path`. `backends` are those that the program was built with.
    ///
    /// # Errors
    /// The file, or one that it names, cannot be read, or contradicts itself; the message names field and file.
    pub fn read(path: &Path, secrecy: Secrecy, backends: Vec<Box<dyn Backend>>) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let raw: RawConfig = strict_toml::parse(&path.display().to_string(), &text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let wrong =
            |field: &str, what: String| Failure::usage(format!("{}: {field}: {what}", path.display()));

        let control =
            parse_trust_domain(&raw.control).map_err(|error| wrong("control", error.to_string()))?;
        let mut domains = Vec::new();
        for domain in raw.domains {
            let field = format!("domain `{}`", domain.name);
            domains.push(
                Domain::new(domain, &raw.operator, &control, base, raw.development)
                    .map_err(|failure| failure.during(format!("{}: {field}", path.display())))?,
            );
        }
        let position = domains.iter().position(|domain| domain.name == control).ok_or_else(|| {
            wrong("control", format!("there is no [[domain]] of the name `{}`", control.as_str()))
        })?;
        domains.swap(0, position);

        let mut profiles: Vec<_> = Kind::ALL.into_iter().map(Profile::standard).collect();
        for profile in raw.profiles {
            let profile =
                Profile::from_config(profile).map_err(|error| wrong("profile", error.to_string()))?;
            if profile.assurance() == Assured::Witnessed && raw.witness_policy.is_none() {
                return Err(wrong(
                    "profile",
                    format!("`{}` is to be witnessed, and there is no witness-policy", profile.name()),
                ));
            }
            if profiles.iter().any(|other| other.name() == profile.name()) {
                return Err(wrong("profile", format!("two are called `{}`", profile.name())));
            }
            profiles.push(profile);
        }
        let caller_profile = profiles
            .iter()
            .find(|profile| profile.name() == raw.caller_profile && profile.kind() == Kind::Svid)
            .cloned()
            .ok_or_else(|| {
                wrong("caller-profile", format!("`{}` is no profile of kind svid", raw.caller_profile))
            })?;
        let policy_path = base.join(&raw.policy);
        let names: Vec<_> = domains.iter().map(|domain| domain.name.clone()).collect();
        let known = Known { domains: &names, profiles: &profiles };
        let policy = Policy::parse(&policy_path.display().to_string(), &read_text(&policy_path)?, known)?;
        for (rule, domain, authority) in policy.named_authorities() {
            let of_domain = domains.iter().find(|other| other.name == *domain);
            let names: Vec<_> =
                of_domain.iter().flat_map(|domain| &domain.authorities).map(|found| &*found.name).collect();
            if !names.contains(&authority) {
                return Err(Failure::usage(format!(
                    "{}: rule `{rule}`: `{}` has no authority `{authority}`; it has {}",
                    policy_path.display(),
                    domain.as_str(),
                    names.join(", ")
                )));
            }
        }
        let node_policy =
            raw.node_policy.map(|path| read_node_policy(&base.join(path), known)).transpose()?;
        let acme = raw.acme.map(|acme| AcmeSettings::new(acme, &domains, known, base)).transpose();
        let acme = acme.map_err(|failure| failure.during(format!("{}: [acme]", path.display())))?;
        if domains.iter().all(|domain| domain.server_names.is_empty()) {
            return Err(wrong(
                "domain",
                "no domain has server-names, so that no client could tell the daemon; give the control domain the DNS names by which it is reached".into(),
            ));
        }
        let tokens = tokens(raw.devices, base, secrecy, backends)?;
        let (endorsement, hsm) = (raw.endorsement_anchors.as_deref(), raw.hsm_anchors.as_deref());
        let trust = trust(endorsement, hsm, &raw.activators, base)
            .map_err(|failure| failure.during(path.display()))?;
        ledgers_are_whole(&domains, &tokens)?;
        revocation::places_are_distinct(&domains, raw.listen.logs.is_some())
            .map_err(|failure| failure.during(path.display()))?;
        let witnesses = raw.witness_policy.map(|path| read_witnesses(&base.join(path), raw.development));
        let witnesses = witnesses.transpose()?.map(Arc::new);
        let ceremonies = raw
            .ceremonies
            .into_iter()
            .map(|ceremony| Ceremony::new(&ceremony, base))
            .collect::<Result<_, _>>()?;
        let recovery = raw.recovery.map(Roster::new).transpose();
        let recovery = recovery.map_err(|error| wrong("recovery", error.to_string()))?;
        Ok(Self {
            digest: Digest::of(text.as_bytes()),
            development: raw.development,
            listen: raw.listen.address,
            listen_logs: raw.listen.logs,
            admin_socket: base.join(raw.listen.admin_socket),
            admin_users: raw.listen.admin_users.into_iter().collect(),
            database: base.join(raw.database),
            tokens,
            trust: Arc::new(trust),
            custody_every: raw.custody_every,
            domains,
            policy,
            acme,
            node_policy,
            policy_arc: raw.policy_arc,
            caller_profile,
            profiles,
            ceremonies,
            recovery,
            witnesses,
            witness_grace: raw.witness_grace,
        })
    }
}

/// Reads the policy for nodes, with the files that it names, which are beside it.
fn read_node_policy(path: &Path, known: Known<'_>) -> Result<NodePolicy, Failure> {
    let beside = path.parent().unwrap_or(Path::new("."));
    let file = |name: &str| std::fs::read(beside.join(name)).map_err(|error| error.to_string());
    let policy = NodePolicy::parse(&path.display().to_string(), &read_text(path)?, file)
        .and_then(|policy| policy.check(known).map(|()| policy));
    policy.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A TPM that keeps a ledger is one domain's: what it does for another would be missing in the ledger.
fn ledgers_are_whole(domains: &[Domain], tokens: &Tokens) -> Result<(), Failure> {
    for (number, domain) in domains.iter().enumerate() {
        for hardware in &domain.hardware {
            let device = hardware.device();
            tokens.device(device)?;
            let Hardware::Ledger { .. } = hardware else { continue };
            let uses = |other: &Domain| {
                let keys = other.authorities.iter().flat_map(Authority::keys).chain(other.log_keys());
                keys.filter_map(|key| tokens.locate(key).ok()).any(|(found, _)| found.name == device)
                    || other.hardware.iter().any(|hardware| hardware.device() == device)
            };
            // Neither does an outcome say which commands signed the responses of a batch.
            let answers = domain.authorities.iter().filter_map(|authority| authority.revocation.as_ref());
            let answers = answers.filter_map(|revocation| revocation.ocsp.as_ref()).map(|ocsp| &ocsp.key);
            // Neither could a signature over a checkpoint stand in the log that the checkpoint is of.
            if domain
                .log_keys()
                .chain(answers)
                .filter_map(|key| tokens.locate(key).ok())
                .any(|(found, _)| found.name == device)
            {
                return Err(Failure::usage(format!(
                    "`{}` keeps the ledger of device `{device}`, which must sign no checkpoints and no OCSP responses: they would be missing in the ledger. Keep the keys of its log and of its responders elsewhere",
                    domain.name.as_str()
                )));
            }
            let other = domains.iter().enumerate().find(|(at, other)| *at != number && uses(other));
            if let Some((_, other)) = other {
                return Err(Failure::usage(format!(
                    "`{}` keeps the ledger of device `{device}`, and `{}` uses that device, too: give each a TPM of its own",
                    domain.name.as_str(),
                    other.name.as_str()
                )));
            }
        }
    }
    Ok(())
}

/// Reads a policy of witnesses. One on this host counts for nothing: whoever owns the host owns it, too.
fn read_witnesses(path: &Path, development: bool) -> Result<WitnessPolicy, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let policy: WitnessPolicy = read_text(path)?.parse().map_err(|error| wrong(format!("{error}")))?;
    for witness in policy.witnesses() {
        if let Some(url) = &witness.url {
            is_elsewhere(url, development)
                .map_err(|what| wrong(format!("witness `{}` {what}", witness.name)))?;
        }
    }
    Ok(policy)
}

/// A second party must be one: on this host, whoever owns the host owns it, too.
fn is_elsewhere(url: &str, development: bool) -> Result<(), String> {
    let parsed: Uri = url.parse().map_err(|error| format!("`{url}`: {error}"))?;
    let host = parsed.host().unwrap_or_default();
    if !matches!(parsed.scheme_str(), Some("http" | "https")) || host.is_empty() {
        return Err(format!("`{url}` is no http:// or https:// URL"));
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    match is_here && !development {
        false => Ok(()),
        true => Err(
            "is on this host, and counts for nothing: whoever owns the host owns it, too; name one on another machine"
                .to_owned(),
        ),
    }
}

impl Domain {
    /// Where the keys of its log are, the log's own first.
    pub fn log_keys(&self) -> impl Iterator<Item = &KeyUri> {
        std::iter::once(&self.log_key).chain(&self.second_log_key)
    }

    fn new(
        config: DomainConfig,
        operator: &str,
        control: &TrustDomain,
        base: &Path,
        development: bool,
    ) -> Result<Self, Failure> {
        let name = parse_trust_domain(&config.name).map_err(|error| Failure::usage(error.to_string()))?;
        let log = if name == *control { LogOf::Control } else { LogOf::Domain(&name) };
        let mut roots = Vec::new();
        for path in &config.roots {
            let path = base.join(path);
            let during = |failure: Failure| failure.during(path.display());
            for der in certificates_from_pem(&read_text(&path)?).map_err(|error| during(error.into()))? {
                roots.push(AuthorityCertificate::from_der(&der).map_err(|error| during(error.into()))?);
            }
        }
        if roots.is_empty() {
            return Err(Failure::usage("roots is empty; name at least one root certificate"));
        }
        let authorities = config
            .authorities
            .into_iter()
            .map(|authority| Authority::new(authority, base, development))
            .collect::<Result<Vec<_>, _>>()?;
        if authorities.is_empty() {
            return Err(Failure::usage("it has no [[domain.authority]], so that it could issue nothing"));
        }
        // rustls, by which daemon and callers know each other, refuses chains with URI name constraints.
        let knows_callers = name == *control || !config.server_names.is_empty();
        let constrained = |authority: &&Authority| *authority.certificate.constraints() != Constraints::None;
        if let Some(authority) = authorities.iter().find(constrained).filter(|_| knows_callers) {
            return Err(Failure::usage(format!(
                "the certificate of authority `{}` has name constraints, which TLS clients and servers of ours cannot process: nobody could be told by its certificates. Give this domain a root of its own",
                authority.name
            )));
        }
        let origin = origin(operator, log, config.epoch)
            .map_err(|error| Failure::usage(format!("origin: {error}")))?;
        Ok(Self {
            origin,
            name,
            log_key: config.log_key.parse()?,
            second_log_key: config.second_log_key.map(|uri| uri.parse()).transpose()?,
            roots,
            refresh_hint: config.refresh_hint,
            consumers: config
                .consumers
                .iter()
                .map(|id| parse_spiffe_id(id).map_err(|error| Failure::usage(format!("consumers: {error}"))))
                .collect::<Result<_, _>>()?,
            authorities,
            server_names: config.server_names,
            custody: config.custody,
            log_custody: config.log_custody,
            hardware: config
                .ledger
                .map(Hardware::ledger)
                .into_iter()
                .chain(config.anchor.map(Hardware::note))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Authority {
    /// Where its key is, the preferred place first.
    pub fn keys(&self) -> impl Iterator<Item = &KeyUri> {
        std::iter::once(&self.key).chain(&self.replicas)
    }

    fn new(config: AuthorityConfig, base: &Path, development: bool) -> Result<Self, Failure> {
        let revocation = Revocation::of(&config)?;
        let path = base.join(config.certificate);
        let certificate = AuthorityCertificate::from_pem(&read_text(&path)?)
            .map_err(|error| Failure::from(error).during(path.display()))?;
        let key: KeyUri = config.key.parse()?;
        let replicas = config.replicas.iter().map(|uri| uri.parse());
        let replicas = replicas.collect::<Result<Vec<KeyUri>, _>>()?;
        for (number, replica) in replicas.iter().enumerate() {
            if *replica == key || replicas[..number].contains(replica) {
                return Err(Failure::usage(format!(
                    "authority `{}`: replicas: {replica} stands there twice; name other tokens",
                    config.name
                )));
            }
        }
        if !replicas.is_empty() && config.gates.is_some() {
            return Err(Failure::usage(format!(
                "authority `{}` has gates and replicas: a gated key is in one TPM and cannot be in another; leave one of them out",
                config.name
            )));
        }
        Ok(Self {
            name: config.name,
            revocation,
            certificate,
            key,
            replicas,
            algorithm: config.algorithm.parse().map_err(|error| Failure::usage(format!("{error}")))?,
            urls: config.urls,
            gates: match config.gates {
                None => Vec::new(),
                Some(gates) => GateAddress::read_file(&base.join(gates), development)?,
            },
        })
    }
}

impl Ceremony {
    fn new(config: &CeremonyConfig, base: &Path) -> Result<Self, Failure> {
        let plan = read_text(&base.join(&config.plan))?;
        Ok(Self { plan: Digest::of(plan.as_bytes()), transcript: base.join(&config.transcript) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_in_the_docs_is_one() {
        let page = include_str!("../../../docs/configuration.md");
        let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let config: RawConfig = strict_toml::parse("docs/configuration.md", text).unwrap();
        assert_eq!((config.domains.len(), config.devices.len(), config.profiles.len()), (2, 2, 1));
        for domain in config.domains {
            domain.log_key.parse::<KeyUri>().unwrap();
            for authority in domain.authorities {
                authority.key.parse::<KeyUri>().unwrap();
                authority.algorithm.parse::<KeyAlgorithm>().unwrap();
            }
        }
        for profile in config.profiles {
            Profile::from_config(profile).unwrap();
        }
        for device in config.devices {
            undercroft_keymgr::Device::from_config(device, Path::new("."), Secrecy::Lenient).unwrap();
        }
    }
}
