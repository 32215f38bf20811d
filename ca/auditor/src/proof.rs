//! Proofs from files: any entry of an exported log, as a `.tlog-proof`.

use std::cell::RefCell;

use undercroft_log::checkpoint::{Checkpoint, CheckpointError};
use undercroft_log::note::VerifierKey;
use undercroft_log::proof::{TlogProof, TlogProofError};
use undercroft_log::tile::{TileKind, TilePath, decode_hashes};
use undercroft_log::tree::{Hash, MissingNode, Nodes, TILE_WIDTH, complete_root, inclusion_proof, root};
use undercroft_log_files::{Folder, FolderError};

/// Reads entry `index` and makes its proof, verified.
///
/// # Errors
/// The log has no such entry, or its files do not lead to its checkpoint.
pub fn prove(folder: &Folder, key: &VerifierKey, index: u64) -> Result<(Vec<u8>, TlogProof), ProveError> {
    let note = folder.checkpoint()?.ok_or(ProveError::NoCheckpoint)?;
    let size = Checkpoint::open(&note, key)?.size;
    if index >= size {
        return Err(ProveError::Beyond { index, size });
    }
    let width = TILE_WIDTH as u64;
    let bundle = folder.bundle(index / width, size)?;
    let entry = bundle.into_iter().nth((index % width) as usize).ok_or(ProveError::Beyond { index, size })?;
    let tiles = Tiles { folder, size, failed: RefCell::default() };
    let path = inclusion_proof(&tiles, index, size);
    if let Some(error) = tiles.failed.into_inner() {
        return Err(error.into());
    }
    let proof = TlogProof { index, path: path?, checkpoint: note.into() };
    proof.verify(&entry, key)?;
    Ok((entry, proof))
}

/// The root of the first `at` entries of a log whose files hold `size`; nothing if they do not lead there.
pub(crate) fn root_at(folder: &Folder, size: u64, at: u64) -> Option<Hash> {
    let tiles = Tiles { folder, size, failed: RefCell::default() };
    if at > size { None } else { root(&tiles, at).ok() }
}

/// The nodes of a tree, computed from its tiles.
struct Tiles<'a> {
    folder: &'a Folder,
    size: u64,
    failed: RefCell<Option<FolderError>>,
}

impl Tiles<'_> {
    fn read(&self, level: u32, index: u64) -> Result<Option<Hash>, FolderError> {
        // Eight levels of the tree are one level of tiles; a node above a tile's row is folded from its hashes.
        let (tile_level, height) = (level / 8, level % 8);
        let first = index << height;
        let width = TILE_WIDTH as u64;
        let Ok(tile_level) = u8::try_from(tile_level) else { return Ok(None) };
        let Some(tile) = TilePath::at_size(TileKind::Hashes(tile_level), first / width, self.size) else {
            return Ok(None);
        };
        let Some(bytes) = self.folder.tile(tile)? else { return Ok(None) };
        let hashes = decode_hashes(&bytes, tile.width())
            .map_err(|error| FolderError::Tile { path: tile.to_string(), error })?;
        let from = (first % width) as usize;
        Ok(hashes.get(from..from + (1 << height)).map(complete_root))
    }
}

impl Nodes for Tiles<'_> {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        self.read(level, index).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

/// Why an entry cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// No log.
    #[error("the folder holds no checkpoint")]
    NoCheckpoint,
    /// The log is shorter.
    #[error("there is no entry {index}: the checkpoint covers {size} entries, from 0")]
    Beyond {
        /// Asked for.
        index: u64,
        /// There are.
        size: u64,
    },
    /// A file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The checkpoint.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A tile is missing.
    #[error(transparent)]
    Node(#[from] MissingNode),
    /// The proof that was made does not hold.
    #[error("the files do not lead to the checkpoint: {0}")]
    Proof(#[from] TlogProofError),
}
