//! Certificate revocation lists (RFC 5280 section 5).

use der::asn1::{AnyRef, UintRef};
use der::{Decode, Encode, Enumerated, Sequence};
use jiff::Timestamp;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::time::Time;

use super::extensions::{authority_key_identifier, plain};
use super::{Issuer, TbsError, ToBeSigned};
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
    revoked_certificates: Option<Vec<RevokedCertificate<'a>>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct RevokedCertificate<'a> {
    serial_number: UintRef<'a>,
    date: Time,
    #[asn1(optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// CRL version 2.
const V2: u8 = 1;

/// Builds a TBSCertList.
///
/// # Errors
/// The parts cannot be encoded. Whether they make sense together is for lint to say.
pub fn crl(spec: &CrlSpec<'_>) -> Result<ToBeSigned, TbsError> {
    let entries = spec
        .revoked
        .iter()
        .map(|revoked| {
            let reason = revoked.reason.map(reason_code).transpose()?;
            Ok(RevokedCertificate {
                serial_number: UintRef::new(revoked.serial.as_bytes())?,
                date: x509_time(revoked.date)?,
                extensions: reason.map(|extension| vec![extension]),
            })
        })
        .collect::<Result<Vec<_>, der::Error>>()?;
    let number = CrlNumber(der::asn1::Uint::new(&spec.number.to_be_bytes())?);
    let list = TbsCertList {
        version: V2,
        signature: AnyRef::from_der(spec.issuer.algorithm.der())?,
        issuer: AnyRef::from_der(spec.issuer.name.der())?,
        this_update: x509_time(spec.period.not_before())?,
        next_update: x509_time(spec.period.not_after())?,
        // RFC 5280 section 5.1.2.6: when there are no revoked certificates, the list MUST be absent.
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        extensions: vec![authority_key_identifier(&spec.issuer.key_identifier)?, plain(&number)?],
    };
    Ok(ToBeSigned(list.to_der()?))
}

/// reasonCode, not critical (RFC 5280 section 5.3.1).
fn reason_code(reason: RevocationReason) -> Result<Extension, der::Error> {
    Ok(Extension {
        extn_id: const_oid::db::rfc5280::ID_CE_CRL_REASONS,
        critical: false,
        extn_value: der::asn1::OctetString::new(reason.to_der()?)?,
    })
}
