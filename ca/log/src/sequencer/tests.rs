use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use futures::executor::block_on;
use futures::future::join_all;
use undercroft_keys::{KeyId, PublicKey};

use super::*;
use crate::checkpoint::SigningError;
use crate::leaf::{Body, Digest, Leaf, Outcome, OutcomeResult};

mod faults;
mod witnessed;

const ORIGIN: &str = "ca.example/undercroft/test/1";

/// A store in memory that fails as it is told.
#[derive(Default)]
struct Memory {
    stored: Mutex<Stored>,
    /// What happens at each next write; nothing when none is left.
    faults: Mutex<VecDeque<Fault>>,
    /// Told when the process has been killed.
    killed: Mutex<Option<oneshot::Sender<()>>>,
}

#[derive(Clone, Default)]
struct Stored {
    head: Head,
    entries: Vec<Vec<u8>>,
    tiles: BTreeMap<(u32, u64), Vec<Hash>>,
    effects: Vec<&'static str>,
    checkpoint: Option<String>,
    batches: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    UnavailableAndNotPersisted,
    UnknownAndNotPersisted,
    UnknownButPersisted,
    /// The process is killed, and nothing has reached the disk.
    KilledBefore,
    /// The process is killed, and everything has.
    KilledAfter,
    /// Another process appends an entry just before.
    OtherWriter,
}

impl Memory {
    fn failing(faults: &[Fault]) -> Arc<Self> {
        Arc::new(Self { faults: Mutex::new(faults.iter().copied().collect()), ..Self::default() })
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    fn next_fault(&self) -> Fault {
        self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None)
    }

    /// Nothing comes after this.
    async fn kill(&self) {
        if let Some(killed) = self.killed.lock().unwrap().take() {
            killed.send(()).unwrap();
        }
        std::future::pending().await
    }

    /// Re-verifies everything that is stored, from nothing but the entries.
    fn check(&self) {
        let stored = self.stored();
        let mut tree = GrowingTree::new();
        for (index, entry) in stored.entries.iter().enumerate() {
            let leaf = Leaf::parse(entry).unwrap();
            assert_eq!(leaf.index, index as u64);
            assert_eq!(leaf.origin.as_str(), ORIGIN);
            tree.push(leaf_hash(entry));
        }
        assert_eq!(stored.head.size, stored.entries.len() as u64);
        assert_eq!(stored.head.root, tree.root());
        let full: BTreeMap<_, _> =
            tree.full_tiles_since(0).map(|tile| ((tile.level, tile.index), tile.hashes)).collect();
        assert_eq!(stored.tiles, full);
    }
}

#[async_trait]
impl LogReader for Memory {
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(self.stored().checkpoint.clone())
    }

    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.stored().entries[range.start as usize..range.end as usize].to_vec())
    }

    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError> {
        self.stored()
            .tiles
            .get(&(level, index))
            .cloned()
            .ok_or_else(|| StoreError::Damaged(format!("no tile {level}/{index}")))
    }

    async fn blob(&self, _: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
}

#[async_trait]
impl LogStore<&'static str> for Memory {
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.stored().head.clone())
    }

    async fn commit(&self, batch: Batch<&'static str>) -> Result<(), CommitError> {
        let fault = self.next_fault();
        match fault {
            Fault::KilledBefore => self.kill().await,
            Fault::UnavailableAndNotPersisted => return Err(CommitError::Unavailable("disk full".into())),
            Fault::UnknownAndNotPersisted => return Err(CommitError::Unknown("fsync".into())),
            Fault::OtherWriter => {
                let mut stored = self.stored();
                let mut tree = GrowingTree::new();
                let leaf = draft("other").stamp(&format!("\"{ORIGIN}\""), stored.head.size, at(100), None);
                stored.entries.push(leaf);
                stored.entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
                let full = tree.full_tiles_since(stored.head.size);
                stored.tiles.extend(full.map(|tile| ((tile.level, tile.index), tile.hashes)));
                stored.head.size += 1;
                stored.head.root = tree.root();
            }
            Fault::None | Fault::UnknownButPersisted | Fault::KilledAfter => {}
        }
        self.swap(batch)?;
        match fault {
            Fault::KilledAfter => self.kill().await,
            Fault::UnknownButPersisted => return Err(CommitError::Unknown("fsync".into())),
            _ => {}
        }
        Ok(())
    }

    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let keep = || self.stored().checkpoint = Some(checkpoint.note().to_string());
        match self.next_fault() {
            Fault::None | Fault::OtherWriter => keep(),
            Fault::KilledBefore => self.kill().await,
            Fault::KilledAfter => {
                keep();
                self.kill().await;
            }
            Fault::UnknownButPersisted => {
                keep();
                return Err(StoreError::Unavailable("fsync".into()));
            }
            Fault::UnavailableAndNotPersisted | Fault::UnknownAndNotPersisted => {
                return Err(StoreError::Unavailable("fsync".into()));
            }
        }
        Ok(())
    }
}

