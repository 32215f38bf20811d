//! The right edge of a growing tree, as tiles.

use std::collections::HashMap;

use super::hash::{Hash, node_hash};
use super::prove::Nodes;

/// Hashes in a full tile (C2SP tlog-tiles: tiles are 8 levels high).
pub const TILE_WIDTH: usize = 256;

const TILE_HEIGHT: u32 = 8;

/// A tree that grows to the right. It keeps the partial tile of each tile level, and full tiles until
/// [`GrowingTree::forget_before`] lets go of them.
#[derive(Clone, Debug, Default)]
pub struct GrowingTree {
    size: u64,
    /// The partial tile of each tile level, possibly empty.
    edge: Vec<Tile>,
    /// Tiles that are full, by tile level and index.
    full: HashMap<(u32, u64), Tile>,
}

/// A tile that has just become full: what a log stores and serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// The tile level: 0 for leaf hashes.
    pub level: u32,
    /// The index of the tile in its level.
    pub index: u64,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

/// The hashes of a tile, and of the complete subtrees over them: row `r` holds subtrees of `2^r` of its hashes.
#[derive(Clone, Debug, Default)]
struct Tile {
    rows: [Vec<Hash>; TILE_HEIGHT as usize],
}

impl Tile {
    /// Adds a hash on the right; gives the tile's own root if that makes it full.
    fn push(&mut self, hash: Hash) -> Option<Hash> {
        let mut carried = hash;
        for row in &mut self.rows {
            row.push(carried);
            match row[..] {
                [.., left, right] if row.len().is_multiple_of(2) => carried = node_hash(&left, &right),
                _ => return None,
            }
        }
        Some(carried)
    }

    fn hashes(&self) -> &[Hash] {
        &self.rows[0]
    }
}

impl GrowingTree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of `size` leaves, from the hashes in the partial tile of each tile level, level 0 first.
    ///
    /// # Errors
    /// The number of hashes that a level of a tree of that size has, where it was given another.
    pub fn from_edge(size: u64, levels: &[Vec<Hash>]) -> Result<Self, WrongEdge> {
        let mut tree = Self { size, ..Self::default() };
        for (level, hashes) in (0u32..).zip(levels) {
            let expected = partial_width(size, level);
            if hashes.len() != expected {
                return Err(WrongEdge { level, expected, given: hashes.len() });
            }
            let mut tile = Tile::default();
            for hash in hashes {
                tile.push(*hash);
            }
            tree.edge.push(tile);
        }
        Ok(tree)
    }

    /// How many tile levels a tree of `size` leaves has.
    pub fn levels(size: u64) -> u32 {
        (0u32..8).take_while(|level| size >> (level * TILE_HEIGHT) > 0).count() as u32
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.size += 1;
        self.carry(0, leaf);
    }

    /// Adds the 256 leaves of a full tile by its root, which somebody has computed from them. The tree does not know
    /// the leaves themselves.
    ///
    /// # Errors
    /// The tree ends inside a tile.
    pub fn push_tile(&mut self, root: Hash) -> Result<(), WrongEdge> {
        let given = partial_width(self.size, 0);
        if given != 0 {
            return Err(WrongEdge { level: 0, expected: 0, given });
        }
        self.size += TILE_WIDTH as u64;
        self.carry(1, root);
        Ok(())
    }

    /// Adds a hash to a tile level, and the roots of tiles that it makes full to the levels above.
    fn carry(&mut self, from: u32, hash: Hash) {
        let mut carried = hash;
        for level in from.. {
            while self.edge.len() <= level as usize {
                self.edge.push(Tile::default());
            }
            let tile = &mut self.edge[level as usize];
            match tile.push(carried) {
                None => return,
                Some(root) => {
                    let index = (self.size >> ((level + 1) * TILE_HEIGHT)) - 1;
                    self.full.insert((level, index), std::mem::take(tile));
                    carried = root;
                }
            }
        }
    }

    /// The tiles that have become full since the tree had `size` leaves, in no particular order.
    pub fn full_tiles_since(&self, size: u64) -> impl Iterator<Item = FullTile> + '_ {
        self.full.iter().filter(move |((level, index), _)| end(*level, *index) > size).map(
            |((level, index), tile)| FullTile {
                level: *level,
                index: *index,
                hashes: tile.hashes().to_vec(),
            },
        )
    }

    /// Forgets the full tiles that lie wholly before leaf `index`. Leaves from there on can still be proven: what
    /// their proofs need to the left of it is in the edge.
    pub fn forget_before(&mut self, index: u64) {
        self.full.retain(|(level, tile), _| end(*level, *tile) > index);
    }

    /// The root, computed bottom-up from the edge.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for tile in &self.edge {
            for row in &tile.rows {
                // A row of odd length ends in a subtree that has no right sibling yet: a peak.
                if let (true, Some(peak)) = (!row.len().is_multiple_of(2), row.last()) {
                    root = Some(root.map_or(*peak, |right| node_hash(peak, &right)));
                }
            }
        }
        root.unwrap_or_else(Hash::empty_root)
    }

    /// The hashes in the partial tile of a tile level.
    pub fn partial_tile(&self, level: u32) -> &[Hash] {
        self.edge.get(level as usize).map_or(&[], Tile::hashes)
    }
}

/// The root of a full tile: the hash that stands for it in the level above. Nothing if it is not full.
pub fn tile_root(hashes: &[Hash]) -> Option<Hash> {
    let mut tile = Tile::default();
    hashes.iter().fold(None, |_, hash| tile.push(*hash))
}

/// The first leaf after a tile.
fn end(level: u32, index: u64) -> u64 {
    (index + 1) << ((level + 1) * TILE_HEIGHT)
}

/// How many hashes the partial tile of `level` has in a tree of `size` leaves; 0 if there is none.
pub fn partial_width(size: u64, level: u32) -> usize {
    ((size >> (level * TILE_HEIGHT)) % TILE_WIDTH as u64) as usize
}

impl Nodes for GrowingTree {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let (tile_level, row) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let in_row = TILE_HEIGHT - row;
        let (tile_index, position) = (index >> in_row, index & ((1 << in_row) - 1));
        let edge = self.edge.get(tile_level as usize)?;
        let tile = if tile_index == self.size >> ((tile_level + 1) * TILE_HEIGHT) {
            edge
        } else {
            self.full.get(&(tile_level, tile_index))?
        };
        tile.rows[row as usize].get(position as usize).copied()
    }
}

/// The hashes given for a tile level are not as many as the tree has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tile level {level} of the right edge has {given} hashes and should have {expected}")]
pub struct WrongEdge {
    level: u32,
    expected: usize,
    given: usize,
}
