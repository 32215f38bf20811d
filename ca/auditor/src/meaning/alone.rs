//! What each entry says by itself, whatever stands around it: read side by side.

use std::collections::BTreeSet;

use undercroft_log::leaf::{Body, Digest, Intent, Leaf, LeafError, Object, ToBeSigned};
use undercroft_log::tile::{TileKind, TilePath, decode_entries};
use undercroft_log::tree::{Hash, TILE_WIDTH, leaf_hash};
use undercroft_log_files::Folder;

use super::signed::Certificate;

/// An entry, read.
pub(super) struct Alone {
    pub(super) index: u64,
    pub(super) hash: Hash,
    pub(super) leaf: Result<Leaf, LeafError>,
    /// SHA-256 of the bytes of an entry of kind `freeze`: what an approval to undo it is about.
    pub(super) digest: Option<Digest>,
    /// Of an intent that holds a whole TBSCertificate.
    pub(super) certificate: Option<Certificate>,
}

/// The entries of a bundle that are not known to be bad. A bundle that cannot be read as a whole has some that are; the
/// others are not read.
pub(super) fn read(folder: &Folder, bundle: u64, size: u64, bad: &BTreeSet<u64>) -> Vec<Alone> {
    let Some(path) = TilePath::at_size(TileKind::Entries, bundle, size) else { return Vec::new() };
    let Ok(Some(bytes)) = folder.tile(path) else { return Vec::new() };
    let entries = decode_entries(&bytes, path.width()).unwrap_or_default();
    let indexed = (bundle * TILE_WIDTH as u64..).zip(entries);
    indexed
        .filter(|(index, _)| !bad.contains(index))
        .map(|(index, entry)| Alone::read(index, entry))
        .collect()
}

impl Alone {
    fn read(index: u64, entry: &[u8]) -> Self {
        let leaf = Leaf::parse(entry);
        let certificate = match &leaf {
            Ok(Leaf {
                body:
                    Body::Intent(Intent {
                        object: Object::Certificate, tbs: ToBeSigned::Der(der), algorithm, ..
                    }),
                ..
            }) => Some(Certificate::read(&der.0, *algorithm)),
            _ => None,
        };
        let is_freeze = matches!(&leaf, Ok(Leaf { body: Body::Freeze(_), .. }));
        let digest = is_freeze.then(|| Digest::of(entry));
        Self { index, hash: leaf_hash(entry), leaf, digest, certificate }
    }
}
