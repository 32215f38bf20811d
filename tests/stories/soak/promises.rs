//! What the daemon has told its callers, and whether the log still says the same.

use std::collections::BTreeMap;

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::verify;
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Body, Leaf, OutcomeResult};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, Hash, leaf_hash};
use undercroft_log_files::Folder;
use undercroft_proto::v1::IssueResponse;

use crate::place::Place;

/// Everything that was told of one log.
pub(super) struct Promises {
    key: VerifierKey,
    roots: Vec<AuthorityCertificate>,
    /// The entry and the certificate by index.
    issued: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    /// The root that was signed at each size.
    signed: BTreeMap<u64, Hash>,
    /// Entries in the log when it was looked at last.
    size: u64,
}

impl Promises {
    /// Of the log of `prod.example`, whose key and roots are those of the ceremony.
    pub(super) fn new(place: &Place) -> Self {
        let roots = e2e::certificates(&place.path("prod.example/root.pem")).unwrap();
        Self {
            key: place.log_key("prod.example").parse().unwrap(),
            roots: roots.iter().map(|der| AuthorityCertificate::from_der(der).unwrap()).collect(),
            issued: BTreeMap::new(),
            signed: BTreeMap::new(),
            size: 0,
        }
    }

    /// Takes an answer down. It must be whole, and contradict no earlier one.
    pub(super) fn take(&mut self, answer: &IssueResponse) {
        let leaf = &answer.chain[0];
        verify::chain(&answer.chain, &self.roots, SystemClock.now()).unwrap();
        // The certificate has an intent, under a checkpoint that the log's key has signed.
        let standing = verify::standing(leaf, &answer.entry, &answer.tlog_proof, &self.key).unwrap();
        let before = self.issued.insert(standing.index, (answer.entry.clone(), leaf.clone()));
        assert!(before.is_none(), "the index {} was used for two certificates", standing.index);
        self.sign(standing.checkpoint.size, standing.checkpoint.root);
    }

    fn sign(&mut self, size: u64, root: Hash) {
        let before = self.signed.insert(size, root);
        assert!(before.is_none_or(|before| before == root), "two roots were signed at size {size}");
    }

    /// Compares what was told with the log as it was exported.
    pub(super) fn are_kept(&mut self, place: &Place) {
        let folder = Folder::new(place.path("prod.example/log"));
        let note = folder.checkpoint().unwrap().unwrap();
        let head = undercroft_log::checkpoint::Checkpoint::open(&note, &self.key).unwrap();
        assert!(head.size >= self.size, "the log has {} entries and had {}", head.size, self.size);
        self.size = head.size;
        self.sign(head.size, head.root);
        let entries: Vec<Vec<u8>> =
            (0..head.size.div_ceil(256)).flat_map(|index| folder.bundle(index, head.size).unwrap()).collect();
        assert_eq!(entries.len() as u64, head.size);

        // Every checkpoint that anybody holds is of a beginning of this log.
        let mut tree = GrowingTree::new();
        let mut signed = self.signed.iter().peekable();
        for entry in &entries {
            tree.push(leaf_hash(entry));
            if let Some((size, root)) = signed.next_if(|(size, _)| **size == tree.size()) {
                assert_eq!(tree.root(), *root, "another root was signed at size {size}");
            }
        }
        assert!(signed.next().is_none(), "a checkpoint covers more than there is");

        let mut ends: BTreeMap<u64, OutcomeResult> = BTreeMap::new();
        let mut intents = 0;
        for entry in &entries {
            match Leaf::parse(entry).unwrap().body {
                Body::Intent(_) => intents += 1,
                Body::Outcome(outcome) => {
                    let before = ends.insert(outcome.intent, outcome.result);
                    assert!(before.is_none(), "the intent {} has two outcomes", outcome.intent);
                }
                _ => {}
            }
        }
        assert_eq!(intents, ends.len(), "an intent stays open after a start");
        for (index, (entry, certificate)) in &self.issued {
            assert_eq!(&entries[usize::try_from(*index).unwrap()], entry, "entry {index} is another");
            match &ends[index] {
                OutcomeResult::Signature(signature) => assert!(certificate.ends_with(&signature.0)),
                OutcomeResult::Signatures(_) => panic!("entry {index} is a batch of responses"),
                OutcomeResult::Abandoned(why) => panic!("entry {index} was answered, and abandoned: {why}"),
            }
        }
    }

    /// How many certificates were told.
    pub(super) fn certificates(&self) -> usize {
        self.issued.len()
    }

    /// In a line.
    pub(super) fn told(&self) -> String {
        format!(
            "{} certificates and {} checkpoints are kept, in a log of {} entries",
            self.issued.len(),
            self.signed.len(),
            self.size
        )
    }
}
