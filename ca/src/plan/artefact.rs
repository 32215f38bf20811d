//! What a plan makes: roots, intermediates and CRLs, each able to prepare itself for its issuer's key.

use jiff::Timestamp;
use undercroft_attestors::custody::Demand;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::{Caller, Channel, Digest};

use super::Plan;
use super::config::{CrlConfig, IntermediateConfig, PlannedKey, RootConfig};
use crate::issuance::{Decision, PrepareError, Prepared};
use crate::names::{Identity, TrustDomain, parse_trust_domain};
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, CrlScope, CrlSpec, DomainConstraints, Issuer, Revoked, SignedBy, Urls};
use crate::time::Validity;

/// The deepest nesting of SPIRE servers below an intermediate.
const MAX_NESTING: u8 = 8;

/// A root that the ceremony makes: key and certificate.
#[derive(Clone, Debug)]
pub struct Root {
    name: String,
    domains: Vec<TrustDomain>,
    key: PlannedKey,
    subject: Subject,
    validity: Validity,
    urls: Urls,
    output: String,
}

/// An intermediate that the ceremony signs. Its key was made where it will be used.
#[derive(Clone, Debug)]
pub struct Intermediate {
    name: String,
    domain: TrustDomain,
    issuer: String,
    request: String,
    algorithm: KeyAlgorithm,
    subject: Subject,
    validity: Validity,
    path_length: u8,
    constraints: Option<DomainConstraints>,
    custody: Option<Demand>,
    output: String,
}

/// A CRL that the ceremony signs.
#[derive(Clone, Debug)]
pub struct Crl {
    name: String,
    issuer: String,
    number: u64,
    period: Validity,
    revoked: Vec<Revoked>,
    output: String,
}

impl Root {
    pub(super) fn new(config: RootConfig) -> Result<Self, String> {
        follows(&config.follows)?;
        if config.domains.is_empty() {
            return Err("domains is empty; a root is for at least one trust domain".into());
        }
        let domains = config
            .domains
            .iter()
            .map(|name| parse_trust_domain(name).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: config.name,
            domains,
            key: config.key.into(),
            subject: Subject::from_config(&config.subject).map_err(|error| error.to_string())?,
            validity: validity(Kind::Root, &config.not_before, &config.not_after)?,
            urls: config.urls,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The trust domains that it is the root of: one, unless it is shared.
    pub fn domains(&self) -> &[TrustDomain] {
        &self.domains
    }

    /// The key that will be made for it.
    pub fn key(&self) -> &PlannedKey {
        &self.key
    }

    /// Its subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its validity.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// What certificates below it take from it, with this key.
    pub fn issuer(&self, key: &PublicKey) -> Issuer {
        Issuer {
            name: self.subject.clone(),
            key_identifier: key.subject_key_identifier().as_bytes().to_vec(),
            algorithm: self.key.algorithm.signature_algorithm(),
            validity: self.validity,
            urls: self.urls.clone(),
        }
    }

    /// Builds and lints its certificate for `key`.
    ///
    /// # Errors
    /// Lint refuses it.
    pub fn prepare(
        &self,
        plan: &Plan,
        key: &PublicKey,
        serial: SerialNumber,
    ) -> Result<Prepared, PrepareError> {
        let identity = match &self.domains[..] {
            [domain] => Identity::authority(domain),
            // A shared root is no domain's own.
            _ => Identity::default(),
        };
        let profile = Profile::standard(Kind::Root);
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: plan.policy_arc(),
            serial,
            validity: self.validity,
            subject: &self.subject,
            public_key: key,
            identity: &identity,
            path_length: None,
            constraints: None,
        };
        let signed_by = SignedBy::Itself(self.key.algorithm.signature_algorithm());
        let domains: Vec<_> = self.domains.iter().map(TrustDomain::as_str).collect();
        Prepared::certificate(
            &spec,
            signed_by,
            key,
            decision(plan, &domains.join(" "), &profile, &self.name, None),
        )
    }
}

impl Intermediate {
    pub(super) fn new(config: IntermediateConfig, roots: &[Root]) -> Result<Self, String> {
        follows(&config.follows)?;
        let root = find(roots, &config.issuer)?;
        let domain = parse_trust_domain(&config.domain).map_err(|error| error.to_string())?;
        if !root.domains.contains(&domain) {
            return Err(format!(
                "its issuer `{}` is no root of the domain `{}`; correct the domain or the issuer",
                config.issuer, config.domain
            ));
        }
        let validity = validity(Kind::Intermediate, &config.not_before, &config.not_after)?;
        if !root.validity.covers(&validity) {
            return Err(format!(
                "its validity ({validity}) is not within that of its issuer `{}` ({})",
                config.issuer, root.validity
            ));
        }
        if config.constraints.as_ref().is_some_and(|constraints| constraints.dns_names.is_empty()) {
            return Err(format!(
                "constraints.dns-names is empty, which would leave every DNS name open; list those that it may certify, such as [\"{}\"]",
                domain.as_str()
            ));
        }
        let nesting = config.nesting.unwrap_or(0);
        if nesting > MAX_NESTING {
            return Err(format!(
                "nesting is {nesting}, and {MAX_NESTING} levels of SPIRE servers are the most"
            ));
        }
        let constraints = config.constraints.map(|constraints| DomainConstraints {
            domain: domain.clone(),
            dns_names: constraints.dns_names,
        });
        Ok(Self {
            name: config.name,
            domain,
            issuer: config.issuer,
            request: output(config.request)?,
            algorithm: config.algorithm,
            subject: Subject::from_config(&config.subject).map_err(|error| error.to_string())?,
            validity,
            // 1 for the CA of a SPIRE server, and one more for each level of SPIRE servers below that.
            path_length: 1 + nesting,
            constraints,
            custody: config.custody,
            output: output(config.output)?,
        })
    }

