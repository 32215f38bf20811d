use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use futures::executor::block_on;
use undercroft_keys::PublicKey;
use undercroft_log::Clock;
use undercroft_log::checkpoint::{Checkpoint, CheckpointSigner, SigningError};
use undercroft_log::leaf::{Body, Draft, Outcome, OutcomeResult};
use undercroft_log::note::VerifierKey;
use undercroft_log::sequencer::{self, Append, Limits};

use super::*;

struct Key(VerifierKey, Ed25519KeyPair);

fn key() -> Arc<Key> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
    Arc::new(Key(VerifierKey::new("ca.example/test/1".parse().unwrap(), public).unwrap(), pair))
}

#[async_trait]
impl CheckpointSigner for Key {
    fn key(&self) -> &VerifierKey {
        &self.0
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(self.1.sign(message).as_ref().to_vec())
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }
}

fn entry(text: String) -> Append<()> {
    let body = Body::Outcome(Outcome { intent: 0, result: OutcomeResult::Abandoned(text), command: None });
    Append { blobs: vec![b"blob".to_vec()], ..Append::new(Draft::new(&body).unwrap()) }
}

/// Appends entries through a sequencer, and closes it.
fn append(path: &std::path::Path, count: usize) {
    let store = Arc::new(FolderStore::open(path).unwrap());
    let (log, driver) =
        block_on(sequencer::open::<()>(store, key(), Arc::new(Noon), Limits::default())).unwrap();
    let (receipts, ended) = block_on(async {
        futures::join!(
            async {
                let receipts =
                    futures::future::join_all((0..count).map(|n| log.append(entry(n.to_string())))).await;
                log.close();
                receipts
            },
            driver
        )
    });
    ended.unwrap();
    for receipt in receipts {
        let receipt = receipt.unwrap();
        receipt.proof().verify(receipt.leaf(), key().key()).unwrap();
    }
}

#[test]
fn a_log_in_a_folder_grows_over_restarts_and_is_served_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut size = 0;
    for count in [1, 300, 5] {
        append(directory.path(), count);
        size += count as u64;
        let folder = Folder::new(directory.path());
        let checkpoint = Checkpoint::open(&folder.checkpoint().unwrap().unwrap(), key().key()).unwrap();
        assert_eq!(checkpoint.size, size);
        assert_eq!(folder.tree(size).unwrap().root(), checkpoint.root);
        assert_eq!(folder.blob(Digest::of(b"blob")).unwrap().unwrap(), b"blob");
    }
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = FolderStore::open(directory.path()).unwrap();
    let refused = FolderStore::open(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("another process"), "{refused}");
}

#[test]
fn a_batch_against_another_head_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    append(directory.path(), 2);
    let store = FolderStore::open(directory.path()).unwrap();
    let batch = Batch::<()> {
        expected: Head::default(),
        head: Head::default(),
        entries: Vec::new(),
        full_tiles: Vec::new(),
        checkpoint: None,
    };
    assert_eq!(block_on(store.commit(batch)), Err(CommitError::Lost));
}

#[test]
fn a_crash_before_the_head_is_written_leaves_the_log_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    append(directory.path(), 3);
    // Entries of a batch whose head never came: written, and referred to by nothing.
    let folder = Folder::new(directory.path());
    folder.append(3, [&b"lost"[..]].into_iter()).unwrap();
    append(directory.path(), 2);
    let store = FolderStore::open(directory.path()).unwrap();
    assert_eq!(block_on(LogStore::<()>::head(&store)).unwrap().size, 5);
}

#[test]
fn a_damaged_head_is_told() {
    let directory = tempfile::tempdir().unwrap();
    append(directory.path(), 1);
    let path = directory.path().join("head.json");
    fs::write(&path, "{").unwrap();
    let store = FolderStore::open(directory.path()).unwrap();
    assert!(matches!(block_on(LogStore::<()>::head(&store)), Err(StoreError::Damaged(_))));
}
