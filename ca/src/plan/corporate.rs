//! A root of a plan under somebody else's root: the request, and the import of the answer.

use undercroft_keys::PublicKey;

use super::config::{CertificateRequestConfig, ImportConfig};
use super::terms::{decision, find, follows, output};
use super::{Plan, Root};
use crate::certificate::AuthorityCertificate;
use crate::issuance::{PrepareError, Prepared};
use crate::profile::{Kind, Profile};

/// A certification request (RFC 2986) of a root's key, for an existing corporate root to sign.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    pub(super) name: String,
    root: String,
    pub(super) follows: String,
    output: String,
}

/// The certificate that a corporate root gave for a root of ours.
#[derive(Clone, Debug)]
pub struct Import {
    pub(super) name: String,
    root: String,
    issuer: Box<AuthorityCertificate>,
    answer: String,
    pub(super) follows: String,
    output: String,
}

impl CertificateRequest {
    pub(super) fn new(config: CertificateRequestConfig, roots: &[Root]) -> Result<Self, String> {
        find(roots, &config.root)?;
        Ok(Self {
            name: config.name,
            root: config.root,
            follows: follows(config.follows)?,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The root whose key asks.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Builds it and reads it back.
    ///
    /// # Errors
    /// It cannot be encoded, or reads back as something else.
    pub fn prepare(&self, plan: &Plan, root: &Root, key: &PublicKey) -> Result<Prepared, PrepareError> {
        let mut decision =
            decision(plan, &root.domains_in_words(), &Profile::standard(Kind::Root), &self.name, None);
        decision.profile = "certificate-request".to_owned();
        Prepared::certificate_request(
            root.subject(),
            key,
            root.key().algorithm.signature_algorithm(),
            decision,
        )
    }
}

impl Import {
    pub(super) fn new(config: ImportConfig, roots: &[Root]) -> Result<Self, String> {
        find(roots, &config.root)?;
        let issuer =
            AuthorityCertificate::from_pem(&config.issuer).map_err(|error| format!("issuer: {error}"))?;
        Ok(Self {
            name: config.name,
            root: config.root,
            issuer: Box::new(issuer),
            answer: output(config.answer)?,
            follows: follows(config.follows)?,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The root that it is for.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The file with the answer, PEM, below the requests folder.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Judges an answer: it is for this root's name and this key, and the issuer of the plan has signed it.
    ///
    /// # Errors
    /// What it is instead.
    pub fn judge(&self, root: &Root, key: &PublicKey, answer: &AuthorityCertificate) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("the answer {what}; ask for another"));
        if answer.public_key() != key {
            return wrong("is for another key than that of the root");
        }
        if answer.subject() != root.subject() {
            return wrong("is for another name than that of the root");
        }
        if !answer.is_issued_by(&self.issuer) {
            return wrong("is not signed by the issuer that the plan names");
        }
        if !self.issuer.validity().covers(&answer.validity()) {
            return wrong("outlives its issuer");
        }
        match answer.path_length() {
            Some(length) if length < 2 => {
                wrong("leaves no room for intermediates and SPIRE servers below it")
            }
            _ => Ok(()),
        }
    }
}
