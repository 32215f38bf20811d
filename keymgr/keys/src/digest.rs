//! Digests of messages, with their algorithm: for whoever signs what somebody else has hashed.

use std::fmt;

use aws_lc_rs::digest::{self, Digest};

use crate::algorithm::{KeyAlgorithm, SignatureAlgorithm};

/// A hash function of the SHA-2 family (FIPS 180-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512. No key of ours signs it; those that ask for it are told so.
    Sha512,
}

impl DigestAlgorithm {
    /// Every one of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The length of its digests, in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn function(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

impl SignatureAlgorithm {
    /// What messages are hashed with before they are signed; nothing for Ed25519, which signs them as they are.
    pub const fn digest(self) -> Option<DigestAlgorithm> {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaPssSha256 | Self::RsaPkcs1Sha256 => {
                Some(DigestAlgorithm::Sha256)
            }
            Self::EcdsaP384Sha384 => Some(DigestAlgorithm::Sha384),
            Self::Ed25519 => None,
        }
    }
}

/// The digest of a message. Its length is that of its algorithm.
#[derive(Clone)]
pub struct MessageDigest {
    algorithm: DigestAlgorithm,
    value: Digest,
}

impl MessageDigest {
    /// A digest that somebody else has made.
    ///
    /// # Errors
    /// [`WrongDigest::Length`] if it has not exactly the length of the algorithm's digests.
    pub fn new(algorithm: DigestAlgorithm, bytes: &[u8]) -> Result<Self, WrongDigest> {
        match Digest::import_less_safe(bytes, algorithm.function()) {
            Ok(value) => Ok(Self { algorithm, value }),
            Err(_) => Err(WrongDigest::Length { algorithm, length: bytes.len() }),
        }
    }

    /// Hashes `message`.
    pub fn of(algorithm: DigestAlgorithm, message: &[u8]) -> Self {
        Self { algorithm, value: digest::digest(algorithm.function(), message) }
    }

    /// What it was made with.
    pub const fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8] {
        self.value.as_ref()
    }

    /// Whether a key of `key` signs digests of this kind.
    ///
    /// # Errors
    /// [`WrongDigest::Algorithm`] if it signs others, or none.
    pub fn suits(&self, key: KeyAlgorithm) -> Result<(), WrongDigest> {
        match key.signature_algorithm().digest() {
            Some(wanted) if wanted == self.algorithm => Ok(()),
            wanted => Err(WrongDigest::Algorithm { key, wanted, given: self.algorithm }),
        }
    }

    pub(crate) const fn value(&self) -> &Digest {
        &self.value
    }
}

impl fmt::Debug for MessageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.algorithm, hex::encode(self.as_bytes()))
    }
}

/// A digest that cannot be what it is said to be, or that a key does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongDigest {
    /// Its length is not its algorithm's.
    #[error("a {algorithm} digest has {} bytes, not {length}; hand over the digest itself", algorithm.length())]
    Length {
        /// What it was said to be.
        algorithm: DigestAlgorithm,
        /// How many bytes it has.
        length: usize,
    },
    /// The key signs digests of another kind.
    #[error("a {key} key signs {}, not {given}; hash the message with that", Wanted(*wanted))]
    Algorithm {
        /// The key.
        key: KeyAlgorithm,
        /// What it signs.
        wanted: Option<DigestAlgorithm>,
        /// What was given.
        given: DigestAlgorithm,
    },
}

struct Wanted(Option<DigestAlgorithm>);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(algorithm) => write!(f, "digests of {algorithm}"),
            None => f.write_str("whole messages"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_length_is_refused_with_the_right_one() {
        for algorithm in DigestAlgorithm::ALL {
            for length in (0..=65).chain([128, 1 << 20]) {
                let digest = MessageDigest::new(algorithm, &vec![7; length]);
                match digest {
                    Ok(digest) => assert_eq!((digest.as_bytes().len(), length), (length, algorithm.length())),
                    Err(refusal) => {
                        assert_ne!(length, algorithm.length());
                        let told = refusal.to_string();
                        let right = format!("has {} bytes, not {length}", algorithm.length());
                        assert!(told.contains(&right), "{told}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_signs_digests_of_one_kind_and_ed25519_of_none() {
        for key in KeyAlgorithm::ALL {
            for algorithm in DigestAlgorithm::ALL {
                let suits = MessageDigest::of(algorithm, b"message").suits(key);
                let wanted = match key {
                    KeyAlgorithm::EcdsaP384 => Some(DigestAlgorithm::Sha384),
                    KeyAlgorithm::Ed25519 => None,
                    _ => Some(DigestAlgorithm::Sha256),
                };
                assert_eq!(suits.is_ok(), wanted == Some(algorithm), "{key} {algorithm}");
                if let Err(refusal) = suits {
                    assert!(refusal.to_string().contains(&key.to_string()), "{refusal}");
                }
            }
        }
    }

    #[test]
    fn a_digest_of_a_message_is_that_digest() {
        let digest = MessageDigest::of(DigestAlgorithm::Sha256, b"abc");
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(digest.as_bytes()), known);
        assert!(format!("{digest:?}").contains(known));
    }
}
