//! Does what the entries say hold together?
//!
//! Each rule is one that the CA keeps by construction; here it is checked from outside, on the entries alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use undercroft_attestors::custody::{self, Grade as Judged};
use undercroft_ca::lint;
use undercroft_ca::log_key::{CONTROL, ORIGIN_PART};
use undercroft_keys::{KeyId, PublicKey, SignatureAlgorithm};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Body, Bundle, Digest, Grade, Intent, Key, Leaf, Object, Outcome, OutcomeResult, Policy, Text, ToBeSigned,
};
use undercroft_log::note::{KeyName, VerifierKey};
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::{Folder, FolderError};
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::report::{Finding, Intents, KeySeen, Report};

pub(crate) fn check(
    folder: &Folder,
    key: &VerifierKey,
    checkpoint: &Checkpoint,
    bad: &BTreeSet<u64>,
    advance: &mut impl FnMut(u64),
) -> Result<Report, FolderError> {
    let mut reader = Reader::new(folder, key.name(), bad);
    let width = TILE_WIDTH as u64;
    for bundle in 0..checkpoint.size.div_ceil(width) {
        // A bundle that cannot be read as a whole has entries that are known to be bad, and no others.
        let entries = folder.bundle(bundle, checkpoint.size).unwrap_or_default();
        for (index, entry) in (bundle * width..).zip(&entries) {
            if !bad.contains(&index) {
                reader.read(index, entry)?;
            }
        }
        advance(width.min(checkpoint.size - bundle * width));
    }
    Ok(reader.conclude(checkpoint))
}

/// What has been read so far.
struct Reader<'a> {
    folder: &'a Folder,
    origin: &'a KeyName,
    bad: &'a BTreeSet<u64>,
    /// The domain that the origin is for; none in the control log and in transcripts.
    domain: Option<&'a str>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    kinds: BTreeMap<undercroft_log::leaf::Kind, u64>,
    intents: Intents,
    keys: HashMap<KeyId, PublicKey>,
    seen: Vec<KeySeen>,
    sequences: HashMap<KeyId, u64>,
    open: HashMap<u64, Open>,
    serials: HashSet<(KeyId, Vec<u8>)>,
    bundles: HashMap<String, u64>,
    policy: Option<Digest>,
    findings: Vec<Finding>,
}

/// An intent without an outcome yet.
struct Open {
    key: KeyId,
    algorithm: SignatureAlgorithm,
    tbs: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(folder: &'a Folder, origin: &'a KeyName, bad: &'a BTreeSet<u64>) -> Self {
        Self {
            folder,
            origin,
            bad,
            domain: domain_of(origin),
            first: None,
            last: None,
            kinds: BTreeMap::new(),
            intents: Intents::default(),
            keys: HashMap::new(),
            seen: Vec::new(),
            sequences: HashMap::new(),
            open: HashMap::new(),
            serials: HashSet::new(),
            bundles: HashMap::new(),
            policy: None,
            findings: Vec::new(),
        }
    }

