//! Does what the entries say hold together?
//!
//! Each rule is one that the CA keeps by construction; here it is checked from outside, on the entries alone. A rule
//! that looks back (numbers, records and policies in front of an entry) is silent where bytes have been changed: what
//! it misses may be there, and what was changed has been told.

mod alone;
mod freezes;
pub(crate) mod ledger;
mod place;
mod revoked;
mod rotation;
mod signed;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use undercroft_attestors::custody::{self, Grade as Judged};
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_keys::{KeyAlgorithm, KeyId, PublicKey};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Body, Bundle, Ceremony, CeremonyEvent, Digest, Enrolment, EnrolmentEvent, Epoch, Grade, Key, KeyEvidence,
    Kind, LogHead, Policy, Refusal, Text,
};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::{Folder, FolderError};

use self::alone::Alone;
use self::freezes::Freezes;
use self::ledger::Ledger;
use self::place::{About, Place};
use self::revoked::{Issued, Revoked};
use self::rotation::Rotations;
use self::signed::{Open, Signed};
use self::verdicts::Verdicts;
use crate::parallel;
use crate::population::Population;
use crate::proof::root_at;
use crate::report::{Finding, Intents, KeySeen, Report, Scope};

/// Bundles that are parsed before their entries are compared with each other: some megabytes.
const AT_A_TIME: u64 = 16;

/// Goes through what the entries say. `population` is told of each of them.
pub(crate) fn check(
    folder: &Folder,
    key: &VerifierKey,
    checkpoint: &Checkpoint,
    bad: &BTreeSet<u64>,
    trust: &Trust,
    population: Option<&mut Population>,
    advance: &mut impl FnMut(u64),
) -> Result<Report, FolderError> {
    let mut reader = Reader::new(folder, key, bad, trust, population);
    let (size, width) = (checkpoint.size, TILE_WIDTH as u64);
    for window in parallel::windows(size.div_ceil(width), AT_A_TIME) {
        for bundle in parallel::each(&window, |bundle| alone::read(folder, *bundle, size, bad)) {
            for entry in bundle {
                reader.read(entry)?;
            }
        }
        reader.verify_signatures();
        let (first, end) = (window[0] * width, (window[window.len() - 1] + 1) * width);
        advance(end.min(size) - first);
    }
    Ok(reader.conclude(checkpoint))
}

/// What has been read so far.
struct Reader<'a> {
    folder: &'a Folder,
    log_key: &'a VerifierKey,
    bad: &'a BTreeSet<u64>,
    trust: &'a Trust,
    place: Place,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    kinds: BTreeMap<Kind, u64>,
    intents: Intents,
    keys: HashMap<KeyId, Recorded>,
    seen: Vec<KeySeen>,
    sequences: HashMap<KeyId, u64>,
    open: HashMap<u64, Open>,
    /// Of each key and serial number a digest that is cut short: there may be millions.
    /// With what revocation needs to know of each certificate.
    serials: HashMap<[u8; 16], Issued>,
    revoked: Revoked,
    /// Signatures that are still to be verified, all at once.
    signatures: Vec<Signed>,
    bundles: HashMap<String, u64>,
    rotations: Rotations,
    policy: Option<Digest>,
    /// Of a transcript: the plan that it began with.
    plan: Option<Digest>,
    tokens: HashMap<Digest, Token>,
    redeemed: HashSet<Digest>,
    freezes: Freezes,
    verdicts: Verdicts,
    ledger: Ledger,
    /// Heads of this log that entries speak of, each with the entry.
    heads: Vec<(u64, LogHead)>,
    findings: Vec<Finding>,
    population: Option<&'a mut Population>,
}

/// A key that a custody record speaks of.
struct Recorded {
    public_key: PublicKey,
    algorithm: KeyAlgorithm,
}

/// An enrolment token.
struct Token {
    id: String,
    expires: Timestamp,
}

