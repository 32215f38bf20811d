//! A log in a folder, as static tiles.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use undercroft_log::leaf::Digest;
use undercroft_log::tile::{
    TileError, TileKind, TilePath, decode_entries, decode_hashes, encode_hashes, push_entry,
};
use undercroft_log::tree::{GrowingTree, Hash, TILE_WIDTH, WrongEdge, leaf_hash, partial_width, tile_root};

use crate::durable;

/// The largest tile or bundle that is read: 256 entries of the longest kind.
const MAX_FILE: u64 = 256 * (2 + 65_535);

/// The largest blob that is read.
const MAX_BLOB: u64 = 256 * 1024 * 1024;

/// A folder that holds a log.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The log at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The signed checkpoint; nothing if there is none yet.
    ///
    /// # Errors
    /// The file cannot be read or is no text.
    pub fn checkpoint(&self) -> Result<Option<String>, FolderError> {
        let path = self.path.join("checkpoint");
        match read_plain(&path, MAX_FILE)? {
            None => Ok(None),
            Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| FolderError::NoText(path)),
        }
    }

    /// Writes the signed checkpoint. Everything that it covers must have been written before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_checkpoint(&self, note: &str) -> Result<(), FolderError> {
        self.write("checkpoint", note.as_bytes())
    }

    /// The entries of a bundle, in a log of `size` entries.
    ///
    /// # Errors
    /// The bundle is missing or malformed.
    pub fn bundle(&self, index: u64, size: u64) -> Result<Vec<Vec<u8>>, FolderError> {
        let tile = TilePath::at_size(TileKind::Entries, index, size)
            .ok_or_else(|| FolderError::Missing(self.path.join(format!("tile/entries/{index}"))))?;
        let bytes = self.read_tile(tile)?;
        let entries = decode_entries(&bytes, tile.width())
            .map_err(|error| FolderError::Tile { path: tile.to_string(), error })?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The hashes of a tile, in a log of `size` entries.
    ///
    /// # Errors
    /// The tile is missing or malformed.
    pub fn hashes(&self, level: u8, index: u64, size: u64) -> Result<Vec<Hash>, FolderError> {
        let tile = TilePath::at_size(TileKind::Hashes(level), index, size)
            .ok_or_else(|| FolderError::Missing(self.path.join(format!("tile/{level}/{index}"))))?;
        let bytes = self.read_tile(tile)?;
        decode_hashes(&bytes, tile.width())
            .map_err(|error| FolderError::Tile { path: tile.to_string(), error })
    }

    /// A blob by its digest; nothing if it is not there.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else than its name says.
    pub fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join(format!("blobs/{digest}"));
        match read_plain(&path, MAX_BLOB)? {
            Some(bytes) if Digest::of(&bytes) != digest => Err(FolderError::OtherBlob(path)),
            found => Ok(found),
        }
    }

    /// Writes a blob under its digest.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_blob(&self, blob: &[u8]) -> Result<(), FolderError> {
        let name = format!("blobs/{}", Digest::of(blob));
        match self.path.join(&name).exists() {
            true => Ok(()),
            false => self.write(&name, blob),
        }
    }

    /// Adds entries to a log of `size` entries: bundles and hash tiles, full and partial, everything that a checkpoint
    /// over them needs. Gives the tree over all of them.
    ///
    /// # Errors
    /// A file cannot be read or written, or what is there does not have `size` entries.
    pub fn append<'a>(
        &self,
        size: u64,
        entries: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<GrowingTree, FolderError> {
        let mut tree = self.tree(size)?;
        let new_size = size + entries.len() as u64;
        let width = TILE_WIDTH as u64;
        let mut bundle_index = size / width;
        let mut bundle: Vec<Vec<u8>> = match size % width {
            0 => Vec::new(),
            _ => self.bundle(bundle_index, size)?,
        };
        for entry in entries {
            tree.push(leaf_hash(entry));
            bundle.push(entry.to_vec());
            if bundle.len() == TILE_WIDTH {
                self.write_bundle(bundle_index, &bundle, new_size)?;
                bundle_index += 1;
                bundle.clear();
            }
        }
        if !bundle.is_empty() {
            self.write_bundle(bundle_index, &bundle, new_size)?;
        }
        for tile in tree.full_tiles_since(size) {
            // Levels of a tree of less than 2^64 leaves fit.
            let level = TileKind::Hashes(tile.level as u8);
            self.write(&TilePath::full(level, tile.index).to_string(), &encode_hashes(&tile.hashes))?;
        }
        for level in 0..GrowingTree::levels(new_size) {
            let index = new_size >> (8 * (level + 1));
            let hashes = tree.partial_tile(level);
            if let Some(path) = TilePath::at_size(TileKind::Hashes(level as u8), index, new_size)
                && !hashes.is_empty()
            {
                self.write(&path.to_string(), &encode_hashes(hashes))?;
            }
        }
        tree.forget_before(new_size);
        Ok(tree)
    }

    /// The right edge of the tree of the first `size` entries, from the files.
    ///
    /// # Errors
    /// A file that it needs is missing or malformed.
    pub fn tree(&self, size: u64) -> Result<GrowingTree, FolderError> {
        let mut edge = Vec::new();
        for level in 0..GrowingTree::levels(size) {
            let width = partial_width(size, level) as u64;
            let index = size >> (8 * (level + 1));
            let hashes = match (level, width) {
                (_, 0) => Vec::new(),
                (0, _) => self.bundle(index, size)?.iter().map(|entry| leaf_hash(entry)).collect(),
                _ => {
                    let first = index * TILE_WIDTH as u64;
                    (first..first + width)
                        .map(|below| {
                            let tile = self.hashes(level as u8 - 1, below, size)?;
                            tile_root(&tile).ok_or(FolderError::Missing(self.path.clone()))
                        })
                        .collect::<Result<_, _>>()?
                }
            };
            edge.push(hashes);
        }
        Ok(GrowingTree::from_edge(size, &edge)?)
    }

    fn write_bundle(&self, index: u64, entries: &[Vec<u8>], size: u64) -> Result<(), FolderError> {
        let mut bytes = Vec::new();
        let tile = TilePath::at_size(TileKind::Entries, index, size)
            .ok_or_else(|| FolderError::Missing(self.path.clone()))?;
        for entry in entries {
            push_entry(&mut bytes, entry)
                .map_err(|error| FolderError::Tile { path: tile.to_string(), error })?;
        }
        self.write(&tile.to_string(), &bytes)
    }

    /// The bytes of a tile or bundle as they are; nothing if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tile(&self, tile: TilePath) -> Result<Option<Vec<u8>>, FolderError> {
        read_plain(&self.path.join(tile.to_string()), MAX_FILE)
    }

    fn read_tile(&self, tile: TilePath) -> Result<Vec<u8>, FolderError> {
        self.tile(tile)?.ok_or_else(|| FolderError::Missing(self.path.join(tile.to_string())))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        durable::write(&path, bytes).map_err(|error| FolderError::Io { path, error })
    }
}

