//! Is every byte what the checkpoint covers, and if not, which entry is it?
//!
//! A tree is grown from the entries, and the hashes that stand in the tiles are compared with it. Where they part,
//! a second tree is grown from the hashes of level 0: the checkpoint says which of the two is the log's, and so what
//! was changed. Bundles are read and hashed side by side; the trees take their roots in order.

mod bundle;

use std::collections::{BTreeMap, BTreeSet};

use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::tile::{TileKind, TilePath, decode_hashes};
use undercroft_log::tree::{GrowingTree, Hash, TILE_WIDTH};
use undercroft_log_files::{Folder, FolderError};

use self::bundle::{Bundle, Hashes};
use crate::parallel;
use crate::report::Finding;

/// Bundles that are hashed before the trees take them: a few megabytes of hashes.
const AT_A_TIME: u64 = 64;

/// What is wrong with the bytes of a log.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    pub(crate) findings: Vec<Finding>,
    /// Entries whose bytes are not the log's, so that nothing that they say counts.
    pub(crate) bad: BTreeSet<u64>,
    /// The roots at the sizes that were asked for. None if the files do not lead to the checkpoint at all.
    pub(crate) roots: BTreeMap<u64, Hash>,
}

/// Goes through the bytes of a log. `sizes` are those, in order, at which the roots are wanted.
pub(crate) fn check(
    folder: &Folder,
    checkpoint: &Checkpoint,
    sizes: &[u64],
    advance: &mut impl FnMut(u64),
) -> Result<Structure, FolderError> {
    let size = checkpoint.size;
    let mut structure = Structure::default();
    let mut trees = Trees { from_entries: Grown::at(sizes), from_hashes: None };
    let mut places = Places::default();
    for window in parallel::windows(size.div_ceil(TILE_WIDTH as u64), AT_A_TIME) {
        for bundle in parallel::each(&window, |index| Bundle::read(folder, *index, size)) {
            let bundle = bundle?;
            let width = bundle.hashes.len() as u64;
            trees.take(folder, &bundle)?;
            places.compare(&bundle);
            structure.findings.extend(bundle.findings);
            advance(width);
        }
    }
    for tree in trees.all() {
        tree.compare_partial_tiles(folder, size)?;
    }
    conclude(&mut structure, checkpoint, &places, trees);
    Ok(structure)
}

/// The tree of the entries, and that of the hashes of level 0 from where it is another.
struct Trees {
    from_entries: Grown,
    from_hashes: Option<Grown>,
}

impl Trees {
    fn all(&mut self) -> impl Iterator<Item = &mut Grown> {
        std::iter::once(&mut self.from_entries).chain(&mut self.from_hashes)
    }

    fn take(&mut self, folder: &Folder, bundle: &Bundle) -> Result<(), FolderError> {
        let first = self.from_entries.tree.size();
        if bundle.root.is_none() && self.from_hashes.is_none() && !bundle.hashes.iter().all(Hashes::agree) {
            self.from_hashes = Some(self.from_entries.clone());
        }
        for (tree, pick) in self.all().zip([Hashes::by_entry, Hashes::by_tile]) {
            tree.take(bundle, pick);
            tree.compare_full_tiles(folder, first)?;
        }
        Ok(())
    }
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
    fn compare(&mut self, bundle: &Bundle) {
        if bundle.root.is_none() {
            for (index, hashes) in (bundle.first..).zip(&bundle.hashes) {
                self.compare_one(index, hashes, bundle);
            }
        }
    }

    fn compare_one(&mut self, index: u64, hashes: &Hashes, bundle: &Bundle) {
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
fn conclude(structure: &mut Structure, checkpoint: &Checkpoint, places: &Places, trees: Trees) {
    let Trees { from_entries, from_hashes } = trees;
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
        structure.roots = from_entries.roots;
        return;
    }
    let of_tiles = from_hashes.filter(|tree| tree.tree.root() == checkpoint.root);
    let told = match of_tiles {
        Some(_) => "its bytes are not what the checkpoint covers",
        None => "its bytes and its hash in the tile disagree, and neither leads to the checkpoint",
    };
    findings.extend(places.different.iter().map(|index| Finding::of_entry(*index, "entry", told)));
    structure.bad.extend(&places.different);
    let other_tiles = of_tiles.as_ref().map_or(&from_entries.other_tiles, |tree| &tree.other_tiles);
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
    structure.roots = of_tiles.map(|tree| tree.roots).unwrap_or_default();
}

/// A tile above level 0 that does not follow from what lies below it.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug, Default)]
struct Grown {
    tree: GrowingTree,
    other_tiles: Vec<OtherTile>,
    /// Sizes that the tree has still to come to, the next one last.
    wanted: Vec<u64>,
    roots: BTreeMap<u64, Hash>,
}

impl Grown {
    /// An empty tree whose roots at `sizes` are wanted.
    fn at(sizes: &[u64]) -> Self {
        let mut grown = Self { wanted: sizes.iter().rev().copied().collect(), ..Self::default() };
        grown.note_root();
        grown
    }

    fn take(&mut self, bundle: &Bundle, pick: fn(&Hashes) -> Hash) {
        let end = bundle.first + bundle.hashes.len() as u64;
        let is_wanted = self.wanted.last().is_some_and(|next| *next < end);
        match bundle.root {
            // A tree of whole bundles never ends inside a tile.
            Some(root) if !is_wanted && self.tree.push_tile(root).is_ok() => self.note_root(),
            _ => {
                for hashes in &bundle.hashes {
                    self.tree.push(pick(hashes));
                    self.note_root();
                }
            }
        }
    }

    fn note_root(&mut self) {
        if self.wanted.last() == Some(&self.tree.size()) {
            self.wanted.pop();
            self.roots.insert(self.tree.size(), self.tree.root());
        }
    }

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
