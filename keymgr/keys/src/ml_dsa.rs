//! ML-DSA-44 (FIPS 204), for cosignatures of logs alone: no certificate of ours carries such a key yet.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ML_DSA_44, UnparsedPublicKey};

use crate::public_key::BadSignature;

/// The bytes of a key (FIPS 204 section 4).
const KEY: usize = 1312;

/// The bytes of a signature.
const SIGNATURE: usize = 2420;

/// A public key. Any 1312 bytes are one.
#[derive(Clone, PartialEq, Eq)]
pub struct MlDsa44Key(Arc<[u8]>);

impl MlDsa44Key {
    /// The key of these bytes (`pk` of FIPS 204); nothing if they are not 1312.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY).then(|| Self(bytes.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Verifies a pure ML-DSA-44 signature with an empty context over `message`.
    ///
    /// # Errors
    /// It is not one of this key over this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if signature.len() != SIGNATURE {
            return Err(BadSignature);
        }
        UnparsedPublicKey::new(&ML_DSA_44, &self.0).verify(message, signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for MlDsa44Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MlDsa44Key")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};

    use super::*;

    #[test]
    fn a_signature_verifies_for_its_message_and_key_alone() {
        let pair = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let key = MlDsa44Key::from_bytes(pair.public_key().as_ref()).unwrap();
        let mut signature = vec![0; SIGNATURE];
        pair.sign(b"message", &mut signature).unwrap();
        key.verify(b"message", &signature).unwrap();
        assert!(key.verify(b"massage", &signature).is_err());
        assert!(key.verify(b"message", &signature[1..]).is_err());
        let other = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let other = MlDsa44Key::from_bytes(other.public_key().as_ref()).unwrap();
        assert!(other.verify(b"message", &signature).is_err());
        assert_eq!(MlDsa44Key::from_bytes(&[0; 32]), None);
    }
}