impl Memory {
    fn swap(&self, batch: Batch<&'static str>) -> Result<(), CommitError> {
        let mut stored = self.stored();
        if stored.head != batch.expected {
            return Err(CommitError::Lost);
        }
        for (entry, added) in batch.entries.iter().enumerate() {
            if added.effects.iter().any(|effect| stored.effects.contains(effect)) {
                return Err(CommitError::Refused { entry, reason: "used up".into() });
            }
        }
        stored.batches.push(batch.entries.len());
        for added in &batch.entries {
            stored.entries.push(added.leaf.to_vec());
            stored.effects.extend(added.effects.iter());
        }
        stored.tiles.extend(batch.full_tiles.into_iter().map(|tile| ((tile.level, tile.index), tile.hashes)));
        stored.head = batch.head;
        if let Some(checkpoint) = batch.checkpoint {
            stored.checkpoint = Some(checkpoint.note().to_string());
        }
        Ok(())
    }
}

struct Key {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
    /// Whether each next signature works; afterwards all do.
    works: Mutex<VecDeque<bool>>,
    /// Everything that it has signed.
    signed: Mutex<Vec<String>>,
}

impl Key {
    fn new(works: &[bool]) -> Arc<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
        let verifier = VerifierKey::new(ORIGIN.parse().unwrap(), key).unwrap();
        let works = Mutex::new(works.iter().copied().collect());
        Arc::new(Self { verifier, pair, works, signed: Mutex::default() })
    }
}

#[async_trait]
impl CheckpointSigner for Key {
    fn key(&self) -> &VerifierKey {
        &self.verifier
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match self.works.lock().unwrap().pop_front() {
            Some(false) => Err(SigningError("the token is gone".into())),
            _ => {
                self.signed.lock().unwrap().push(String::from_utf8(message.to_vec()).unwrap());
                Ok(self.pair.sign(message).as_ref().to_vec())
            }
        }
    }
}

/// A clock that shows what it is told.
struct Hands(Mutex<i64>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        at(*self.0.lock().unwrap()) + Duration::from_millis(999)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn draft(text: &str) -> Draft {
    let result = OutcomeResult::Abandoned(text.into());
    Draft::new(&Body::Outcome(Outcome { intent: 0, result, command: None })).unwrap()
}

fn entry(text: &str) -> Append<&'static str> {
    Append::new(draft(text))
}

struct Running {
    clock: Arc<Hands>,
    log: Log<&'static str>,
}

/// Opens the log, runs `story` beside its driver, closes it, and checks everything that is stored.
fn run<T>(
    store: Arc<Memory>,
    key: Arc<Key>,
    story: impl AsyncFnOnce(&Running) -> T,
) -> (T, Result<(), Fatal>) {
    run_with(store, key, None, story)
}

fn run_with<T>(
    store: Arc<Memory>,
    key: Arc<Key>,
    cosigner: Option<Arc<dyn Cosigner>>,
    story: impl AsyncFnOnce(&Running) -> T,
) -> (T, Result<(), Fatal>) {
    let clock = Arc::new(Hands(Mutex::new(100)));
    let limits = Limits { queue: 512, batch: 16 };
    let (log, driver) =
        block_on(open_witnessed(store.clone(), key, cosigner, clock.clone(), limits)).unwrap();
    let running = Running { clock, log };
    let (told, ended) = block_on(async {
        futures::join!(
            async {
                let told = story(&running).await;
                running.log.close();
                told
            },
            driver
        )
    });
    store.check();
    (told, ended)
}

#[test]
fn every_entry_gets_a_receipt_that_anyone_can_verify() {
    let store = Memory::failing(&[]);
    let (receipts, ended) = run(store.clone(), Key::new(&[]), async |running| {
        let entries = (0..40).map(|n| running.log.append(entry(&format!("e{n}"))));
        join_all(entries).await
    });
    assert_eq!(ended, Ok(()));
    for (n, receipt) in receipts.into_iter().enumerate() {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.index(), n as u64);
        assert_eq!(receipt.time(), at(100));
        assert!(std::str::from_utf8(receipt.leaf()).unwrap().contains(&format!("e{n}")));
        let text = receipt.proof().to_string();
        let proof: crate::proof::TlogProof = text.parse().unwrap();
        proof.verify(receipt.leaf(), &Key::new(&[]).verifier).unwrap();
    }
    // Forty drafts that were queued together went in batches, not one by one.
    assert!(store.stored().batches.len() <= 4, "{:?}", store.stored().batches);
}

