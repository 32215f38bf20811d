//! Having checkpoints cosigned: the joint between the sequencer and whoever reaches the witnesses.

use std::sync::Arc;

use async_trait::async_trait;

use crate::checkpoint::SignedCheckpoint;
use crate::store::{LogReader, StoreError};

/// How long a round goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until enough witnesses have cosigned. Those that are slower are still listened to: see [`Cosigner::alarm`].
    ForEnough,
    /// Until every witness has answered, or its time is up.
    ForAll,
}

/// Has checkpoints cosigned by witnesses, as many as a policy wants.
#[async_trait]
pub trait Cosigner: Send + Sync {
    /// The cosignature lines of enough witnesses, each verified over this checkpoint. `log` is the log that it is of,
    /// for proofs of consistency with what each witness has seen before.
    ///
    /// # Errors
    /// See [`NotCosigned`].
    async fn cosign(
        &self,
        checkpoint: &SignedCheckpoint,
        log: Arc<dyn LogReader>,
        wait: Wait,
    ) -> Result<Vec<String>, NotCosigned>;

    /// Ends when a witness has seen another history of the log, which it may say when others have made the quorum and
    /// its round is long over; never otherwise. What it says.
    async fn alarm(&self) -> String;
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCosigned {
    /// Too few witnesses answered, or would. Others may later.
    #[error("too few witnesses have cosigned: {0}")]
    TooFew(String),
    /// The log went back or forked: a witness has seen more of it, or something else.
    #[error("{0}")]
    Alarm(String),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
