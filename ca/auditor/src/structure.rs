//! Is every byte what the checkpoint covers, and if not, which entry is it?
//!
//! Two trees are grown side by side, one from the entries and one from the hashes that stand in the tiles of level 0.
//! The checkpoint says which of them is the log's; where they part is what was changed.

use std::collections::BTreeSet;

use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::tile::{TileKind, TilePath, decode_hashes};
use undercroft_log::tree::{GrowingTree, Hash, TILE_WIDTH, leaf_hash};
use undercroft_log_files::{Folder, FolderError};

use crate::report::Finding;

/// What is wrong with the bytes of a log.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    pub(crate) findings: Vec<Finding>,
    /// Entries whose bytes are not the log's, so that nothing that they say counts.
    pub(crate) bad: BTreeSet<u64>,
}

pub(crate) fn check(
    folder: &Folder,
    checkpoint: &Checkpoint,
    advance: &mut impl FnMut(u64),
) -> Result<Structure, FolderError> {
    let size = checkpoint.size;
    let mut structure = Structure::default();
    let (mut from_entries, mut from_hashes) = (Grown::default(), Grown::default());
    let mut places = Places::default();
    let mut first = 0;
    while first < size {
        let bundle = Bundle::read(folder, first / TILE_WIDTH as u64, size)?;
        let width = bundle.hashes.len() as u64;
        for (index, hashes) in (first..).zip(&bundle.hashes) {
            places.compare(index, hashes, &bundle);
            // Where one is missing the other stands in for it; where both are, nothing fits any more.
            let of_entry = hashes.of_entry.or(hashes.in_tile).unwrap_or(Hash::empty_root());
            from_entries.tree.push(of_entry);
            from_hashes.tree.push(hashes.in_tile.unwrap_or(of_entry));
        }
        structure.findings.extend(bundle.findings);
        from_entries.compare_full_tiles(folder, first)?;
        from_hashes.compare_full_tiles(folder, first)?;
        first += width;
        advance(width);
    }
    from_entries.compare_partial_tiles(folder, size)?;
    from_hashes.compare_partial_tiles(folder, size)?;
    conclude(&mut structure, checkpoint, &places, &from_entries, &from_hashes);
    Ok(structure)
}

/// Where entries and the hashes of level 0 do not agree.
#[derive(Debug, Default)]
struct Places {
    /// Entries that cannot be read: missing, or behind a length that was changed.
    unread: Vec<u64>,
    /// Those of them that no missing file accounts for.
    cut: Vec<u64>,
    /// Entries whose hash is not the one in the tile.
    different: Vec<u64>,
}

impl Places {
    fn compare(&mut self, index: u64, hashes: &Hashes, bundle: &Bundle) {
        if hashes.of_entry.is_none() {
            self.unread.push(index);
            if !bundle.is_missing {
                self.cut.push(index);
            }
        } else if hashes.of_entry != hashes.in_tile && !bundle.has_no_tile {
            self.different.push(index);
        }
    }
}

/// Which of the two trees is the log's, and what that makes of the places where they differ.
fn conclude(
    structure: &mut Structure,
    checkpoint: &Checkpoint,
    places: &Places,
    from_entries: &Grown,
    from_hashes: &Grown,
) {
    let findings = &mut structure.findings;
    structure.bad.extend(&places.unread);
    let cut = "its bytes are missing, or do not end where they must";
    findings.extend(places.cut.iter().map(|index| Finding::of_entry(*index, "entry", cut)));
    if from_entries.tree.root() == checkpoint.root {
        let of_tiles = places.different.iter().map(|index| {
            Finding::of_entry(
                *index,
                "tile",
                "the hash tile does not hold the hash that the entry has; the checkpoint agrees with the entry",
            )
        });
        findings.extend(of_tiles);
        findings.extend(from_entries.other_tiles.iter().map(other_tile));
        return;
    }
    let exact = from_hashes.tree.root() == checkpoint.root;
    let told = if exact {
        "its bytes are not what the checkpoint covers"
    } else {
        "its bytes and its hash in the tile disagree, and neither leads to the checkpoint"
    };
    findings.extend(places.different.iter().map(|index| Finding::of_entry(*index, "entry", told)));
    structure.bad.extend(&places.different);
    let other_tiles = if exact { &from_hashes.other_tiles } else { &from_entries.other_tiles };
    findings.extend(other_tiles.iter().map(other_tile));
    if places.different.is_empty() && other_tiles.is_empty() {
        findings.push(Finding::of_log(
            "root",
            format!(
                "the entries have the root {}, and the checkpoint says {}",
                from_entries.tree.root(),
                checkpoint.root
            ),
        ));
    }
}

