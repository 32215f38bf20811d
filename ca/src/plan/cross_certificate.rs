//! Cross-certificates of a plan: a root's name and key, certified by another root.

use undercroft_keys::PublicKey;

use super::config::CrossCertificateConfig;
use super::terms::{decision, find, follows, output, validity};
use super::{Plan, Root};
use crate::certificate::AuthorityCertificate;
use crate::issuance::{PrepareError, Prepared};
use crate::names::Identity;
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, Issuer, SignedBy};
use crate::time::Validity;

/// Below a cross-certificate lie the root's intermediates, the CAs of SPIRE servers below them, and one more.
const LEAST_PATH_LENGTH: u8 = 3;

/// A cross-certificate that the ceremony signs (RFC 5280 section 3.2: issuer and subject are different CAs).
#[derive(Clone, Debug)]
pub struct CrossCertificate {
    pub(super) name: String,
    issuer: String,
    subject: Subjected,
    validity: Validity,
    path_length: u8,
    pub(super) follows: String,
    output: String,
}

/// Whom it certifies.
#[derive(Clone, Debug)]
enum Subjected {
    /// A root of this plan.
    Root(String),
    /// Somebody else's root, by its certificate.
    Foreign(Box<AuthorityCertificate>),
}

impl CrossCertificate {
    pub(super) fn new(config: CrossCertificateConfig, roots: &[Root]) -> Result<Self, String> {
        let issuer = find(roots, &config.issuer)?;
        let (subject, limits) = match (config.subject, config.certificate) {
            (Some(name), None) => {
                let root = find(roots, &name)?;
                if root.name == issuer.name {
                    return Err(format!("`{name}` would certify itself; name another root as subject"));
                }
                if root.domains.iter().any(|domain| !issuer.domains.contains(domain)) {
                    return Err(format!(
                        "`{name}` is the root of domains that its issuer `{}` is no root of, and would speak for them there",
                        issuer.name
                    ));
                }
                (Subjected::Root(name), root.validity)
            }
            (None, Some(pem)) => {
                let certificate = AuthorityCertificate::from_pem(&pem).map_err(|error| error.to_string())?;
                if !certificate.is_self_signed() {
                    return Err("its certificate is no root's: it does not verify under its own key".into());
                }
                let limits = certificate.validity();
                (Subjected::Foreign(Box::new(certificate)), limits)
            }
            _ => {
                return Err(
                    "give it either subject, a root of this plan, or certificate, somebody else's root"
                        .into(),
                );
            }
        };
        let validity = validity(Kind::CrossCertificate, &config.not_before, &config.not_after)?;
        if !issuer.validity.covers(&validity) || !limits.covers(&validity) {
            return Err(format!(
                "its validity ({validity}) is not within that of its issuer ({}) and of the root that it certifies ({limits})",
                issuer.validity
            ));
        }
        Ok(Self {
            name: config.name,
            issuer: config.issuer,
            subject,
            validity,
            path_length: LEAST_PATH_LENGTH + config.nesting.unwrap_or(0).min(8),
            follows: follows(config.follows)?,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The root that signs it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The root of this plan that it certifies; nothing if it is somebody else's.
    pub fn subject_root(&self) -> Option<&str> {
        match &self.subject {
            Subjected::Root(name) => Some(name),
            Subjected::Foreign(_) => None,
        }
    }

    /// The key that it certifies, if it is somebody else's.
    pub fn foreign(&self) -> Option<&AuthorityCertificate> {
        match &self.subject {
            Subjected::Root(_) => None,
            Subjected::Foreign(certificate) => Some(certificate),
        }
    }

    /// Its validity.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Builds and lints it for `key`, to be signed by `issuer_key`.
    ///
    /// # Errors
    /// Lint refuses it.
    pub fn prepare(
        &self,
        plan: &Plan,
        issuer: &Issuer,
        issuer_key: &PublicKey,
        key: &PublicKey,
        serial: SerialNumber,
    ) -> Result<Prepared, PrepareError> {
        let (subject, identity): (&Subject, Identity) = match &self.subject {
            Subjected::Root(name) => match plan.root(name) {
                Some(root) => (root.subject(), root.identity()),
                None => (&issuer.name, Identity::default()),
            },
            Subjected::Foreign(certificate) => (certificate.subject(), Identity::default()),
        };
        let profile = Profile::standard(Kind::CrossCertificate);
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: plan.policy_arc(),
            serial,
            validity: self.validity,
            subject,
            public_key: key,
            identity: &identity,
            path_length: Some(self.path_length),
            constraints: None,
        };
        let domains = plan.root(&self.issuer).map(Root::domains_in_words).unwrap_or_default();
        let decision = decision(plan, &domains, &profile, &self.name, None);
        Prepared::certificate(&spec, SignedBy::Issuer(issuer), issuer_key, decision)
    }
}
