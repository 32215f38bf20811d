//! The heads of one log that a gate has accepted, and which of them witnesses have cosigned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use undercroft_log::tree::Hash;

/// How many are remembered, so that proofs under an earlier one still count.
const HEADS: usize = 4096;

/// Heads of which each is a prefix of the next.
#[derive(Debug, Default)]
pub struct Heads {
    /// By size, each with when it was accepted.
    accepted: BTreeMap<u64, (Hash, Timestamp)>,
    /// The size of the largest cosigned one.
    witnessed: Option<u64>,
    /// Since when there has been a larger one than that. A cosigned head that is shown again does not change it: else
    /// whoever keeps witnesses away could go on for ever with the last one that they have cosigned.
    ahead_since: Option<Timestamp>,
}

impl Heads {
    /// The size of the largest.
    pub fn latest(&self) -> u64 {
        self.accepted.last_key_value().map_or(0, |(size, _)| *size)
    }

    /// The root of the head of that size, if it was accepted.
    pub fn root(&self, size: u64) -> Option<Hash> {
        self.accepted.get(&size).map(|(root, _)| *root)
    }

    /// Accepts a head that the last one is a prefix of.
    pub fn accept(&mut self, size: u64, root: Hash, now: Timestamp) {
        self.accepted.entry(size).or_insert((root, now));
        while self.accepted.len() > HEADS {
            self.accepted.pop_first();
        }
        if self.witnessed.is_some_and(|witnessed| witnessed < size) {
            self.ahead_since.get_or_insert(now);
        }
    }

    /// Takes note that an accepted head is cosigned.
    pub fn witness(&mut self, size: u64) {
        if self.witnessed.is_some_and(|witnessed| witnessed >= size) {
            return;
        }
        self.witnessed = Some(size);
        let next = self.accepted.range(size + 1..).next();
        self.ahead_since = next.map(|(_, (_, accepted))| *accepted);
    }

    /// The size of the largest cosigned head.
    pub fn witnessed(&self) -> Option<u64> {
        self.witnessed
    }

    /// Since when the log has been ahead of what is cosigned.
    pub fn ahead_since(&self) -> Option<Timestamp> {
        self.ahead_since
    }
}

#[cfg(test)]
mod tests {
    use undercroft_log::tree::leaf_hash;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn accept(heads: &mut Heads, size: u64, second: i64) {
        heads.accept(size, leaf_hash(&size.to_be_bytes()), at(second));
    }

    #[test]
    fn a_cosigned_head_that_is_shown_again_buys_no_time() {
        let mut heads = Heads::default();
        accept(&mut heads, 5, 0);
        assert_eq!((heads.witnessed(), heads.ahead_since()), (None, None));
        heads.witness(5);
        assert_eq!((heads.witnessed(), heads.ahead_since()), (Some(5), None));
        accept(&mut heads, 6, 10);
        accept(&mut heads, 7, 20);
        assert_eq!(heads.ahead_since(), Some(at(10)));
        for again in [5, 0, 5] {
            heads.witness(again);
            accept(&mut heads, 5, 30);
            assert_eq!((heads.witnessed(), heads.ahead_since()), (Some(5), Some(at(10))));
        }
        heads.witness(6);
        assert_eq!((heads.witnessed(), heads.ahead_since()), (Some(6), Some(at(20))));
        heads.witness(7);
        assert_eq!((heads.witnessed(), heads.ahead_since()), (Some(7), None));
    }

    #[test]
    fn the_oldest_is_forgotten_and_for_how_long_witnesses_were_away_is_not() {
        let mut heads = Heads::default();
        accept(&mut heads, 1, 0);
        heads.witness(1);
        let many = HEADS as u64 + 10;
        (2..many).for_each(|size| accept(&mut heads, size, size as i64));
        assert_eq!(heads.accepted.len(), HEADS);
        assert_eq!((heads.root(1), heads.root(9)), (None, None));
        assert_eq!(heads.root(many - 1), Some(leaf_hash(&(many - 1).to_be_bytes())));
        assert_eq!((heads.latest(), heads.ahead_since()), (many - 1, Some(at(2))));
    }
}
