//! OCSP signers of a plan: responders that answer for what is below an offline root.

use undercroft_attestors::custody::Demand;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::Digest;

use super::config::OcspSignerConfig;
use super::terms::{decision, find, follows, output, timestamp};
use super::{Plan, Root};
use crate::issuance::{PrepareError, Prepared};
use crate::names::Identity;
use crate::profile::Profile;
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, Issuer, SignedBy};
use crate::time::Validity;

/// The certificate of a responder to which a root delegates (RFC 6960 section 4.2.2.2). Its key was made where it answers.
#[derive(Clone, Debug)]
pub struct OcspSigner {
    name: String,
    issuer: String,
    request: String,
    algorithm: KeyAlgorithm,
    subject: Subject,
    validity: Validity,
    custody: Option<Demand>,
    pub(super) follows: String,
    output: String,
}

impl OcspSigner {
    pub(super) fn new(config: OcspSignerConfig, roots: &[Root]) -> Result<Self, String> {
        let root = find(roots, &config.issuer)?;
        if root.urls().ocsp.is_none() {
            return Err(format!(
                "the urls of its issuer `{}` have no ocsp, so that no certificate would say where to ask; add it there",
                config.issuer
            ));
        }
        let validity = Validity::new(timestamp(&config.not_before)?, timestamp(&config.not_after)?)
            .map_err(|error| error.to_string())?;
        let longest = Profile::ocsp_signer_of_root().max_lifetime();
        if validity.not_after() > validity.not_before() + longest.0 {
            return Err(format!(
                "it would be valid for longer than {longest}; id-pkix-ocsp-nocheck says that nobody asks whether it is revoked, so that a stolen key answers for as long as it lives (RFC 6960 section 4.2.2.2.1). Shorten it, and have the next one signed before it ends"
            ));
        }
        if !root.validity.covers(&validity) {
            return Err(format!(
                "its validity ({validity}) is not within that of its issuer `{}` ({})",
                config.issuer, root.validity
            ));
        }
        Ok(Self {
            name: config.name,
            issuer: config.issuer,
            request: output(config.request)?,
            algorithm: config.algorithm,
            subject: Subject::from_config(&config.subject).map_err(|error| error.to_string())?,
            validity,
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
        let profile = Profile::ocsp_signer_of_root();
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: plan.policy_arc(),
            serial,
            validity: self.validity,
            subject: &self.subject,
            public_key: key,
            // It is no identity of a trust domain, and nothing that accepts those may accept it.
            identity: &Identity::default(),
            path_length: None,
            constraints: None,
        };
        let domains = plan.root(&self.issuer).map(Root::domains_in_words).unwrap_or_default();
        let decision = decision(plan, &domains, &profile, &self.name, request);
        Prepared::certificate(&spec, SignedBy::Issuer(issuer), root_key, decision)
    }
}
