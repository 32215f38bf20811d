//! What a node remembers of its last exchange. Losing it costs one round trip.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use undercroft_attestors::exchange::Wanted;
use undercroft_cli::{Failure, write_private_file};
use undercroft_log::leaf::Digest;

/// What was so the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// SHA-256 of the TPMT_PUBLIC of the endorsement key that was taken.
    pub endorsement: Digest,
    /// What is to be shown in the first message.
    pub wanted: Wanted,
}

impl Memory {
    /// What is remembered in the folder `state`. What cannot be read is forgotten, with a warning.
    pub fn recall(state: &Path) -> Option<Self> {
        let path = path(state);
        let forgotten = |error: &dyn std::fmt::Display| {
            tracing::warn!(path = %path.display(), %error, "what was remembered is damaged and forgotten");
        };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| forgotten(&error)).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                forgotten(&error);
                None
            }
        }
    }

    /// Remembers.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self, state: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::failed(error.to_string()))?;
        write_private_file(&path(state), &bytes)
    }

    /// Forgets, so that the next exchange begins from nothing.
    pub fn forget(state: &Path) {
        // If it stays, the next exchange fails once more and goes on without it.
        let _ = std::fs::remove_file(path(state));
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("state.json")
}
