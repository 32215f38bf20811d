//! A ceremony is killed at its writes, one after the other: what was made has its record.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::{Listen, Site, Tool, certificates};
use futures::executor::block_on;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Leaf, OutcomeResult};
use undercroft_log::note::VerifierKey;
use undercroft_log::store::{LogReader as _, LogStore};
use undercroft_log::tree::{GrowingTree, leaf_hash};
use undercroft_log_files::FolderStore;

use super::{number, replace};
use crate::faults::Faults;
use crate::place::files;

/// Of this many fsyncs, `make test` kills at one.
const STRIDE: i64 = 17;

#[test]
fn a_ceremony_that_is_killed_at_a_write_has_recorded_all_that_it_made() {
    let stride = if number("UNDERCROFT_SOAK_ROUNDS").is_some() { 1 } else { STRIDE };
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), vec![], Listen::Anywhere).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    site.create_keys().unwrap().into_iter().for_each(|tool| drop(tool.done().unwrap()));
    let faults = Faults::new(&site.path("faults"), "");
    let tokens = site.path("devices/softhsm");
    replace(&tokens, &site.path("tokens-as-they-were"));
    let mut killed = 0;
    let mut at = 1;
    loop {
        for side in [at, -at] {
            replace(&site.path("tokens-as-they-were"), &tokens);
            let _ = std::fs::remove_dir_all(site.path("control"));
            let _ = std::fs::remove_dir_all(site.path("ceremony/transcript"));
            let ran = site.ceremony().unwrap().with(&faults.killing(side)).run().unwrap();
            if ran.status == 0 {
                assert!(killed > 4, "{killed}");
                is_sound(&site);
                return;
            }
            // A signal ended it: it did not fail by itself.
            assert_eq!(ran.status, -1, "{ran:?}");
            killed += 1;
            is_sound(&site);
        }
        at += stride;
    }
}

/// The transcript is whole up to its head, what was signed of it is a beginning of that, and each certificate and CRL
/// that lies there is one whose signature it holds.
fn is_sound(site: &Site) {
    let path = site.path("ceremony/transcript");
    let store = FolderStore::open(&path).unwrap();
    let head = block_on(LogStore::<()>::head(&store)).unwrap();
    let entries = block_on(store.entries(0..head.size)).unwrap();
    let mut tree = GrowingTree::new();
    let mut roots = vec![tree.root()];
    let mut intents = BTreeSet::new();
    let mut signatures = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let leaf = Leaf::parse(entry).unwrap();
        assert_eq!(leaf.index, index as u64);
        match leaf.body {
            Body::Intent(_) => assert!(intents.insert(leaf.index)),
            Body::Outcome(outcome) => {
                assert!(intents.remove(&outcome.intent));
                if let OutcomeResult::Signature(signature) = outcome.result {
                    signatures.push(signature.0);
                }
            }
            _ => {}
        }
        tree.push(leaf_hash(entry));
        roots.push(tree.root());
    }
    assert_eq!(tree.root(), head.root);
    assert!(intents.len() <= 1, "one thing is made at a time");
    if let Some(note) = block_on(store.kept_checkpoint()).unwrap() {
        let key = std::fs::read_to_string(path.join("log.vkey")).unwrap();
        let key: VerifierKey = key.trim_end().parse().unwrap();
        let kept = Checkpoint::open(&note, &key).unwrap();
        assert_eq!(Some(&kept.root), roots.get(usize::try_from(kept.size).unwrap()));
    }
    for made in files(&site.path("control")) {
        // A temporary file beside what was to be written is what a kill leaves.
        let objects = match made.extension().and_then(std::ffi::OsStr::to_str) {
            Some("pem") => certificates(&made).unwrap(),
            Some("crl") => vec![std::fs::read(&made).unwrap()],
            _ => continue,
        };
        for object in objects {
            let known = signatures.iter().any(|signature| object.ends_with(signature));
            assert!(known, "{} is not in the transcript", made.display());
        }
    }
    drop(store);
    audited(&path);
}

/// As an auditor sees it who is given the folder: what is behind the last checkpoint is left over, and nothing else is
/// wrong.
fn audited(transcript: &Path) {
    if !transcript.join("checkpoint").exists() {
        return;
    }
    let audit = Tool::ours("undercroft-audit").unwrap().args(["verify", "--output", "json"]).arg(transcript);
    let ran = audit.arg("--key").arg(transcript.join("log.vkey")).run().unwrap();
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(ran.status, if findings.is_empty() { 0 } else { 5 });
    assert!(findings.iter().all(|finding| finding["rule"] == "leftover"), "{findings:?}");
}
