//! Keeping a TPM's ledger in a log, and the log's head in a TPM's counter (`docs/ledger.md`).
//!
//! ```text
//! at start   counter against the newest announcement in the log; then the epoch that was left open is closed
//! each epoch TPM2_GetCommandAuditDigest over the newest checkpoint ──▶ `command`
//! each anchor `anchor-intent` in a (cosigned) checkpoint ──▶ TPM2_NV_Increment, TPM2_NV_Certify ──▶ `anchor`
//! at stop    the epoch is closed
//! ```

use std::sync::Arc;

use undercroft_keymgr::{Attestation, CommandNumber, Ledger};
use undercroft_log::leaf::{
    Anchor, AnchorIntent, Attested, Base64Bytes, Body, CloseReason, Command, Draft, Leaf, LeafError,
    LedgerNumber, LogHead,
};
use undercroft_log::sequencer::{Append, AppendError, Assurance, Log};
use undercroft_log::store::{LogReader, StoreError};

use crate::store::{Effect, Facts};

/// The ledger of a TPM whose keys sign for one log.
pub struct LedgerKeeper {
    ledger: Arc<dyn Ledger>,
    /// The NV index of the counter.
    counter: u32,
    signer: Vec<u8>,
    audited: Vec<u32>,
}

/// A counter, and where it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterStart {
    /// Its NV index.
    pub index: u32,
    /// The value that it had before any log was anchored in it.
    pub from: u64,
}

/// Why a ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The TPM.
    #[error(transparent)]
    Token(#[from] undercroft_keymgr::Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry cannot be written. A bug.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The counter and the log do not agree: one of them went back, or is another one.
    #[error("{0}")]
    Disagree(String),
}

impl LedgerKeeper {
    /// Finds the ledger in its TPM, and compares the counter with what the stored log says of it. Nothing is appended:
    /// a log that went back must not grow.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        start: CounterStart,
        origin: &str,
        log: &dyn LogReader,
        facts: &dyn Facts,
    ) -> Result<Self, LedgerError> {
        let signer = ledger.attestation_key().await?;
        let audited = ledger.audited().await?;
        let announced = announced(start, origin, log, facts).await?;
        let value = ledger.counter().await?;
        let index = start.index;
        match announced {
            // One less: the program stopped between the announcement and the count.
            Announced::InLog(said) if value == said || value + 1 == said => {}
            Announced::InLog(said) if value > said => {
                return Err(LedgerError::Disagree(format!(
                    "the TPM's counter {index:#x} is at {value}, and {origin} knows it at {said}: the log went back"
                )));
            }
            Announced::Nothing if value == start.from => {}
            Announced::Nothing if value > start.from => {
                return Err(LedgerError::Disagree(format!(
                    "the TPM's counter {index:#x} is at {value}, and {origin} has no anchor since {}: the log went back, or `counter-from` is wrong",
                    start.from
                )));
            }
            Announced::InLog(said) | Announced::BeforeLog(said) => {
                return Err(LedgerError::Disagree(format!(
                    "the TPM's counter {index:#x} is at {value}, and {origin} knows it at {said}: it is another counter"
                )));
            }
            Announced::Nothing => {
                return Err(LedgerError::Disagree(format!(
                    "the TPM's counter {index:#x} is at {value}, below `counter-from` ({}): it is another counter",
                    start.from
                )));
            }
        }
        Ok(Self { ledger, counter: index, signer, audited })
    }

    /// Closes the epoch, and begins the next. Does nothing in a log that has no checkpoint yet.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn close_epoch(&self, log: &Log<Effect>, reason: CloseReason) -> Result<(), LedgerError> {
        let Some(checkpoint) = log.checkpoint() else { return Ok(()) };
        let checkpoint = checkpoint.checkpoint();
        let head = LogHead { size: checkpoint.size, root: checkpoint.root };
        let closed = self.ledger.close_epoch(head.qualifying(checkpoint.origin.as_str()).0).await?;
        let number = number(closed.command);
        let attested = self.attested(closed);
        let audited = self.audited.clone();
        let command = Command::CloseEpoch { number, reason, audited, head, attested };
        log.append_end(Append::new(Draft::new(&Body::Command(command))?)).await?;
        Ok(())
    }

    /// Anchors the log in the counter.
    ///
    /// # Errors
    /// See [`LedgerError`]. The counter may have been counted up all the same.
    pub async fn anchor(&self, log: &Log<Effect>) -> Result<(), LedgerError> {
        let index = self.counter;
        let value = self.ledger.counter().await? + 1;
        let draft = Draft::new(&Body::AnchorIntent(AnchorIntent { index, value }))?;
        let effects = vec![Effect::AnchorAnnounced { counter: index, value }];
        let announce = Append { draft, effects, blobs: Vec::new() };
        let receipt = log.append_assured(announce, Assurance::Witnessed).await?;
        let increment = number(self.ledger.increment().await?);
        let checkpoint = receipt.checkpoint().checkpoint();
        let head = LogHead { size: checkpoint.size, root: checkpoint.root };
        let certified = self.ledger.certify_counter(head.qualifying(checkpoint.origin.as_str()).0).await;
        let body = match &certified {
            Ok(certified) => Body::Anchor(Anchor {
                index,
                value,
                head,
                increment,
                certify: number(certified.command),
                attested: self.attested(certified.clone()),
            }),
            // It was counted up, which the ledger must be able to account for.
            Err(_) => Body::Command(Command::IncrementCounter { number: increment, index }),
        };
        log.append_end(Append::new(Draft::new(&body)?)).await?;
        certified.map(drop).map_err(Into::into)
    }

    fn attested(&self, attestation: Attestation) -> Attested {
        Attested {
            signer: Base64Bytes(self.signer.clone()),
            attest: Base64Bytes(attestation.attest),
            signature: Base64Bytes(attestation.signature),
        }
    }
}

fn number(command: CommandNumber) -> LedgerNumber {
    LedgerNumber { epoch: command.epoch, ordinal: command.ordinal }
}

/// What a log says of its counter.
enum Announced {
    /// The newest announcement.
    InLog(u64),
    /// The stored row names an entry that says something else.
    BeforeLog(u64),
    /// Nothing yet.
    Nothing,
}

/// The newest announcement. The row that names it is compared with the entry itself, which the checkpoint covers.
async fn announced(
    start: CounterStart,
    origin: &str,
    log: &dyn LogReader,
    facts: &dyn Facts,
) -> Result<Announced, LedgerError> {
    let Some((value, entry)) = facts.anchor(origin, start.index).await? else {
        return Ok(Announced::Nothing);
    };
    let entries = log.entries(entry..entry + 1).await?;
    let leaf = entries.first().map(|bytes| Leaf::parse(bytes)).transpose()?;
    match leaf.map(|leaf| leaf.body) {
        Some(Body::AnchorIntent(intent)) if intent == (AnchorIntent { index: start.index, value }) => {
            Ok(Announced::InLog(value))
        }
        _ => Ok(Announced::BeforeLog(value)),
    }
}