impl<'a> Reader<'a> {
    fn new(
        folder: &'a Folder,
        log_key: &'a VerifierKey,
        bad: &'a BTreeSet<u64>,
        trust: &'a Trust,
        population: Option<&'a mut Population>,
    ) -> Self {
        Self {
            folder,
            log_key,
            bad,
            trust,
            place: Place::of(log_key.name()),
            first: None,
            last: None,
            kinds: BTreeMap::new(),
            intents: Intents::default(),
            keys: HashMap::new(),
            seen: Vec::new(),
            sequences: HashMap::new(),
            open: HashMap::new(),
            serials: HashMap::new(),
            revoked: Revoked::default(),
            signatures: Vec::new(),
            bundles: HashMap::new(),
            rotations: Rotations::default(),
            policy: None,
            plan: None,
            tokens: HashMap::new(),
            redeemed: HashSet::new(),
            freezes: Freezes::default(),
            verdicts: Verdicts::default(),
            ledger: Ledger::default(),
            heads: Vec::new(),
            findings: Vec::new(),
            population,
        }
    }

    fn read(&mut self, entry: Alone) -> Result<(), FolderError> {
        let index = entry.index;
        let leaf = match entry.leaf {
            Ok(leaf) => leaf,
            Err(error) => {
                self.find(index, "leaf", error.to_string());
                return Ok(());
            }
        };
        if let Some(population) = &mut self.population {
            population.enter(index, entry.hash, &leaf);
        }
        *self.kinds.entry(leaf.body.kind()).or_default() += 1;
        if leaf.origin != *self.log_key.name() {
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
            Body::Intent(intent) => {
                let sequence = leaf.sequence.unwrap_or_default();
                self.intent(index, leaf.time, sequence, intent, entry.certificate)?;
            }
            Body::Outcome(outcome) => self.outcome(index, leaf.time, outcome)?,
            Body::Revocation(revocation) => self.revocation(index, leaf.time, &revocation),
            Body::Key(key) => self.key(index, leaf.time, key)?,
            Body::Bundle(bundle) => self.bundle(index, &bundle),
            Body::Policy(policy) => self.policy(index, &policy)?,
            Body::Refusal(refusal) => self.refusal(index, &refusal),
            Body::Verdict(verdict) => self.verdict(index, leaf.time, &verdict)?,
            Body::Enrolment(enrolment) => self.enrolment(enrolment),
            Body::Ceremony(ceremony) => self.ceremony(index, &ceremony),
            Body::Command(command) => {
                let head = self.ledger.command(self.log_key.name().as_str(), &command);
                self.hardware(index, "ledger", head);
            }
            Body::AnchorIntent(intent) => {
                let announced = self.ledger.anchor_intent(index, &intent);
                self.hardware(index, "anchor", announced.map(|()| None));
            }
            Body::Anchor(anchor) => {
                let head = self.ledger.anchor(self.log_key.name().as_str(), &anchor);
                self.hardware(index, "anchor", head.map(Some));
            }
            Body::Epoch(epoch) => self.epoch(index, &epoch),
            Body::Rotation(rotation) => {
                self.belongs(index, &rotation.domain);
                let wrong = self.rotations.rotation(leaf.time, self.place.first_epoch, &rotation);
                self.find_of_rotation(index, "rotation", wrong);
            }
            Body::Freeze(freeze) => {
                // Every freeze comes with its digest.
                if let Some(digest) = entry.digest {
                    self.freeze(index, digest, &freeze);
                }
            }
            Body::Approval(approval) => {
                self.rotations.approval(&approval);
                self.approval(index, leaf.time, &approval);
            }
            Body::Recovery(_) | Body::Alert(_) | Body::Start(_) => {}
        }
        Ok(())
    }

    /// What an entry says of a TPM: a finding, or the head that it speaks of.
    fn hardware(&mut self, index: u64, rule: &'static str, told: Result<Option<LogHead>, String>) {
        match told {
            Ok(head) => self.heads.extend(head.map(|head| (index, head))),
            Err(what) if self.is_whole() => self.find(index, rule, what),
            Err(_) => {}
        }
    }

