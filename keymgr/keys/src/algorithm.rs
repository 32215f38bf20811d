//! What a key is, and how it signs.

use std::fmt;
use std::str::FromStr;

/// The modulus length of an RSA key, in bits. Shorter keys do not exist for us (NIST SP 800-57 part 1, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RsaBits {
    /// 2048 bits.
    B2048,
    /// 3072 bits.
    B3072,
    /// 4096 bits.
    B4096,
}

impl RsaBits {
    /// The length as a number of bits.
    pub const fn bits(self) -> u16 {
        match self {
            Self::B2048 => 2048,
            Self::B3072 => 3072,
            Self::B4096 => 4096,
        }
    }

    pub(crate) const fn from_bits(bits: usize) -> Option<Self> {
        match bits {
            2048 => Some(Self::B2048),
            3072 => Some(Self::B3072),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }
}

/// The kind of a key: what its SubjectPublicKeyInfo says, without the way it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyType {
    /// NIST P-256 (secp256r1).
    P256,
    /// NIST P-384 (secp384r1).
    P384,
    /// RSA with public exponent 65537.
    Rsa(RsaBits),
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Rsa(bits) => write!(f, "RSA-{}", bits.bits()),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// The kind of a key together with the one way in which it signs.
///
/// The algorithm is a property of the key, so a digest and a key can never disagree: a key that signs with
/// PKCS#1 v1.5 is another `KeyAlgorithm` than one that signs with PSS, although both are RSA keys. In plans and
/// configurations it is written `ecdsa-p256`, `ecdsa-p384`, `rsa-2048-pss`, `rsa-3072-pkcs1`, `ed25519` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 8017 section 8.1).
    RsaPss(RsaBits),
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2), for old peers.
    RsaPkcs1(RsaBits),
    /// Ed25519 over the message itself (RFC 8032 section 5.1).
    Ed25519,
}

impl KeyAlgorithm {
    /// Every algorithm that Undercroft knows, in the order in which documents list them.
    pub const ALL: [Self; 9] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::RsaPss(RsaBits::B2048),
        Self::RsaPss(RsaBits::B3072),
        Self::RsaPss(RsaBits::B4096),
        Self::RsaPkcs1(RsaBits::B2048),
        Self::RsaPkcs1(RsaBits::B3072),
        Self::RsaPkcs1(RsaBits::B4096),
        Self::Ed25519,
    ];

    /// The kind of key that signs this way.
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::EcdsaP256 => KeyType::P256,
            Self::EcdsaP384 => KeyType::P384,
            Self::RsaPss(bits) | Self::RsaPkcs1(bits) => KeyType::Rsa(bits),
            Self::Ed25519 => KeyType::Ed25519,
        }
    }

    /// The signature algorithm that certificates signed by such a key name.
    pub const fn signature_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => SignatureAlgorithm::EcdsaP256Sha256,
            Self::EcdsaP384 => SignatureAlgorithm::EcdsaP384Sha384,
            Self::RsaPss(_) => SignatureAlgorithm::RsaPssSha256,
            Self::RsaPkcs1(_) => SignatureAlgorithm::RsaPkcs1Sha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::RsaPss(bits) => write!(f, "rsa-{}-pss", bits.bits()),
            Self::RsaPkcs1(bits) => write!(f, "rsa-{}-pkcs1", bits.bits()),
            Self::Ed25519 => f.write_str("ed25519"),
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.to_string() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// A name that is no [`KeyAlgorithm`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no key algorithm; known are ecdsa-p256, ecdsa-p384, rsa-2048-pss, rsa-3072-pss, rsa-4096-pss, rsa-2048-pkcs1, rsa-3072-pkcs1, rsa-4096-pkcs1, ed25519"
)]
pub struct UnknownAlgorithm(pub String);

/// A signature algorithm as an X.509 AlgorithmIdentifier names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 by a P-256 key (RFC 5758 section 3.2).
    EcdsaP256Sha256,
    /// ecdsa-with-SHA384 by a P-384 key (RFC 5758 section 3.2).
    EcdsaP384Sha384,
    /// id-RSASSA-PSS with SHA-256, MGF1-SHA-256, salt length 32 (RFC 4055 section 3.1).
    RsaPssSha256,
    /// sha256WithRSAEncryption (RFC 4055 section 5).
    RsaPkcs1Sha256,
    /// id-Ed25519 (RFC 8410 section 3).
    Ed25519,
}

impl SignatureAlgorithm {
    const ALL: [Self; 5] = [
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::RsaPssSha256,
        Self::RsaPkcs1Sha256,
        Self::Ed25519,
    ];

    /// The DER of the AlgorithmIdentifier.
    ///
    /// An AlgorithmIdentifier has exactly one right encoding for each of these (CA/Browser Forum BR 7.1.3.2
    /// lists the first four byte for byte), so the bytes stand here as they are.
    pub const fn der(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256Sha256 => {
                &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]
            }
            Self::EcdsaP384Sha384 => {
                &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]
            }
            Self::RsaPssSha256 => &[
                0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34,
                0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
                0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
                0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
                0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x20,
            ],
            Self::RsaPkcs1Sha256 => {
                &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00]
            }
            Self::Ed25519 => &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
        }
    }

    /// The algorithm whose AlgorithmIdentifier has exactly these DER bytes.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.der() == der)
    }

    /// The name that logs and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The algorithm of that name, as [`SignatureAlgorithm::name`] writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            let signature = algorithm.signature_algorithm();
            assert_eq!(SignatureAlgorithm::from_name(signature.name()), Some(signature));
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        for name in ["", "ECDSA-P256", "rsa-1024-pss", "ecdsa-p521", "rsa-2048"] {
            let refusal = name.parse::<KeyAlgorithm>().unwrap_err().to_string();
            assert!(refusal.contains(&format!("`{name}`")) && refusal.contains("ecdsa-p256"), "{refusal}");
        }
    }

    #[test]
    fn identifiers_are_well_formed_der_and_one_byte_off_is_unknown() {
        use der::{Decode, Encode};
        for algorithm in SignatureAlgorithm::ALL {
            let parsed = spki::AlgorithmIdentifierOwned::from_der(algorithm.der()).unwrap();
            assert_eq!(parsed.to_der().unwrap(), algorithm.der());
            assert_eq!(SignatureAlgorithm::from_der(algorithm.der()), Some(algorithm));
            let mut other = algorithm.der().to_vec();
            *other.last_mut().unwrap() ^= 0x40;
            assert_eq!(SignatureAlgorithm::from_der(&other), None);
        }
    }
}
