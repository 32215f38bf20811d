//! The witness: judges, keeps, cosigns.

use std::sync::Arc;

use tokio::sync::Mutex;
use undercroft_cli::Failure;
use undercroft_keymgr::SigningKey;
use undercroft_log::Clock;
use undercroft_log::add_checkpoint::{AddCheckpoint, AddRefusal};
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::note::{KeyName, Note, NoteError};

use crate::logs::Logs;

/// A witness with its key and its state.
pub struct Witness {
    key: WitnessKey,
    signer: Arc<dyn SigningKey>,
    clock: Arc<dyn Clock>,
    /// One request at a time: what was seen is read, compared, kept and only then answered.
    logs: Mutex<Logs>,
}

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] AddRefusal),
    /// The witness cannot work: its token, its disk, its state.
    #[error("{0}")]
    Broken(Failure),
}

impl Witness {
    /// A witness called `name`.
    ///
    /// # Errors
    /// The key is not Ed25519.
    pub fn new(
        name: KeyName,
        signer: Arc<dyn SigningKey>,
        logs: Logs,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NoteError> {
        let key = WitnessKey::ed25519(name, signer.public_key().clone())?;
        Ok(Self { key, signer, clock, logs: Mutex::new(logs) })
    }

    /// The key that verifies its cosignatures.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// Answers `add-checkpoint`: the line that cosigns the checkpoint. It is durable here before it is told.
    ///
    /// # Errors
    /// See [`WitnessError`].
    pub async fn add_checkpoint(&self, request: &str) -> Result<String, WitnessError> {
        let request: AddCheckpoint = request.parse()?;
        let origin = request.origin().map_err(|error| AddRefusal::Malformed(error.to_string()))?;
        let logs = self.logs.lock().await;
        let broken = WitnessError::Broken;
        let log = logs.key(&origin).map_err(broken)?;
        let log = log.ok_or_else(|| AddRefusal::UnknownLog(origin.to_string()))?;
        let checkpoint = request.judge(&log, &logs.seen(&log).map_err(broken)?)?;
        let note =
            Note::parse(&request.checkpoint).map_err(|error| AddRefusal::Malformed(error.to_string()))?;
        // Of the lines that came, the log's own alone are kept: others are nobody's business here.
        let own = note.only(&log);
        let time = self.clock.now();
        let message = self.key.message(note.unverified_text(), time);
        let message = message.map_err(|error| AddRefusal::Malformed(error.to_string()))?;
        let signature =
            self.signer.sign(&message).await.map_err(|error| WitnessError::Broken(error.into()))?;
        let line = self.key.line(time, &signature);
        logs.keep(&checkpoint.origin, &format!("{own}{line}")).map_err(broken)?;
        Ok(line)
    }

    /// The last checkpoint that was cosigned of the log whose origin has this SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn cosigned(&self, origin_hash: &str) -> Result<Option<String>, Failure> {
        self.logs.lock().await.cosigned(origin_hash)
    }
}
