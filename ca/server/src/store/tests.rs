use std::sync::Arc;

use futures::future::join_all;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::store::{CertificateFact, Effect, Enrolment, Facts as _};
use undercroft_keymgr::Key;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Base64Bytes, Body, Bundle, Caller, Channel, Digest, Draft, EnteredPhase, Leaf, Outcome, OutcomeResult,
    Rotation, RotationEvent, RotationPhase, RotationSchedule,
};
use undercroft_log::sequencer::{self, Append, AppendError, Limits, Log};
use undercroft_log::store::{Batch, CommitError, Head, LogReader as _, LogStore as _};
use undercroft_log::tree::{GrowingTree, leaf_hash};

use super::*;

mod node;
mod revocation;
mod scrub;

const ORIGIN: &str = "ca.example/undercroft/prod.example/1";

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        noon()
    }
}

fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn entry(text: &str) -> Append<Effect> {
    with(text, Vec::new())
}

fn with(text: &str, effects: Vec<Effect>) -> Append<Effect> {
    let body =
        Body::Outcome(Outcome { intent: 0, result: OutcomeResult::Abandoned(text.into()), command: None });
    Append { draft: Draft::new(&body).unwrap(), effects, blobs: Vec::new() }
}

fn certificate(serial: u8) -> Effect {
    Effect::Certificate(CertificateFact {
        serial: SerialNumber::from_bytes([serial; 16]).unwrap(),
        issuer: [7; 32].into(),
        name: "spiffe://prod.example/a".into(),
        not_after: noon(),
    })
}

struct Place {
    folder: tempfile::TempDir,
    key: Arc<LogKey>,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        let key = Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap());
        let key = Key { signer: key.clone(), custody: key, gated: None, prehashed: None };
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: Arc::new(LogKey::new(ORIGIN.parse().unwrap(), key).unwrap()),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("undercroft.db")
    }

    /// Opens database and log, runs a story beside the log's driver, and closes both.
    fn run<T>(&self, story: impl AsyncFnOnce(&Database, &Log<Effect>) -> T) -> T {
        self.runtime.block_on(async {
            let database = Database::open(&self.path()).await.unwrap();
            let store = Arc::new(database.log(ORIGIN).await.unwrap());
            let (log, driver) =
                sequencer::open(store, self.key.clone(), Arc::new(Noon), Limits::default()).await.unwrap();
            let driver = tokio::spawn(driver);
            let told = story(&database, &log).await;
            log.close();
            driver.await.unwrap().unwrap();
            database.close().await;
            told
        })
    }
}

#[test]
fn a_log_grows_over_restarts_and_everything_in_it_fits_together() {
    let place = Place::new();
    let mut size = 0u64;
    for count in [1, 300, 700] {
        place.run(async |_, log| {
            let receipts = join_all((0..count).map(|n| log.append(entry(&format!("{n}"))))).await;
            for receipt in receipts {
                let receipt = receipt.unwrap();
                receipt.proof().verify(receipt.leaf(), log.key()).unwrap();
            }
        });
        size += count;
    }
    place.run(async |database, log| {
        let store = database.log(ORIGIN).await.unwrap();
        let head = store.head().await.unwrap();
        assert_eq!(head.size, size);
        let mut tree = GrowingTree::new();
        for (index, leaf) in store.entries(0..size).await.unwrap().iter().enumerate() {
            assert_eq!(Leaf::parse(leaf).unwrap().index, index as u64);
            tree.push(leaf_hash(leaf));
        }
        assert_eq!(tree.root(), head.root);
        for tile in tree.full_tiles_since(0) {
            assert_eq!(store.full_tile(tile.level, tile.index).await.unwrap(), tile.hashes);
        }
        let kept = Checkpoint::open(&store.kept_checkpoint().await.unwrap().unwrap(), log.key()).unwrap();
        assert_eq!((kept.size, kept.root), (size, head.root));
        assert!(store.entries(size - 1..size + 1).await.is_err());
        assert!(store.full_tile(0, 99).await.is_err());
    });
}

#[test]
fn two_logs_in_one_database_do_not_meet() {
    let place = Place::new();
    place.run(async |database, log| {
        log.append(entry("a")).await.unwrap();
        let other = database.log("ca.example/undercroft/other/1").await.unwrap();
        assert_eq!(other.head().await.unwrap(), Head::default());
        assert_eq!(other.kept_checkpoint().await.unwrap(), None);
    });
}

