//! Public keys: parsed once, strictly, and then trusted to be what they say.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Encode, Sequence};
use spki::SubjectPublicKeyInfoRef;

use crate::algorithm::{KeyType, RsaBits, SignatureAlgorithm};
use crate::digest::MessageDigest;
use crate::key_id::{KeyId, SubjectKeyIdentifier};
use crate::weak_rsa::{self, Weakness};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The most bytes that a SubjectPublicKeyInfo may have: RSA-4096 needs 550.
const MAX_SPKI: usize = 1024;

/// A public key that passed every check of [`PublicKey::from_spki`]. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Parsed>);

struct Parsed {
    spki: Vec<u8>,
    key_type: KeyType,
    id: KeyId,
    ski: SubjectKeyIdentifier,
    verifier: Verifier,
}

enum Verifier {
    /// ECDSA and Ed25519: one algorithm a key, so the parsed form is kept.
    Fixed(ParsedPublicKey),
    /// RSA: the DER of RSAPublicKey, since the padding decides the verifier.
    Rsa(Vec<u8>),
}

impl PublicKey {
    /// Parses the DER of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// Refused are: trailing or non-canonical bytes, curves other than P-256 and P-384, compressed points and
    /// points off the curve, RSA moduli of other lengths than 2048, 3072 and 4096 bits, exponents other than
    /// 65537, moduli with small factors and those of ROCA.
    pub fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        if der.len() > MAX_SPKI {
            return Err(PublicKeyError::TooLong(der.len()));
        }
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(PublicKeyError::Der)?;
        // Belt and braces: `from_der` is strict, and equality with our own encoding makes the key id canonical.
        if info.to_der().map_err(PublicKeyError::Der)? != der {
            return Err(PublicKeyError::NotCanonical);
        }
        let bits = info.subject_public_key.as_bytes().ok_or(PublicKeyError::NotCanonical)?;
        let (key_type, verifier) = match info.algorithm.oid {
            EC_PUBLIC_KEY => Self::ec(&info, bits)?,
            ED25519 if info.algorithm.parameters.is_none() => {
                (KeyType::Ed25519, Verifier::Fixed(parse(&signature::ED25519, bits)?))
            }
            RSA_ENCRYPTION => Self::rsa(&info, bits)?,
            other => return Err(PublicKeyError::Unsupported(other.to_string())),
        };
        Ok(Self(Arc::new(Parsed {
            spki: der.to_vec(),
            key_type,
            id: KeyId::of_spki(der),
            ski: SubjectKeyIdentifier::of_key_bits(bits),
            verifier,
        })))
    }

    /// Makes the key of a P-256 or P-384 point in the uncompressed form of SEC 1 section 2.3.3 (`04 ‖ x ‖ y`).
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`]; key types without a point are [`PublicKeyError::Unsupported`].
    pub fn from_ec_point(key_type: KeyType, point: &[u8]) -> Result<Self, PublicKeyError> {
        let curve = match key_type {
            KeyType::P256 => P256,
            KeyType::P384 => P384,
            KeyType::Rsa(_) | KeyType::Ed25519 => {
                return Err(PublicKeyError::Unsupported(format!("{key_type} has no EC point")));
            }
        };
        Self::encode(EC_PUBLIC_KEY, Some(&curve.to_der().map_err(PublicKeyError::Der)?), point)
    }

    /// Makes the key of an Ed25519 public key of 32 bytes (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`].
    pub fn from_ed25519(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        Self::encode(ED25519, None, bytes)
    }

    /// Makes the key of an RSA modulus, big-endian, with exponent 65537.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`].
    pub fn from_rsa_modulus(modulus: &[u8]) -> Result<Self, PublicKeyError> {
        let exponent = [1, 0, 1];
        let key = RsaPublicKey {
            modulus: UintRef::new(modulus).map_err(PublicKeyError::Der)?,
            public_exponent: UintRef::new(&exponent).map_err(PublicKeyError::Der)?,
        };
        Self::encode(RSA_ENCRYPTION, Some(&[0x05, 0x00]), &key.to_der().map_err(PublicKeyError::Der)?)
    }

    fn encode(oid: ObjectIdentifier, parameters: Option<&[u8]>, bits: &[u8]) -> Result<Self, PublicKeyError> {
        let parameters = parameters.map(der::AnyRef::from_der).transpose().map_err(PublicKeyError::Der)?;
        let info = SubjectPublicKeyInfoRef {
            algorithm: spki::AlgorithmIdentifierRef { oid, parameters },
            subject_public_key: der::asn1::BitStringRef::from_bytes(bits).map_err(PublicKeyError::Der)?,
        };
        Self::from_spki(&info.to_der().map_err(PublicKeyError::Der)?)
    }

    fn ec(info: &SubjectPublicKeyInfoRef<'_>, point: &[u8]) -> Result<(KeyType, Verifier), PublicKeyError> {
        let curve = info
            .algorithm
            .parameters_oid()
            .map_err(|_| PublicKeyError::Unsupported("an EC key without a named curve".into()))?;
        if point.first() != Some(&0x04) {
            return Err(PublicKeyError::CompressedPoint);
        }
        match curve {
            P256 => Ok((KeyType::P256, Verifier::Fixed(parse(&signature::ECDSA_P256_SHA256_ASN1, point)?))),
            P384 => Ok((KeyType::P384, Verifier::Fixed(parse(&signature::ECDSA_P384_SHA384_ASN1, point)?))),
            other => Err(PublicKeyError::Unsupported(format!("curve {other}"))),
        }
    }

    fn rsa(info: &SubjectPublicKeyInfoRef<'_>, bits: &[u8]) -> Result<(KeyType, Verifier), PublicKeyError> {
        // RFC 3279 section 2.3.1: the parameters field MUST have ASN.1 type NULL.
        if !info.algorithm.parameters.is_some_and(|p| p.is_null()) {
            return Err(PublicKeyError::NotCanonical);
        }
        let key = RsaPublicKey::from_der(bits).map_err(PublicKeyError::Der)?;
        let modulus = key.modulus.as_bytes();
        let leading_zeros = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
        let length = (modulus.len() * 8).saturating_sub(leading_zeros);
        let size = RsaBits::from_bits(length).ok_or(PublicKeyError::RsaLength(length))?;
        if key.public_exponent.as_bytes() != [1, 0, 1] {
            return Err(PublicKeyError::RsaExponent);
        }
        match weak_rsa::weakness(modulus) {
            Some(Weakness::SmallFactor(factor)) => Err(PublicKeyError::RsaFactor(factor)),
            Some(Weakness::Roca) => Err(PublicKeyError::Roca),
            None => Ok((KeyType::Rsa(size), Verifier::Rsa(bits.to_vec()))),
        }
    }

    /// The DER of the SubjectPublicKeyInfo, exactly as it was given.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// The kind of the key.
    pub fn key_type(&self) -> KeyType {
        self.0.key_type
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// SHA-1 of the subjectPublicKey bits, as certificates carry it.
    pub fn subject_key_identifier(&self) -> SubjectKeyIdentifier {
        self.0.ski
    }

    /// The 32 bytes of an Ed25519 key; nothing for other kinds.
    pub fn ed25519_bytes(&self) -> Option<[u8; 32]> {
        match (&self.0.key_type, &self.0.verifier) {
            (KeyType::Ed25519, Verifier::Fixed(parsed)) => parsed.as_ref().try_into().ok(),
            _ => None,
        }
    }

    /// The numbers that the key is made of, big-endian, as a JWK writes them (RFC 7518 section 6, RFC 8037 section 2).
    pub fn numbers(&self) -> Numbers<'_> {
        match &self.0.verifier {
            Verifier::Rsa(der) => match RsaPublicKey::from_der(der) {
                Ok(key) => Numbers::Rsa { n: key.modulus.as_bytes(), e: key.public_exponent.as_bytes() },
                // `from_spki` has parsed it.
                Err(_) => Numbers::Rsa { n: &[], e: &[] },
            },
            Verifier::Fixed(parsed) if self.0.key_type == KeyType::Ed25519 => {
                Numbers::Ed25519 { x: parsed.as_ref() }
            }
            Verifier::Fixed(parsed) => {
                // An uncompressed point: 04 ‖ x ‖ y.
                let coordinates = &parsed.as_ref()[1..];
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                Numbers::Ec { x, y }
            }
        }
    }

    /// The subjectPublicKey bits: a point, the DER of RSAPublicKey, or the 32 bytes of an Ed25519 key.
    pub(crate) fn key_bits(&self) -> &[u8] {
        match &self.0.verifier {
            Verifier::Fixed(parsed) => parsed.as_ref(),
            Verifier::Rsa(der) => der,
        }
    }

    /// Verifies a signature over `message`.
    ///
    /// Signatures are as X.509 carries them: ECDSA as DER `ECDSA-Sig-Value`, RSA and Ed25519 as plain bytes.
    ///
    /// # Errors
    /// [`BadSignature`] if the algorithm is none of this key's, or the signature does not verify.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        use SignatureAlgorithm::{EcdsaP256Sha256, EcdsaP384Sha384, Ed25519, RsaPkcs1Sha256, RsaPssSha256};
        let verified = match (algorithm, self.0.key_type, &self.0.verifier) {
            (EcdsaP256Sha256, KeyType::P256, Verifier::Fixed(key))
            | (EcdsaP384Sha384, KeyType::P384, Verifier::Fixed(key))
            | (Ed25519, KeyType::Ed25519, Verifier::Fixed(key)) => key.verify_sig(message, signature),
            (RsaPssSha256, KeyType::Rsa(_), Verifier::Rsa(key)) => {
                UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA256, key).verify(message, signature)
            }
            (RsaPkcs1Sha256, KeyType::Rsa(_), Verifier::Rsa(key)) => {
                UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature)
            }
            _ => return Err(BadSignature),
        };
        verified.map_err(|_| BadSignature)
    }

    /// Verifies a signature over a message of which there is only the digest.
    ///
    /// # Errors
    /// [`BadSignature`] if the algorithm is none of this key's or hashes with another function, or the signature does
    /// not verify.
    pub fn verify_digest(
        &self,
        algorithm: SignatureAlgorithm,
        digest: &MessageDigest,
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        use SignatureAlgorithm::{EcdsaP256Sha256, EcdsaP384Sha384, RsaPkcs1Sha256, RsaPssSha256};
        if algorithm.digest() != Some(digest.algorithm()) {
            return Err(BadSignature);
        }
        let verified = match (algorithm, self.0.key_type, &self.0.verifier) {
            (EcdsaP256Sha256, KeyType::P256, Verifier::Fixed(key))
            | (EcdsaP384Sha384, KeyType::P384, Verifier::Fixed(key)) => {
                key.verify_digest_sig(digest.value(), signature)
            }
            (RsaPssSha256, KeyType::Rsa(_), Verifier::Rsa(key)) => {
                UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA256, key)
                    .verify_digest(digest.value(), signature)
            }
            (RsaPkcs1Sha256, KeyType::Rsa(_), Verifier::Rsa(key)) => {
                UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key)
                    .verify_digest(digest.value(), signature)
            }
            _ => return Err(BadSignature),
        };
        verified.map_err(|_| BadSignature)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.0.key_type, self.0.id)
    }
}

