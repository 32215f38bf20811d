//! A log key in a token.

use async_trait::async_trait;
use undercroft_keymgr::Key;
use undercroft_log::checkpoint::{CheckpointSigner, SigningError};
use undercroft_log::note::{KeyName, NoteError, VerifierKey};

/// The key of one log: signs its checkpoints under the log's origin.
#[derive(Debug)]
pub struct LogKey {
    verifier: VerifierKey,
    key: Key,
}

impl LogKey {
    /// Binds a key to a log.
    ///
    /// # Errors
    /// The key is not Ed25519.
    pub fn new(origin: KeyName, key: Key) -> Result<Self, NoteError> {
        let verifier = VerifierKey::new(origin, key.signer.public_key().clone())?;
        Ok(Self { verifier, key })
    }

    /// The key in its token.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

#[async_trait]
impl CheckpointSigner for LogKey {
    fn key(&self) -> &VerifierKey {
        &self.verifier
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.key.signer.sign(message).await.map_err(|error| SigningError(error.to_string()))
    }
}

/// What stands after the operator's name in the origin of a log.
pub const ORIGIN_PART: &str = "undercroft";

/// The origin of a log: `<operator>/undercroft/<domain or control>/<epoch>`.
///
/// # Errors
/// The operator's name is no DNS name that may stand in an origin.
pub fn origin(operator: &str, log: &str, epoch: u32) -> Result<KeyName, NoteError> {
    format!("{operator}/{ORIGIN_PART}/{log}/{epoch}").parse()
}
