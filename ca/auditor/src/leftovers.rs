//! Is there anything in the folder that the log does not explain?
//!
//! Partial tiles of earlier exports stay where they are (C2SP tlog-tiles allows it), and somebody may read them: they
//! must be the beginnings of what has become of them.

use std::fs;
use std::path::{Path, PathBuf};

use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Digest;
use undercroft_log::note::VerifierKey;
use undercroft_log::tile::{TileKind, TilePath};
use undercroft_log_files::{Folder, FolderError, read_plain};

use crate::report::Finding;

/// Files beside the tiles: the head itself, and what a ceremony's program keeps for itself.
const OWN: [&str; 3] = ["checkpoint", "head.json", "lock"];

/// The most bytes of a vkey file.
const MAX_KEY: u64 = 4096;

/// `with_blobs`: whether blobs are read, too, and not their names alone.
pub(crate) fn check(
    folder: &Folder,
    files: &[PathBuf],
    key: &VerifierKey,
    checkpoint: &Checkpoint,
    with_blobs: bool,
) -> Result<Vec<Finding>, FolderError> {
    let mut findings = Vec::new();
    for path in files {
        let name = path.strip_prefix(folder.path()).unwrap_or(path).to_string_lossy().into_owned();
        let explained = if OWN.contains(&name.as_str()) {
            true
        } else if name == "log.vkey" {
            let text = read_plain(path, MAX_KEY)?.unwrap_or_default();
            text.strip_suffix(b"\n").unwrap_or(&text) == key.to_string().as_bytes()
        } else if let Some(digest) = name.strip_prefix("blobs/") {
            let digest: Option<[u8; 32]> = hex::decode(digest).ok().and_then(|bytes| bytes.try_into().ok());
            // Read as the log's own are: no longer than they may be, and what their names say.
            digest.is_some_and(|bytes| {
                let is_whole = || folder.blob(Digest(bytes)).is_ok();
                name == format!("blobs/{}", Digest(bytes)) && (!with_blobs || is_whole())
            })
        } else if let Ok(tile) = name.parse::<TilePath>() {
            is_beginning(folder, tile, checkpoint.size)?
        } else {
            false
        };
        if !explained {
            findings.push(Finding::of_log("leftover", format!("{name} is nothing that the log explains")));
        }
    }
    Ok(findings)
}

/// Whether a tile is one of the log's, or the beginning of one. What the log's own tiles hold has been checked.
fn is_beginning(folder: &Folder, tile: TilePath, size: u64) -> Result<bool, FolderError> {
    let Some(current) = TilePath::at_size(tile.kind(), tile.index(), size) else { return Ok(false) };
    if tile == current {
        return Ok(true);
    }
    let (Some(old), Some(new)) = (folder.tile(tile)?, folder.tile(current)?) else { return Ok(false) };
    let whole = match tile.kind() {
        TileKind::Hashes(_) => old.len() == 32 * tile.width(),
        TileKind::Entries => undercroft_log::tile::decode_entries(&old, tile.width()).is_ok(),
    };
    Ok(whole && new.starts_with(&old))
}

/// Every file in a folder and below. Links are not followed: they could lead in a circle, and out of the folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let failed = |error| FolderError::Io { path: folder.to_owned(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