#[test]
fn a_batch_against_another_head_is_lost_and_leaves_nothing() {
    let place = Place::new();
    place.run(async |database, log| {
        log.append(entry("a")).await.unwrap();
        let store = database.log(ORIGIN).await.unwrap();
        let before = store.head().await.unwrap();
        let batch = Batch {
            expected: Head::default(),
            head: Head { size: 5, ..Head::default() },
            entries: Vec::new(),
            full_tiles: Vec::new(),
            checkpoint: None,
        };
        assert_eq!(store.commit(batch).await, Err(CommitError::Lost));
        assert_eq!(store.head().await.unwrap(), before);
    });
}

#[test]
fn intents_are_open_until_they_are_resolved() {
    let place = Place::new();
    place.run(async |database, log| {
        let open = async || database.open_intents(ORIGIN).await.unwrap();
        for serial in 1..=3 {
            log.append(with("intent", vec![certificate(serial)])).await.unwrap();
        }
        log.append(with("crl", vec![Effect::Signed])).await.unwrap();
        assert_eq!(open().await, [0, 1, 2, 3]);
        log.append(with("outcome", vec![Effect::Resolved { intent: 1 }])).await.unwrap();
        assert_eq!(open().await, [0, 2, 3]);
        assert_eq!(database.open_intents("ca.example/other").await.unwrap(), Vec::<u64>::new());
    });
    // And so they are after a restart, which is when it matters.
    place.run(async |database, _| assert_eq!(database.open_intents(ORIGIN).await.unwrap(), [0, 2, 3]));
}

#[test]
fn an_enrolment_token_is_good_once_and_in_time() {
    let place = Place::new();
    let (good, late) = (Digest([1; 32]), Digest([2; 32]));
    let made =
        |token, expires| Effect::EnrolmentMade { token, id: "spiffe://control.example/a".into(), expires };
    let redeem = |token| with("redeem", vec![Effect::EnrolmentRedeemed { token, now: noon() }]);
    place.run(async |database, log| {
        log.append(with("made", vec![made(good, noon())])).await.unwrap();
        log.append(with("made", vec![made(late, "2026-11-22T11:59:59Z".parse().unwrap())])).await.unwrap();
        let told = join_all(
            [redeem(good), redeem(good), redeem(late), redeem(Digest([3; 32]))].map(|r| log.append(r)),
        )
        .await;
        let refused = AppendError::Refused("the token has been used or has expired".into());
        assert!(told[0].is_ok());
        for other in &told[1..] {
            assert_eq!(other.as_ref().unwrap_err(), &refused);
        }
        let stored = database.enrolment(good).await.unwrap();
        let expected = Enrolment { id: "spiffe://control.example/a".into(), expires: noon(), redeemed: true };
        assert_eq!(stored, Some(expected));
        assert_eq!(database.enrolment(Digest([3; 32])).await.unwrap(), None);
        let twice = log.append(with("made", vec![made(good, noon())])).await.unwrap_err();
        assert_eq!(twice, AppendError::Refused("it is there already".into()));
    });
}

#[test]
fn bundles_count_up_by_one() {
    let place = Place::new();
    let body = |sequence| Bundle {
        domain: "prod.example".into(),
        sequence,
        roots: vec![Base64Bytes(vec![0x30])],
        tainted: vec![Digest([9; 32])],
        refresh_hint: Some(60),
    };
    let bundle = |sequence| with("bundle", vec![Effect::Bundle(body(sequence))]);
    place.run(async |database, log| {
        log.append(bundle(1)).await.unwrap();
        log.append(bundle(2)).await.unwrap();
        for wrong in [2, 1, 4] {
            assert!(matches!(log.append(bundle(wrong)).await, Err(AppendError::Refused(_))), "{wrong}");
        }
        assert_eq!(database.bundle("prod.example").await.unwrap(), Some(body(2)));
        assert_eq!(database.bundle("edge.example").await.unwrap(), None);
    });
}

