//! Public keys, signature algorithms and verification.
//!
//! Every package of Undercroft that looks at a signature does it through this one: tokens sign, [`PublicKey`]
//! verifies. Nothing here holds a private key, opens a token or reads a clock.
//!
//! A [`PublicKey`] can only be made from bytes that passed every check of [`PublicKey::from_spki`], so a
//! function that takes one need not ask whether the key is on its curve, long enough or canonically encoded.

mod algorithm;
mod digest;
mod key_id;
mod ml_dsa;
mod possession;
mod public_key;
mod weak_rsa;

pub use algorithm::{KeyAlgorithm, KeyType, RsaBits, SignatureAlgorithm, UnknownAlgorithm};
pub use digest::{DigestAlgorithm, MessageDigest, WrongDigest};
pub use key_id::{KeyId, SubjectKeyIdentifier};
pub use ml_dsa::MlDsa44Key;
pub use possession::{NoPossession, verify_possession};
pub use public_key::{BadSignature, Numbers, PublicKey, PublicKeyError};
