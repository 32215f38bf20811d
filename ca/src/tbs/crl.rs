//! Certificate revocation lists (RFC 5280 section 5).

use der::asn1::{AnyRef, Uint};
use der::{Decode, Encode, Enumerated, Sequence, Tag};
use jiff::Timestamp;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::{BaseCrlNumber, CrlNumber, FreshestCrl, IssuingDistributionPoint};
use x509_cert::time::Time;

use super::extensions::{authority_key_identifier, critical, full_name, plain, point};
use super::{HttpUrl, Issuer, TbsError, ToBeSigned};
use crate::serial::SerialNumber;
use crate::time::{Validity, x509_time};

/// Why a certificate was revoked (RFC 5280 section 5.3.1). `unspecified` is written by leaving the reason out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum RevocationReason {
    /// The key may be in other hands.
    KeyCompromise = 1,
    /// The key of an authority may be in other hands.
    CaCompromise = 2,
    /// The subject's name or affiliation has changed.
    AffiliationChanged = 3,
    /// It has been replaced.
    Superseded = 4,
    /// It is no longer needed.
    CessationOfOperation = 5,
    /// It is on hold and may be released. No plan of a ceremony says so.
    #[serde(skip)]
    CertificateHold = 6,
    /// It is revoked no more. In delta CRLs alone.
    #[serde(skip)]
    RemoveFromCrl = 8,
    /// A privilege in it was withdrawn.
    PrivilegeWithdrawn = 9,
}

/// An entry of a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The certificate's serial number.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub date: Timestamp,
    /// Why, if that is said.
    pub reason: Option<RevocationReason>,
}

/// Everything that decides what a CRL says.
#[derive(Clone, Debug)]
pub struct CrlSpec<'a> {
    /// Whose it is.
    pub issuer: &'a Issuer,
    /// Its number, higher than that of every CRL before it.
    pub number: u64,
    /// thisUpdate and nextUpdate.
    pub period: Validity,
    /// What is revoked.
    pub revoked: &'a [Revoked],
    /// What it covers, and how it is made up to date.
    pub scope: CrlScope<'a>,
}

/// What a CRL covers, and how it is made up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrlScope<'a> {
    /// Of a shard, the URL that its certificates name; nothing of a CRL that covers all certificates of its issuer.
    pub shard: Option<&'a HttpUrl>,
    /// Of a delta CRL, the number of the CRL that it changes.
    pub delta_of: Option<u64>,
    /// Where deltas of this one are published.
    pub freshest: Option<&'a HttpUrl>,
}

/// TBSCertList (RFC 5280 section 5.1.2). x509-cert's builder is not used: it copies the issuer's own AKI and writes an
/// empty list where the list must be absent.
#[derive(Sequence)]
struct TbsCertList<'a> {
    version: u8,
    signature: AnyRef<'a>,
    issuer: AnyRef<'a>,
    this_update: Time,
    next_update: Time,
    #[asn1(optional = "true")]
    revoked_certificates: Option<AnyRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// CRL version 2.
const V2: u8 = 1;

/// Builds a TBSCertList.
///
/// # Errors
/// The parts cannot be encoded. Whether they make sense together is for lint to say.
pub fn crl(spec: &CrlSpec<'_>) -> Result<ToBeSigned, TbsError> {
    let entries = entries(spec.revoked)?;
    let number = |number: u64| Uint::new(&number.to_be_bytes());
    let mut extensions = vec![
        authority_key_identifier(&spec.issuer.key_identifier)?,
        plain(&CrlNumber(number(spec.number)?))?,
    ];
    if let Some(base) = spec.scope.delta_of {
        extensions.push(critical(&BaseCrlNumber(number(base)?))?);
    }
    if let Some(url) = spec.scope.shard {
        let point = IssuingDistributionPoint {
            distribution_point: Some(full_name(url)?),
            only_contains_user_certs: false,
            only_contains_ca_certs: false,
            only_some_reasons: None,
            indirect_crl: false,
            only_contains_attribute_certs: false,
        };
        // x509-cert 0.3 takes it for subjectInfoAccess.
        extensions.push(Extension {
            extn_id: const_oid::db::rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT,
            critical: true,
            extn_value: der::asn1::OctetString::new(point.to_der()?)?,
        });
    }
    if let Some(url) = spec.scope.freshest {
        extensions.push(plain(&FreshestCrl(vec![point(url)?]))?);
    }
    let list = TbsCertList {
        version: V2,
        signature: AnyRef::from_der(spec.issuer.algorithm.der())?,
        issuer: AnyRef::from_der(spec.issuer.name.der())?,
        this_update: x509_time(spec.period.not_before())?,
        next_update: x509_time(spec.period.not_after())?,
        // RFC 5280 section 5.1.2.6: when there are no revoked certificates, the list MUST be absent.
        revoked_certificates: (!entries.is_empty())
            .then(|| AnyRef::new(Tag::Sequence, &entries))
            .transpose()?,
        extensions,
    };
    Ok(ToBeSigned(list.to_der()?))
}

/// What all entries have in front of the code of their reason: SEQUENCE OF Extension with a reasonCode (2.5.29.21) that is
/// not critical, and in it an ENUMERATED of one byte (RFC 5280 section 5.3.1).
const REASON: [u8; 13] = [0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01];

/// The content of revokedCertificates. There may be a million entries, which have nothing in them that is not of a
/// fixed form; written byte by byte they take a tenth of the time.
fn entries(revoked: &[Revoked]) -> Result<Vec<u8>, der::Error> {
    let mut entries = Vec::with_capacity(revoked.len() * 52);
    let mut last: Option<(i64, Vec<u8>)> = None;
    for Revoked { serial, date, reason } in revoked {
        let second = date.as_second();
        let time = match last.take() {
            Some((at, time)) if at == second => time,
            _ => x509_time(*date)?.to_der()?,
        };
        let reason = reason.map(|reason| reason as u8);
        // Never more than 127 bytes: 18 for the serial number, 17 at most for the time, 14 for the reason.
        let length = 2 + serial.as_bytes().len() + time.len() + reason.map_or(0, |_| REASON.len() + 1);
        entries.extend_from_slice(&[0x30, length as u8, 0x02, serial.as_bytes().len() as u8]);
        entries.extend_from_slice(serial.as_bytes());
        entries.extend_from_slice(&time);
        if let Some(reason) = reason {
            entries.extend_from_slice(&REASON);
            entries.push(reason);
        }
        last = Some((second, time));
    }
    Ok(entries)
}
