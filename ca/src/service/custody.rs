//! Where the keys live, proved at start and again whenever a token was away.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use undercroft_attestors::custody::Grade;
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::Key;
use undercroft_log::leaf::{Draft, KeyEvent};
use undercroft_log::sequencer::{Append, Log};

use super::{CertificateAuthority, StartError};
use crate::custody::CustodyRecord;
use crate::store::Effect;

/// A key that the CA uses, and what its custody must be.
pub(super) struct HeldKey {
    key: Key,
    purpose: String,
    uri: String,
    required: Grade,
    /// How often its token had been connected to when its custody was last proved.
    proved: AtomicU64,
}

impl HeldKey {
    pub(super) fn new(key: Key, purpose: String, uri: String, required: Grade) -> Self {
        Self { key, purpose, uri, required, proved: AtomicU64::new(0) }
    }

    /// Asks its token for evidence now, and records it, whatever it is worth.
    pub(super) async fn prove(
        &self,
        log: &Log<Effect>,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<(), StartError> {
        let (purpose, uri) = (self.purpose.clone(), self.uri.clone());
        let record = CustodyRecord::of(&self.key, KeyEvent::Opened, purpose, uri, trust, now).await?;
        // As it was after the evidence came: collecting it may have been what connected to the token.
        self.proved.store(self.key.custody.connections(), Ordering::Relaxed);
        let draft = Draft::new(&record.entry).map_err(|error| StartError::Bug(error.to_string()))?;
        log.append(Append { draft, effects: Vec::new(), blobs: record.blobs.clone() }).await?;
        Ok(record.require(self.required)?)
    }

    fn was_away(&self) -> bool {
        self.key.custody.connections() != self.proved.load(Ordering::Relaxed)
    }
}

impl CertificateAuthority {
    /// Proves custody again of the keys whose token was connected to anew; of every key if `all`. Gives how many those were.
    ///
    /// # Errors
    /// As [`CertificateAuthority::start`]: a key is not where it must be, a token does not answer, the log has stopped.
    pub async fn prove_custody(&self, all: bool) -> Result<usize, StartError> {
        let mut proved = 0;
        for domain in &self.domains {
            for key in domain.keys.iter().filter(|key| all || key.was_away()) {
                key.prove(&domain.log, &self.trust, self.clock.now()).await?;
                proved += 1;
            }
        }
        Ok(proved)
    }
}
