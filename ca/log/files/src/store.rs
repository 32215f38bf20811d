//! A store for the sequencer, in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_keys::KeyId;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::leaf::Digest;
use undercroft_log::store::{Batch, CommitError, Head, LogReader, LogStore, StoreError};
use undercroft_log::tree::{Hash, TILE_WIDTH};

use crate::durable;
use crate::folder::{Folder, FolderError};
use crate::lock::Lock;

/// A log in a folder that one process at a time appends to: the transcript of a ceremony.
///
/// Entries and tiles are written before the head, which is one small file (`head.json` beside them) that is replaced
/// whole; so a power cut leaves the log before or after a batch. Effects have no meaning here and are ignored: a
/// ceremony's facts are its entries.
#[derive(Debug)]
pub struct FolderStore {
    folder: Folder,
    /// Held for the life of the store: a second process is refused.
    _lock: Lock,
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHead {
    size: u64,
    root: String,
    time: Option<Timestamp>,
    sequences: BTreeMap<String, u64>,
}

impl FolderStore {
    /// Opens the log at `path`, and makes the folder if it is not there. What a power cut left half written is removed.
    ///
    /// # Errors
    /// The folder cannot be written, or another process has it open.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let unavailable =
            |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        fs::create_dir_all(&path).map_err(unavailable)?;
        let lock = Lock::take(&path.join("lock"))
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        durable::sweep(&path).map_err(unavailable)?;
        Ok(Self { folder: Folder::new(path), _lock: lock, writing: Mutex::new(()) })
    }

    /// The log, for reading.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn read_head(&self) -> Result<Head, StoreError> {
        let path = self.folder.path().join("head.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Head::default()),
            Err(error) => return Err(StoreError::Unavailable(format!("{}: {error}", path.display()))),
        };
        let damaged = |what: String| StoreError::Damaged(format!("{}: {what}", path.display()));
        let stored: StoredHead = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let sequences = stored
            .sequences
            .into_iter()
            .map(|(key, last)| Ok((key.parse::<KeyId>().map_err(|error| damaged(error.to_string()))?, last)))
            .collect::<Result<_, StoreError>>()?;
        let root = stored.root.parse().map_err(|_| damaged("its root is no hash".into()))?;
        Ok(Head { size: stored.size, root, time: stored.time, sequences })
    }

    fn write_head(&self, head: &Head) -> Result<(), CommitError> {
        let stored = StoredHead {
            size: head.size,
            root: head.root.to_string(),
            time: head.time,
            sequences: head.sequences.iter().map(|(key, last)| (key.to_string(), *last)).collect(),
        };
        let json = serde_json::to_vec_pretty(&stored)
            .map_err(|error| CommitError::Unavailable(error.to_string()))?;
        let path = self.folder.path().join("head.json");
        // It may have been replaced before the folder's fsync failed.
        durable::write(&path, &json)
            .map_err(|error| CommitError::Unknown(format!("{}: {error}", path.display())))
    }
}

#[async_trait]
impl<E: Send + Sync + 'static> LogStore<E> for FolderStore {
    async fn head(&self) -> Result<Head, StoreError> {
        self.read_head()
    }

    async fn commit(&self, batch: Batch<E>) -> Result<(), CommitError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let unavailable = |error: &dyn std::fmt::Display| CommitError::Unavailable(error.to_string());
        let stored = self.read_head().map_err(|error| unavailable(&error))?;
        if stored != batch.expected {
            return Err(CommitError::Lost);
        }
        for blob in batch.entries.iter().flat_map(|entry| entry.blobs.iter()) {
            self.folder.write_blob(blob).map_err(|error| unavailable(&error))?;
        }
        let entries = batch.entries.iter().map(|entry| &*entry.leaf);
        // Nothing refers to these files until the head does.
        self.folder.append(batch.expected.size, entries).map_err(|error| unavailable(&error))?;
        if let Some(checkpoint) = &batch.checkpoint {
            self.folder.write_checkpoint(checkpoint.note()).map_err(|error| unavailable(&error))?;
        }
        self.write_head(&batch.head)
    }

    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        Ok(self.folder.write_checkpoint(checkpoint.note()).map_err(told)?)
    }
}

#[async_trait]
impl LogReader for FolderStore {
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.folder.checkpoint().map_err(told)
    }

    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let size = self.read_head()?.size;
        let width = TILE_WIDTH as u64;
        let mut entries = Vec::new();
        let mut index = range.start;
        while index < range.end {
            let bundle = self.folder.bundle(index / width, size).map_err(told)?;
            let until = range.end.min((index / width + 1) * width);
            let taken = (index..until).map(|index| bundle.get((index % width) as usize).cloned());
            entries.extend(
                taken
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| StoreError::Damaged(format!("entry {index} is missing")))?,
            );
            index = until;
        }
        Ok(entries)
    }

    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError> {
        let size = self.read_head()?.size;
        self.folder.hashes(level as u8, index, size).map_err(told)
    }

    async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.folder.blob(digest).map_err(told)
    }
}

fn told(error: FolderError) -> StoreError {
    match error {
        FolderError::Io { .. } => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
