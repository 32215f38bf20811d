//! Tiles and entry bundles (C2SP tlog-tiles): how a log is stored and served as immutable files.

use std::fmt;
use std::str::FromStr;

use crate::tree::{Hash, TILE_WIDTH};

/// The longest entry that fits a bundle.
pub const MAX_ENTRY: usize = 65_535;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// Hashes of a tile level, 0 to 63.
    Hashes(u8),
    /// Entries.
    Entries,
}

/// The place of a tile: `tile/<L>/<N>` or `tile/entries/<N>`, with `.p/<W>` if it is partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    /// 1 to 256.
    width: u16,
}

impl TilePath {
    /// The full tile at `index`.
    pub fn full(kind: TileKind, index: u64) -> Self {
        Self { kind, index, width: TILE_WIDTH as u16 }
    }

    /// The tile at `index` as a log of `size` leaves has it, or nothing if the log has no leaf there yet.
    pub fn at_size(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let shift = match kind {
            TileKind::Hashes(level) => u32::from(level) * 8,
            TileKind::Entries => 0,
        };
        let hashes = size.checked_shr(shift).unwrap_or(0);
        let first = index.checked_mul(TILE_WIDTH as u64)?;
        let width = hashes.saturating_sub(first).min(TILE_WIDTH as u64) as u16;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// Every tile that a log of `size` leaves has, entries first, then hashes level by level.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let kinds = std::iter::once(TileKind::Entries).chain((0..8).map(TileKind::Hashes));
        kinds.flat_map(move |kind| (0..).map_while(move |index| Self::at_size(kind, index, size)))
    }

    /// What it holds.
    pub fn kind(self) -> TileKind {
        self.kind
    }

    /// Its index.
    pub fn index(self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, 1 to 256.
    pub fn width(self) -> usize {
        usize::from(self.width)
    }

    /// Whether it holds 256, so that it will never change.
    pub fn is_full(self) -> bool {
        self.width() == TILE_WIDTH
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = Vec::new();
        let mut rest = self.index;
        loop {
            groups.push(rest % 1000);
            rest /= 1000;
            if rest == 0 {
                break;
            }
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let parsed = (|| {
            let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
            let kind = match kind {
                "entries" => TileKind::Entries,
                level => TileKind::Hashes(level.parse().ok().filter(|level| *level < 64)?),
            };
            let (index, width) = match rest.split_once(".p/") {
                Some((index, width)) => (index, width.parse().ok().filter(|w| (1..256).contains(w))?),
                None => (rest, TILE_WIDTH as u16),
            };
            let index = index.split('/').try_fold(0u64, |index, group| {
                let digits = group.strip_prefix('x').unwrap_or(group);
                index.checked_mul(1000)?.checked_add(digits.parse().ok()?)
            })?;
            Some(Self { kind, index, width })
        })();
        // One right spelling: whatever was lenient above shows here.
        parsed
            .filter(|tile| tile.to_string() == path)
            .ok_or_else(|| TileError::Path(path.chars().take(80).collect()))
    }
}

/// The bytes of a hash tile.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The hashes in a tile of `width` hashes.
///
/// # Errors
/// The tile has another length.
pub fn decode_hashes(bytes: &[u8], width: usize) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != width {
        return Err(TileError::HashTile { bytes: bytes.len(), width });
    }
    Ok(hashes.iter().map(|bytes| Hash::from(*bytes)).collect())
}

/// Appends an entry to a bundle: two bytes of length, big-endian, then the entry.
///
/// # Errors
/// The entry is longer than [`MAX_ENTRY`].
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::Entry(entry.len()))?;
    bundle.extend(length.to_be_bytes());
    bundle.extend(entry);
    Ok(())
}

/// The entries in a bundle of `width` entries.
///
/// # Errors
/// The bundle ends inside an entry, or holds more or fewer of them.
pub fn decode_entries(bundle: &[u8], width: usize) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::with_capacity(width.min(TILE_WIDTH));
    let mut rest = bundle;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(TileError::Bundle(entries.len()))?;
        entries.push(entry);
        rest = after;
        if entries.len() > width {
            break;
        }
    }
    if !rest.is_empty() || entries.len() != width {
        return Err(TileError::BundleWidth { width, found: entries.len() });
    }
    Ok(entries)
}

