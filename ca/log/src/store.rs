//! What a log asks of whatever keeps it.
//!
//! `E` is the type of *effects*: facts of the program above (a certificate's row, a token that is used up) that must
//! become durable in the same transaction as the entry that they belong to, or not at all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use undercroft_keys::KeyId;

use crate::checkpoint::SignedCheckpoint;
use crate::leaf::Digest;
use crate::tree::{FullTile, Hash};

/// The stored end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries there are.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When the last of them was stamped.
    pub time: Option<Timestamp>,
    /// How often each key has been used: the sequence number of its last intent.
    pub sequences: BTreeMap<KeyId, u64>,
}

impl Default for Head {
    /// The head of a log that has no entry yet.
    fn default() -> Self {
        Self { size: 0, root: Hash::empty_root(), time: None, sequences: BTreeMap::new() }
    }
}

/// A stamped entry and what goes with it. Cheap to clone.
#[derive(Debug)]
pub struct Entry<E> {
    /// Its bytes.
    pub leaf: Arc<[u8]>,
    /// Facts that become durable with it.
    pub effects: Arc<[E]>,
    /// Large objects that it names by digest.
    pub blobs: Arc<[Vec<u8>]>,
}

impl<E> Clone for Entry<E> {
    fn clone(&self) -> Self {
        Self { leaf: self.leaf.clone(), effects: self.effects.clone(), blobs: self.blobs.clone() }
    }
}

/// Entries that become durable together.
#[derive(Debug)]
pub struct Batch<E> {
    /// The head that must still be the stored one.
    pub expected: Head,
    /// The head from here on.
    pub head: Head,
    /// The entries, the first at index `expected.size`.
    pub entries: Vec<Entry<E>>,
    /// Tiles that the entries made full.
    pub full_tiles: Vec<FullTile>,
    /// A checkpoint that was signed since the last batch, to be kept for the log's history.
    pub checkpoint: Option<SignedCheckpoint>,
}

/// Keeps one log. Writing.
///
/// # Contract
/// - [`LogStore::commit`] is a serialisable compare-and-swap on the head: of two batches with one `expected` head, one
///   at most succeeds, whatever process they come from. Once it returns `Ok`, everything in the batch survives a
///   power cut. If it fails with anything but [`CommitError::Unknown`], nothing of the batch is there, then or later.
/// - It is not retried inside: who retries is the sequencer.
/// - Calls may overlap with reads; the sequencer never overlaps two commits.
#[async_trait]
pub trait LogStore<E>: LogReader {
    /// The stored head; the default head if the log has no entry.
    async fn head(&self) -> Result<Head, StoreError>;

    /// Makes a batch durable if the head is still `expected`.
    async fn commit(&self, batch: Batch<E>) -> Result<(), CommitError>;

    /// Keeps a checkpoint for the log's history. Losing one does no harm: it can be signed again, with the same bytes.
    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError>;
}

/// Reads one log.
#[async_trait]
pub trait LogReader: Send + Sync {
    /// The note of the newest checkpoint that was kept.
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError>;

    /// Entries by index. All of the range must be there.
    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The 256 hashes of a full tile.
    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError>;

    /// A blob by its digest.
    async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Why a log could not be read or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database or disk does not answer. It may later.
    #[error("the store of the log is not available: {0}")]
    Unavailable(String),
    /// What is stored contradicts itself.
    #[error("the stored log is damaged: {0}")]
    Damaged(String),
}

/// Why a batch is not durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The stored head is another one: another process has appended.
    #[error("another process has appended to the log")]
    Lost,
    /// An effect of this entry of the batch is not possible. The others may be without it.
    #[error("{reason}")]
    Refused {
        /// The position of the entry in the batch.
        entry: usize,
        /// Why, for whoever asked.
        reason: String,
    },
    /// The store does not answer or is full. Nothing of the batch is there.
    #[error("the store of the log is not available: {0}")]
    Unavailable(String),
    /// Nobody knows whether the batch is there (a failed fsync, a lost connection). The log must be opened anew.
    #[error("it is not known whether the batch is durable: {0}")]
    Unknown(String),
}