    fn read(&mut self, index: u64, entry: &[u8]) -> Result<(), FolderError> {
        let leaf = match Leaf::parse(entry) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.find(index, "leaf", error.to_string());
                return Ok(());
            }
        };
        *self.kinds.entry(leaf.body.kind()).or_default() += 1;
        if leaf.origin != *self.origin {
            self.find(index, "origin", format!("it says that it is of the log {}", leaf.origin));
        }
        if leaf.index != index {
            self.find(index, "index", format!("it says that it is entry {}", leaf.index));
        }
        if self.last.is_some_and(|last| leaf.time < last) {
            self.find(
                index,
                "time",
                format!("it was stamped at {}, before the entry in front of it", leaf.time),
            );
        }
        self.first = self.first.or(Some(leaf.time));
        self.last = self.last.max(Some(leaf.time));
        match leaf.body {
            Body::Intent(intent) => self.intent(index, leaf.sequence.unwrap_or_default(), intent)?,
            Body::Outcome(outcome) => self.outcome(index, &outcome),
            Body::Key(key) => self.key(index, key),
            Body::Bundle(bundle) => self.bundle(index, &bundle),
            Body::Policy(policy) => self.policy(index, &policy)?,
            Body::Refusal(_) | Body::Enrolment(_) | Body::Ceremony(_) | Body::Start(_) => {}
        }
        Ok(())
    }

    fn intent(&mut self, index: u64, sequence: u64, intent: Intent) -> Result<(), FolderError> {
        let key = intent.key_id.0;
        let expected = self.sequences.get(&key).map_or(1, |last| last + 1);
        // Where an entry is bad, numbers may be missing for no other reason.
        if sequence != expected && self.bad.is_empty() {
            self.find(
                index,
                "sequence",
                format!("it is use {sequence} of the key {key}, and should be use {expected}"),
            );
        }
        self.sequences.insert(key, sequence);
        if !self.keys.contains_key(&key) && self.bad.is_empty() {
            self.find(index, "custody", format!("the key {key} has no custody record in front of it"));
        }
        if let Some(domain) = self.domain.filter(|domain| *domain != intent.domain) {
            self.find(
                index,
                "domain",
                format!("it is for `{}` and stands in the log of `{domain}`", intent.domain),
            );
        }
        if let Some(policy) = self.policy.filter(|policy| *policy != intent.policy) {
            self.find(
                index,
                "policy",
                format!("it names the policy {}, and {policy} is in force", intent.policy),
            );
        }
        let Some(tbs) = self.to_be_signed(index, &intent.tbs)? else { return Ok(()) };
        if intent.object == Object::Certificate {
            self.certificate(index, key, &tbs);
        }
        self.open.insert(index, Open { key, algorithm: intent.algorithm, tbs });
        Ok(())
    }

    fn to_be_signed(&mut self, index: u64, tbs: &ToBeSigned) -> Result<Option<Vec<u8>>, FolderError> {
        match tbs {
            ToBeSigned::Der(der) => Ok(Some(der.0.clone())),
            ToBeSigned::Blob { sha256, length } => self.blob(index, *sha256, *length),
        }
    }

    /// The blob of that digest; a finding if it is missing or another.
    fn blob(&mut self, index: u64, sha256: Digest, length: u64) -> Result<Option<Vec<u8>>, FolderError> {
        match self.folder.blob(sha256) {
            Ok(Some(blob)) if blob.len() as u64 == length => return Ok(Some(blob)),
            Ok(Some(blob)) => {
                self.find(index, "blob", format!("its blob has {} bytes and not {length}", blob.len()));
            }
            Ok(None) => self.find(index, "blob", format!("its blob {sha256} is missing")),
            Err(error @ FolderError::Io { .. }) => return Err(error),
            Err(error) => self.find(index, "blob", error.to_string()),
        }
        Ok(None)
    }

    fn certificate(&mut self, index: u64, key: KeyId, tbs: &[u8]) {
        if let Err(broken) = lint::certificate_alone(tbs) {
            for finding in broken {
                self.find(index, "lint", finding.to_string());
            }
        }
        if let Ok((_, certificate)) = TbsCertificate::from_der(tbs)
            && !self.serials.insert((key, certificate.raw_serial().to_vec()))
        {
            self.find(index, "serial", "its serial number has been used before");
        }
    }

    fn outcome(&mut self, index: u64, outcome: &Outcome) {
        let Some(open) = self.open.remove(&outcome.intent) else {
            if !self.bad.contains(&outcome.intent) {
                self.find(
                    index,
                    "outcome",
                    format!("entry {} is no intent that waits for an outcome", outcome.intent),
                );
            }
            return;
        };
        match &outcome.result {
            OutcomeResult::Abandoned(_) => self.intents.abandoned += 1,
            OutcomeResult::Signature(signature) => {
                self.intents.signed += 1;
                let verified = self
                    .keys
                    .get(&open.key)
                    .is_none_or(|key| key.verify(open.algorithm, &open.tbs, &signature.0).is_ok());
                if !verified {
                    self.find(
                        index,
                        "signature",
                        format!("the key {} has not signed the intent's bytes", open.key),
                    );
                }
            }
        }
    }

    fn key(&mut self, index: u64, key: Key) {
        let public_key = match PublicKey::from_spki(&key.spki.0) {
            Ok(public_key) => public_key,
            Err(error) => return self.find(index, "key", error.to_string()),
        };
        if public_key.id() != key.key_id.0 {
            self.find(
                index,
                "key",
                format!("its key has the id {}, and it says {}", public_key.id(), key.key_id.0),
            );
        }
        let judged = grade(custody::judge(&key.format, &key.evidence.0, &public_key).grade);
        if judged < key.grade {
            self.find(
                index,
                "custody",
                format!("it grades its key `{}`, and its evidence is worth `{judged}`", key.grade),
            );
        }
        let seen = KeySeen { purpose: key.purpose, key_id: public_key.id().to_string(), grade: judged };
        if !self.seen.contains(&seen) {
            self.seen.push(seen);
        }
        self.keys.insert(public_key.id(), public_key);
    }

    fn bundle(&mut self, index: u64, bundle: &Bundle) {
        let last = self.bundles.insert(bundle.domain.clone(), bundle.sequence);
        if let Some(last) = last.filter(|last| bundle.sequence != last + 1) {
            self.find(
                index,
                "bundle",
                format!("bundle {} of `{}` follows bundle {last}", bundle.sequence, bundle.domain),
            );
        }
    }

    fn policy(&mut self, index: u64, policy: &Policy) -> Result<(), FolderError> {
        let text = match &policy.text {
            Text::Inline(text) => Some(text.as_bytes().to_vec()),
            Text::Blob(length) => self.blob(index, policy.sha256, *length)?,
        };
        if text.is_some_and(|text| Digest::of(&text) != policy.sha256) {
            self.find(index, "policy", "its digest is not the text's");
        }
        if self.policy.is_some_and(|current| Some(current) != policy.previous) && self.bad.is_empty() {
            self.find(index, "policy", "it replaces another policy than the one in force");
        }
        self.policy = Some(policy.sha256);
        Ok(())
    }

    fn find(&mut self, index: u64, rule: &'static str, what: impl Into<String>) {
        self.findings.push(Finding::of_entry(index, rule, what));
    }

    fn conclude(mut self, checkpoint: &Checkpoint) -> Report {
        self.intents.open = self.open.len() as u64;
        Report {
            origin: self.origin.to_string(),
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            first: self.first,
            last: self.last,
            kinds: self.kinds,
            intents: self.intents,
            keys: self.seen,
            findings: self.findings,
        }
    }
}

/// `<operator>/undercroft/<domain>/<epoch>`: a domain's own log holds nothing for another domain.
fn domain_of(origin: &KeyName) -> Option<&str> {
    match origin.as_str().split('/').collect::<Vec<_>>()[..] {
        [_, ORIGIN_PART, domain, _] if domain != CONTROL => Some(domain),
        _ => None,
    }
}

fn grade(judged: Judged) -> Grade {
    match judged {
        Judged::Unknown => Grade::Unknown,
        Judged::Software => Grade::Software,
        Judged::Declared => Grade::Declared,
        Judged::Proven => Grade::Proven,
    }
}