/// The numbers that a public key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers<'a> {
    /// A point of P-256 or P-384.
    Ec {
        /// The x coordinate, padded to the width of the curve.
        x: &'a [u8],
        /// The y coordinate, padded likewise.
        y: &'a [u8],
    },
    /// An RSA key.
    Rsa {
        /// The modulus.
        n: &'a [u8],
        /// The exponent.
        e: &'a [u8],
    },
    /// An Ed25519 key.
    Ed25519 {
        /// Its 32 bytes.
        x: &'a [u8],
    },
}

/// RSAPublicKey (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

fn parse(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    bytes: &[u8],
) -> Result<ParsedPublicKey, PublicKeyError> {
    ParsedPublicKey::new(algorithm, bytes).map_err(|_| PublicKeyError::InvalidPoint)
}

/// A signature that does not verify. It says no more, on purpose: an oracle would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Why some bytes are no public key that Undercroft accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// More bytes than any supported key needs.
    #[error(
        "a SubjectPublicKeyInfo of {0} bytes is longer than any supported key ({MAX_SPKI} bytes at most)"
    )]
    TooLong(usize),
    /// Not DER, or trailing bytes.
    #[error("the public key is not the DER of a SubjectPublicKeyInfo: {0}")]
    Der(der::Error),
    /// DER that is not the one right encoding of its content.
    #[error("the public key is not canonically encoded (RFC 3279 section 2.3, RFC 5480 section 2)")]
    NotCanonical,
    /// A key type, curve or parameter that we do not use.
    #[error(
        "the public key is of a kind that is not supported: {0}; use P-256, P-384, RSA-2048/3072/4096 or Ed25519"
    )]
    Unsupported(String),
    /// A compressed or hybrid EC point.
    #[error("the EC point is not in uncompressed form (RFC 5480 section 2.2)")]
    CompressedPoint,
    /// A point off its curve, or of the wrong length.
    #[error("the public key is not a valid point of its curve")]
    InvalidPoint,
    /// An RSA modulus of another length.
    #[error("an RSA modulus of {0} bits is not supported; use 2048, 3072 or 4096")]
    RsaLength(usize),
    /// An RSA exponent other than 65537.
    #[error("the RSA public exponent is not 65537")]
    RsaExponent,
    /// A modulus that anyone can factor.
    #[error("the RSA modulus is divisible by {0}: its generator is broken")]
    RsaFactor(u32),
    /// A modulus of Infineon's broken generator.
    #[error(
        "the RSA modulus was made by a ROCA-affected generator (CVE-2017-15361); replace the device's firmware"
    )]
    Roca,
}

#[cfg(test)]
mod tests;
