//! Roots of a plan: those that it makes, and those that exist and sign.

use undercroft_keys::PublicKey;

use super::Plan;
use super::config::{ExistingRootConfig, PlannedKey, RootConfig};
use super::terms::{decision, follows, output, validity};
use crate::certificate::AuthorityCertificate;
use crate::issuance::{PrepareError, Prepared};
use crate::names::{Identity, TrustDomain, parse_trust_domain};
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, Issuer, SignedBy, Urls};
use crate::time::Validity;

/// A root that signs in the ceremony: one that it makes, key and certificate, or one that exists in its token.
#[derive(Clone, Debug)]
pub struct Root {
    pub(super) name: String,
    pub(super) domains: Vec<TrustDomain>,
    key: PlannedKey,
    subject: Subject,
    pub(super) validity: Validity,
    urls: Urls,
    pub(super) follows: String,
    comes: Comes,
}

/// Where a root comes from.
#[derive(Clone, Debug)]
enum Comes {
    /// The ceremony makes it, and writes its certificate to this file.
    Made(String),
    /// It exists: this is its certificate.
    Existing(Box<AuthorityCertificate>),
}

impl Root {
    pub(super) fn new(config: RootConfig) -> Result<Self, String> {
        Ok(Self {
            name: config.name,
            domains: domains(&config.domains)?,
            key: config.key.into(),
            subject: Subject::from_config(&config.subject).map_err(|error| error.to_string())?,
            validity: validity(Kind::Root, &config.not_before, &config.not_after)?,
            urls: config.urls,
            follows: follows(config.follows)?,
            comes: Comes::Made(output(config.output)?),
        })
    }

    pub(super) fn existing(config: ExistingRootConfig) -> Result<Self, String> {
        let certificate =
            AuthorityCertificate::from_pem(&config.certificate).map_err(|error| error.to_string())?;
        if !certificate.is_self_signed() {
            return Err("its certificate does not verify under its own key, so that it is no root".into());
        }
        let key: PlannedKey = config.key.into();
        if certificate.public_key().key_type() != key.algorithm.key_type() {
            return Err(format!(
                "its certificate is for a key of type {}, and the plan says {}",
                certificate.public_key().key_type(),
                key.algorithm
            ));
        }
        Ok(Self {
            name: config.name,
            domains: domains(&config.domains)?,
            key,
            subject: certificate.subject().clone(),
            validity: certificate.validity(),
            urls: config.urls,
            follows: follows(config.follows)?,
            comes: Comes::Existing(Box::new(certificate)),
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

    /// Where what is below it says that its CRL and its certificate are.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The file that its certificate is written to, relative to the output folder, if the ceremony makes it.
    pub fn output(&self) -> Option<&str> {
        match &self.comes {
            Comes::Made(output) => Some(output),
            Comes::Existing(_) => None,
        }
    }

    /// Its certificate, if it exists already.
    pub fn certificate(&self) -> Option<&AuthorityCertificate> {
        match &self.comes {
            Comes::Made(_) => None,
            Comes::Existing(certificate) => Some(certificate),
        }
    }

    /// The names in its certificates: its domain, unless it is shared and so no domain's own.
    pub(super) fn identity(&self) -> Identity {
        match &self.domains[..] {
            [domain] => Identity::authority(domain),
            _ => Identity::default(),
        }
    }

    /// The domains, as intents write them.
    pub(super) fn domains_in_words(&self) -> String {
        self.domains.iter().map(TrustDomain::as_str).collect::<Vec<_>>().join(" ")
    }

    /// What certificates below it take from it, with this key.
    pub fn issuer(&self, key: &PublicKey) -> Issuer {
        Issuer {
            name: self.subject.clone(),
            key_identifier: match &self.comes {
                Comes::Made(_) => key.subject_key_identifier().as_bytes().to_vec(),
                // By whatever method it was computed.
                Comes::Existing(certificate) => certificate.subject_key_identifier().to_vec(),
            },
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
        let profile = Profile::standard(Kind::Root);
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: plan.policy_arc(),
            serial,
            validity: self.validity,
            subject: &self.subject,
            public_key: key,
            identity: &self.identity(),
            path_length: None,
            constraints: None,
        };
        let signed_by = SignedBy::Itself(self.key.algorithm.signature_algorithm());
        let decision = decision(plan, &self.domains_in_words(), &profile, &self.name, None);
        Prepared::certificate(&spec, signed_by, key, decision)
    }
}

fn domains(names: &[String]) -> Result<Vec<TrustDomain>, String> {
    if names.is_empty() {
        return Err("domains is empty; a root is for at least one trust domain".into());
    }
    names.iter().map(|name| parse_trust_domain(name).map_err(|error| error.to_string())).collect()
}
