//! The entries of a transcript, read whole: ceremonies are short.

use jiff::Timestamp;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Body, Digest, Intent, Key, KeyEvidence, Leaf, Policy, Text, ToBeSigned, TranscriptHead,
};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, Hash, TILE_WIDTH, leaf_hash};
use undercroft_log_files::{Folder, FolderError};

use crate::NoAudit;

/// An entry that could be read.
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) time: Timestamp,
    pub(crate) body: Body,
    hash: Hash,
}

/// A transcript. What cannot be read of it is left out: the audit of the log has told it.
pub(crate) struct Transcript<'a> {
    folder: &'a Folder,
    pub(crate) key: &'a VerifierKey,
    /// The signed note.
    pub(crate) note: String,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) entries: Vec<Entry>,
}

impl<'a> Transcript<'a> {
    pub(crate) fn read(folder: &'a Folder, key: &'a VerifierKey) -> Result<Self, NoAudit> {
        let missing = || NoAudit::NoCheckpoint(folder.path().display().to_string());
        let note = folder.checkpoint()?.ok_or_else(missing)?;
        let checkpoint = Checkpoint::open(&note, key)?;
        let mut entries = Vec::new();
        for bundle in 0..checkpoint.size.div_ceil(TILE_WIDTH as u64) {
            let Ok(raw) = folder.bundle(bundle, checkpoint.size) else { break };
            for (raw, index) in raw.iter().zip(bundle * TILE_WIDTH as u64..) {
                if let Ok(leaf) = Leaf::parse(raw) {
                    entries.push(Entry { index, time: leaf.time, body: leaf.body, hash: leaf_hash(raw) });
                }
            }
        }
        Ok(Self { folder, key, note, checkpoint, entries })
    }

    /// The checkpoint over the first `size` entries, computed anew; nothing if one of them could not be read.
    pub(crate) fn checkpoint_at(&self, size: u64) -> Option<Checkpoint> {
        let mut tree = GrowingTree::new();
        for (entry, index) in self.entries.iter().zip(0..size) {
            if entry.index != index {
                return None;
            }
            tree.push(entry.hash);
        }
        let origin = self.key.name().clone();
        (tree.size() == size).then(|| Checkpoint { origin, size, root: tree.root() })
    }

    /// The bytes of an intent.
    pub(crate) fn to_be_signed(&self, intent: &Intent) -> Result<Option<Vec<u8>>, FolderError> {
        match &intent.tbs {
            ToBeSigned::Der(der) => Ok(Some(der.0.clone())),
            ToBeSigned::Blob { sha256, .. } => self.blob(*sha256),
        }
    }

    /// The evidence of a key.
    pub(crate) fn evidence(&self, key: &Key) -> Result<Option<Vec<u8>>, FolderError> {
        match &key.evidence {
            KeyEvidence::Inline(bytes) => Ok(Some(bytes.0.clone())),
            KeyEvidence::Blob(blob) => self.blob(blob.sha256),
        }
    }

    /// The text of the plan.
    pub(crate) fn plan_text(&self, policy: &Policy) -> Result<Option<Vec<u8>>, FolderError> {
        match &policy.text {
            Text::Inline(text) => Ok(Some(text.as_bytes().to_vec())),
            Text::Blob(_) => self.blob(policy.sha256),
        }
    }

    /// A blob; one that is not what its name says is as good as missing, and was told.
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, FolderError> {
        match self.folder.blob(digest) {
            Err(error @ FolderError::Io { .. }) => Err(error),
            Err(_) => Ok(None),
            read => read,
        }
    }
}

/// The head of another transcript that an entry names: the key that it says to be signed by, and what that has signed.
pub(crate) fn opened(head: Option<&TranscriptHead>) -> Result<(VerifierKey, Checkpoint), String> {
    let head = head.ok_or("it names no transcript")?;
    let key: VerifierKey = head.verifier_key.parse().map_err(|error| format!("{error}"))?;
    let checkpoint = Checkpoint::open(&head.checkpoint, &key).map_err(|error| error.to_string())?;
    Ok((key, checkpoint))
}
