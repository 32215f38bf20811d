//! What only ceremonies may ask of a token: who it is, and the end of a key.

use std::fmt;

use async_trait::async_trait;
use undercroft_keys::KeyId;

use crate::{Error, KeyUri};

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The version of its firmware.
    pub firmware: String,
}

impl fmt::Display for TokenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, firmware {}, serial {}", self.model, self.firmware, self.serial)
    }
}

/// Destroys keys. A program that holds none of these cannot.
#[async_trait]
pub trait DestroyKey: fmt::Debug + Send + Sync {
    /// Destroys the key that `uri` names, both halves, if its public half has the identifier `id`, and looks that it is gone.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Denied` if it is another key, which is left as it is, or the token refuses; `Fault` if
    /// the token says that it did and the key is still there.
    async fn destroy(&self, uri: &KeyUri, id: KeyId) -> Result<(), Error>;
}