/// What is wrong with a tile or a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not the path of a tile.
    #[error("`{0}` is no path of a tile")]
    Path(String),
    /// A hash tile of another length.
    #[error("a tile of {width} hashes has {bytes} bytes instead of {}", width * 32)]
    HashTile {
        /// The length that it has.
        bytes: usize,
        /// The hashes that it should hold.
        width: usize,
    },
    /// An entry that fits no bundle.
    #[error("an entry of {0} bytes is longer than {MAX_ENTRY}")]
    Entry(usize),
    /// A bundle ends inside an entry.
    #[error("the bundle ends inside its entry number {0}")]
    Bundle(usize),
    /// A bundle of another number of entries.
    #[error("the bundle should hold {width} entries and holds {found}, or has bytes after them")]
    BundleWidth {
        /// The entries that it should hold.
        width: usize,
        /// The entries that were read.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::tree::leaf_hash;

    fn paths(size: u64) -> Vec<String> {
        TilePath::all(size).map(|path| path.to_string()).collect()
    }

    /// audit-log.md §1.5.
    #[test]
    fn paths_of_the_reference() {
        for (index, path) in [
            (0, "000"),
            (999, "999"),
            (1000, "x001/000"),
            (1_234_067, "x001/x234/067"),
            (123_456_789, "x123/x456/789"),
        ] {
            let tile = TilePath::full(TileKind::Hashes(0), index);
            assert_eq!(tile.to_string(), format!("tile/0/{path}"));
            assert_eq!(tile.to_string().parse(), Ok(tile));
        }
        assert_eq!(paths(0), Vec::<String>::new());
        assert_eq!(paths(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        let large = paths(70_000);
        assert_eq!(large.len(), 274 + 274 + 2 + 1);
        assert_eq!(large[273], "tile/entries/273.p/112");
        assert_eq!(large[547], "tile/0/273.p/112");
        assert_eq!(large[548..], ["tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(paths(65_536).iter().filter(|path| path.starts_with("tile/1/")).count(), 1);
    }

    #[test]
    fn other_spellings_are_no_paths() {
        for path in [
            "",
            "tile",
            "tile/0/0",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/00/000",
            "tile/64/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/-1/000",
            "tile/0/000/",
            "/tile/0/000",
            "tile/0/..",
            "tile/entries/../0",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(path.parse::<TilePath>().is_err(), "{path}");
        }
    }

    /// audit-log.md §1.6.
    #[test]
    fn tiles_of_the_worked_example() {
        let entries: Vec<_> = (0..7).map(|n| format!("entry-{n}")).collect();
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry.as_bytes()).unwrap());
        assert_eq!(bundle.len(), 63);
        assert_eq!(
            hex::encode(Sha256::digest(&bundle)),
            "0327f91917f94f5ad8edb07c834864a3926394c6f7e12cd5dbfc646403a2847b"
        );
        assert_eq!(
            decode_entries(&bundle, 7).unwrap(),
            entries.iter().map(String::as_bytes).collect::<Vec<_>>()
        );
        let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry.as_bytes())).collect();
        let tile = encode_hashes(&hashes);
        assert_eq!(
            hex::encode(Sha256::digest(&tile)),
            "e99f493b599ba703533533aef52f8c7d065829a1ab763aac3f97a11854400cc9"
        );
        assert_eq!(decode_hashes(&tile, 7).unwrap(), hashes);
    }

    #[test]
    fn wrong_tiles_and_bundles_are_refused() {
        assert_eq!(decode_hashes(&[0; 64], 1), Err(TileError::HashTile { bytes: 64, width: 1 }));
        assert_eq!(decode_hashes(&[0; 33], 1), Err(TileError::HashTile { bytes: 33, width: 1 }));
        assert_eq!(decode_entries(&[0, 2, 1], 1), Err(TileError::Bundle(0)));
        assert_eq!(decode_entries(&[0, 1, 1], 2), Err(TileError::BundleWidth { width: 2, found: 1 }));
        assert_eq!(decode_entries(&[0, 1, 1, 0], 1), Err(TileError::BundleWidth { width: 1, found: 1 }));
        assert_eq!(decode_entries(&[0, 0, 0, 0], 1), Err(TileError::BundleWidth { width: 1, found: 2 }));
        assert_eq!(push_entry(&mut Vec::new(), &vec![0; 65_536]), Err(TileError::Entry(65_536)));
        push_entry(&mut Vec::new(), &vec![0; 65_535]).unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_bundles_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), width in 0usize..300) {
            if let Ok(entries) = decode_entries(&bytes, width) {
                let mut again = Vec::new();
                entries.iter().for_each(|entry| push_entry(&mut again, entry).unwrap());
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn arbitrary_paths_never_panic(path in "tile/(entries|[0-9]{1,3})/[x0-9./p]{0,30}") {
            if let Ok(tile) = path.parse::<TilePath>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
