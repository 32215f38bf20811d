//! A log's head, noted in a token that has no counters.
//!
//! It keeps an older copy of the database, or of the disk, from being taken for the newest. Whoever may log in to the
//! token may change the note: it does not keep a thief on the host from anything.

use std::sync::Arc;

use undercroft_keymgr::TokenNote;
use undercroft_log::checkpoint::{Checkpoint, SignedCheckpoint};
use undercroft_log::note::VerifierKey;
use undercroft_log::store::{LogReader, StoreError};
use undercroft_log::stored::root;

/// The note of one log.
#[derive(Debug)]
pub struct NotedHead(Arc<dyn TokenNote>);

/// Why a log cannot be compared with its note.
#[derive(Debug, thiserror::Error)]
pub enum NotedHeadError {
    /// The token.
    #[error(transparent)]
    Token(#[from] undercroft_keymgr::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is not what the note says.
    #[error("{0}")]
    Disagree(String),
}

impl NotedHead {
    /// Compares a stored log with what its token has noted. A token that has noted nothing yet agrees with any.
    ///
    /// # Errors
    /// See [`NotedHeadError`].
    pub async fn open(
        note: Arc<dyn TokenNote>,
        key: &VerifierKey,
        size: u64,
        log: &dyn LogReader,
    ) -> Result<Self, NotedHeadError> {
        let disagree = |what: String| Err(NotedHeadError::Disagree(format!("{}: {what}", key.name())));
        // A crash while one was replaced leaves two.
        for noted in note.read().await? {
            let Ok(text) = String::from_utf8(noted) else {
                return disagree("its token's note is no text".into());
            };
            let head = match Checkpoint::open(&text, key) {
                Ok(head) => head,
                Err(error) => return disagree(format!("the checkpoint in its token's note: {error}")),
            };
            if head.size > size {
                return disagree(format!(
                    "its token has noted {} entries, and there are {size}: the log went back",
                    head.size
                ));
            }
            if root(log, head.size).await? != head.root {
                return disagree(format!(
                    "its token has noted another root at {} entries: the log was rewritten",
                    head.size
                ));
            }
        }
        Ok(Self(note))
    }

    /// Notes a head.
    ///
    /// # Errors
    /// The token does not take it.
    pub async fn note(&self, checkpoint: &SignedCheckpoint) -> Result<(), NotedHeadError> {
        Ok(self.0.write(checkpoint.note().as_bytes()).await?)
    }
}
