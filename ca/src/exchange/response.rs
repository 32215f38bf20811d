//! Whether a response is the answer to what was asked, and fits the installation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use undercroft_keys::PublicKey;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Digest;
use undercroft_log::note::{KeyName, VerifierKey};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Kind, Message, Opened, Part, PartName, Refusal};
use crate::certificate::{AuthorityCertificate, certificates_from_pem};
use crate::log_key::{CEREMONY, ORIGIN_PART, REHEARSAL};
use crate::signed::Signed;
use crate::time::Validity;
use crate::verify::holder;

/// What an installation remembers of a request that it has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// SHA-256 of the request's file.
    pub request: Digest,
    /// The plan that it named.
    pub plan: Option<Digest>,
    /// The ids of the keys that it asks certificates for.
    pub keys: BTreeSet<Digest>,
}

impl Asked {
    /// What to remember of a request.
    ///
    /// # Errors
    /// A CSR in it cannot be read.
    pub fn of(request: &Message, digest: Digest) -> Result<Self, Refusal> {
        Ok(Self { request: digest, plan: request.terms().plan, keys: request.keys()?.into_keys().collect() })
    }
}

/// The first part of a log's origin.
pub fn operator(origin: &KeyName) -> &str {
    origin.as_str().split('/').next().unwrap_or_default()
}

/// Whether the origin of a transcript is a rehearsal's.
///
/// # Errors
/// It is the origin of no transcript.
pub fn is_rehearsal(ceremony: &KeyName) -> Result<bool, Refusal> {
    match ceremony.as_str().split('/').collect::<Vec<_>>()[..] {
        [_, ORIGIN_PART, CEREMONY, _, "1"] => Ok(false),
        [_, ORIGIN_PART, REHEARSAL, _, "1"] => Ok(true),
        _ => Err(Refusal::OtherOrigin {
            found: ceremony.to_string(),
            expected: format!("the transcript of a ceremony, <operator>/{ORIGIN_PART}/{CEREMONY}/<name>/1"),
        }),
    }
}

/// A response that answers what was asked.
#[derive(Clone, Debug)]
pub struct Response {
    opened: Opened,
    pub(super) certificates: Vec<Certificate>,
    pub(super) crls: Vec<Crl>,
}

/// A certificate in a response.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) name: PartName,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) validity: Validity,
    pub(super) public_key: PublicKey,
    pub(super) root: Option<AuthorityCertificate>,
}

/// A CRL in a response.
#[derive(Clone, Debug)]
pub(super) struct Crl {
    pub(super) name: PartName,
    pub(super) issuer: String,
    pub(super) number: String,
    pub(super) this_update: String,
    pub(super) next_update: String,
    pub(super) revoked: usize,
}

impl Response {
    /// Judges a response to what was `asked`, by an installation that has these roots already. `key` is the ceremony's.
    ///
    /// # Errors
    /// It answers another request, is a rehearsal's or another operator's; a certificate or a CRL is signed by no root
    /// that comes with it or is there, or a certificate is for a key that was not asked about and is no root's.
    pub fn judge(
        opened: Opened,
        asked: &Asked,
        key: &VerifierKey,
        installed: &[AuthorityCertificate],
    ) -> Result<Self, Refusal> {
        let message = opened.message();
        let terms = message.terms();
        let Some(answers) = &terms.answers else {
            return Err(Refusal::Malformed("it is no response".into()));
        };
        if answers.request != asked.request {
            return Err(Refusal::OtherRequest(format!(
                "the response answers the request {}, and this one is {}",
                answers.request, asked.request
            )));
        }
        if let (Some(expected), Some(found)) = (asked.plan, terms.plan)
            && expected != found
        {
            return Err(Refusal::OtherPlan { found, expected });
        }
        if operator(&answers.ceremony) != operator(&terms.origin) {
            return Err(Refusal::OtherOrigin {
                found: answers.ceremony.to_string(),
                expected: format!("a ceremony of {}", operator(&terms.origin)),
            });
        }
        is_rehearsal(&answers.ceremony)?;
        let of = |kind| message.parts().iter().filter(move |part| part.kind == kind);
        let [head] = of(Kind::Checkpoint).collect::<Vec<_>>()[..] else {
            return Err(Refusal::Malformed("a response has one checkpoint, the transcript's".into()));
        };
        Checkpoint::open(text(head)?, key).map_err(|error| wrong(head, error))?;

        let certificates = of(Kind::Certificate).map(certificate).collect::<Result<Vec<_>, _>>()?;
        let made = certificates.iter().filter_map(|(_, certificate)| certificate.root.clone());
        let roots: Vec<_> = made.chain(installed.iter().cloned()).collect();
        for (der, certificate) in &certificates {
            let signed = |root: &AuthorityCertificate| is_signed_by(der, root.public_key());
            if !roots.iter().any(signed) {
                return Err(Refusal::OtherRoot(format!(
                    "`{}` ({}) is signed by no root that comes with it or is there already; its issuer is {}",
                    certificate.name, certificate.subject, certificate.issuer
                )));
            }
            let id = key_id(&certificate.public_key);
            if !asked.keys.contains(&id) && !roots.iter().any(|root| key_id(root.public_key()) == id) {
                return Err(Refusal::OtherRequest(format!(
                    "`{}` ({}) is for the key {id}, which the request does not name",
                    certificate.name, certificate.subject
                )));
            }
        }
        let crls = of(Kind::Crl).map(|part| crl(part, &roots)).collect::<Result<_, _>>()?;
        let certificates = certificates.into_iter().map(|(_, certificate)| certificate).collect();
        Ok(Self { opened, certificates, crls })
    }