#[test]
fn rotations_follow_each_other_and_the_newest_alone_changes() {
    let place = Place::new();
    let body = |number, phases: &[RotationPhase]| Rotation {
        event: RotationEvent::Advanced,
        domain: "prod.example".into(),
        number,
        schedule: RotationSchedule::Planned,
        planned: noon(),
        phases: phases.iter().map(|phase| EnteredPhase { phase: *phase, since: noon() }).collect(),
        authorities: Vec::new(),
        roots: None,
        caller: Caller { id: "uid:0".into(), by: Channel::UnixSocket },
        blockers: Vec::new(),
        approval: None,
    };
    let rotation = |body| with("rotation", vec![Effect::Rotation(body)]);
    let switched = [RotationPhase::PrePublish, RotationPhase::Switch];
    place.run(async |database, log| {
        let stored = async || database.rotations("prod.example").await.unwrap();
        assert!(matches!(log.append(rotation(body(2, &[]))).await, Err(AppendError::Refused(_))));
        for phases in [&[][..], &switched[..1], &switched] {
            log.append(rotation(body(1, phases))).await.unwrap();
            assert_eq!(stored().await, [body(1, phases)]);
        }
        log.append(rotation(body(2, &[]))).await.unwrap();
        for wrong in [1, 4] {
            assert!(matches!(log.append(rotation(body(wrong, &[]))).await, Err(AppendError::Refused(_))));
        }
        assert_eq!(stored().await, [body(1, &switched), body(2, &[])]);
        assert!(database.rotations("edge.example").await.unwrap().is_empty());
    });
}

#[test]
fn the_certificate_that_ends_last_is_found_by_its_issuer() {
    let place = Place::new();
    let fact = |serial, issuer, hours: u64| CertificateFact {
        serial: SerialNumber::from_bytes([serial; 16]).unwrap(),
        issuer: [issuer; 32].into(),
        name: format!("spiffe://prod.example/{serial}"),
        not_after: noon() + std::time::Duration::from_secs(3600 * hours),
    };
    let facts = [fact(1, 7, 2), fact(2, 7, 9), fact(3, 7, 4), fact(4, 8, 12), fact(5, 9, 48)];
    place.run(async |database, log| {
        assert_eq!(database.ends_last(&[[7; 32].into()]).await.unwrap(), None);
        for fact in &facts {
            log.append(with("intent", vec![Effect::Certificate(fact.clone())])).await.unwrap();
        }
        for (issuers, expected) in [
            (&[7][..], Some(1)),
            (&[8], Some(3)),
            (&[7, 8], Some(3)),
            (&[8, 7], Some(3)),
            (&[1], None),
            (&[], None),
        ] {
            let issuers: Vec<_> = issuers.iter().map(|issuer| [*issuer; 32].into()).collect();
            let found = database.ends_last(&issuers).await.unwrap();
            assert_eq!(found, expected.map(|at: usize| facts[at].clone()), "{issuers:?}");
        }
    });
}

/// A database of the versions before, with a bundle in it: what was published is what is published.
#[test]
fn a_database_of_an_earlier_version_keeps_its_bundle() {
    let entry = |index, body: &Bundle| {
        format!(
            r#"{{"v":1,"origin":"{ORIGIN}","index":{index},"time":"2026-11-22T08:00:00Z","kind":"bundle","body":{}}}"#,
            serde_json::to_string(body).unwrap()
        )
    };
    let body = |sequence, root| Bundle {
        domain: "prod.example".into(),
        sequence,
        roots: vec![Base64Bytes(vec![root])],
        tainted: Vec::new(),
        refresh_hint: None,
    };
    for version in [1, 2] {
        let place = Place::new();
        place.run(async |_, _| ());
        let anchors = if version == 1 { "DROP TABLE anchor;" } else { "" };
        let sql = format!(
            "DROP TABLE node; DROP TABLE spent_exchange; DROP TABLE revocation; DROP TABLE crl; DROP TABLE crl_number; DROP INDEX certificate_by_end;
             DROP TABLE freeze; DROP TABLE approval_carried_out; DROP TABLE rotation; DROP TABLE bundle; {anchors}
             CREATE TABLE bundle (domain TEXT NOT NULL PRIMARY KEY, sequence INTEGER NOT NULL, roots BLOB NOT NULL) STRICT, WITHOUT ROWID;
             INSERT INTO bundle VALUES ('prod.example', 2, x'00');
             INSERT INTO entry VALUES (900, CAST('not JSON, and says \"kind\":\"bundles\"' AS BLOB));
             INSERT INTO entry VALUES (1000, CAST('{}' AS BLOB));
             INSERT INTO entry VALUES (1001, CAST('{}' AS BLOB));
             PRAGMA user_version = {version};",
            entry(0, &body(1, 0x30)),
            entry(1, &body(2, 0x31))
        );
        change(&place, Box::leak(sql.into_boxed_str()));
        place.runtime.block_on(async {
            let database = Database::open(&place.path()).await.unwrap();
            assert_eq!(database.bundle("prod.example").await.unwrap(), Some(body(2, 0x31)));
            assert!(database.rotations("prod.example").await.unwrap().is_empty());
            assert_eq!(database.anchor(ORIGIN, 1).await.unwrap(), None);
            database.close().await;
        });
    }
}

