//! What it costs to judge nodes that were here before: look them up among all that are known, and judge what they answer at once.
//!
//! The evidence is recorded: one exchange of a node in swtpm (an endorsement key with its maker's chain, a quote over the PCRs of a
//! boot, its whole event log, TPM2_Certify). `NODES` says how many are known in the long table, 1,000,000 unless given. Two threads
//! judge; the rates on the short and the long table are measured in turns in one run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, for people to read")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hsm_sim::measured_boot::MeasuredBoot;
use hsm_sim::node::{BOOT_PCRS, SimNode, wanted};
use jiff::Timestamp;
use undercroft::store::Database;
use undercroft_ca::nodes::{Known, LastClock, NodePolicy, Record, appraise, candidate};
use undercroft_ca::store::{Effect, Facts as _, NodeFact};
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Base64Bytes, Digest};
use undercroft_log::store::{Batch, Entry, Head, LogStore as _};
use undercroft_log::tree::{GrowingTree, leaf_hash};

/// Re-attestations a second, at least.
const LIMIT: f64 = 2_000.0;
/// Nodes in the short table.
const SHORT: u64 = 1_000;
/// Turns, and how many are judged in each by each of two threads.
const TURNS: usize = 7;
const EACH: u64 = 1_000;

fn main() {
    let nodes = std::env::var("NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let folder = tempfile::tempdir().unwrap();
    let (record, policy) = recorded(&folder.path().join("n"));
    let at = SystemClock.now();
    let appraised = appraise(&record, &policy, at).map_err(|refused| refused.reason).unwrap();
    let size = record.encode().len();
    let judged = Arc::new((record, policy, at));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tables = [SHORT, nodes].map(|count| (count, folder.path().join(format!("{count}.db"))));
        let mut databases = Vec::new();
        for (count, path) in &tables {
            let database = Database::open(path).await.unwrap();
            fill(&database, *count).await;
            databases.push((*count, database));
        }
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (rates, (count, database)) in rates.iter_mut().zip(&databases) {
                rates.push(rate(database, *count, &judged).await);
            }
        }
        let [short, long] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[TURNS / 2]
        });
        println!("| known nodes | judged again a second | of {LIMIT} |\n| --- | --- | --- |");
        for (count, rate) in [(SHORT, short), (nodes, long)] {
            println!("| {count} | {rate:.0} | {:.2} |", rate / LIMIT);
        }
        println!(
            "\nlong against short: {:.2}; {size} bytes of evidence, {} selectors",
            long / short,
            appraised.claims.selectors().len()
        );
        for (_, database) in databases {
            database.close().await;
        }
    });
}

/// A node that was here before, and what it answers at once.
fn recorded(folder: &Path) -> (Record, NodePolicy) {
    let exporter = [7; 32];
    let node = SimNode::make(folder, &MeasuredBoot::honest()).unwrap();
    let pcrs = BOOT_PCRS.map(|pcr| pcr.to_string()).join(", ");
    let text = format!(
        "[tpm]\npcrs = {{ sha256 = [{pcrs}] }}\nevent-log = true\n[[tpm.maker]]\nfile = \"maker.pem\"\nclass = \"simulated\"\n\
         [[rule]]\nname = \"nodes\"\ndomain = \"prod.example\"\nprofile = \"svid\"\nassurance = \"software\"\nsecure-boot = true\n\
         spiffe-id = \"spiffe://prod.example/node/{{ek}}\"\n"
    );
    let policy =
        NodePolicy::parse("nodes.toml", &text, |_| fs::read(node.anchor()).map_err(|e| e.to_string()))
            .unwrap();
    let hello = node.hello("prod.example").unwrap();
    let at = SystemClock.now();
    let (_, _, seen) = candidate(&hello, &policy, at).map_err(|refused| refused.reason).unwrap();
    let binding = seen.binding();
    let known = Known {
        endorsement: Digest(binding.endorsement),
        attestation_key: Base64Bytes(binding.attestation_key),
        clock: LastClock { milliseconds: 0, resets: 0, restarts: 0, safe: true, firmware: 0 },
    };
    let answer = node.answer_at_once(&hello, &wanted(&BOOT_PCRS, true), &exporter).unwrap();
    (Record::begun(&hello, exporter, Some(known)).answered(&answer), policy)
}

/// How many a second two threads judge: each is looked up, as the daemon does, and then judged.
async fn rate(database: &Database, count: u64, judged: &Arc<(Record, NodePolicy, Timestamp)>) -> f64 {
    let start = now();
    let tasks = (0..2u64).map(|task| {
        let (database, judged) = (database.clone(), judged.clone());
        tokio::spawn(async move {
            for turn in 0..EACH {
                // Spread over the table, so that no page is always at hand.
                let which = (turn * 2 + task).wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
                assert!(database.node(endorsement(which)).await.unwrap().is_some());
                let (record, policy, at) = &*judged;
                assert!(appraise(record, policy, *at).is_ok());
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    (2 * EACH) as f64 / start.elapsed().as_secs_f64()
}

fn endorsement(node: u64) -> Digest {
    Digest::of(&node.to_be_bytes())
}

/// Makes nodes known, a thousand in a transaction.
async fn fill(database: &Database, count: u64) {
    let log = database.log("ca.example/undercroft/prod.example/1").await.unwrap();
    let (mut tree, mut head) = (GrowingTree::new(), Head::default());
    let time = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for first in (0..count).step_by(1000) {
        let effects = (first..count.min(first + 1000)).map(|node| {
            Effect::NodeAttested(NodeFact {
                endorsement: endorsement(node),
                domain: "prod.example".into(),
                spiffe_id: format!("spiffe://prod.example/node/{node}"),
                attestation_key: vec![0; 34],
                clock: LastClock { milliseconds: 1, resets: 1, restarts: 0, safe: true, firmware: 1 },
                transcript: Digest::of(&(!node).to_be_bytes()),
                evidence: Digest([1; 32]),
            })
        });
        let leaf: Arc<[u8]> = Arc::new([0x7b; 200]);
        let expected = head.clone();
        tree.push(leaf_hash(&leaf));
        head = Head { size: tree.size(), root: tree.root(), time: Some(time), ..expected.clone() };
        let full_tiles = tree.full_tiles_since(expected.size).collect();
        let entries = vec![Entry { leaf, effects: effects.collect::<Vec<_>>().into(), blobs: Arc::new([]) }];
        let batch = Batch { expected, head: head.clone(), entries, full_tiles, checkpoint: None };
        log.commit(batch).await.unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark is about time")]
fn now() -> Instant {
    Instant::now()
}
