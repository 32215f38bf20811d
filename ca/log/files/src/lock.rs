//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// A lock on a file (flock(2)), held until it is released or dropped.
///
/// It is released by name and not only by closing: a lock belongs to the open file and not to the process, so a child
/// that was forked and has not yet become another program would hold it on.
#[derive(Debug)]
pub struct Lock(File);

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another process has it")]
    Held,
    /// Its file cannot be written.
    #[error(transparent)]
    Unavailable(#[from] io::Error),
}

impl Lock {
    /// Takes the lock of the file at `path`, which is made if it is not there and is its owner's alone: whoever can read
    /// it could lock it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Gives it up. What it guards must not be touched any more.
    pub fn release(&self) {
        // It fails for no lock that was had, and closing the file is what remains.
        let _ = self.0.unlock();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_holders_until_it_is_given_up_even_if_a_child_has_inherited_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path).unwrap();
        // What fork(2) gives a child until exec(2) closes it: the same open file.
        let inherited = first.0.try_clone().unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Held)));
        drop(first);
        let second = Lock::take(&path).unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Held)));
        second.release();
        Lock::take(&path).unwrap();
        drop(inherited);
    }
}