    /// The file that it was read from.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The origin of the ceremony's transcript, if it is a rehearsal's: then nothing may be used.
    pub fn rehearsal(&self) -> Option<&KeyName> {
        let answers = self.opened.message().terms().answers.as_ref()?;
        is_rehearsal(&answers.ceremony).is_ok_and(|rehearsal| rehearsal).then_some(&answers.ceremony)
    }
}

fn certificate(part: &Part) -> Result<(Vec<u8>, Certificate), Refusal> {
    let ders = certificates_from_pem(text(part)?).map_err(|error| wrong(part, error))?;
    let [der] = &ders[..] else {
        return Err(wrong(part, format!("it has {} certificates, and a part has one", ders.len())));
    };
    let known = holder(der).map_err(|error| wrong(part, error))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|error| wrong(part, error))?;
    let root = AuthorityCertificate::from_der(der).ok().filter(AuthorityCertificate::is_self_signed);
    let certificate = Certificate {
        name: part.name.clone(),
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        validity: known.validity,
        public_key: known.public_key,
        root,
    };
    Ok((der.clone(), certificate))
}

fn crl(part: &Part, roots: &[AuthorityCertificate]) -> Result<Crl, Refusal> {
    let (rest, parsed) =
        CertificateRevocationList::from_der(&part.bytes).map_err(|error| wrong(part, error))?;
    if !rest.is_empty() {
        return Err(wrong(part, "bytes follow the CRL"));
    }
    let issuer = parsed.issuer().to_string();
    if !roots.iter().any(|root| is_signed_by(&part.bytes, root.public_key())) {
        return Err(Refusal::OtherRoot(format!(
            "`{}` is signed by no root that comes with it or is there already; its issuer is {issuer}",
            part.name
        )));
    }
    Ok(Crl {
        name: part.name.clone(),
        number: parsed.crl_number().map(ToString::to_string).unwrap_or_default(),
        this_update: parsed.last_update().to_string(),
        next_update: parsed.next_update().map(|time| time.to_string()).unwrap_or_default(),
        revoked: parsed.iter_revoked_certificates().count(),
        issuer,
    })
}

/// The id of a key, as files have it: SHA-256 of the SubjectPublicKeyInfo.
pub(super) fn key_id(key: &PublicKey) -> Digest {
    Digest::of(key.spki())
}

/// Whether the key has signed a certificate or a CRL.
fn is_signed_by(der: &[u8], key: &PublicKey) -> bool {
    Signed::from_der(der).is_ok_and(|signed| signed.verify(key).is_ok())
}

fn text(part: &Part) -> Result<&str, Refusal> {
    std::str::from_utf8(&part.bytes).map_err(|error| wrong(part, error))
}

fn wrong(part: &Part, what: impl std::fmt::Display) -> Refusal {
    Refusal::Malformed(format!("`{}`: {what}", part.name))
}
