//! Signing what somebody else has hashed.
//!
//! Issuance never does: what is signed there was linted and logged, and is hashed where it is signed. A caller that
//! has no message, only its digest (SPIRE's key managers are asked so), needs this capability and is given no other.

use std::fmt;

use async_trait::async_trait;
use undercroft_keys::{BadSignature, KeyAlgorithm, MessageDigest, PublicKey, WrongDigest};

use crate::{Error, ErrorKind};

/// Signs digests with a private key in a token.
#[async_trait]
pub trait SignPrehashed: fmt::Debug + Send + Sync {
    /// What the key is and how it signs, and so which digests it takes ([`MessageDigest::suits`]).
    fn algorithm(&self) -> KeyAlgorithm;

    /// The public half, as read from the token when the key was opened.
    fn public_key(&self) -> &PublicKey;

    /// Signs `digest`, as [`SigningKey::sign`](crate::SigningKey::sign) signs the message that it is of.
    ///
    /// # Errors
    /// As `SigningKey::sign`; `Unsupported`, before the token is asked, if the digest is not of the kind that the
    /// key signs.
    async fn sign_digest(&self, digest: &MessageDigest) -> Result<Vec<u8>, Error>;
}

/// `Unsupported`: whoever made the digest makes another.
impl From<WrongDigest> for Error {
    fn from(wrong: WrongDigest) -> Self {
        Self::new(ErrorKind::Unsupported, wrong.to_string())
    }
}

/// What a token is asked to sign: one way for backends to serve both capabilities.
#[derive(Clone, Debug)]
pub enum ToSign {
    /// A message, which is hashed as the key's algorithm says.
    Message(Vec<u8>),
    /// A message that somebody else has hashed.
    Digest(MessageDigest),
}

impl ToSign {
    /// What a key of `algorithm` is applied to: the digest, or for Ed25519 the message itself.
    ///
    /// # Errors
    /// `Unsupported` if the digest is not of the kind that the key signs.
    pub fn bytes(&self, algorithm: KeyAlgorithm) -> Result<Vec<u8>, Error> {
        match (self, algorithm.signature_algorithm().digest()) {
            (Self::Message(message), Some(function)) => {
                Ok(MessageDigest::of(function, message).as_bytes().to_vec())
            }
            (Self::Message(message), None) => Ok(message.clone()),
            (Self::Digest(digest), _) => {
                digest.suits(algorithm)?;
                Ok(digest.as_bytes().to_vec())
            }
        }
    }

    /// Whether `signature` is one of `key` over this.
    ///
    /// # Errors
    /// [`BadSignature`] if it is not.
    pub fn verify(
        &self,
        key: &PublicKey,
        algorithm: KeyAlgorithm,
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        match self {
            Self::Message(message) => key.verify(algorithm.signature_algorithm(), message, signature),
            Self::Digest(digest) => key.verify_digest(algorithm.signature_algorithm(), digest, signature),
        }
    }
}