    /// What custody its key must have, if the plan says so for this one.
    pub fn custody(&self) -> Option<Demand> {
        self.custody
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain that it issues for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The name of its root in the plan.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The request that it is made from: `<request>.csr.pem` and `<request>.custody.json` in the requests folder.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// What its key must be.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its validity.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What it may speak for, below a shared root.
    pub fn constraints(&self) -> Option<&DomainConstraints> {
        self.constraints.as_ref()
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Builds and lints its certificate for `key`, to be signed by `root_key`.
    ///
    /// # Errors
    /// Lint refuses it.
    pub fn prepare(
        &self,
        plan: &Plan,
        issuer: &Issuer,
        root_key: &PublicKey,
        key: &PublicKey,
        request: Option<Digest>,
        serial: SerialNumber,
    ) -> Result<Prepared, PrepareError> {
        let profile = Profile::standard(Kind::Intermediate);
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: plan.policy_arc(),
            serial,
            validity: self.validity,
            subject: &self.subject,
            public_key: key,
            identity: &Identity::authority(&self.domain),
            path_length: Some(self.path_length),
            constraints: self.constraints.as_ref(),
        };
        let decision = decision(plan, self.domain.as_str(), &profile, &self.name, request);
        Prepared::certificate(&spec, SignedBy::Issuer(issuer), root_key, decision)
    }
}

impl Crl {
    pub(super) fn new(config: CrlConfig, roots: &[Root]) -> Result<Self, String> {
        follows(&config.follows)?;
        let root = find(roots, &config.issuer)?;
        let period = Validity::new(timestamp(&config.this_update)?, timestamp(&config.next_update)?)
            .map_err(|error| error.to_string())?;
        if !root.validity.covers(&period) {
            return Err(format!("its period ({period}) is not within the validity of `{}`", config.issuer));
        }
        let revoked = config
            .revoked
            .into_iter()
            .map(|revoked| {
                let mut bytes = [0; 16];
                let serial = hex::decode_to_slice(&revoked.serial, &mut bytes)
                    .ok()
                    .and_then(|()| SerialNumber::from_bytes(bytes));
                Ok(Revoked {
                    serial: serial
                        .ok_or_else(|| format!("`{}` is no serial number of ours", revoked.serial))?,
                    date: timestamp(&revoked.date)?,
                    reason: revoked.reason,
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            name: config.name,
            issuer: config.issuer,
            number: config.number,
            period,
            revoked,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its root in the plan.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Builds and lints it, to be signed by `root_key`.
    ///
    /// # Errors
    /// Lint refuses it.
    pub fn prepare(
        &self,
        plan: &Plan,
        issuer: &Issuer,
        root_key: &PublicKey,
    ) -> Result<Prepared, PrepareError> {
        let spec = CrlSpec {
            issuer,
            number: self.number,
            period: self.period,
            revoked: &self.revoked,
            scope: CrlScope::default(),
        };
        let domains = plan
            .root(&self.issuer)
            .map(|root| root.domains().iter().map(TrustDomain::as_str).collect::<Vec<_>>().join(" "));
        let mut decision =
            decision(plan, &domains.unwrap_or_default(), &Profile::standard(Kind::Root), &self.name, None);
        decision.profile = "crl".to_owned();
        Prepared::crl(&spec, root_key, decision)
    }
}

/// The plan is what decides in a ceremony: it was approved by its digest.
fn decision(
    plan: &Plan,
    domain: &str,
    profile: &Profile,
    artefact: &str,
    request: Option<Digest>,
) -> Decision {
    Decision {
        domain: domain.to_owned(),
        profile: profile.name().to_owned(),
        caller: Caller { id: plan.origin().to_string(), by: Channel::Ceremony },
        rule: artefact.to_owned(),
        policy: plan.digest(),
        request,
        withheld: Vec::new(),
        evidence: Vec::new(),
    }
}

fn find<'a>(roots: &'a [Root], name: &str) -> Result<&'a Root, String> {
    roots.iter().find(|root| root.name == name).ok_or_else(|| {
        let known: Vec<_> = roots.iter().map(Root::name).collect();
        format!("its issuer `{name}` is no root of this plan; known are {}", known.join(", "))
    })
}

fn validity(
    kind: Kind,
    not_before: &toml::value::Datetime,
    not_after: &toml::value::Datetime,
) -> Result<Validity, String> {
    let validity =
        Validity::new(timestamp(not_before)?, timestamp(not_after)?).map_err(|error| error.to_string())?;
    let longest = Profile::standard(kind).max_lifetime();
    if validity.not_after() > validity.not_before() + longest.0 {
        return Err(format!("it would be valid for longer than {longest}, which is the most for a {kind:?}"));
    }
    Ok(validity)
}

fn timestamp(datetime: &toml::value::Datetime) -> Result<Timestamp, String> {
    datetime
        .to_string()
        .parse::<Timestamp>()
        .ok()
        .filter(|time| time.subsec_nanosecond() == 0)
        .ok_or_else(|| format!("`{datetime}` is no time in UTC; write 2026-11-22T00:00:00Z"))
}

/// Artefacts are written below the output folder, wherever the plan comes from.
fn output(path: String) -> Result<String, String> {
    let sound = !path.is_empty()
        && path.len() <= 200
        && path.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        });
    if sound {
        Ok(path)
    } else {
        Err(format!("`{path}` is no relative path of letters, digits, `-`, `_` and `.`"))
    }
}

/// Each artefact names the section of the policy document that it follows.
fn follows(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("follows is empty; name the policy document and section that it follows".into());
    }
    Ok(())
}
