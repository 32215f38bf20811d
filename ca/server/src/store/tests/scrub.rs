//! What somebody changes in the database of a running daemon, and that it is noticed.

use std::cell::Cell;

use undercroft_log::leaf::{Policy, Text};
use undercroft_log::scrub::{Scrub, Step};
use undercroft_log::sequencer::Fatal;

use super::*;
use crate::scrub::keep_paced;

/// Two full bundles and a part of a third.
const SIZE: usize = 700;

const LARGE: &[u8] = b"the text of a policy";

/// What is done to the stored log, as SQL, and what the alarm says.
const CHANGES: &[(&str, &str)] = &[
    ("UPDATE entry SET leaf = CAST(leaf || ' ' AS BLOB) WHERE id & 0xffff = 5", "entry 5,"),
    (
        "UPDATE entry SET leaf = (SELECT leaf FROM entry WHERE id & 0xffff = 6) WHERE id & 0xffff = 511",
        "entry 511,",
    ),
    ("DELETE FROM entry WHERE id & 0xffff = 300", "entries 256 to 512 only 255 are there"),
    ("DELETE FROM entry WHERE id & 0xffff >= 690", "entries 512 to 700 only 178 are there"),
    // Nothing stands above it but the root.
    ("UPDATE entry SET leaf = CAST(leaf || ' ' AS BLOB) WHERE id & 0xffff = 699", "the first 700 entries"),
    ("UPDATE tile SET hashes = zeroblob(8192) WHERE tile = 1", "entry 256,"),
    ("UPDATE tile SET hashes = zeroblob(32) WHERE tile = 1", "tile 1 of level 0"),
    ("DELETE FROM tile WHERE tile = 0", "tile 0 of level 0 is missing"),
    ("UPDATE blob SET bytes = zeroblob(20)", "the blob"),
    ("DELETE FROM blob", "is missing"),
];

/// A log of [`SIZE`] entries, one of which names a blob.
async fn fill(log: &Log<Effect>) {
    let text = Text::Blob(LARGE.len() as u64);
    let policy = Body::Policy(Policy { sha256: Digest::of(LARGE), previous: None, text });
    let draft = Draft::new(&policy).unwrap();
    log.append(Append { draft, effects: Vec::new(), blobs: vec![LARGE.to_vec()] }).await.unwrap();
    let receipts = join_all((1..SIZE).map(|n| log.append(entry(&format!("{n}")))));
    receipts.await.into_iter().for_each(|receipt| drop(receipt.unwrap()));
}

/// Scrubs a log until it ends or somebody has paused `pauses` times, and gives how it ended.
async fn scrub(database: &Database, log: &Log<Effect>, pauses: u32) -> Option<Result<(), Fatal>> {
    let (paused, enough) = (Cell::new(0), tokio::sync::Notify::new());
    let pause = async || {
        paused.set(paused.get() + 1);
        match paused.get() {
            n if n < pauses => tokio::task::yield_now().await,
            _ => {
                enough.notify_one();
                std::future::pending().await
            }
        }
    };
    let store = Arc::new(database.log(ORIGIN).await.unwrap());
    tokio::select! {
        ended = keep_paced(log.watch(), store, pause) => Some(ended),
        () = enough.notified() => None,
    }
}

#[test]
fn a_log_that_is_as_it_was_is_gone_through_again_and_again() {
    let place = Place::new();
    place.run(async |database, log| {
        let store = database.log(ORIGIN).await.unwrap();
        let mut scrub_of_nothing = Scrub::default();
        assert_eq!(scrub_of_nothing.step(&store, || log.watch().newest()).await, Ok(Step::Nothing));
        fill(log).await;
        let mut steps = Vec::new();
        let mut scrub_of_all = Scrub::default();
        for _ in 0..6 {
            steps.push(scrub_of_all.step(&store, || log.watch().newest()).await.unwrap());
        }
        let passed = Step::Passed(log.checkpoint().unwrap().checkpoint().clone());
        assert_eq!(steps, [Step::Went, Step::Went, passed.clone(), Step::Went, Step::Went, passed]);
        // The task goes on for as long as it is paced, and nobody is stopped.
        assert_eq!(scrub(database, log, 500).await, None);
        log.append(entry("more")).await.unwrap();
    });
}

#[test]
fn what_was_lost_or_changed_stops_the_log() {
    for (change, says) in CHANGES {
        let place = Place::new();
        place.run(async |database, log| {
            fill(log).await;
            sqlx::query(*change).execute(&database.writer).await.unwrap();
            let Some(Err(Fatal::Alarm(alarm))) = scrub(database, log, 500).await else {
                panic!("{change}: no alarm")
            };
            assert!(alarm.contains(says) && alarm.contains(ORIGIN), "{change}: {alarm}");
            // Whoever asks from here on is told why, and gets nothing.
            let refused = log.append(entry("more")).await.unwrap_err();
            assert_eq!(refused, AppendError::Stopped(alarm), "{change}");
        });
    }
}

/// A thief with the key of the log may rewrite all that is stored: entries, tiles, head, checkpoint. What was signed is
/// known to the daemon all the same, as long as it runs.
#[test]
fn a_log_that_was_rewritten_as_a_whole_is_not_the_one_that_was_signed() {
    let (place, other) = (Place::new(), Place::new());
    let forged: Vec<Vec<u8>> = other.run(async |database, log| {
        fill(log).await;
        log.append(entry("something else")).await.unwrap();
        database.log(ORIGIN).await.unwrap().entries(0..SIZE as u64 + 1).await.unwrap()
    });
    place.run(async |database, log| {
        fill(log).await;
        let mut tree = GrowingTree::new();
        for (index, leaf) in forged[1..].iter().enumerate() {
            tree.push(leaf_hash(leaf));
            let update = sqlx::query("UPDATE entry SET leaf = ? WHERE id & 0xffff = ?");
            update.bind(&leaf[..]).bind(index as i64).execute(&database.writer).await.unwrap();
        }
        for tile in tree.full_tiles_since(0) {
            let update = sqlx::query("UPDATE tile SET hashes = ? WHERE tile = ?");
            let hashes = undercroft_log::tile::encode_hashes(&tile.hashes);
            update.bind(hashes).bind(tile.index as i64).execute(&database.writer).await.unwrap();
        }
        sqlx::query("UPDATE log SET root = ?")
            .bind(&tree.root().as_bytes()[..])
            .execute(&database.writer)
            .await
            .unwrap();
        let Some(Err(Fatal::Alarm(alarm))) = scrub(database, log, 500).await else { panic!("no alarm") };
        assert!(alarm.contains("the first 700 entries"), "{alarm}");
    });
}
