//! The certificates of an HSM's partition, which signs what the HSM states.
//!
//! Two chains lead to it: manufacturer's root, card, partition; and the owner's root, which has certified the keys of
//! card and partition once more. Both must, as in Google's published verification. Marvell's root is a certificate of
//! version 1 without extensions whose own time ran out in 2025, so that no general validator takes it: an anchor is a
//! name and a key here, and nothing else (RFC 5280 section 6.1.1 d). Chains have exactly these lengths, so that nobody
//! below a card can add to them.

use std::fmt;

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
};
use jiff::Timestamp;
use x509_parser::oid_registry::{OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Looked;

/// The longest certificate that is read.
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Whose statements about keys in Google's HSMs are believed: roots of the HSM's manufacturer, and of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HsmAnchors {
    manufacturers: Vec<Vec<u8>>,
    owners: Vec<Vec<u8>>,
}

/// A certificate that cannot be an anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an anchor of HSMs cannot be read: {0}")]
pub struct BadAnchor(String);

impl HsmAnchors {
    /// The anchors in these PEM certificates: `manufacturer` for who makes the modules, `owner` for who runs them. Both
    /// are needed to prove anything.
    ///
    /// # Errors
    /// One is no certificate.
    pub fn from_pem(manufacturer: &[&str], owner: &[&str]) -> Result<Self, BadAnchor> {
        let read =
            |all: &[&str]| all.iter().map(|pem| read(pem).map_err(BadAnchor)).collect::<Result<Vec<_>, _>>();
        Ok(Self { manufacturers: read(manufacturer)?, owners: read(owner)? })
    }

    /// Whether nothing can be proven by them.
    pub fn is_empty(&self) -> bool {
        self.manufacturers.is_empty() || self.owners.is_empty()
    }
}

/// A partition of an HSM that leads to both anchors.
#[derive(Debug)]
pub(super) struct Partition {
    name: String,
    key: Vec<u8>,
}

impl Partition {
    /// Whether the partition has signed these bytes.
    pub(super) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> Result<(), String> {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key)
            .verify(signed, signature)
            .map_err(|_| format!("it is not signed by {}", self.name))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The partition, if `chains` (manufacturer's, the owner's for the card, the owner's for the partition) lead to the
/// anchors and are valid `now`.
pub(super) fn partition(
    (manufacturer, owner_card, owner_partition): (&[String], &[String], &[String]),
    anchors: &HsmAnchors,
    now: Timestamp,
) -> Result<Partition, Looked> {
    let der = |all: &[String], at: usize, what: &str| match all.get(at) {
        Some(pem) => {
            read(pem).map_err(|error| Looked::Wrong(format!("the certificate of the {what}: {error}")))
        }
        None => Err(Looked::Wrong(format!("the certificate of the {what} is missing"))),
    };
    let ders = [
        der(manufacturer, 0, "partition by the card")?,
        der(manufacturer, 1, "card by the manufacturer")?,
        der(owner_card, 0, "card by its owner")?,
        der(owner_partition, 0, "partition by its owner")?,
    ];
    let [partition, card, owned_card, owned_partition] = &ders;
    let (partition, card) = (parse(partition)?, parse(card)?);
    let (owned_card, owned_partition) = (parse(owned_card)?, parse(owned_partition)?);

    is_issued_by(&partition, &card)?;
    leads_to(&card, &anchors.manufacturers)?;
    leads_to(&owned_card, &anchors.owners)?;
    leads_to(&owned_partition, &anchors.owners)?;
    for (one, other, what) in [(&card, &owned_card, "card"), (&partition, &owned_partition, "partition")] {
        if one.tbs_certificate.subject_pki.raw != other.tbs_certificate.subject_pki.raw {
            return Err(Looked::Wrong(format!(
                "manufacturer and owner have certified different keys of the {what}"
            )));
        }
    }
    for certificate in [&partition, &card, &owned_card, &owned_partition] {
        let validity = certificate.validity();
        if !(validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.as_second()) {
            return Err(Looked::Not(format!(
                "the certificate of {} by {} is not valid at {now}",
                certificate.subject(),
                certificate.issuer()
            )));
        }
    }
    Ok(Partition {
        name: partition.subject().to_string(),
        key: partition.tbs_certificate.subject_pki.subject_public_key.data.to_vec(),
    })
}

fn leads_to(certificate: &X509Certificate<'_>, anchors: &[Vec<u8>]) -> Result<(), Looked> {
    let mut known = false;
    for anchor in anchors {
        let anchor = parse(anchor)?;
        if anchor.subject().as_raw() != certificate.issuer().as_raw() {
            continue;
        }
        known = true;
        if is_issued_by(certificate, &anchor).is_ok() {
            return Ok(());
        }
    }
    match known {
        true => Err(Looked::Wrong(format!(
            "the certificate of {} is not signed by {}",
            certificate.subject(),
            certificate.issuer()
        ))),
        false => Err(Looked::Not(format!(
            "the certificate of {} is by {}, which is no anchor that was given",
            certificate.subject(),
            certificate.issuer()
        ))),
    }
}

fn is_issued_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<(), Looked> {
    let wrong = |why: &dyn fmt::Display| {
        Looked::Wrong(format!(
            "the certificate of {} is not by {}: {why}",
            certificate.subject(),
            issuer.subject()
        ))
    };
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(wrong(&"it names another issuer"));
    }
    let algorithm = match &certificate.signature_algorithm.algorithm {
        oid if *oid == OID_PKCS1_SHA256WITHRSA => &RSA_PKCS1_2048_8192_SHA256,
        oid if *oid == OID_PKCS1_SHA384WITHRSA => &RSA_PKCS1_2048_8192_SHA384,
        oid if *oid == OID_PKCS1_SHA512WITHRSA => &RSA_PKCS1_2048_8192_SHA512,
        other => return Err(wrong(&format!("the algorithm {other} is not taken"))),
    };
    UnparsedPublicKey::new(algorithm, &issuer.tbs_certificate.subject_pki.subject_public_key.data)
        .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
        .map_err(|_| wrong(&"the signature is another's"))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Looked> {
    match X509Certificate::from_der(der) {
        Ok((rest, certificate)) if rest.is_empty() => Ok(certificate),
        _ => Err(Looked::Wrong("a certificate is malformed".to_owned())),
    }
}

/// The DER in a PEM, of a certificate that can be parsed.
fn read(pem: &str) -> Result<Vec<u8>, String> {
    if pem.len() > MAX_CERTIFICATE {
        return Err(format!("it has {} bytes, more than {MAX_CERTIFICATE}", pem.len()));
    }
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    match X509Certificate::from_der(&pem.contents) {
        Ok((rest, _)) if rest.is_empty() => Ok(pem.contents),
        Ok(_) => Err("it has bytes behind it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