/// The bytes of a file; nothing if there is none. A log may come from anybody: what is no plain file (a link, a pipe, a
/// device) is not opened, and no more is read than the file may have.
///
/// # Errors
/// It cannot be read, is no plain file or is longer than `limit`.
pub fn read_plain(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FolderError> {
    let failed = |error| FolderError::Io { path: path.to_owned(), error };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(FolderError::NotPlain(path.to_owned()));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(limit) as usize + 1);
    let read = fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FolderError::TooLong { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Why a log in a folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file that must be there is not.
    #[error("{0} is missing")]
    Missing(PathBuf),
    /// A file is longer than any of its kind.
    #[error("{path} has more than {limit} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// A link, a pipe or a device where a file should be.
    #[error("{0} is no plain file")]
    NotPlain(PathBuf),
    /// A checkpoint that is no text.
    #[error("{0} is no text")]
    NoText(PathBuf),
    /// A tile or bundle is malformed.
    #[error("{path}: {error}")]
    Tile {
        /// The tile.
        path: String,
        /// What is wrong.
        error: TileError,
    },
    /// A blob is not what its name says.
    #[error("{0} is not the blob that its name says")]
    OtherBlob(PathBuf),
    /// The tiles do not fit together.
    #[error(transparent)]
    Edge(#[from] WrongEdge),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        range.map(|n| format!("entry-{n}").into_bytes()).collect()
    }

    fn append(folder: &Folder, size: usize, upto: usize) -> GrowingTree {
        let new = entries(size..upto);
        folder.append(size as u64, new.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn a_folder_grows_as_a_tree_does() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path());
        let mut size = 0;
        for upto in [1, 7, 255, 256, 257, 700, 1024, 1024] {
            let tree = append(&folder, size, upto);
            size = upto;
            let mut direct = GrowingTree::new();
            entries(0..size).iter().for_each(|entry| direct.push(leaf_hash(entry)));
            assert_eq!(tree.root(), direct.root(), "{size}");
            assert_eq!(folder.tree(size as u64).unwrap().root(), direct.root(), "{size}");
            for path in TilePath::all(size as u64) {
                assert!(directory.path().join(path.to_string()).exists(), "{path} at {size}");
            }
        }
        assert_eq!(folder.bundle(2, 700).unwrap().len(), 188);
        assert_eq!(folder.bundle(2, 1024).unwrap().len(), 256);
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path());
        append(&folder, 0, 300);
        assert!(matches!(folder.bundle(2, 300), Err(FolderError::Missing(_))));
        assert!(matches!(folder.bundle(1, 301), Err(FolderError::Missing(_))));
        fs::write(directory.path().join("tile/0/000"), [0; 31]).unwrap();
        assert!(matches!(folder.hashes(0, 0, 300), Err(FolderError::Tile { .. })));
        fs::write(directory.path().join("tile/entries/001.p/44"), [0, 9, 1]).unwrap();
        assert!(folder.append(300, std::iter::empty()).is_err());
        assert_eq!(folder.checkpoint().unwrap(), None);
        fs::write(directory.path().join("checkpoint"), [0xff]).unwrap();
        assert!(matches!(folder.checkpoint(), Err(FolderError::NoText(_))));
    }

    #[test]
    fn blobs_are_what_their_names_say() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path());
        let digest = Digest::of(b"blob");
        assert_eq!(folder.blob(digest).unwrap(), None);
        folder.write_blob(b"blob").unwrap();
        folder.write_blob(b"blob").unwrap();
        assert_eq!(folder.blob(digest).unwrap().unwrap(), b"blob");
        fs::write(directory.path().join(format!("blobs/{digest}")), b"blab").unwrap();
        assert!(matches!(folder.blob(digest), Err(FolderError::OtherBlob(_))));
    }
}