/// A tile above level 0 that does not follow from what lies below it.
#[derive(Debug)]
struct OtherTile {
    tile: TilePath,
    /// Where its first wrong hash is.
    position: usize,
}

fn other_tile(other: &OtherTile) -> Finding {
    let TileKind::Hashes(level) = other.tile.kind() else { return Finding::of_log("tile", "") };
    let below = (TILE_WIDTH as u64).pow(u32::from(level));
    let first = (other.tile.index() * TILE_WIDTH as u64 + other.position as u64) * below;
    Finding::of_log(
        "tile",
        format!("{} holds another hash than the entries {first} to {} have", other.tile, first + below - 1),
    )
}

/// A tree that grows, and the stored tiles above level 0 that are not its own.
#[derive(Debug, Default)]
struct Grown {
    tree: GrowingTree,
    other_tiles: Vec<OtherTile>,
}

impl Grown {
    /// Compares the tiles that have become full since the tree had `size` leaves.
    fn compare_full_tiles(&mut self, folder: &Folder, size: u64) -> Result<(), FolderError> {
        let full: Vec<_> = self.tree.full_tiles_since(size).filter(|tile| tile.level > 0).collect();
        for tile in full {
            let path = TilePath::full(TileKind::Hashes(tile.level as u8), tile.index);
            self.compare(folder, path, &tile.hashes)?;
        }
        self.tree.forget_before(self.tree.size());
        Ok(())
    }

    fn compare_partial_tiles(&mut self, folder: &Folder, size: u64) -> Result<(), FolderError> {
        for level in 1..GrowingTree::levels(size) {
            let index = size >> (8 * (level + 1));
            let hashes = self.tree.partial_tile(level).to_vec();
            if let Some(path) = TilePath::at_size(TileKind::Hashes(level as u8), index, size)
                && !hashes.is_empty()
            {
                self.compare(folder, path, &hashes)?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, folder: &Folder, tile: TilePath, hashes: &[Hash]) -> Result<(), FolderError> {
        let stored = folder.tile(tile)?.and_then(|bytes| decode_hashes(&bytes, tile.width()).ok());
        let position = match stored {
            None => Some(0),
            Some(stored) => stored.iter().zip(hashes).position(|(stored, hash)| stored != hash),
        };
        self.other_tiles.extend(position.map(|position| OtherTile { tile, position }));
        Ok(())
    }
}

/// A bundle of entries beside the hash tile that belongs to it.
struct Bundle {
    hashes: Vec<Hashes>,
    is_missing: bool,
    has_no_tile: bool,
    /// That one of the files is missing or of the wrong length.
    findings: Vec<Finding>,
}

/// The two hashes of an entry, where they can be had.
struct Hashes {
    of_entry: Option<Hash>,
    in_tile: Option<Hash>,
}

impl Bundle {
    fn read(folder: &Folder, index: u64, size: u64) -> Result<Self, FolderError> {
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
        let hashes = (0..bundle.width())
            .map(|at| Hashes {
                of_entry: of_entries.get(at).map(|entry| leaf_hash(entry)),
                in_tile: in_tile.as_ref().and_then(|hashes| hashes.get(at).copied()),
            })
            .collect();
        Ok(Self { hashes, is_missing: entries.is_none(), has_no_tile: in_tile.is_none(), findings })
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
