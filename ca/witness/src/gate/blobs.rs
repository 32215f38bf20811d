//! To-be-signed bytes that are too long for an entry, which holds only their digest: a gate keeps them beside it, since
//! an entry whose bytes somebody has deleted tells nobody what was signed.

use std::path::{Path, PathBuf};

use undercroft_cli::{Failure, write_file};
use undercroft_log::leaf::Digest;

use crate::sync_folder;

/// What a gate has kept, a file each.
#[derive(Debug)]
pub struct Blobs(PathBuf);

impl Blobs {
    /// Those in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        Ok(Self(folder.to_owned()))
    }

    /// Keeps bytes under their digest, durably.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep(&self, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(digest.to_string());
        write_file(&path, bytes)?;
        sync_folder(&self.0)
    }

    /// The bytes of that digest, in lower-case hexadecimal.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&self, digest: &str) -> Result<Option<Vec<u8>>, Failure> {
        // Nothing else may name a file.
        if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let path = self.0.join(digest);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::failed(format!("{}: {error}", path.display()))),
        }
    }
}