#[test]
fn policy_ceremonies_and_blobs_are_kept() {
    let place = Place::new();
    place.run(async |database, log| {
        assert_eq!(database.policy().await.unwrap(), None);
        for policy in [Digest([1; 32]), Digest([2; 32])] {
            log.append(with("policy", vec![Effect::Policy { policy }])).await.unwrap();
            assert_eq!(database.policy().await.unwrap(), Some(policy));
        }
        let checkpoint = Digest([3; 32]);
        assert!(!database.ceremony_is_adopted(checkpoint).await.unwrap());
        log.append(with("ceremony", vec![Effect::CeremonyAdopted { checkpoint }])).await.unwrap();
        assert!(database.ceremony_is_adopted(checkpoint).await.unwrap());
        let store = database.log(ORIGIN).await.unwrap();
        let append = Append { blobs: vec![b"blob".to_vec(), b"blob".to_vec()], ..entry("with a blob") };
        log.append(append).await.unwrap();
        assert_eq!(store.blob(Digest::of(b"blob")).await.unwrap().unwrap(), b"blob");
        assert_eq!(store.blob(Digest::of(b"other")).await.unwrap(), None);
    });
}

#[test]
fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() {
    let place = Place::new();
    place.run(async |database, log| {
        log.append(entry("before")).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(&database.writer).await.unwrap();
        let blob = Append { blobs: vec![vec![1; 200_000]], ..entry("too much") };
        let refused = log.append(blob).await.unwrap_err();
        assert!(matches!(&refused, AppendError::Unavailable(what) if what.contains("full")), "{refused}");
        sqlx::query("PRAGMA max_page_count = 1073741823").execute(&database.writer).await.unwrap();
        assert_eq!(log.append(entry("after")).await.unwrap().index(), 1);
    });
}

#[test]
fn what_a_process_that_died_has_left_is_written_again_before_it_is_read() {
    let place = Place::new();
    let other = Place::new();
    let wal = |place: &Place| place.folder.path().join("undercroft.db-wal");
    place.run(async |_, log| {
        join_all((0..20).map(|n| log.append(entry(&format!("{n}"))))).await;
        // As it is on the disk of a machine that dies here.
        std::fs::copy(place.path(), other.path()).unwrap();
        std::fs::copy(wal(&place), wal(&other)).unwrap();
    });
    assert!(std::fs::metadata(wal(&other)).unwrap().len() > 0);
    other.runtime.block_on(async {
        let database = Database::open(&other.path()).await.unwrap();
        assert_eq!(std::fs::metadata(wal(&other)).unwrap().len(), 0);
        assert_eq!(database.log(ORIGIN).await.unwrap().head().await.unwrap().size, 20);
        database.close().await;
    });
}

#[test]
fn what_is_no_database_of_ours_is_refused() {
    let place = Place::new();
    let open = || match place.runtime.block_on(Database::open(&place.path())) {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    };
    std::fs::write(place.path(), "not a database, but long enough to have a header of one hundred bytes or so, which SQLite will want to read").unwrap();
    assert!(open().contains("cannot be opened"), "{}", open());
    std::fs::remove_file(place.path()).unwrap();
    assert_eq!(open(), "opened");
    change(&place, "PRAGMA user_version = 9");
    assert!(open().contains("schema version 9"), "{}", open());
    change(&place, "PRAGMA application_id = 7");
    assert!(open().contains("another program"), "{}", open());
    let nowhere = place.folder.path().join("missing/undercroft.db");
    assert!(place.runtime.block_on(Database::open(&nowhere)).is_err());
}

/// Changes the file behind the program's back.
fn change(place: &Place, sql: &'static str) {
    place.runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path());
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

#[test]
fn a_database_is_its_owners_alone_and_one_processs_at_a_time() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    std::fs::write(place.path(), b"").unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    place.run(async |_, log| {
        log.append(entry("a")).await.unwrap();
        let second = Database::open(&place.path()).await.unwrap_err();
        assert!(matches!(second, DatabaseError::InUse { .. }), "{second}");
        for file in std::fs::read_dir(place.folder.path()).unwrap().flatten() {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    });
}
