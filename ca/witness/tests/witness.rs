//! The witness with a software key, on a folder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;

use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_keymgr::SigningKey;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::note::{Note, VerifierKey};
use undercroft_log::tree::{GrowingTree, Hash, leaf_hash};
use undercroft_witness::logs::{self, Logs};
use undercroft_witness::witness::{Witness, WitnessError};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }
}

/// A log whose operator may do what he likes.
struct Log {
    signer: SoftwareKey,
    key: VerifierKey,
}

impl Log {
    fn new(origin: &str) -> Self {
        let signer = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let key = VerifierKey::new(origin.parse().unwrap(), signer.public_key().clone()).unwrap();
        Self { signer, key }
    }

    /// A request with the checkpoint of a tree of so many entries, which begin with `text`; from `old` on.
    fn request(&self, text: &str, old: u64, size: u64) -> String {
        let mut tree = GrowingTree::new();
        let hashes: Vec<Hash> = (0..size).map(|n| leaf_hash(format!("{text}{n}").as_bytes())).collect();
        hashes.iter().for_each(|hash| tree.push(*hash));
        let checkpoint = Checkpoint { origin: self.key.name().clone(), size, root: tree.root() };
        let signature = block_on(self.signer.sign(checkpoint.text().as_bytes())).unwrap();
        let checkpoint = format!("{}\n{}", checkpoint.text(), self.key.line(&signature)).into();
        let proof = if old == 0 { Vec::new() } else { consistency(&hashes, old) };
        AddCheckpoint { old, proof, checkpoint }.to_string()
    }
}

/// RFC 6962 section 2.1.2, as it is written there.
fn consistency(hashes: &[Hash], old: u64) -> Vec<Hash> {
    fn root(hashes: &[Hash]) -> Hash {
        match hashes {
            [one] => *one,
            _ => {
                let k = hashes.len().next_power_of_two() / 2;
                undercroft_log::tree::node_hash(&root(&hashes[..k]), &root(&hashes[k..]))
            }
        }
    }
    fn sub(m: usize, hashes: &[Hash], whole: bool) -> Vec<Hash> {
        if m == hashes.len() {
            return if whole { Vec::new() } else { vec![root(hashes)] };
        }
        let k = hashes.len().next_power_of_two() / 2;
        let (mut path, last) = match m <= k {
            true => (sub(m, &hashes[..k], whole), root(&hashes[k..])),
            false => (sub(m - k, &hashes[k..], false), root(&hashes[..k])),
        };
        path.push(last);
        path
    }
    sub(usize::try_from(old).unwrap(), hashes, true)
}

fn witness(folder: &std::path::Path, key: &Arc<SoftwareKey>) -> Witness {
    let logs = Logs::open(folder).unwrap();
    Witness::new("witness.example/w1".parse().unwrap(), key.clone(), logs, Arc::new(Noon)).unwrap()
}

fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap())
}

fn status(result: Result<String, WitnessError>) -> u16 {
    match result {
        Err(WitnessError::Refused(refusal)) => refusal.status(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_has_cosigned_it_remembers_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let key = key();
    let log = Log::new("ca.example/undercroft/prod.example/1");
    {
        let witness = witness(folder.path(), &key);
        assert_eq!(status(block_on(witness.add_checkpoint(&log.request("a", 0, 3)))), 404);
        logs::add(folder.path(), &log.key).unwrap();
        let request = log.request("a", 0, 3);
        let line = block_on(witness.add_checkpoint(&request)).unwrap();
        let note = format!("{}{line}", request.split_once("\n\n").unwrap().1);
        assert_eq!(witness.key().verify(&Note::parse(&note).unwrap()).unwrap(), Noon.now());
    }
    let witness = witness(folder.path(), &key);
    // The log went back, and shows something else.
    assert_eq!(status(block_on(witness.add_checkpoint(&log.request("a", 0, 2)))), 409);
    assert_eq!(status(block_on(witness.add_checkpoint(&log.request("b", 3, 3)))), 422);
    assert_eq!(status(block_on(witness.add_checkpoint(&log.request("b", 3, 9)))), 422);
    for (old, size) in [(3, 3), (3, 4), (4, 300), (300, 1000)] {
        block_on(witness.add_checkpoint(&log.request("a", old, size))).unwrap();
    }
    // Whoever looks later sees the last one, with the log's line and the witness's, and no others.
    let hash = "0".repeat(64);
    assert_eq!(block_on(witness.cosigned(&hash)).unwrap(), None);
    for name in std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()) {
        if let Some(note) = block_on(witness.cosigned(name.to_str().unwrap())).unwrap() {
            assert_eq!(Checkpoint::open(&note, &log.key).unwrap().size, 1000);
            witness.key().verify(&Note::parse(&note).unwrap()).unwrap();
            assert_eq!(note.matches('\u{2014}').count(), 2);
        }
    }
    for odd in ["../state", "", "lock", &"A".repeat(64)] {
        assert_eq!(block_on(witness.cosigned(odd)).unwrap(), None, "{odd}");
    }
}

#[test]
fn foreign_lines_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new("ca.example/undercroft/prod.example/1");
    let witness = witness(folder.path(), &key());
    logs::add(folder.path(), &log.key).unwrap();
    let request = format!("{}\u{2014} w2.example AAAAAAAA\n", log.request("a", 0, 3));
    block_on(witness.add_checkpoint(&request)).unwrap();
    let kept =
        std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path().join("checkpoint"));
    let kept: Vec<_> = kept.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    assert!(kept.len() == 1 && !kept[0].contains("w2.example"), "{kept:?}");
}

#[test]
fn a_state_that_was_changed_stops_the_witness() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new("ca.example/undercroft/prod.example/1");
    let witness = witness(folder.path(), &key());
    logs::add(folder.path(), &log.key).unwrap();
    block_on(witness.add_checkpoint(&log.request("a", 0, 5))).unwrap();
    let entry =
        std::fs::read_dir(folder.path()).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
    let path = entry.path().join("checkpoint");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("\n5\n", "\n2\n")).unwrap();
    let broken = block_on(witness.add_checkpoint(&log.request("a", 2, 3)));
    assert!(matches!(broken, Err(WitnessError::Broken(_))), "{broken:?}");
}

#[test]
fn two_witnesses_on_one_state_cannot_be_and_a_log_has_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let held = Logs::open(folder.path()).unwrap();
    assert!(Logs::open(folder.path()).unwrap_err().to_string().contains("another witness"));
    drop(held);
    Logs::open(folder.path()).unwrap();
    let (log, other) = (Log::new("a.example/1"), Log::new("a.example/1"));
    logs::add(folder.path(), &log.key).unwrap();
    logs::add(folder.path(), &log.key).unwrap();
    assert!(logs::add(folder.path(), &other.key).unwrap_err().to_string().contains("another key"));
}
