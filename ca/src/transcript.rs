//! What the transcript of a ceremony says so far (`docs/ceremony.md`): where it goes on after an interruption.

use std::collections::BTreeMap;

use undercroft_keys::{KeyId, SignatureAlgorithm};
use undercroft_log::leaf::{
    Body, Ceremony, CeremonyEvent, CeremonyStep, Digest, Leaf, OutcomeResult, ToBeSigned,
};

/// The purpose in the custody record of a root's key.
pub fn purpose_of_root(name: &str) -> String {
    format!("root {name}")
}

/// The purpose in the custody record of an intermediate's key.
pub fn purpose_of_intermediate(name: &str, domain: &str) -> String {
    format!("authority {name} of {domain}")
}

/// The purpose in the custody record of an OCSP signer's key.
pub fn purpose_of_ocsp_signer(name: &str, root: &str) -> String {
    format!("OCSP responder {name} of {root}")
}

/// A transcript, read from its first entry on.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The plan that it is of.
    pub plan: Option<Digest>,
    /// Steps that are done, by number.
    pub done: BTreeMap<u64, CeremonyStep>,
    /// The step that was begun last, if it is not done.
    pub begun: Option<CeremonyStep>,
    /// How many intents each artefact has had.
    pub attempts: BTreeMap<String, u32>,
    /// Intents without an outcome.
    pub open: Vec<u64>,
    /// What was signed last in the step that is not done.
    pub signed: Option<SignedBefore>,
    /// Keys with a custody record, by purpose.
    pub keys: BTreeMap<String, KeyId>,
    /// What stands before the first step, save what the program and the operator said in between.
    pub opening: Vec<Body>,
    /// The index of the entry after which the result waits for the quorum.
    pub awaiting: Option<u64>,
    /// How many deviations the quorum has allowed.
    pub deviations: usize,
    /// Whether the approval of the next deviation stands already, and the deviation does not.
    pub deviating: bool,
    /// Whether the rehearsal of the next ceremony stands.
    pub next_rehearsed: bool,
    /// How many of the quorum's approvals of statements about roots stand.
    pub statements: usize,
    /// Whether the quorum's approval of the result stands.
    pub approved: bool,
    /// How it ended.
    pub ended: Option<CeremonyEvent>,
    /// Entries read.
    pub size: u64,
    intents: BTreeMap<u64, (ToBeSigned, SignatureAlgorithm)>,
    stepped: bool,
}

/// A signature that stands in the transcript.
#[derive(Clone, Debug)]
pub struct SignedBefore {
    /// What was signed.
    pub tbs: ToBeSigned,
    /// How.
    pub algorithm: SignatureAlgorithm,
    /// The signature.
    pub signature: Vec<u8>,
}

/// How far a ceremony has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No step was begun.
    Opening,
    /// Steps are being done.
    Steps,
    /// Every step is done, and the quorum is to approve the result.
    Awaiting,
    /// It was closed, or given up.
    Ended,
}

impl Standing {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match (self.stepped, self.awaiting, self.ended) {
            (_, _, Some(_)) => Stage::Ended,
            (_, Some(_), None) => Stage::Awaiting,
            (true, None, None) => Stage::Steps,
            (false, None, None) => Stage::Opening,
        }
    }

    /// Whether a step was not begun yet.
    pub fn is_ahead(&self, number: u64) -> bool {
        !self.done.contains_key(&number) && self.begun.as_ref().is_none_or(|begun| begun.number != number)
    }

    /// Takes in the next entry.
    pub fn read(&mut self, leaf: &Leaf) {
        let index = self.size;
        self.size += 1;
        let aside = matches!(&leaf.body, Body::Ceremony(it) if matches!(
            it.event,
            CeremonyEvent::Resumed | CeremonyEvent::Note | CeremonyEvent::Paused | CeremonyEvent::Step
        ));
        if !self.stepped && !aside {
            self.opening.push(leaf.body.clone());
        }
        match &leaf.body {
            Body::Ceremony(ceremony) => self.ceremony(index, ceremony),
            Body::Key(key) => drop(self.keys.insert(key.purpose.clone(), key.key_id.0)),
            // Those of statements about roots are the only ones behind `awaiting` that have a text.
            Body::Approval(approval) if self.awaiting.is_some() && approval.about.is_some() => {
                self.statements += 1;
            }
            Body::Approval(_) => {
                self.approved = self.awaiting.is_some();
                self.deviating = self.stepped && !self.approved;
            }
            Body::Intent(intent) => {
                *self.attempts.entry(intent.rule.clone()).or_default() += 1;
                self.open.push(index);
                self.intents.insert(index, (intent.tbs.clone(), intent.algorithm));
            }
            Body::Outcome(outcome) => {
                self.open.retain(|open| *open != outcome.intent);
                let intent = self.intents.remove(&outcome.intent);
                if let (OutcomeResult::Signature(signature), Some((tbs, algorithm))) =
                    (&outcome.result, intent)
                {
                    self.signed = Some(SignedBefore { tbs, algorithm, signature: signature.0.clone() });
                }
            }
            _ => {}
        }
    }

    fn ceremony(&mut self, index: u64, ceremony: &Ceremony) {
        self.plan.get_or_insert(ceremony.plan);
        match ceremony.event {
            CeremonyEvent::Step => {
                self.stepped = true;
                self.begun.clone_from(&ceremony.step);
                self.signed = None;
            }
            CeremonyEvent::Done => {
                if let Some(step) = &ceremony.step {
                    self.done.insert(step.number, step.clone());
                }
                self.begun = None;
                self.signed = None;
            }
            CeremonyEvent::Deviation => {
                self.deviations += 1;
                self.deviating = false;
            }
            CeremonyEvent::NextRehearsed => self.next_rehearsed = true,
            CeremonyEvent::Awaiting => self.awaiting = Some(index),
            CeremonyEvent::Closed | CeremonyEvent::Aborted => self.ended = Some(ceremony.event),
            _ => {}
        }
    }
}