#[test]
fn a_log_that_is_opened_again_goes_on_where_it_was() {
    let store = Memory::failing(&[]);
    for round in 0..5 {
        let (last, ended) = run(store.clone(), Key::new(&[]), async |running| {
            let entries = (0..60).map(|n| running.log.append(entry(&format!("{round}/{n}"))));
            join_all(entries).await.pop().unwrap().unwrap().index()
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(last, round * 60 + 59);
    }
    assert_eq!(store.stored().tiles.len(), 1);
}

#[test]
fn sequences_count_the_uses_of_each_key() {
    let intent = |key: u8| {
        let mut body: crate::leaf::Intent = serde_json::from_str(
            r#"{"object":"certificate","domain":"d","profile":"p","key_id":"0000000000000000000000000000000000000000000000000000000000000000","algorithm":"ed25519","tbs":{"der":"MAA="},"caller":{"id":"c","by":"mtls"},"rule":"r","policy":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
        )
        .unwrap();
        body.key_id.0 = KeyId::from([key; 32]);
        Append::new(Draft::new(&Body::Intent(body)).unwrap())
    };
    let store = Memory::failing(&[]);
    for expected in [[1, 1, 2], [3, 2, 4]] {
        let (sequences, _) = run(store.clone(), Key::new(&[]), async |running| {
            let receipts = join_all([1, 2, 1].map(|key| running.log.append(intent(key)))).await;
            receipts
                .into_iter()
                .map(|r| Leaf::parse(r.unwrap().leaf()).unwrap().sequence.unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(sequences, expected);
    }
}

#[test]
fn an_effect_that_is_impossible_refuses_its_entry_alone() {
    let with = |effect| Append { effects: vec![effect], ..entry(effect) };
    let (told, ended) = run(Memory::failing(&[]), Key::new(&[]), async |running| {
        running.log.append(with("token")).await.unwrap();
        join_all([entry("a"), with("token"), entry("b")].map(|entry| running.log.append(entry))).await
    });
    assert_eq!(ended, Ok(()));
    let told: Vec<_> = told.into_iter().map(|result| result.map(|receipt| receipt.index())).collect();
    assert_eq!(told, [Ok(1), Err(AppendError::Refused("used up".into())), Ok(2)]);
}

#[test]
fn a_log_key_that_is_gone_stops_receipts_and_not_the_log() {
    let (told, ended) = run(Memory::failing(&[]), Key::new(&[false]), async |running| {
        let unsigned = running.log.append(entry("a")).await.unwrap_err();
        let durable = running.log.append_durable(entry("b")).await.unwrap();
        let receipt = running.log.append(entry("c")).await.unwrap();
        (unsigned, durable.index, receipt.index(), receipt.checkpoint().checkpoint().size)
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(told, (AppendError::Unsigned { index: 0, why: "the token is gone".into() }, 1, 2, 3));
}

#[test]
fn a_clock_that_goes_back_stops_appending() {
    let (told, _) = run(Memory::failing(&[]), Key::new(&[]), async |running| {
        running.log.append(entry("a")).await.unwrap();
        *running.clock.0.lock().unwrap() = 40;
        let refused = running.log.append(entry("b")).await.unwrap_err();
        *running.clock.0.lock().unwrap() = 100;
        (refused, running.log.append(entry("c")).await.unwrap().index())
    });
    assert_eq!(told, (AppendError::ClockBehind { now: at(40), last: at(100) }, 1));
}

#[test]
fn an_entry_too_long_for_a_bundle_is_refused_alone() {
    let (told, _) = run(Memory::failing(&[]), Key::new(&[]), async |running| {
        let long = "x".repeat(70_000);
        join_all([entry("a"), entry(&long), entry("b")].map(|entry| running.log.append(entry))).await
    });
    assert!(matches!(told[1], Err(AppendError::Malformed(_))));
    assert_eq!(told[2].as_ref().unwrap().index(), 1);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let store = Memory::failing(&[]);
    let key = Key::new(&[]);
    let clock = Arc::new(Hands(Mutex::new(100)));
    // Nobody drives it, so nothing leaves the queue.
    let limits = Limits { queue: 2, batch: 16 };
    let (log, _driver) = block_on(open(store.clone(), key, clock, limits)).unwrap();
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(log.append(entry("a")))).collect();
    for append in &mut waiting {
        assert!(block_on(async { futures::poll!(append).is_pending() }));
    }
    let refused = block_on(log.append(entry("b"))).unwrap_err();
    assert_eq!(refused, AppendError::Full { retry_after: RETRY_AFTER });
}

#[test]
fn a_closed_log_says_so() {
    let (log, ended) = run(Memory::failing(&[]), Key::new(&[]), async |running| running.log.clone());
    assert_eq!(ended, Ok(()));
    assert!(matches!(block_on(log.append(entry("a"))), Err(AppendError::Stopped(_))));
}

#[test]
fn what_was_changed_behind_our_back_is_noticed_when_opening() {
    let tampered = |change: &dyn Fn(&mut Stored)| {
        let store = Memory::failing(&[]);
        let (_, ended) = run(store.clone(), Key::new(&[]), async |running| {
            join_all((0..300).map(|n| running.log.append_durable(entry(&n.to_string())))).await;
            join_all((0..50).map(|n| running.log.append(entry(&n.to_string())))).await;
        });
        assert_eq!(ended, Ok(()));
        change(&mut store.stored());
        let clock = Arc::new(Hands(Mutex::new(100)));
        match block_on(open(store, Key::new(&[]), clock, Limits::default())) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(tampered(&|_| {}), "accepted");
    let last = |stored: &mut Stored| stored.entries.last_mut().unwrap().push(b' ');
    assert!(tampered(&last).contains("not what it was"));
    // The whole log put back to an older state, head and all: the kept checkpoint knows better.
    let older = |stored: &mut Stored| {
        stored.entries.truncate(100);
        let mut tree = GrowingTree::new();
        stored.entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
        stored.head.size = 100;
        stored.head.root = tree.root();
        stored.tiles.clear();
    };
    assert!(tampered(&older).contains("was signed at size"), "{}", tampered(&older));
    // An entry rewritten, everything over it made to fit, and the log made longer than what was signed.
    let rewritten = |stored: &mut Stored| {
        stored.entries.pop();
        stored.entries.extend([b"{\"another\":1}".to_vec(), b"{\"another\":2}".to_vec()]);
        let mut tree = GrowingTree::new();
        stored.entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
        stored.head.size = tree.size();
        stored.head.root = tree.root();
    };
    assert!(tampered(&rewritten).contains("now lead to the root"), "{}", tampered(&rewritten));
    let missing = |stored: &mut Stored| stored.tiles.clear();
    assert!(tampered(&missing).contains("no tile 0/0"));
    let forged = |stored: &mut Stored| {
        stored.checkpoint = stored.checkpoint.take().map(|note| note.replace(ORIGIN, "ca.example/other"));
    };
    assert!(tampered(&forged).contains("does not verify"));
}

#[test]
fn what_is_stored_proves_that_each_size_is_a_prefix_of_each_later_one() {
    let store = Memory::failing(&[]);
    let ((), ended) = run(store.clone(), Key::new(&[]), async |running| {
        join_all((0..400).map(|n| running.log.append_durable(entry(&n.to_string())))).await;
        join_all((0..400).map(|n| running.log.append_durable(entry(&n.to_string())))).await;
    });
    assert_eq!(ended, Ok(()));
    let roots: Vec<Hash> = {
        let stored = store.stored();
        let mut tree = GrowingTree::new();
        let mut roots = vec![tree.root()];
        for entry in &stored.entries {
            tree.push(leaf_hash(entry));
            roots.push(tree.root());
        }
        roots
    };
    let last = roots.len() - 1;
    assert!(last > 512, "{last}");
    let sizes = [0, 1, 2, 3, 7, 255, 256, 257, 300, 511, 512, 513, last - 1, last];
    for (old, new) in sizes.iter().flat_map(|old| sizes.iter().map(move |new| (*old, *new))) {
        if old <= new {
            let proof = block_on(crate::stored::consistency(&*store, old as u64, new as u64)).unwrap();
            crate::tree::verify_consistency(old as u64, new as u64, &roots[old], &roots[new], &proof)
                .unwrap_or_else(|error| panic!("{old} -> {new}: {error}"));
        }
    }
    store.stored().tiles.clear();
    assert!(block_on(crate::stored::consistency(&*store, 300, last as u64)).is_err());
}