    /// A log that continues another begins with the other's last checkpoint.
    fn epoch(&mut self, index: u64, epoch: &Epoch) {
        let previous = epoch.previous.parse::<VerifierKey>();
        let previous = previous.map_err(|error| error.to_string()).and_then(|key| {
            let head = Checkpoint::open(&epoch.checkpoint, &key).map_err(|error| error.to_string())?;
            match self.place.continues(key.name()) {
                true => Ok(head),
                false => Err(format!("it continues {}", key.name())),
            }
        });
        match previous {
            Ok(_) if index == 0 => {}
            Ok(_) => self.find(index, "epoch", "only the first entry of a log can continue another"),
            Err(what) => self.find(index, "epoch", what),
        }
    }

    fn key(&mut self, index: u64, at: Timestamp, key: Key) -> Result<(), FolderError> {
        let public_key = match PublicKey::from_spki(&key.spki.0) {
            Ok(public_key) => public_key,
            Err(error) => {
                self.find(index, "key", error.to_string());
                return Ok(());
            }
        };
        let evidence = match &key.evidence {
            KeyEvidence::Inline(bytes) => bytes.0.clone(),
            KeyEvidence::Blob(blob) => self.blob(index, blob.sha256, blob.length)?.unwrap_or_default(),
        };
        if public_key.id() != key.key_id.0 {
            self.find(
                index,
                "key",
                format!("its key has the id {}, and it says {}", public_key.id(), key.key_id.0),
            );
        }
        if public_key.key_type() != key.algorithm.key_type() {
            self.find(
                index,
                "key",
                format!("its key is {}, and it says {}", public_key.key_type(), key.algorithm),
            );
        }
        let judged = grade(custody::judge(&key.format, &evidence, &public_key, self.trust, at).grade);
        // Who believes nobody cannot say that nothing is proven; what is forged shows all the same.
        let believes_nobody = match key.format.as_str() {
            "google-kms-v1" => self.trust.hsm.is_empty(),
            _ => self.trust.activators.is_empty(),
        };
        let is_open = believes_nobody && key.grade == Grade::Proven;
        if judged < key.grade && (judged == Grade::Unknown || !is_open) {
            self.find(
                index,
                "custody",
                format!("it grades its key `{}`, and its evidence is worth `{judged}`", key.grade),
            );
        }
        if let Some(area) = custody::public_area_of(&key.format, &evidence) {
            let own = area.ok().filter(|area| area.public_key().as_ref() == Ok(&public_key));
            self.ledger.key(public_key.id(), own);
        }
        let seen = KeySeen { purpose: key.purpose, key_id: public_key.id().to_string(), grade: judged };
        if !self.seen.contains(&seen) {
            self.seen.push(seen);
        }
        self.revoked.key(&public_key);
        self.keys.insert(public_key.id(), Recorded { public_key, algorithm: key.algorithm });
        Ok(())
    }

    fn bundle(&mut self, index: u64, bundle: &Bundle) {
        self.belongs(index, &bundle.domain);
        let last = self.bundles.insert(bundle.domain.clone(), bundle.sequence);
        let expected = last.map(|last| last + 1).or(self.place.first_epoch.then_some(1));
        if expected.is_some_and(|expected| bundle.sequence != expected) && self.is_whole() {
            self.find(
                index,
                "bundle",
                format!("it is bundle {} of `{}`, after {last:?}", bundle.sequence, bundle.domain),
            );
        }
        let roots = bundle.roots.iter().map(|root| AuthorityCertificate::from_der(&root.0));
        let sound =
            roots.filter(|root| root.as_ref().is_ok_and(AuthorityCertificate::is_self_signed)).count();
        if sound == 0 || sound < bundle.roots.len() {
            self.find(index, "bundle", format!("{sound} of its {} roots are roots", bundle.roots.len()));
        }
        let wrong = self.rotations.bundle(bundle);
        self.find_of_rotation(index, "bundle", wrong);
    }

