//! The process dies at every single write, and is started again on what it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use undercroft_ca::service::EnrolmentToken;
use undercroft_ca::store::Facts as _;
use undercroft_ca::time::Lifetime;
use undercroft_log::Receipt;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Caller, Channel, Leaf, OutcomeResult};
use undercroft_log::store::{LogReader as _, LogStore as _};
use undercroft_log::tree::{GrowingTree, Hash, leaf_hash};

use crate::rig::{AtEachWrite, Moment, Mood, Rig, ask, csr, workload};

/// What the disk held at a moment, and how many certificates had been told by then.
struct Snapshot {
    file: Vec<u8>,
    log: Vec<u8>,
    moment: Moment,
    told: usize,
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl Snapshot {
    fn take(database: &Path, moment: Moment, told: usize) -> Self {
        // The file changes only when the log is folded into it, which it is too short for.
        let file = fs::read(database).unwrap();
        Self { file, log: fs::read(beside(database, "-wal")).unwrap_or_default(), moment, told }
    }

    /// Puts it where the CA will find it. As many bytes of SQLite's log as given have reached the disk.
    fn put_back(&self, database: &Path, length: usize) {
        let _ = fs::remove_file(beside(database, "-shm"));
        fs::write(database, &self.file).unwrap();
        fs::write(beside(database, "-wal"), &self.log[..length]).unwrap();
    }
}

/// Re-verifies everything that is stored of a domain's log, from nothing but its entries. Gives the roots at each size.
fn verified(rig: &Rig, domain: usize) -> (Vec<Leaf>, Vec<Hash>) {
    let origin = rig.origin(rig.domains[domain].name);
    rig.look(rig.domains[domain].name, async |database, store| {
        let head = store.head().await.unwrap();
        let mut tree = GrowingTree::new();
        let (mut leaves, mut roots) = (Vec::new(), vec![tree.root()]);
        let mut sequences = BTreeMap::new();
        let mut open = Vec::new();
        for entry in store.entries(0..head.size).await.unwrap() {
            let leaf = Leaf::parse(&entry).unwrap();
            assert_eq!((&leaf.origin, leaf.index), (&origin, tree.size()));
            tree.push(leaf_hash(&entry));
            roots.push(tree.root());
            match &leaf.body {
                Body::Intent(intent) => {
                    let last = sequences.entry(intent.key_id.0).or_insert(0);
                    *last += 1;
                    assert_eq!(leaf.sequence, Some(*last));
                    open.push(leaf.index);
                }
                Body::Outcome(outcome) => {
                    let place = open.iter().position(|intent| *intent == outcome.intent);
                    open.remove(place.unwrap_or_else(|| panic!("{} has no open intent", leaf.index)));
                }
                _ => {}
            }
            leaves.push(leaf);
        }
        assert_eq!((tree.size(), tree.root()), (head.size, head.root));
        assert_eq!(sequences, head.sequences);
        assert_eq!(database.open_intents(origin.as_str()).await.unwrap(), open);
        for tile in tree.full_tiles_since(0) {
            assert_eq!(store.full_tile(tile.level, tile.index).await.unwrap(), tile.hashes);
        }
        if let Some(note) = store.kept_checkpoint().await.unwrap() {
            let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
            let kept = Checkpoint::parse(&text).unwrap();
            assert_eq!(Some(&kept.root), roots.get(usize::try_from(kept.size).unwrap()));
        }
        (leaves, roots)
    })
}

/// A certificate that was told: its domain, its receipt, and its bytes.
type Told = (usize, Receipt, Arc<[u8]>);

fn is_kept((_, receipt, certificate): &Told, leaves: &[Leaf], roots: &[Hash]) {
    let leaf = Leaf::parse(receipt.leaf()).unwrap();
    let stands = &leaves[usize::try_from(receipt.index()).unwrap()];
    assert_eq!((stands.index, &stands.body), (leaf.index, &leaf.body));
    let signed = leaves.iter().any(|leaf| match &leaf.body {
        Body::Outcome(outcome) if outcome.intent == receipt.index() => {
            matches!(&outcome.result, OutcomeResult::Signature(s) if certificate.ends_with(&s.0))
        }
        _ => false,
    });
    assert!(signed, "what became of entry {} is lost", receipt.index());
    let proof = receipt.proof().checkpoint;
    let text = proof.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let checkpoint = Checkpoint::parse(&text).unwrap();
    assert_eq!(checkpoint.root, roots[usize::try_from(checkpoint.size).unwrap()]);
}

#[test]
fn a_process_that_dies_at_any_write_leaves_what_the_next_one_can_go_on_from() {
    let rig = Rig::new();
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let snapshots: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
    let at_each_write: AtEachWrite = {
        let (database, told, snapshots) = (rig.database(), told.clone(), snapshots.clone());
        Arc::new(move |moment| {
            let snapshot = Snapshot::take(&database, moment, told.lock().unwrap().len());
            snapshots.lock().unwrap().push(snapshot);
        })
    };
    *rig.at_each_write.lock().unwrap() = Some(at_each_write);
    let token: EnrolmentToken = rig.run(async |ca| {
        let tell = |domain, issued: undercroft_ca::service::IssuedCertificate| {
            told.lock().unwrap().push((domain, issued.receipt, issued.chain[0].clone()));
        };
        let operator = Caller { id: "uid:0".into(), by: Channel::UnixSocket };
        let alice = "spiffe://control.example/operator/alice";
        let (token, _) = ca.create_enrolment(operator, alice, Lifetime::hours(1)).await.unwrap();
        tell(0, ca.enrol(&token, &csr(&[])).await.unwrap());
        for issued in futures::future::join_all((0..3).map(|_| ask(ca, workload()))).await {
            tell(1, issued.unwrap());
        }
        rig.domains[1].key.set(Mood::Fails);
        ask(ca, workload()).await.unwrap_err();
        rig.domains[1].key.set(Mood::Signs);
        let nothing = undercroft_ca::service::IssueRequest { profile: "none".into(), ..workload() };
        ask(ca, nothing).await.unwrap_err();
        tell(1, ask(ca, workload()).await.unwrap());
        token
    });
    *rig.at_each_write.lock().unwrap() = None;
    let (told, snapshots) = (told.lock().unwrap(), snapshots.lock().unwrap());
    // Before and after each of these at least: the starts of two logs, a token, intent and outcome of its certificate, of
    // the three that may share their batches, of the one that fails and of the last one, a refusal, and the checkpoints
    // that two logs keep when they are closed. How many more there are is up to how the three meet.
    let writes = 2 + 1 + 2 + 2 + 2 + 2 + 1 + 2;
    assert!(snapshots.len() >= 2 * writes, "{}", snapshots.len());

    for (n, snapshot) in snapshots.iter().enumerate() {
        let before = n.checked_sub(1).map_or(0, |n| snapshots[n].log.len());
        let mut lengths = vec![snapshot.log.len()];
        if snapshot.moment == Moment::After && snapshot.log.len() > before {
            // Half of it had been written when it died, and was told to nobody.
            lengths.push(before + (snapshot.log.len() - before) / 2);
        }
        for length in lengths {
            snapshot.put_back(&rig.database(), length);
            let told = &told[..snapshot.told];
            let check = || {
                let logs = [verified(&rig, 0), verified(&rig, 1)];
                told.iter().for_each(|told| is_kept(told, &logs[told.0].0, &logs[told.0].1));
                logs
            };
            check();
            rig.run(async |ca| {
                ask(ca, workload()).await.unwrap();
                let redeemed = told.iter().any(|(domain, _, _)| *domain == 0);
                if redeemed {
                    assert!(ca.enrol(&token, &csr(&[])).await.is_err(), "a token is good for two");
                }
            });
            for (leaves, _) in check() {
                let count =
                    |wanted: fn(&Body) -> bool| leaves.iter().filter(|leaf| wanted(&leaf.body)).count();
                let intents = count(|body| matches!(body, Body::Intent(_)));
                assert_eq!(intents, count(|body| matches!(body, Body::Outcome(_))), "an intent stays open");
            }
        }
    }
}
