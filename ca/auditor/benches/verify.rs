//! How near an audit comes to what its hashes, parses and signature checks cost alone.
//!
//! A log of a domain is made with certificates that a software key has signed: half of its entries are intents, half
//! are outcomes. `ENTRIES` says how many there are. The *bare* cost is measured on the same bytes, in memory, on as many
//! threads as there are cores: SHA-256 of every entry (aws-lc-rs), every entry and every TBSCertificate parsed, every
//! signature verified. All turns are in one run, and ratios are made of medians.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, for people to read"
)]
#![allow(dead_code, reason = "the rig serves the tests of the auditor, too")]

#[path = "../tests/audit/installation.rs"]
mod installation;
#[path = "../tests/audit/log.rs"]
mod log;
#[path = "../tests/audit/memory.rs"]
mod memory;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use serde_json::json;
use undercroft_audit::{Known, Scope, audit_as};
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{PublicKey, SignatureAlgorithm};
use undercroft_log::leaf::{Body, Leaf, OutcomeResult, ToBeSigned};
use undercroft_log_files::Folder;
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use installation::INSTALLATION;
use log::Log;

/// How often the verifications and their bare costs take turns.
const ROUNDS: usize = 3;

/// Entries that are made, and written, at a time.
const CHUNK: u64 = 256 * 64;

fn main() {
    let entries = std::env::var("ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let log = &INSTALLATION.prod;
    let folder = make(log, &Folder::new(directory.path()), entries);
    let bytes: u64 = (0..entries.div_ceil(256))
        .map(|index| {
            folder.bundle(index, entries).unwrap().iter().map(|entry| entry.len() as u64).sum::<u64>()
        })
        .sum();
    let key = PublicKey::from_spki(INSTALLATION.prod_authority.key.public_key().spki()).unwrap();
    let verify = |scope| {
        timed(|| {
            let report = audit_as(&folder, &log.verifier(), scope, &Known::default(), |_| {}).unwrap();
            assert_eq!((report.findings.first(), report.size), (None, entries));
        })
    };
    let (mut hashing, mut parsing, mut checking, mut tree, mut full) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let bare = bare(&folder, entries, &key);
        hashing.push(bare.hashing);
        parsing.push(bare.parsing);
        checking.push(bare.checking);
        tree.push(verify(Scope::Tree));
        full.push(verify(Scope::Everything));
    }
    let (hashing, parsing, checking) = (median(hashing), median(parsing), median(checking));
    let (tree, full) = (median(tree), median(full));
    println!("{entries} entries, {:.0} MB, {} threads", bytes as f64 / 1e6, threads());
    println!("| | seconds | entries, 1/s | ratio |\n| --- | --- | --- | --- |");
    let row = |what: &str, seconds: f64, ratio: &str| {
        println!("| {what} | {seconds:.2} | {:.0} | {ratio} |", entries as f64 / seconds);
    };
    row("SHA-256 of every entry", hashing, "");
    row("parsing every entry and certificate", parsing, "");
    row("verifying every signature", checking, "");
    row("`verify --tree`", tree, &format!("{:.2} of the SHA-256", hashing / tree));
    row("`verify`", full, &format!("{:.2} of all three", (hashing + parsing + checking) / full));
    let key = directory.path().join("log.vkey");
    std::fs::write(&key, log.verifier().to_string()).unwrap();
    for tree in [&["--tree"][..], &[]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        program.arg("verify").arg(folder.path()).arg("--key").arg(&key).args(tree).stdout(Stdio::null());
        println!("`verify {}` resident at most: {} MiB", tree.concat(), peak_resident(program) / 1024);
    }
}