    /// What looks back is silent where bytes have been changed.
    fn find_of_rotation(&mut self, index: u64, rule: &'static str, wrong: Option<String>) {
        if let Some(wrong) = wrong.filter(|_| self.is_whole()) {
            self.find(index, rule, wrong);
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
        let known = self.policy.is_some() || self.place.first_epoch;
        if known && self.policy != policy.previous && self.is_whole() {
            self.find(index, "policy", "it replaces another policy than the one in force");
        }
        if self.plan.is_some_and(|plan| plan != policy.sha256) {
            self.find(index, "ceremony", "it is another text than the plan of the ceremony");
        }
        self.policy = Some(policy.sha256);
        Ok(())
    }

    fn refusal(&mut self, index: u64, refusal: &Refusal) {
        self.is_in_force(index, refusal.policy);
        // The control log also holds what was asked for domains that are nobody's.
        if self.place.about == About::Domain {
            self.belongs(index, &refusal.domain);
        }
    }

    fn enrolment(&mut self, enrolment: Enrolment) {
        let Enrolment { event, token, id, expires, .. } = enrolment;
        if event == EnrolmentEvent::NodeReleased {
            return self.verdicts.released(token);
        }
        self.tokens.insert(token, Token { id, expires });
    }

    fn ceremony(&mut self, index: u64, ceremony: &Ceremony) {
        if ceremony.event != CeremonyEvent::Adopted {
            let plan = *self.plan.get_or_insert(ceremony.plan);
            if plan != ceremony.plan {
                self.find(index, "ceremony", format!("it is of the plan {}, not {plan}", ceremony.plan));
            }
            return;
        }
        let opened =
            ceremony.transcript.as_ref().ok_or("it names no transcript".to_owned()).and_then(|head| {
                let key: VerifierKey = head.verifier_key.parse().map_err(|error| format!("{error}"))?;
                Checkpoint::open(&head.checkpoint, &key).map_err(|error| error.to_string())
            });
        if let Err(error) = opened {
            self.find(index, "ceremony", format!("the transcript that it takes note of: {error}"));
        }
    }

    /// Whether every entry so far could be read, so that what is missing was never there.
    fn is_whole(&self) -> bool {
        self.bad.is_empty()
    }

    /// A domain's log holds nothing for another domain, nor does the control log for any but one.
    fn belongs(&mut self, index: u64, domain: &str) {
        if let Err(own) = self.place.takes(domain) {
            self.find(index, "domain", format!("it is for `{domain}` and stands in the log of `{own}`"));
        }
    }

    /// What was decided was decided by the policy in force.
    fn is_in_force(&mut self, index: u64, named: Digest) {
        match self.policy {
            _ if !self.is_whole() => {}
            Some(policy) if policy != named => {
                self.find(index, "policy", format!("it names the policy {named}, and {policy} is in force"));
            }
            None if self.place.has_policies() && self.place.first_epoch => {
                self.find(index, "policy", "it names a policy, and there is none in front of it");
            }
            _ => {}
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

    fn find(&mut self, index: u64, rule: &'static str, what: impl Into<String>) {
        self.findings.push(Finding::of_entry(index, rule, what));
    }

    /// Heads that entries speak of are heads that this log had.
    fn heads_are_ours(&mut self, checkpoint: &Checkpoint) {
        if !self.is_whole() {
            return;
        }
        for (index, head) in std::mem::take(&mut self.heads) {
            let root =
                (head.size <= index).then(|| root_at(self.folder, checkpoint.size, head.size)).flatten();
            if root != Some(head.root) {
                self.find(
                    index,
                    "head",
                    format!("this log never had the root {} at size {}", head.root, head.size),
                );
            }
        }
    }

    fn conclude(mut self, checkpoint: &Checkpoint) -> Report {
        self.heads_are_ours(checkpoint);
        // Signatures are verified after what stands around them.
        self.findings.sort_by_key(|finding| finding.entry);
        self.intents.open = self.open.len() as u64;
        if let Some(population) = &mut self.population {
            population.open.extend(self.open.keys());
        }
        let signs = self.kinds.contains_key(&Kind::Intent);
        if signs && self.is_whole() && !self.keys.contains_key(&self.log_key.key().id()) {
            self.findings.push(Finding::of_log("custody", "the key of the log has no custody record in it"));
        }
        Report {
            scope: Scope::Everything,
            first: self.first,
            last: self.last,
            kinds: self.kinds,
            intents: self.intents,
            keys: self.seen,
            ledger: self.ledger.conclude(),
            findings: self.findings,
            ..Report::of_tree(self.log_key, checkpoint)
        }
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
