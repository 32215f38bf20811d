//! Entries that an auditor draws, so that nobody could have picked them for him.
//!
//! The auditor says a seed after the log was exported. Entry `SHA-256(seed ‖ i) mod size` is drawn, for `i` from 0 on,
//! `i` in 8 bytes and both numbers big-endian; what was drawn before is passed over. Anybody can do it again.

use std::collections::HashSet;

use serde::Serialize;
use undercroft_log::leaf::{Digest, Kind};
use undercroft_log::tree::Hash;

/// The most entries of a sample: whoever wants more reads the log.
pub const MOST: u64 = 100_000;

/// Entries that were drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sample {
    /// What the auditor said.
    pub seed: String,
    /// The entries, in the order in which they were drawn.
    pub entries: Vec<Drawn>,
}

/// An entry that was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drawn {
    /// Its index.
    pub index: u64,
    /// Its kind.
    pub kind: Option<Kind>,
    /// Its leaf hash, base64.
    pub hash: String,
}

impl Drawn {
    pub(crate) fn found(&mut self, kind: Kind, hash: Hash) {
        self.kind = Some(kind);
        self.hash = hash.to_string();
    }
}

impl Sample {
    /// Draws `count` entries of a log of `size`; all of them if it has no more.
    pub fn draw(seed: &str, count: u64, size: u64) -> Self {
        let mut drawn = HashSet::new();
        let indexes = (0u64..).map(|i| index(seed, i, size)).filter(|index| drawn.insert(*index));
        let entries = indexes.take(count.min(size).min(MOST) as usize);
        let entries = entries.map(|index| Drawn { index, kind: None, hash: String::new() }).collect();
        Self { seed: seed.to_owned(), entries }
    }
}

/// SHA-256(seed ‖ i) mod size. `size` is not 0.
fn index(seed: &str, i: u64, size: u64) -> u64 {
    let Digest(digest) = Digest::of(&[seed.as_bytes(), &i.to_be_bytes()].concat());
    let modulo = |rest: u128, byte: &u8| ((rest << 8) | u128::from(*byte)) % u128::from(size);
    digest.iter().fold(0, modulo) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: &str, count: u64, size: u64) -> Vec<u64> {
        Sample::draw(seed, count, size).entries.iter().map(|entry| entry.index).collect()
    }

    /// By Python: `int.from_bytes(hashlib.sha256(b"2026-11 audit" + i.to_bytes(8, "big")).digest(), "big") % 1000003`.
    #[test]
    fn a_sample_is_what_anybody_computes_from_the_seed() {
        assert_eq!(drawn("2026-11 audit", 5, 1_000_003), VECTOR);
        assert_ne!(drawn("2026-11 Audit", 5, 1_000_003), VECTOR);
    }

    const VECTOR: [u64; 5] = [200_789, 435_423, 589_911, 356_763, 440_128];

    #[test]
    fn nothing_is_drawn_twice_and_no_more_than_there_is() {
        let mut all = drawn("seed", 10, 7);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert!(drawn("seed", 10, 0).is_empty());
        assert!(drawn("seed", 0, 7).is_empty());
    }
}
