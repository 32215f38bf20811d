//! Tiles and proofs of a log that is stored, for those who serve it and for witnesses.

use crate::store::{LogReader, StoreError};
use crate::tile::{TileKind, TilePath, encode_hashes, push_entry};
use crate::tree::{
    self, Hash, MissingNode, Nodes, TILE_WIDTH, complete_root, consistency_proof, inclusion_proof, leaf_hash,
    partial_width, tile_root,
};

/// The bytes of a tile of a log whose signed head has `size` entries; nothing if it has no such tile yet.
///
/// # Errors
/// The log cannot be read, or is damaged.
pub async fn tile(log: &dyn LogReader, path: TilePath, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let there = TilePath::at_size(path.kind(), path.index(), size).map_or(0, TilePath::width);
    if path.width() > there {
        return Ok(None);
    }
    match path.kind() {
        TileKind::Hashes(level) => {
            let hashes = read_tile(log, u32::from(level), path.index(), size).await?;
            Ok(hashes.get(..path.width()).map(encode_hashes))
        }
        TileKind::Entries => {
            let first = path.index() * TILE_WIDTH as u64;
            let mut bundle = Vec::new();
            for entry in log.entries(first..first + path.width() as u64).await? {
                push_entry(&mut bundle, &entry).map_err(|error| StoreError::Damaged(error.to_string()))?;
            }
            Ok(Some(bundle))
        }
    }
}

/// The proof that the tree of the first `old` entries is a prefix of that of the first `new`, from what is stored. Both
/// must be sizes that the log has had.
///
/// # Errors
/// The log cannot be read, or is damaged.
pub async fn consistency(log: &dyn LogReader, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
    from_tiles(log, new, |tiles| consistency_proof(tiles, old, new)).await
}

/// The proof that the entry at `index` stands in the tree of the first `size`, from what is stored.
///
/// # Errors
/// The log cannot be read, or is damaged.
pub async fn inclusion(log: &dyn LogReader, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
    from_tiles(log, size, |tiles| inclusion_proof(tiles, index, size)).await
}

/// The root of the first `size` entries, from what is stored.
///
/// # Errors
/// The log cannot be read, or is damaged.
pub async fn root(log: &dyn LogReader, size: u64) -> Result<Hash, StoreError> {
    from_tiles(log, size, |tiles| tree::root(tiles, size)).await
}

/// Computes something from nodes, and reads the tiles that it lacks until it lacks none.
async fn from_tiles<T>(
    log: &dyn LogReader,
    size: u64,
    compute: impl Fn(&Tiles) -> Result<T, MissingNode>,
) -> Result<T, StoreError> {
    let mut tiles = Tiles { size, known: Vec::new() };
    loop {
        let missing = match compute(&tiles) {
            Ok(computed) => return Ok(computed),
            Err(missing) => missing,
        };
        let (level, index) = tile_of(missing);
        if tiles.known.iter().any(|(at, _)| *at == (level, index)) {
            return Err(StoreError::Damaged(format!("tile {index} of level {level} is not whole")));
        }
        let hashes = read_tile(log, level, index, size).await?;
        tiles.known.push(((level, index), hashes));
    }
}

/// Tiles that have been read, by level and index.
struct Tiles {
    size: u64,
    known: Vec<((u32, u64), Vec<Hash>)>,
}

impl Nodes for Tiles {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let at = tile_of(MissingNode { level, index });
        let (_, hashes) = self.known.iter().find(|(known, _)| *known == at)?;
        let height = level % 8;
        let first = (index << height) as usize % TILE_WIDTH;
        if ((index + 1) << level) > self.size {
            return None;
        }
        hashes.get(first..first + (1 << height)).map(complete_root)
    }
}

/// The tile that a node is computed from: eight levels of the tree are one level of tiles.
fn tile_of(node: MissingNode) -> (u32, u64) {
    (node.level / 8, (node.index << (node.level % 8)) / TILE_WIDTH as u64)
}

/// The hashes of a tile in a log of `size` entries, full or not.
async fn read_tile(log: &dyn LogReader, level: u32, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
    let width = TILE_WIDTH as u64;
    let is_full = ((index + 1) << (8 * (level + 1))) <= size;
    if is_full {
        return log.full_tile(level, index).await;
    }
    let wanted = partial_width(size, level) as u64;
    let first = index * width;
    if level == 0 {
        return Ok(log.entries(first..first + wanted).await?.iter().map(|entry| leaf_hash(entry)).collect());
    }
    let mut hashes = Vec::new();
    for below in first..first + wanted {
        let tile = log.full_tile(level - 1, below).await?;
        hashes.push(tile_root(&tile).ok_or_else(|| {
            StoreError::Damaged(format!("tile {below} of level {} has {} hashes", level - 1, tile.len()))
        })?);
    }
    Ok(hashes)
}
