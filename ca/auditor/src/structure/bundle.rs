//! A bundle of entries beside the hash tile that belongs to it.

use undercroft_log::tile::{TileKind, TilePath, decode_hashes};
use undercroft_log::tree::{Hash, TILE_WIDTH, complete_root, leaf_hash};
use undercroft_log_files::{Folder, FolderError};

use crate::report::Finding;

/// The hashes of a bundle.
pub(super) struct Bundle {
    /// The index of its first entry.
    pub(super) first: u64,
    pub(super) hashes: Vec<Hashes>,
    /// The root over it, if it is full and its tile holds what its entries have: so are nearly all.
    pub(super) root: Option<Hash>,
    pub(super) is_missing: bool,
    pub(super) has_no_tile: bool,
    /// That one of the files is missing or of the wrong length.
    pub(super) findings: Vec<Finding>,
}

/// The two hashes of an entry, where they can be had.
pub(super) struct Hashes {
    pub(super) of_entry: Option<Hash>,
    pub(super) in_tile: Option<Hash>,
}

impl Hashes {
    pub(super) fn agree(&self) -> bool {
        self.of_entry.is_some() && self.of_entry == self.in_tile
    }

    /// The hash of the entry. Where it is missing its tile stands in for it; where both are, nothing fits any more.
    pub(super) fn by_entry(&self) -> Hash {
        self.of_entry.or(self.in_tile).unwrap_or_else(Hash::empty_root)
    }

    /// The hash in the tile, or in its place that of the entry.
    pub(super) fn by_tile(&self) -> Hash {
        self.in_tile.unwrap_or_else(|| self.by_entry())
    }
}

impl Bundle {
    /// Reads and hashes the bundle and its tile.
    pub(super) fn read(folder: &Folder, index: u64, size: u64) -> Result<Self, FolderError> {
        let (Some(bundle), Some(tile)) = (
            TilePath::at_size(TileKind::Entries, index, size),
            TilePath::at_size(TileKind::Hashes(0), index, size),
        ) else {
            return Err(FolderError::Missing(folder.path().to_owned()));
        };
        let mut findings = Vec::new();
        let mut missing = |path| findings.push(Finding::of_log("missing", format!("{path} is missing")));
        let entries = folder.tile(bundle)?;
        if entries.is_none() {
            missing(bundle);
        }
        let in_tile = match folder.tile(tile)? {
            None => {
                missing(tile);
                None
            }
            Some(bytes) => decode_hashes(&bytes, tile.width())
                .map_err(|error| findings.push(Finding::of_log("tile", format!("{tile}: {error}"))))
                .ok(),
        };
        let of_entries = cut(entries.as_deref().unwrap_or_default(), bundle.width());
        let hashes: Vec<_> = (0..bundle.width())
            .map(|at| Hashes {
                of_entry: of_entries.get(at).map(|entry| leaf_hash(entry)),
                in_tile: in_tile.as_ref().and_then(|hashes| hashes.get(at).copied()),
            })
            .collect();
        let is_whole = bundle.is_full() && hashes.iter().all(Hashes::agree);
        let root = in_tile.as_deref().filter(|_| is_whole).map(complete_root);
        Ok(Self {
            first: index * TILE_WIDTH as u64,
            hashes,
            root,
            is_missing: entries.is_none(),
            has_no_tile: in_tile.is_none(),
            findings,
        })
    }
}

/// Cuts a bundle into its entries, as far as that goes: 16-bit big-endian length, then the entry (C2SP tlog-tiles). A
/// changed length makes that entry differ and hides those behind it.
fn cut(bundle: &[u8], width: usize) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((length, after)) = rest.split_first_chunk::<2>()
        && entries.len() < width
    {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (entry, after) = after.split_at(length);
        entries.push(entry);
        rest = after;
    }
    // What follows the last entry belongs to nothing: the last entry is told to differ.
    if !rest.is_empty() && entries.len() == width {
        entries.pop();
    }
    entries
}
