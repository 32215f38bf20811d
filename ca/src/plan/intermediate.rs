//! Intermediates of a plan: requests that their roots sign.

use undercroft_attestors::custody::Demand;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::Digest;

use super::config::IntermediateConfig;
use super::terms::{decision, find, follows, output, validity};
use super::{Plan, Root};
use crate::issuance::{PrepareError, Prepared};
use crate::names::{Identity, TrustDomain, parse_trust_domain};
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, DomainConstraints, Issuer, SignedBy};
use crate::time::Validity;

/// The deepest nesting of SPIRE servers below an intermediate.
const MAX_NESTING: u8 = 8;

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
    pub(super) follows: String,
    output: String,
}

impl Intermediate {
    pub(super) fn new(config: IntermediateConfig, roots: &[Root]) -> Result<Self, String> {
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
            follows: follows(config.follows)?,
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
