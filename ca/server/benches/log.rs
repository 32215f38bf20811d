//! What a long log costs: appending to it, starting with it, issuing on it.
//!
//! Everything is the daemon's own: service, sequencer and SQLite (synchronous = FULL); keys are in this process, so that
//! nothing waits for a token. `ENTRIES` says how long the long log is, 1,000,000 unless given. Rates and costs that are
//! compared are measured in turns in one run, and ratios are made of medians.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, for people to read"
)]
#![allow(dead_code, reason = "the rig serves the tests of the service, too")]

#[path = "../tests/service/rig.rs"]
mod rig;

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use undercroft::store::Database;
use undercroft_ca::service::{CertificateAuthority, IssueRequest};
use undercroft_ca::store::Effect;
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Asked, Body, Caller, Channel, Digest, Draft, Refusal, RefusedAction};
use undercroft_log::sequencer::Append;
use undercroft_log::store::{Batch, Entry, Head, LogStore};
use undercroft_log::tree::{GrowingTree, leaf_hash};

use rig::{Options, Rig, ask, workload};

/// Bytes of an entry that is appended.
const ENTRY: usize = 1024;

/// Tasks that append, and drafts that each has under way: four batches.
const APPENDERS: u64 = 8;
const UNDER_WAY: u64 = 512;

/// Entries of the short log.
const SHORT: u64 = 1_000;

/// How often the short and the long log take turns, and certificates in each.
const ROUNDS: usize = 7;
const CERTIFICATES: u64 = 2_000;

/// Requests under way while certificates are issued.
const IN_FLIGHT: u64 = 256;

/// How long certificates are issued at full speed before we look at the memory.
const FULL_SPEED: Duration = Duration::from_secs(5);

/// Entries that are appended to see how fast that goes.
const APPENDED: u64 = 200_000;

fn main() {
    let entries = std::env::var("ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let requests: Arc<Vec<IssueRequest>> = Arc::new((0..64).map(|_| workload()).collect());
    let long = Rig::new();
    fill(&long, entries);
    // First, so that nothing else has left its memory behind.
    forget_peak();
    long.run(async |ca| {
        let until = now() + FULL_SPEED;
        while now() < until {
            issue(ca, &requests, CERTIFICATES).await;
        }
    });
    let resident = peak() / 1024;

    let (mut starts, mut short_costs, mut long_costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let short = Rig::new();
        fill(&short, SHORT);
        short_costs.push(short.run(async |ca| cost(ca, &requests).await));
        let start = now();
        let (started, cost) =
            long.start(&Options::default(), async |ca| (start.elapsed(), cost(ca, &requests).await)).unwrap();
        starts.push(started.as_secs_f64() * 1e3);
        long_costs.push(cost);
    }
    let (short, long_cost) = (median(short_costs), median(long_costs));
    println!("| log | µs a certificate | ratio |\n| --- | --- | --- |");
    println!("| {SHORT} entries | {short:.0} | |");
    println!("| {entries} entries | {long_cost:.0} | {:.2} |", long_cost / short);
    println!("\nstart with {entries} entries: {:.0} ms (database, logs, CA; its own keys)", median(starts));
    println!("resident at most while issuing on {entries} entries: {resident} MiB");

    let (mut disk, mut appending) = (Vec::new(), Vec::new());
    let appended = entries.min(APPENDED);
    let rig = Rig::new();
    for _ in 0..3 {
        disk.push(on_disk(appended));
        appending.push(rig.run(async |ca| append(ca, appended).await));
    }
    let (disk, appending) = (median(disk), median(appending));
    println!("\n| | entries | 1/s | of the disk |\n| --- | --- | --- | --- |");
    println!("| the disk: 1,024 entries at a time, fdatasync | {appended} | {disk:.0} | |");
    println!("| appending, {ENTRY} bytes each | {appended} | {appending:.0} | {:.2} |", appending / disk);
}

/// Writes entries into the database as the sequencer would, without one.
fn fill(rig: &Rig, entries: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Database::open(&rig.database()).await.unwrap();
        let origin = rig.origin("prod.example").to_string();
        let store = database.log(&origin).await.unwrap();
        let (time, body) = (rig.clock.now(), draft(ENTRY).body().to_owned());
        let (mut tree, mut head) = (GrowingTree::new(), Head::default());
        while head.size < entries {
            let expected = head.clone();
            let leaves: Vec<Arc<[u8]>> = (head.size..entries.min(head.size + 1024))
                .map(|index| {
                    let envelope = format!(
                        r#"{{"v":1,"origin":"{origin}","index":{index},"time":"{time}","kind":"refusal""#
                    );
                    format!(r#"{envelope},"body":{body}}}"#).into_bytes().into()
                })
                .collect();
            leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
            head = Head { size: tree.size(), root: tree.root(), time: Some(time), ..expected.clone() };
            let full_tiles = tree.full_tiles_since(expected.size).collect();
            tree.forget_before(tree.size());
            let entries = leaves
                .into_iter()
                .map(|leaf| Entry { leaf, effects: Arc::new([]), blobs: Arc::new([]) })
                .collect();
            let batch = Batch { expected, head: head.clone(), entries, full_tiles, checkpoint: None };
            LogStore::<Effect>::commit(&store, batch).await.unwrap();
        }
        database.close().await;
    });
}

