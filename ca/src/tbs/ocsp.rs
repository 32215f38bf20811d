//! OCSP responses (RFC 6960 section 4.2.1), a batch at a time.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence, Tag, TagNumber};
use jiff::Timestamp;
use undercroft_keys::PublicKey;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use super::{TbsError, ToBeSigned};
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::Revoked;
use crate::time::Validity;

/// AlgorithmIdentifier of SHA-1 and of SHA-256, with NULL for parameters as requests have it (RFC 5019 section 2.1.1).
const SHA_1: &[u8] = &[0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
const SHA_256: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];

/// How requests name an issuer: by hashes over its name and over the bits of its key (RFC 6960 section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIds {
    /// The AlgorithmIdentifier of the hash, over the name and over the key: SHA-1 first, as nearly everybody asks.
    pub hashes: [(&'static [u8], Vec<u8>, Vec<u8>); 2],
}

impl CertificateIds {
    /// Those of an issuer.
    ///
    /// # Errors
    /// Its key cannot be read, which was read before.
    pub fn new(name: &Subject, key: &PublicKey) -> Result<Self, TbsError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(key.spki())
            .map_err(|_| TbsError::Der(der::ErrorKind::Failed.into()))?;
        let bits = &info.subject_public_key.data;
        let hashes = [(SHA_1, &SHA1_FOR_LEGACY_USE_ONLY), (SHA_256, &SHA256)].map(|(oid, hash)| {
            let of = |bytes: &[u8]| digest(hash, bytes).as_ref().to_vec();
            (oid, of(name.der()), of(bits))
        });
        Ok(Self { hashes })
    }
}

/// What is said of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Since when and why it is revoked; nothing if it is good.
    pub revoked: Option<Revoked>,
}

/// Everything that decides what a batch of responses says.
#[derive(Clone, Debug)]
pub struct OcspSpec<'a> {
    /// How the issuer is named.
    pub issuer: &'a CertificateIds,
    /// SHA-1 of the bits of the responder's key: its ResponderID.
    pub responder: [u8; 20],
    /// thisUpdate (and producedAt) and nextUpdate.
    pub period: Validity,
    /// Of each certificate, what is said.
    pub statuses: &'a [Status],
}

/// ResponseData, its version left out since it is 1, and ResponderID by key.
#[derive(Sequence)]
struct ResponseData<'a> {
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    responder: &'a OctetStringRef,
    produced_at: GeneralizedTime,
    responses: Vec<SingleResponse<'a>>,
}

#[derive(Sequence)]
struct SingleResponse<'a> {
    id: CertificateId<'a>,
    status: AnyRef<'a>,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    next_update: GeneralizedTime,
}

#[derive(Sequence)]
struct CertificateId<'a> {
    hash: AnyRef<'a>,
    issuer_name: &'a OctetStringRef,
    issuer_key: &'a OctetStringRef,
    serial: UintRef<'a>,
}

/// RevokedInfo, without its own tag.
#[derive(Sequence)]
struct RevokedInfo<'a> {
    time: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    reason: Option<AnyRef<'a>>,
}

/// Builds a batch: a SEQUENCE OF ResponseData, and each of them by itself. Each says what it says twice, of the certificate as
/// SHA-1 names its issuer and as SHA-256 does, so that one signature serves whoever asks in either way: RFC 6960 section
/// 4.2.2.3 lets responders that sign in advance say more than was asked.
///
/// # Errors
/// The parts cannot be encoded.
pub fn ocsp_responses(spec: &OcspSpec<'_>) -> Result<(ToBeSigned, Vec<Vec<u8>>), TbsError> {
    let each = spec.statuses.iter().map(|status| response(spec, status));
    let each = each.collect::<Result<Vec<_>, der::Error>>()?;
    Ok((ToBeSigned(sequence_of(&each)?), each))
}

/// A SEQUENCE OF BIT STRING: the signatures of a batch.
///
/// # Errors
/// They cannot be encoded.
pub fn signatures(signatures: &[Vec<u8>]) -> Result<Vec<u8>, TbsError> {
    let each = signatures.iter().map(|signature| BitStringRef::from_bytes(signature)?.to_der());
    Ok(sequence_of(&each.collect::<Result<Vec<_>, der::Error>>()?)?)
}

fn sequence_of(each: &[Vec<u8>]) -> Result<Vec<u8>, der::Error> {
    AnyRef::new(Tag::Sequence, &each.concat())?.to_der()
}

fn response(spec: &OcspSpec<'_>, status: &Status) -> Result<Vec<u8>, der::Error> {
    let this_update = generalized(spec.period.not_before())?;
    let next_update = generalized(spec.period.not_after())?;
    let reason = status.revoked.as_ref().and_then(|revoked| revoked.reason);
    let reason = reason.map(|reason| reason.to_der()).transpose()?;
    let revoked = match &status.revoked {
        None => None,
        Some(revoked) => {
            let reason = reason.as_deref().map(AnyRef::from_der).transpose()?;
            Some(RevokedInfo { time: generalized(revoked.date)?, reason }.to_der()?)
        }
    };
    let choice = |number| Tag::ContextSpecific { constructed: number == 1, number: TagNumber(number) };
    // CertStatus: [0] IMPLICIT NULL is good, [1] IMPLICIT RevokedInfo is revoked.
    let status_choice = match &revoked {
        None => AnyRef::new(choice(0), &[])?,
        Some(info) => AnyRef::new(choice(1), AnyRef::from_der(info)?.value())?,
    };
    let responses = spec.issuer.hashes.iter().map(|(hash, name, key)| {
        Ok(SingleResponse {
            id: CertificateId {
                hash: AnyRef::from_der(hash)?,
                issuer_name: OctetStringRef::new(name)?,
                issuer_key: OctetStringRef::new(key)?,
                serial: UintRef::new(status.serial.as_bytes())?,
            },
            status: status_choice,
            this_update,
            next_update,
        })
    });
    let data = ResponseData {
        responder: OctetStringRef::new(&spec.responder)?,
        produced_at: this_update,
        responses: responses.collect::<Result<_, der::Error>>()?,
    };
    data.to_der()
}

fn generalized(time: Timestamp) -> Result<GeneralizedTime, der::Error> {
    let seconds = u64::try_from(time.as_second()).map_err(|_| der::ErrorKind::DateTime)?;
    GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(seconds))
}
