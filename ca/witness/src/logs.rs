//! The logs that a witness knows, in a folder: `<SHA-256 of the origin>/log.vkey`, and beside it `checkpoint`, the last
//! one that was cosigned.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use undercroft_cli::{Failure, read_text, write_file};
use undercroft_log::add_checkpoint::Seen;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::note::{KeyName, VerifierKey};
use undercroft_log_files::{Folder, Lock, LockError};

/// The state of a witness. One process has it at a time.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    /// Held as long as this value lives: two witnesses on one folder could cosign a fork between them.
    _lock: Lock,
}

impl Logs {
    /// Opens the state in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made, or another process has it.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        match Lock::take(&folder.join("lock")) {
            Ok(lock) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(LockError::Held) => Err(Failure::unreachable(format!(
                "another witness uses {}; two on one state could cosign a fork",
                folder.display()
            ))),
            Err(LockError::Unavailable(error)) => Err(failed(error)),
        }
    }

    /// The key of a log; nothing if the log is not known.
    ///
    /// # Errors
    /// What is kept of it cannot be read.
    pub fn key(&self, origin: &KeyName) -> Result<Option<VerifierKey>, Failure> {
        let path = key_path(&self.folder, origin);
        match path.exists() {
            false => Ok(None),
            true => read_key(&path).map(Some),
        }
    }

    /// What was seen last of the log of `key`.
    ///
    /// # Errors
    /// What is kept of it cannot be read, or is not signed by the log: somebody has changed it.
    pub fn seen(&self, key: &VerifierKey) -> Result<Seen, Failure> {
        let folder = place(&self.folder, key.name());
        let changed = |what: String| Failure::tampered(format!("{}: {what}", folder.path().display()));
        match folder.checkpoint().map_err(|error| changed(error.to_string()))? {
            None => Ok(Seen::default()),
            Some(note) => {
                let kept = Checkpoint::open(&note, key).map_err(|error| changed(error.to_string()))?;
                Ok(Seen { size: kept.size, root: kept.root })
            }
        }
    }

    /// Keeps a cosigned checkpoint, durably.
    ///
    /// # Errors
    /// It cannot be written. What was kept before is still there.
    pub fn keep(&self, origin: &KeyName, note: &str) -> Result<(), Failure> {
        let kept = place(&self.folder, origin).write_checkpoint(note);
        kept.map_err(|error| Failure::failed(format!("the state of {origin}: {error}")))
    }

    /// The last checkpoint that was cosigned of the log whose origin has this SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn cosigned(&self, origin_hash: &str) -> Result<Option<String>, Failure> {
        if origin_hash.len() != 64
            || !origin_hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Ok(None);
        }
        let folder = Folder::new(self.folder.join(origin_hash));
        folder.checkpoint().map_err(|error| Failure::failed(error.to_string()))
    }
}

/// Makes a log known to the witness whose state is in `folder`, whether it runs or not.
///
/// # Errors
/// The log is known by another key, or cannot be written down.
pub fn add(folder: &Path, key: &VerifierKey) -> Result<(), Failure> {
    let path = key_path(folder, key.name());
    if path.exists() {
        return match read_key(&path)? == *key {
            true => Ok(()),
            false => Err(Failure::refused(format!(
                "the log {} is known by another key already; a log that has a new key has a new origin",
                key.name()
            ))),
        };
    }
    write_file(&path, format!("{key}\n").as_bytes())
}

fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    let text = read_text(path)?;
    text.trim_end().parse().map_err(|error| Failure::tampered(format!("{}: {error}", path.display())))
}

fn place(folder: &Path, origin: &KeyName) -> Folder {
    Folder::new(folder.join(hex::encode(Sha256::digest(origin.as_str()))))
}

fn key_path(folder: &Path, origin: &KeyName) -> PathBuf {
    place(folder, origin).path().join("log.vkey")
}
