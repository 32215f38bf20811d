//! The form that certificates, CRLs and requests share: some DER, and a signature over it.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Encode, Sequence};
use undercroft_keys::{BadSignature, PublicKey, SignatureAlgorithm};

/// Signed DER, taken apart without reading what it says, so that the signed bytes stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that were signed.
    pub tbs: Vec<u8>,
    /// The signature algorithm.
    pub algorithm: SignatureAlgorithm,
    /// The signature.
    pub signature: Vec<u8>,
}

/// SEQUENCE { tbs, AlgorithmIdentifier, BIT STRING } (RFC 5280 sections 4.1 and 5.1, RFC 2986 section 4.2).
#[derive(Sequence)]
struct SignedRef<'a> {
    tbs: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
}

impl Signed {
    /// Takes signed DER apart.
    ///
    /// # Errors
    /// It is not of that form, or its signature algorithm is none of ours.
    pub fn from_der(der: &[u8]) -> Result<Self, SignedError> {
        let Parts { tbs, algorithm, signature } = Parts::from_der(der)?;
        let algorithm = SignatureAlgorithm::from_der(&algorithm).ok_or(SignedError::Algorithm)?;
        Ok(Self { tbs, algorithm, signature })
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// `key` did not make it.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(self.algorithm, &self.tbs, &self.signature)
    }
}

/// The three parts of signed DER, whatever the algorithm.
pub(crate) struct Parts {
    pub(crate) tbs: Vec<u8>,
    /// The DER of the AlgorithmIdentifier.
    pub(crate) algorithm: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Parts {
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, SignedError> {
        let outer = SignedRef::from_der(der)?;
        Ok(Self {
            tbs: outer.tbs.to_der()?,
            algorithm: outer.algorithm.to_der()?,
            signature: outer.signature.as_bytes().ok_or(SignedError::UnusedBits)?.to_vec(),
        })
    }
}

/// Puts together what was signed before an interruption: the bytes and the signature stand in a log.
///
/// # Errors
/// They cannot be encoded.
pub fn reassemble(
    tbs: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
) -> Result<Vec<u8>, der::Error> {
    assemble(tbs, algorithm, signature)
}

/// Puts a signature under to-be-signed bytes. This is the only place that assembles what a key of ours has signed.
pub(crate) fn assemble(
    tbs: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
) -> Result<Vec<u8>, der::Error> {
    SignedRef {
        tbs: AnyRef::from_der(tbs)?,
        algorithm: AnyRef::from_der(algorithm.der())?,
        signature: BitStringRef::from_bytes(signature)?,
    }
    .to_der()
}

/// Why some bytes are no signed DER.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Not DER of that form, or trailing bytes.
    #[error("it is not DER of the right form: {0}")]
    Der(#[from] der::Error),
    /// Signed in a way that we do not know.
    #[error(
        "it is signed with an algorithm that is not supported; use ECDSA with SHA-256 (P-256) or SHA-384 (P-384), RSA with SHA-256, or Ed25519"
    )]
    Algorithm,
    /// A signature that is no whole number of bytes.
    #[error("its signature is no whole number of bytes")]
    UnusedBits,
}
