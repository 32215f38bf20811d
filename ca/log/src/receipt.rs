//! Receipts: that an entry is in the log.

use std::sync::Arc;

use jiff::Timestamp;

use crate::checkpoint::SignedCheckpoint;
use crate::leaf::{Leaf, LeafError};
use crate::proof::TlogProof;
use crate::tree::{Hash, ProofError, leaf_hash, verify_inclusion};

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

    /// The body of the entry, as it stands in its bytes.
    ///
    /// # Errors
    /// The entry is malformed, which the sequencer never makes.
    pub fn body(&self) -> Result<&str, LeafError> {
        Leaf::raw_body(&self.leaf)
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
