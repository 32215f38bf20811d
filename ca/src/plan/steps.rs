//! The steps of a plan, in the order in which a ceremony does them.
//!
//! Existing roots are opened and new ones made before anything is signed; what certifies is signed before what revokes;
//! keys are destroyed last. The order is the same for every plan, so that a reader who knows one knows all.

use std::collections::BTreeMap;
use std::time::Duration;

use undercroft_keys::PublicKey;
use undercroft_log::leaf::Digest;

use super::{
    BundleStatement, CertificateRequest, Crl, CrossCertificate, Destruction, Import, Intermediate, Manual,
    OcspSigner, Plan, Root, When,
};
use crate::issuance::{PrepareError, Prepared};
use crate::serial::NoEntropy;

/// A step of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// From 1.
    pub number: u64,
    /// What is done.
    pub what: What<'a>,
}

/// What a step does.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// People do something, and the transcript keeps it.
    Manual(&'a Manual),
    /// The key of a root that exists is opened, and shown to be that of its certificate.
    Open(&'a Root),
    /// A root is made: its key, and its certificate.
    Root(&'a Root),
    /// A root asks for a certificate under somebody else's.
    CertificateRequest(&'a CertificateRequest),
    /// The answer to such a request is taken in.
    Import(&'a Import),
    /// A cross-certificate is signed.
    CrossCertificate(&'a CrossCertificate),
    /// An intermediate is signed.
    Intermediate(&'a Intermediate),
    /// An OCSP signer is signed.
    OcspSigner(&'a OcspSigner),
    /// A CRL is signed.
    Crl(&'a Crl),
    /// A statement about roots is written, for the quorum to approve at the end.
    BundleStatement(&'a BundleStatement),
    /// A key is destroyed.
    Destruction(&'a Destruction),
}

/// The keys that the artefacts of a plan are about, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Of roots, by the root's name.
    pub roots: BTreeMap<String, PublicKey>,
    /// Of intermediates and OCSP signers, by the artefact's name, with the SHA-256 of the request.
    pub requests: BTreeMap<String, (PublicKey, Option<Digest>)>,
}

/// Why a step's artefact was not prepared.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A key that an earlier step should have given.
    #[error("the key of `{0}` is not known; it is made or read in an earlier step")]
    NoKey(String),
    /// It was refused.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The serial number.
    #[error(transparent)]
    Serial(#[from] NoEntropy),
}

impl Plan {
    /// Its steps.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let manual = |at| self.manual().iter().filter(move |manual| manual.at() == at).map(What::Manual);
        let roots =
            |existing: bool| self.roots().iter().filter(move |root| root.output().is_none() == existing);
        manual(When::Begin)
            .chain(roots(true).map(What::Open))
            .chain(roots(false).map(What::Root))
            .chain(self.certificate_requests().iter().map(What::CertificateRequest))
            .chain(self.imports().iter().map(What::Import))
            .chain(self.cross_certificates().iter().map(What::CrossCertificate))
            .chain(self.intermediates().iter().map(What::Intermediate))
            .chain(self.ocsp_signers().iter().map(What::OcspSigner))
            .chain(self.crls().iter().map(What::Crl))
            .chain(self.bundle_statements().iter().map(What::BundleStatement))
            .chain(manual(When::End))
            .chain(self.destructions().iter().map(What::Destruction))
            .zip(1..)
            .map(|(what, number)| Step { number, what })
            .collect()
    }
}

impl<'a> Step<'a> {
    /// The artefact's name in the plan.
    pub fn name(&self) -> &'a str {
        match self.what {
            What::Manual(it) => it.name(),
            What::Open(it) | What::Root(it) => it.name(),
            What::CertificateRequest(it) => it.name(),
            What::Import(it) => it.name(),
            What::CrossCertificate(it) => it.name(),
            What::Intermediate(it) => it.name(),
            What::OcspSigner(it) => it.name(),
            What::Crl(it) => it.name(),
            What::BundleStatement(it) => it.name(),
            What::Destruction(it) => it.name(),
        }
    }

    /// The section of the policy document that it follows.
    pub fn follows(&self) -> &'a str {
        match self.what {
            What::Manual(it) => &it.follows,
            What::Open(it) | What::Root(it) => &it.follows,
            What::CertificateRequest(it) => &it.follows,
            What::Import(it) => &it.follows,
            What::CrossCertificate(it) => &it.follows,
            What::Intermediate(it) => &it.follows,
            What::OcspSigner(it) => &it.follows,
            What::Crl(it) => &it.follows,
            What::BundleStatement(it) => &it.follows,
            What::Destruction(it) => &it.follows,
        }
    }

    /// The file that it writes, relative to the output folder.
    pub fn output(&self) -> Option<&'a str> {
        match self.what {
            What::Root(it) => it.output(),
            What::CertificateRequest(it) => Some(it.output()),
            What::Import(it) => Some(it.output()),
            What::CrossCertificate(it) => Some(it.output()),
            What::Intermediate(it) => Some(it.output()),
            What::OcspSigner(it) => Some(it.output()),
            What::Crl(it) => Some(it.output()),
            What::BundleStatement(it) => Some(it.output()),
            What::Manual(_) | What::Open(_) | What::Destruction(_) => None,
        }
    }

    /// The root whose key signs in it.
    pub fn signer(&self) -> Option<&'a str> {
        match self.what {
            What::Root(it) => Some(it.name()),
            What::CertificateRequest(it) => Some(it.root()),
            What::CrossCertificate(it) => Some(it.issuer()),
            What::Intermediate(it) => Some(it.issuer()),
            What::OcspSigner(it) => Some(it.issuer()),
            What::Crl(it) => Some(it.issuer()),
            What::Manual(_)
            | What::Open(_)
            | What::Import(_)
            | What::BundleStatement(_)
            | What::Destruction(_) => None,
        }
    }

    /// How long it is expected to take, people included.
    pub fn expected(&self) -> Duration {
        const MINUTE: u64 = 60;
        Duration::from_secs(match self.what {
            What::Manual(it) => u64::from(it.minutes) * MINUTE,
            What::Root(_) => 3 * MINUTE,
            What::Open(_) | What::Import(_) | What::Destruction(_) => 2 * MINUTE,
            What::CertificateRequest(_)
            | What::CrossCertificate(_)
            | What::Intermediate(_)
            | What::OcspSigner(_)
            | What::Crl(_)
            | What::BundleStatement(_) => MINUTE,
        })
    }

    /// What is done, in words.
    pub fn in_words(&self) -> String {
        match self.what {
            What::Manual(it) => it.instruction().to_owned(),
            What::Open(it) => format!("open the key of {} in device `{}`", it.subject(), it.key().device),
            What::Root(it) => format!(
                "make the root {}: {} in device `{}`, {}",
                it.subject(),
                it.key().algorithm,
                it.key().device,
                it.validity()
            ),
            What::CertificateRequest(it) => format!("ask for a certificate of {} elsewhere", it.root()),
            What::Import(it) => format!("take in the certificate that {} was given elsewhere", it.root()),
            What::CrossCertificate(it) => {
                let subject = match (it.subject_root(), it.foreign()) {
                    (Some(name), _) => name.to_owned(),
                    (None, Some(certificate)) => certificate.subject().to_string(),
                    (None, None) => String::new(),
                };
                format!("cross-certify {subject} by {}, {}", it.issuer(), it.validity())
            }
            What::Intermediate(it) => format!(
                "sign the intermediate {} for {} by {}, {}",
                it.subject(),
                it.domain().as_str(),
                it.issuer(),
                it.validity()
            ),
            What::OcspSigner(it) => format!(
                "sign the OCSP signer {} of {}, {}; nobody can revoke it before it ends",
                it.subject(),
                it.issuer(),
                it.validity()
            ),
            What::BundleStatement(it) => {
                let others = it.certificates().iter().map(|root| root.subject().to_string());
                let roots: Vec<_> = it.roots().iter().cloned().chain(others).collect();
                format!(
                    "state that the bundle of {} may hold {}, statement number {}, {}",
                    it.domain().as_str(),
                    roots.join(" and "),
                    it.number(),
                    it.validity()
                )
            }
            What::Crl(it) => {
                format!("sign the CRL number {} of {}, {}", it.number(), it.issuer(), it.period())
            }
            What::Destruction(it) => {
                format!("destroy the key `{}` in device `{}` ({})", it.key().label, it.key().device, it.id())
            }
        }
    }

    /// Builds and lints what is signed in it; nothing where nothing is. `attempt` counts from 1, and is more where an
    /// earlier one was cut off: its serial number is never used again. The same plan, keys and attempt always give the same
    /// bytes.
    ///
    /// # Errors
    /// A key that an earlier step gives is not there, or lint refuses it.
    pub fn prepare(&self, plan: &Plan, keys: &Keys, attempt: u32) -> Result<Option<Prepared>, StepError> {
        let Some(signer) = self.signer() else { return Ok(None) };
        let missing = || StepError::NoKey(signer.to_owned());
        let root = plan.root(signer).ok_or_else(missing)?;
        let key = keys.roots.get(signer).ok_or_else(missing)?;
        let serial = || plan.serial(self.name(), attempt);
        let issuer = root.issuer(key);
        Ok(Some(match self.what {
            What::Root(it) => it.prepare(plan, key, serial()?)?,
            What::CertificateRequest(it) => it.prepare(plan, root, key)?,
            What::CrossCertificate(it) => {
                let subject = match (it.subject_root(), it.foreign()) {
                    (Some(name), _) => keys.roots.get(name),
                    (None, foreign) => foreign.map(|certificate| certificate.public_key()),
                };
                let subject = subject.ok_or_else(|| StepError::NoKey(self.name().to_owned()))?;
                it.prepare(plan, &issuer, key, subject, serial()?)?
            }
            What::Intermediate(it) => {
                let own = keys.requests.get(it.name());
                let (own, request) = own.ok_or_else(|| StepError::NoKey(it.name().to_owned()))?;
                it.prepare(plan, &issuer, key, own, *request, serial()?)?
            }
            What::OcspSigner(it) => {
                let own = keys.requests.get(it.name());
                let (own, request) = own.ok_or_else(|| StepError::NoKey(it.name().to_owned()))?;
                it.prepare(plan, &issuer, key, own, *request, serial()?)?
            }
            What::Crl(it) => it.prepare(plan, &issuer, key)?,
            What::Manual(_)
            | What::Open(_)
            | What::Import(_)
            | What::BundleStatement(_)
            | What::Destruction(_) => return Ok(None),
        }))
    }
}
