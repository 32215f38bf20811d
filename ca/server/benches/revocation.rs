//! What a CRL of a million revoked certificates costs to build: read from the store, encoded, linted. Everything up to the key.
//!
//! `REVOKED` says how many there are, 1,000,000 unless given. Beside it somebody writes into the same database, and the longest
//! that a write took is told.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, for people to read")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use undercroft::store::{Database, SqliteLog};
use undercroft_ca::lint;
use undercroft_ca::revocation::facts::Change;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::service::all_revoked;
use undercroft_ca::store::Effect;
use undercroft_ca::subject::Subject;
use undercroft_ca::tbs::{self, CrlScope, CrlSpec, Issuer, Urls};
use undercroft_ca::time::Validity;
use undercroft_keys::{KeyAlgorithm, KeyId};
use undercroft_log::leaf::{MOST_SERIALS, Reason, RevocationEvent};
use undercroft_log::store::{Batch, Entry, Head, LogStore};
use undercroft_log::tree::{GrowingTree, leaf_hash};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(3);

fn main() {
    let count = std::env::var("REVOKED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Database::open(&folder.path().join("undercroft.db")).await.unwrap();
        let mut log = Filled::new(database.log("ca.example/undercroft/prod.example/1").await.unwrap());
        let serials = (0..count).map(serial).collect::<Vec<_>>();
        for serials in serials.chunks(MOST_SERIALS) {
            log.append(vec![Effect::Revocation(change(serials))]).await;
        }
        let issuer = Issuer {
            name: Subject::new("prod.example", Some("I1")).unwrap(),
            key_identifier: vec![7; 20],
            algorithm: KeyAlgorithm::EcdsaP256.signature_algorithm(),
            validity: Validity::new(at(-86_400), at(86_400 * 365)).unwrap(),
            urls: Urls {
                crl: "http://pki.example/i1.crl".parse().unwrap(),
                certificate: "http://pki.example/i1.cer".parse().unwrap(),
                ocsp: None,
                crl_shards: None,
            },
        };
        let done = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let done = done.clone();
            async move {
                let mut longest = Duration::ZERO;
                while !done.load(Ordering::SeqCst) {
                    let start = now();
                    log.append(Vec::new()).await;
                    longest = longest.max(start.elapsed());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                longest
            }
        });
        println!("| | s | of {} s |\n| --- | --- | --- |", LIMIT.as_secs());
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let start = now();
            let mut first = SerialNumber::SMALLEST;
            let revoked = all_revoked(&database, key(), &mut first, None, Timestamp::UNIX_EPOCH, at(0)).await;
            let revoked = revoked.unwrap();
            let read = start.elapsed();
            let period = Validity::new(at(0), at(86_400)).unwrap();
            let scope = CrlScope::default();
            let spec = CrlSpec { issuer: &issuer, number: 1, period, revoked: &revoked, scope };
            let tbs = tbs::crl(&spec).unwrap();
            let encoded = start.elapsed();
            lint::crl(&tbs, &spec).unwrap();
            let linted = start.elapsed();
            assert_eq!(revoked.len() as u64, count);
            rounds.push((linted, encoded, read, tbs.der().len()));
        }
        done.store(true, Ordering::SeqCst);
        let longest = writing.await.unwrap();
        rounds.sort_unstable();
        let (whole, encoded, read, bytes) = rounds[1];
        for (what, took) in [
            ("read", read),
            ("encoded", encoded - read),
            ("linted", whole - encoded),
            ("a CRL, built", whole),
        ] {
            println!(
                "| {what} | {:.2} | {:.2} |",
                took.as_secs_f64(),
                took.as_secs_f64() / LIMIT.as_secs_f64()
            );
        }
        println!(
            "\n{count} revoked, {} MiB; the longest write beside it took {} ms",
            bytes >> 20,
            longest.as_millis()
        );
        database.close().await;
    });
}

/// A log that is written as the sequencer would.
struct Filled {
    store: SqliteLog,
    tree: GrowingTree,
    head: Head,
}

impl Filled {
    fn new(store: SqliteLog) -> Self {
        Self { store, tree: GrowingTree::new(), head: Head::default() }
    }

    async fn append(&mut self, effects: Vec<Effect>) {
        let leaf: Arc<[u8]> = Arc::new([0x7b; 200]);
        let expected = self.head.clone();
        self.tree.push(leaf_hash(&leaf));
        self.head =
            Head { size: self.tree.size(), root: self.tree.root(), time: Some(at(0)), ..expected.clone() };
        let full_tiles = self.tree.full_tiles_since(expected.size).collect();
        let entries = vec![Entry { leaf, effects: effects.into(), blobs: Arc::new([]) }];
        let batch = Batch { expected, head: self.head.clone(), entries, full_tiles, checkpoint: None };
        self.store.commit(batch).await.unwrap();
    }
}

fn change(serials: &[SerialNumber]) -> Change {
    Change {
        event: RevocationEvent::Revoke,
        issuer: key(),
        certificates: serials.iter().map(|serial| (*serial, Some(at(86_400)))).collect(),
        reason: Reason::KeyCompromise,
        date: at(-60),
    }
}

/// Spread as random ones are, and each of its own.
fn serial(number: u64) -> SerialNumber {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes[0] = bytes[0] % 0x7f + 1;
    SerialNumber::from_bytes(bytes).unwrap()
}

fn key() -> KeyId {
    [7; 32].into()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
