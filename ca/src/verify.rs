//! Checks for those who hold a certificate, and for auditors: without the CA, its database or its tokens.

use der::{Decode, Encode};
use jiff::Timestamp;
use undercroft_keys::PublicKey;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Intent, Leaf, LeafError, Object, ToBeSigned};
use undercroft_log::note::VerifierKey;
use undercroft_log::proof::{TlogProof, TlogProofError};

use crate::certificate::{
    AuthorityCertificate, CertificateError, MAX_CERTIFICATE, uris_in_subject, validity_of,
};
use crate::signed::{Signed, SignedError};
use crate::time::Validity;

/// What a certificate says of whoever holds it: a leaf's, or an authority's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The key.
    pub public_key: PublicKey,
    /// The URIs: of an SVID, its SPIFFE ID.
    pub uris: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
}

/// Verifies that the first certificate of `chain` is signed by the second and so on, the last by one of `roots`, and
/// that all are valid at `now`; and says what the first one says.
///
/// Names, constraints and path lengths are for the verifier of whoever relies on the certificate: this tells whether an
/// answer of the CA is whole.
///
/// # Errors
/// See [`VerifyError`].
pub fn chain(
    chain: &[impl AsRef<[u8]>],
    roots: &[AuthorityCertificate],
    now: Timestamp,
) -> Result<Holder, VerifyError> {
    let (leaf, issuers) = chain.split_first().ok_or(VerifyError::NoChain)?;
    let leaf = leaf.as_ref();
    let mut issuers = issuers
        .iter()
        .map(|der| AuthorityCertificate::from_der(der.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let last = issuers.last().map_or(leaf, AuthorityCertificate::der);
    let root = roots.iter().find(|root| has_issued(root, last)).ok_or(VerifyError::NoIssuer)?.clone();
    issuers.push(root);
    let mut below = leaf;
    for issuer in &issuers {
        if !has_issued(issuer, below) {
            return Err(VerifyError::NoIssuer);
        }
        below = issuer.der();
    }
    let holder = holder(leaf)?;
    let mut periods = issuers.iter().map(AuthorityCertificate::validity).chain([holder.validity]);
    match periods.find(|validity| !validity.contains(now)) {
        Some(validity) => Err(VerifyError::NotValid { now, validity }),
        None => Ok(holder),
    }
}

/// What a certificate says.
///
/// # Errors
/// It cannot be read.
pub fn holder(certificate: &[u8]) -> Result<Holder, CertificateError> {
    if certificate.len() > MAX_CERTIFICATE {
        return Err(CertificateError::TooLong(certificate.len()));
    }
    let parsed = x509_cert::Certificate::from_der(certificate)?;
    let fields = parsed.tbs_certificate();
    Ok(Holder {
        public_key: PublicKey::from_spki(&fields.subject_public_key_info().to_der()?)?,
        uris: uris_in_subject(fields),
        validity: validity_of(fields)?,
    })
}

fn has_issued(issuer: &AuthorityCertificate, certificate: &[u8]) -> bool {
    let verified = || -> Result<bool, VerifyError> {
        let parsed = x509_cert::Certificate::from_der(certificate).map_err(CertificateError::from)?;
        let named = parsed.tbs_certificate().issuer().to_der().map_err(CertificateError::from)?;
        let signed = Signed::from_der(certificate)?;
        Ok(named == issuer.subject().der() && signed.verify(issuer.public_key()).is_ok())
    };
    verified().unwrap_or(false)
}

/// Where a certificate stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The index of its intent.
    pub index: u64,
    /// The intent.
    pub intent: Intent,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
}

/// Verifies that the intent of a certificate stands in the log of `key`: that `entry` is an intent for exactly these
/// to-be-signed bytes, and that `proof` shows it under a checkpoint of the log.
///
/// # Errors
/// See [`VerifyError`].
pub fn standing(
    certificate: &[u8],
    entry: &[u8],
    proof: &str,
    key: &VerifierKey,
) -> Result<Standing, VerifyError> {
    let signed = Signed::from_der(certificate)?;
    let proof: TlogProof = proof.parse()?;
    let checkpoint = proof.verify(entry, key)?;
    let leaf = Leaf::parse(entry)?;
    if leaf.origin != *key.name() || leaf.index != proof.index {
        return Err(VerifyError::OtherPlace { says: leaf.index, stands: proof.index });
    }
    let Body::Intent(intent) = leaf.body else { return Err(VerifyError::NoIntent) };
    let same = match &intent.tbs {
        ToBeSigned::Der(tbs) => tbs.0 == signed.tbs,
        ToBeSigned::Blob { sha256, length } => {
            *length == signed.tbs.len() as u64 && *sha256 == undercroft_log::leaf::Digest::of(&signed.tbs)
        }
    };
    if !same || intent.object != Object::Certificate || intent.algorithm != signed.algorithm {
        return Err(VerifyError::OtherCertificate);
    }
    Ok(Standing { index: leaf.index, intent, checkpoint })
}

/// Why a certificate does not stand in a log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nothing was given.
    #[error("there is no certificate")]
    NoChain,
    /// The chain does not hold together.
    #[error("a certificate of the chain is not signed by the next one, or the last one by no root")]
    NoIssuer,
    /// One of the chain is not valid.
    #[error("a certificate of the chain is valid from {validity}, and it is {now}")]
    NotValid {
        /// Now.
        now: Timestamp,
        /// When it is valid.
        validity: Validity,
    },
    /// No signed DER.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The proof.
    #[error(transparent)]
    Proof(#[from] TlogProofError),
    /// The entry cannot be read.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The entry says that it stands elsewhere.
    #[error("the entry says that it is number {says}, or of another log, and stands at {stands}")]
    OtherPlace {
        /// What it says.
        says: u64,
        /// Where it stands.
        stands: u64,
    },
    /// The entry is no intent.
    #[error("the entry is no intent")]
    NoIntent,
    /// The entry is the intent of something else.
    #[error("the entry is the intent of another certificate")]
    OtherCertificate,
}
