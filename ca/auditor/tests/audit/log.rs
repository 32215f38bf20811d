//! A log that can be changed and signed again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use serde_json::{Value, json};
use undercroft_audit::{NoAudit, Report, audit};
use undercroft_ca::log_key::LogKey;
use undercroft_keymgr::{Key, SigningKey as _};
use undercroft_log::checkpoint::{Checkpoint, SignedCheckpoint};
use undercroft_log::note::{KeyName, VerifierKey};
use undercroft_log::tree::{GrowingTree, Hash, leaf_hash};
use undercroft_log_files::Folder;

/// A software key as the CA wants keys.
pub(crate) fn key(key: &Arc<SoftwareKey>) -> Key {
    Key { signer: key.clone(), custody: key.clone(), gated: None, prehashed: None }
}

/// The entries and blobs of a log, and the key that signs it.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) key: Arc<SoftwareKey>,
    pub(crate) origin: KeyName,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Log {
    /// The log that somebody else has written to `path`.
    pub(crate) fn read(path: &Path, key: Arc<SoftwareKey>, origin: KeyName) -> Self {
        let folder = Folder::new(path);
        let mut log = Self { key, origin, entries: Vec::new(), blobs: Vec::new() };
        let size = Checkpoint::open(&folder.checkpoint().unwrap().unwrap(), &log.verifier()).unwrap().size;
        for bundle in 0..size.div_ceil(256) {
            log.entries.extend(folder.bundle(bundle, size).unwrap());
        }
        if let Ok(blobs) = fs::read_dir(path.join("blobs")) {
            log.blobs.extend(blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap()));
        }
        log
    }

    /// Writes the log and signs it.
    pub(crate) fn write(&self, path: &Path) -> Folder {
        let folder = Folder::new(path);
        folder.append(0, self.entries.iter().map(Vec::as_slice)).unwrap();
        self.blobs.iter().for_each(|blob| folder.write_blob(blob).unwrap());
        folder.write_checkpoint(&self.sign(self.entries.len() as u64, self.root())).unwrap();
        folder
    }

    pub(crate) fn root(&self) -> Hash {
        let mut tree = GrowingTree::new();
        self.entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
        tree.root()
    }

    /// A checkpoint by the log's own key, whatever it says.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> String {
        let log_key = LogKey::new(self.origin.clone(), key(&self.key)).unwrap();
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        block_on(SignedCheckpoint::sign(checkpoint, &log_key)).unwrap().note().to_string()
    }

    pub(crate) fn verifier(&self) -> VerifierKey {
        VerifierKey::new(self.origin.clone(), self.key.public_key().clone()).unwrap()
    }

    /// Writes the log, signs it, and audits it.
    pub(crate) fn audit(&self) -> Report {
        let directory = tempfile::tempdir().unwrap();
        self.audit_folder(&self.write(directory.path())).unwrap()
    }

    pub(crate) fn audit_folder(&self, folder: &Folder) -> Result<Report, NoAudit> {
        audit(folder, &self.verifier(), |_| {})
    }

    pub(crate) fn value(&self, index: u64) -> Value {
        serde_json::from_slice(&self.entries[index as usize]).unwrap()
    }

    /// The indexes of the entries of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<u64> {
        (0..self.entries.len() as u64).filter(|index| self.value(*index)["kind"] == kind).collect()
    }

    pub(crate) fn first(&self, kind: &str) -> u64 {
        self.all(kind)[0]
    }

    pub(crate) fn last(&self, kind: &str) -> u64 {
        *self.all(kind).last().unwrap()
    }

    /// Writes an entry anew.
    pub(crate) fn edit(&mut self, index: u64, edit: impl FnOnce(&mut Value)) -> u64 {
        let mut value = self.value(index);
        edit(&mut value);
        self.entries[index as usize] = serde_json::to_vec(&value).unwrap();
        index
    }

    /// Writes the body of an entry anew.
    pub(crate) fn edit_body(&mut self, index: u64, edit: impl FnOnce(&mut Value)) -> u64 {
        self.edit(index, |value| edit(&mut value["body"]))
    }

    /// Appends an entry, stamped as an honest one would be.
    pub(crate) fn push(&mut self, kind: &str, body: Value) -> u64 {
        let index = self.entries.len() as u64;
        let mut entry = json!({
            "v": 1,
            "origin": self.origin.as_str(),
            "index": index,
            "time": self.value(index - 1)["time"],
            "kind": kind,
            "body": body,
        });
        if kind == "intent" {
            let uses = |other: &&u64| self.value(**other)["body"]["key_id"] == entry["body"]["key_id"];
            entry["sequence"] = json!(self.all("intent").iter().filter(uses).count() + 1);
        }
        self.entries.push(serde_json::to_vec(&entry).unwrap());
        index
    }

    /// Takes an entry out as if it had never been there: those behind it move up.
    pub(crate) fn remove(&mut self, removed: u64) {
        let moved = |index: u64| if index > removed { index - 1 } else { index };
        self.entries.remove(removed as usize);
        for index in removed..self.entries.len() as u64 {
            self.edit(index, |value| {
                value["index"] = json!(index);
                if let Some(intent) = value["body"]["intent"].as_u64() {
                    value["body"]["intent"] = json!(moved(intent));
                }
            });
        }
    }
}
