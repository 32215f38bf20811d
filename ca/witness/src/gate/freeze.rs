//! Stopping everything: a file beside the gate's state, whose text says why. It is looked at for each signature, so that
//! nothing has to run for it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use undercroft_cli::{Failure, write_file};

use crate::sync_folder;

/// Whether a gate is frozen.
#[derive(Clone, Debug)]
pub struct Freeze(PathBuf);

impl Freeze {
    /// That of the gate whose state is in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join("frozen"))
    }

    /// Why it is frozen; nothing if it is not.
    ///
    /// # Errors
    /// Nobody can tell: the file cannot be read.
    pub fn reason(&self) -> Result<Option<String>, Failure> {
        match std::fs::read_to_string(&self.0) {
            Ok(reason) => Ok(Some(reason.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Freezes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn freeze(&self, reason: &str) -> Result<(), Failure> {
        write_file(&self.0, format!("{reason}\n").as_bytes())?;
        // A power cut must not release.
        self.0.parent().map_or(Ok(()), sync_folder)
    }

    /// Releases. Whether it was frozen.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&self) -> Result<bool, Failure> {
        match std::fs::remove_file(&self.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::failed(format!("{}: {error}", self.0.display()))
    }
}
