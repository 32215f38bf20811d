//! Keys that sign only what a second party, the gate, has authorised. The token enforces it.

use std::fmt;

use async_trait::async_trait;
use undercroft_keys::{KeyId, PublicKey};

use crate::{Counted, Error};

/// The word of a gate: this key may sign this one digest, once, soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorisation {
    /// The gate's key.
    pub gate: KeyId,
    /// For how many seconds since the nonce was made it holds.
    pub expiration: i32,
    /// The gate's signature, as X.509 carries it. What it signs is the token's business; see `undercroft-tpm-wire`.
    pub signature: Vec<u8>,
}

/// Asks a gate for one signature. Whoever implements it knows what is to be signed, and why it may be.
#[async_trait]
pub trait Gate: Send + Sync {
    /// The word of one of the key's gates for the session with this nonce.
    ///
    /// # Errors
    /// `Unavailable` if no gate answers, `Denied` if a gate refuses.
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error>;
}

/// A key that signs only what a gate has authorised.
#[async_trait]
pub trait SignGated: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, if `gate` lets it. `gates` are the keys of all gates that the key was made with, in order.
    ///
    /// # Errors
    /// As [`SigningKey::sign`](crate::SigningKey::sign), and those of `gate`; `Denied` if the key was made with other
    /// gates.
    async fn sign(&self, message: &[u8], gates: &[PublicKey], gate: &dyn Gate) -> Result<Counted, Error>;
}