/// Writes a log of so many entries, all of them sound.
fn make(honest: &Log, folder: &Folder, size: u64) -> Folder {
    let mut entries = honest.entries.clone();
    let mut template = honest.value(honest.last("intent"));
    template["time"] = honest.value(entries.len() as u64 - 1)["time"].clone();
    let tbs = Base64::decode_vec(template["body"]["tbs"]["der"].as_str().unwrap()).unwrap();
    // [0] { INTEGER 2 }, then the serial number: INTEGER of 16 bytes.
    let at = tbs.windows(7).position(|bytes| bytes == [0xa0, 3, 2, 1, 2, 2, 16]).unwrap() + 7;
    let mut uses = template["sequence"].as_u64().unwrap();
    let mut written = 0;
    while written < size {
        let first = written + entries.len() as u64;
        let wanted = size.min(written + CHUNK);
        let pairs: Vec<_> =
            (0..(wanted - first).div_ceil(2)).map(|n| (first + 2 * n, uses + 1 + n)).collect();
        uses += pairs.len() as u64;
        let made = in_parallel(&pairs, |(index, sequence)| {
            let mut tbs = tbs.clone();
            tbs[at..at + 16].copy_from_slice(&[&[1; 8][..], &sequence.to_be_bytes()].concat());
            let signature = block_on(INSTALLATION.prod_authority.key.sign(&tbs)).unwrap();
            let mut intent = template.clone();
            intent["index"] = json!(index);
            intent["sequence"] = json!(sequence);
            intent["body"]["tbs"]["der"] = json!(Base64::encode_string(&tbs));
            let outcome = json!({
                "v": 1, "origin": honest.origin.as_str(), "index": index + 1, "time": intent["time"], "kind": "outcome",
                "body": { "intent": index, "result": { "signature": Base64::encode_string(&signature) } },
            });
            [serde_json::to_vec(&intent).unwrap(), serde_json::to_vec(&outcome).unwrap()]
        });
        entries.extend(made.into_iter().flatten());
        entries.truncate((wanted - written) as usize);
        folder.append(written, entries.iter().map(Vec::as_slice)).unwrap();
        written += entries.len() as u64;
        entries.clear();
    }
    let tree = folder.tree(size).unwrap();
    folder.write_checkpoint(&honest.sign(size, tree.root())).unwrap();
    folder.clone()
}

/// What the parts cost that no audit can do without, in seconds.
#[derive(Default)]
struct Bare {
    hashing: f64,
    parsing: f64,
    checking: f64,
}

fn bare(folder: &Folder, size: u64, key: &PublicKey) -> Bare {
    let mut bare = Bare::default();
    let bundles: Vec<u64> = (0..size.div_ceil(256)).collect();
    for window in bundles.chunks(128) {
        let bundles: Vec<_> = window.iter().map(|index| folder.bundle(*index, size).unwrap()).collect();
        bare.hashing += timed(|| {
            in_parallel(&bundles, |entries| {
                for entry in entries {
                    let mut context = digest::Context::new(&digest::SHA256);
                    context.update(&[0]);
                    context.update(entry);
                    black_box(context.finish());
                }
            });
        });
        let mut leaves = Vec::new();
        bare.parsing += timed(|| {
            leaves = in_parallel(&bundles, |entries| {
                let leaves: Vec<_> = entries.iter().map(|entry| Leaf::parse(entry).unwrap()).collect();
                for leaf in &leaves {
                    if let Body::Intent(intent) = &leaf.body
                        && let ToBeSigned::Der(der) = &intent.tbs
                    {
                        black_box(TbsCertificate::from_der(&der.0).unwrap());
                    }
                }
                leaves
            });
        });
        let jobs: Vec<_> = leaves.iter().flatten().zip(leaves.iter().flatten().skip(1)).collect();
        bare.checking += timed(|| {
            in_parallel(&jobs, |(intent, outcome)| {
                if let (Body::Intent(intent), Body::Outcome(outcome)) = (&intent.body, &outcome.body)
                    && let ToBeSigned::Der(der) = &intent.tbs
                    && let OutcomeResult::Signature(signature) = &outcome.result
                {
                    key.verify(SignatureAlgorithm::EcdsaP256Sha256, &der.0, &signature.0).unwrap();
                }
            });
        });
    }
    bare
}

fn threads() -> usize {
    thread::available_parallelism().unwrap().get()
}

fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let each = items.len().div_ceil(threads()).max(1);
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = items
            .chunks(each)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>()))
            .collect();
        running.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// The last `VmHWM` of a program before it ended, in KiB.
fn peak_resident(mut program: Command) -> u64 {
    let mut running = program.spawn().unwrap();
    let mut peak = 0;
    while running.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert!(running.wait().unwrap().success());
    peak
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