/// Appends entries as fast as they are taken, and gives how many a second became durable.
async fn append(ca: &Arc<CertificateAuthority>, entries: u64) -> f64 {
    let log = ca.domain("prod.example").unwrap().log().clone();
    let draft = draft(ENTRY);
    let left = Arc::new(AtomicU64::new(entries));
    let start = now();
    let tasks: Vec<_> = (0..APPENDERS)
        .map(|_| {
            let (log, draft, left) = (log.clone(), draft.clone(), left.clone());
            tokio::spawn(async move {
                loop {
                    let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        Some(left.saturating_sub(UNDER_WAY))
                    });
                    let taken = taken.unwrap().min(UNDER_WAY);
                    if taken == 0 {
                        return;
                    }
                    let appends = (0..taken).map(|_| log.append_durable(Append::new(draft.clone())));
                    for appended in join_all(appends).await {
                        appended.unwrap();
                    }
                }
            })
        })
        .collect();
    join_all(tasks).await.into_iter().for_each(|ended| ended.unwrap());
    entries as f64 / start.elapsed().as_secs_f64()
}

/// A refusal that makes an entry of about so many bytes.
fn draft(bytes: usize) -> Draft {
    let refusal = |reason: usize| {
        Draft::new(&Body::Refusal(Refusal {
            action: RefusedAction::Issue,
            domain: "prod.example".into(),
            caller: Caller { id: "spiffe://control.example/operator/alice".into(), by: Channel::Mtls },
            rule: "no-rule".into(),
            reason: "x".repeat(reason),
            asked: Asked::default(),
            policy: Digest::of(b"policy"),
            request: None,
        }))
        .unwrap()
    };
    // The envelope has about 120 bytes.
    refusal(bytes - 120 - refusal(0).body().len())
}

/// Microseconds a certificate, of many at once.
async fn cost(ca: &Arc<CertificateAuthority>, requests: &Arc<Vec<IssueRequest>>) -> f64 {
    // The first ones pay for connections and statements that are prepared once.
    issue(ca, requests, IN_FLIGHT).await;
    let start = now();
    issue(ca, requests, CERTIFICATES).await;
    start.elapsed().as_secs_f64() * 1e6 / CERTIFICATES as f64
}

async fn issue(ca: &Arc<CertificateAuthority>, requests: &Arc<Vec<IssueRequest>>, certificates: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..certificates {
        if n >= IN_FLIGHT {
            tasks.join_next().await.unwrap().unwrap();
        }
        let (ca, requests) = (ca.clone(), requests.clone());
        tasks.spawn(
            async move { drop(ask(&ca, requests[n as usize % requests.len()].clone()).await.unwrap()) },
        );
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// What the disk takes of the same bytes: a batch, and fdatasync(2).
fn on_disk(entries: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("batches")).unwrap();
    let batch = vec![0x5a; 1024 * ENTRY];
    let start = now();
    for _ in 0..entries.div_ceil(1024) {
        file.write_all(&batch).unwrap();
        file.sync_data().unwrap();
    }
    entries as f64 / start.elapsed().as_secs_f64()
}

/// Forgets the most memory that this process has had (proc(5), clear_refs).
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// `VmHWM`, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
