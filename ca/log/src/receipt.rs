//! Receipts: that an entry is in the log.

use std::sync::Arc;

use futures::channel::oneshot;
use jiff::Timestamp;

use crate::checkpoint::SignedCheckpoint;
use crate::proof::TlogProof;
use crate::sequencer::AppendError;
use crate::tree::{Hash, ProofError, leaf_hash, verify_inclusion};

/// What shows that an entry is durable: a [`Receipt`], or the [`Promise`] of one. Only the sequencer makes either, and each
/// can be used up once.
pub trait Logged: sealed::Sealed {
    /// The index of the entry.
    fn index(&self) -> u64;

    /// The exact bytes of the entry.
    fn leaf(&self) -> &[u8];

    /// The receipt, if there is one already.
    fn receipt(&self) -> Option<&Receipt>;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else can say that something was logged")]
    pub trait Sealed {}
    impl Sealed for super::Receipt {}
    impl Sealed for super::Promise {}
}

/// Proof that an entry is durable and stands under a signed checkpoint.
///
/// Only the sequencer makes one, after the batch's transaction won and the checkpoint was signed, and only if the
/// inclusion proof verifies. It can be used up (moved) once, which is how `issue` makes sure that one entry allows
/// one signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    index: u64,
    time: Timestamp,
    leaf: Arc<[u8]>,
    leaf_hash: Hash,
    path: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

impl Receipt {
    pub(crate) fn new(
        index: u64,
        time: Timestamp,
        leaf: Arc<[u8]>,
        path: Vec<Hash>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Self, ProofError> {
        let leaf_hash = leaf_hash(&leaf);
        let head = checkpoint.checkpoint();
        verify_inclusion(index, head.size, &leaf_hash, &path, &head.root)?;
        Ok(Self { index, time, leaf, leaf_hash, path, checkpoint })
    }

    /// The same receipt under the same checkpoint, with more lines.
    pub(crate) fn under(self, checkpoint: SignedCheckpoint) -> Self {
        debug_assert_eq!(self.checkpoint.checkpoint(), checkpoint.checkpoint());
        Self { checkpoint, ..self }
    }

    /// The index of the entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// When the entry was stamped.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The exact bytes of the entry.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The hash of the entry, under which it stands in the tree.
    pub fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }

    /// The checkpoint that it stands under.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The proof for anyone else.
    pub fn proof(&self) -> TlogProof {
        TlogProof { index: self.index, path: self.path.clone(), checkpoint: self.checkpoint.note().clone() }
    }
}

impl Logged for Receipt {
    fn index(&self) -> u64 {
        self.index
    }

    fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(self)
    }
}

/// An entry that is durable, and whose receipt follows when the head over it has been signed.
#[derive(Debug)]
pub struct Promise {
    pub(crate) index: u64,
    pub(crate) leaf: Arc<[u8]>,
    pub(crate) receipt: oneshot::Receiver<Result<Receipt, AppendError>>,
}

impl Promise {
    /// Waits for the receipt.
    ///
    /// # Errors
    /// `Unsigned` if the log key could not sign; the entry stays durable.
    pub async fn kept(self) -> Result<Receipt, AppendError> {
        let stopped = || AppendError::Stopped("it ended before the head was signed".to_owned());
        self.receipt.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Logged for Promise {
    fn index(&self) -> u64 {
        self.index
    }

    fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    fn receipt(&self) -> Option<&Receipt> {
        None
    }
}
