//! Ceremonies, verified from their files: `docs/ceremony.md`, "Verifying a ceremony".
//!
//! Everything is derived again from the plan: the order of the entries, the approvals, the bytes that were signed, the
//! files. Nothing stops at the first finding, and nothing asks a token.

mod approvals;
pub mod clauses;
mod custody;
mod deviations;
mod devices;
mod next;
mod order;
mod outputs;
pub mod page;
mod previous;
mod record;
mod rehearsal;
mod signatures;
mod statements;
mod verdict;

use std::path::Path;

use jiff::Timestamp;
use undercroft_ca::plan::{Keys, Mode, Plan, PlanError};
use undercroft_log::leaf::{Body, CeremonyEvent, Digest};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::{Folder, FolderError};

use self::approvals::ApprovalTold;
use self::custody::{Judged, KeyTold};
use self::order::Replay;
use self::outputs::OutputTold;
use self::record::{Entry, Transcript};
use self::signatures::SignedObject;
pub use self::verdict::{Check, DeviationTold, Outcome, Status, Subject, Verdict};
use self::verdict::{Checks, sound};
use crate::{Known, NoAudit, Scope, audit_as};

/// What an auditor was given of a ceremony.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The transcript.
    pub transcript: &'a Folder,
    /// The key that must have signed it, from somebody who is trusted.
    pub key: &'a VerifierKey,
    /// The plan that was reviewed.
    pub plan: &'a Plan,
    /// The folder that it wrote to.
    pub outputs: Option<&'a Path>,
    /// The folder that it read from.
    pub requests: Option<&'a Path>,
    /// The transcript of the rehearsal.
    pub rehearsal: Option<(&'a Folder, &'a VerifierKey)>,
    /// The transcript of the ceremony before.
    pub previous: Option<(&'a Folder, &'a VerifierKey)>,
    /// The transcript of the rehearsal of the next ceremony.
    pub next: Option<(&'a Folder, &'a VerifierKey)>,
    /// What is known besides the log, and who is believed about TPMs.
    pub known: &'a Known,
    /// Which outcome is wanted.
    pub wanted: Wanted,
}

/// Which outcome satisfies the auditor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A ceremony that counts.
    #[default]
    Ceremony,
    /// A rehearsal.
    Rehearsal,
    /// A trial, where a plan needs no terms and keys in software are good enough.
    Development,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum NoVerdict {
    /// A file cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The plan cannot be rehearsed.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// A ceremony that was gone through.
#[derive(Debug)]
pub struct Verified {
    /// What it comes to.
    pub verdict: Verdict,
    /// What happened, for the report; nothing if the transcript cannot be opened.
    pub record: Option<Record>,
}

/// What happened in a ceremony, as its transcript says.
#[derive(Debug)]
pub struct Record {
    /// The signed head.
    note: String,
    steps: Vec<StepTold>,
    approvals: Vec<ApprovalTold>,
    devices: Vec<(u64, String)>,
    keys: Vec<KeyTold>,
    /// Notes, pauses and resumptions.
    told: Vec<(u64, Timestamp, &'static str, String)>,
    outputs: Vec<OutputTold>,
}

/// When a step was done, and what came of it.
#[derive(Debug)]
struct StepTold {
    number: u64,
    begun: Option<Timestamp>,
    done: Option<Timestamp>,
    attempts: usize,
    output: Option<Digest>,
}

/// Verifies a ceremony.
///
/// # Errors
/// A file cannot be read. Whatever is wrong with what can be read is in the verdict.
pub fn verify(given: &Given<'_>) -> Result<Verified, NoVerdict> {
    let rehearsed = given.plan.clone().rehearsed()?;
    let is_rehearsal = given.key.name() == rehearsed.origin();
    let plan = if is_rehearsal { &rehearsed } else { given.plan };
    let mut checks = Checks::default();
    let mut verdict = Verdict {
        outcome: Outcome::Refused,
        passed: false,
        title: plan.title().to_owned(),
        origin: given.key.name().to_string(),
        plan: plan.digest(),
        entries: 0,
        root: String::new(),
        first: None,
        last: None,
        checks: Vec::new(),
        deviations: Vec::new(),
    };
    log(given.known, given.transcript, given.key, &mut checks)?;
    let transcript = match Transcript::read(given.transcript, given.key) {
        Ok(transcript) => transcript,
        Err(NoAudit::Folder(error)) => return Err(error.into()),
        // The log cannot be opened, which stands in the verdict; nothing else can be looked at.
        Err(_) => {
            verdict.checks = checks.conclude();
            return Ok(Verified { verdict, record: None });
        }
    };
    let before = previous::plan_before(given)?;
    let core = core(given, &transcript, plan, before.as_ref(), &mut checks)?;
    rehearsal::judge(given, plan, &rehearsed, &core, &mut checks)?;
    previous::judge(given, plan, before.as_ref(), &core, &mut checks)?;
    next::judge(given, plan, &core, &mut checks)?;
    let outputs = outputs::judge(given, plan, &core.replay, &core.keys, &core.signed, &mut checks)?;
    outputs::evidence(given, &core.replay, &core.keys, &outputs, &mut checks)?;
    verdict.entries = transcript.checkpoint.size;
    verdict.root = transcript.checkpoint.root.to_string();
    verdict.first = transcript.entries.first().map(|entry| entry.time);
    verdict.last = transcript.entries.last().map(|entry| entry.time);
    let record = Record::new(&transcript, &core, outputs);
    verdict.deviations = core.deviations;
    verdict.outcome = match checks.first() {
        Some(_) => Outcome::Refused,
        None if core.is_trial => Outcome::Development,
        None => sound(plan),
    };
    verdict.passed = match verdict.outcome {
        Outcome::Accepted => given.wanted != Wanted::Rehearsal,
        Outcome::Refused => false,
        Outcome::Rehearsal => given.wanted == Wanted::Rehearsal,
        Outcome::Development => given.wanted == Wanted::Development,
    };
    verdict.checks = checks.conclude();
    Ok(Verified { verdict, record: Some(record) })
}

impl Record {
    fn new(transcript: &Transcript<'_>, core: &Core<'_>, outputs: Vec<OutputTold>) -> Self {
        let replay = &core.replay;
        let in_words = |event| match event {
            CeremonyEvent::Paused => "paused",
            CeremonyEvent::Resumed => "resumed",
            _ => "note",
        };
        let told = replay.told.iter();
        let told = told.map(|(entry, it)| (entry.index, entry.time, in_words(it.event), it.text.clone()));
        let steps = replay.steps.iter().map(|seen| StepTold {
            number: seen.step.number,
            begun: seen.begun.map(|(_, time)| time),
            done: seen.done.map(|(_, time)| time),
            attempts: seen.intents.len(),
            output: seen.output,
        });
        Self {
            note: transcript.note.clone(),
            steps: steps.collect(),
            approvals: approvals::told(replay, &core.who),
            devices: replay.devices.iter().map(|(entry, text)| (entry.index, (*text).to_owned())).collect(),
            keys: core.records.clone(),
            told: told.collect(),
            outputs,
        }
    }
}

/// What a transcript says by itself, judged.
struct Core<'a> {
    replay: Replay<'a>,
    keys: Keys,
    records: Vec<KeyTold>,
    is_trial: bool,
    signed: Vec<SignedObject>,
    /// Who made each approval, as far as it counts.
    who: Vec<Vec<String>>,
    deviations: Vec<DeviationTold>,
}

/// Judges what a transcript says by itself.
fn core<'a>(
    given: &Given<'_>,
    transcript: &'a Transcript<'_>,
    plan: &'a Plan,
    before: Option<&Plan>,
    checks: &mut Checks,
) -> Result<Core<'a>, NoVerdict> {
    let replay = order::replay(transcript, plan, checks);
    is_of_plan(transcript, plan, &replay, checks)?;
    let who = approvals::judge(transcript, plan, before, &replay, checks);
    let deviations = deviations::judge(&replay, &who, checks);
    deviations::window(transcript, plan, replay.awaiting, &deviations, checks);
    let devices = devices::judge(plan, &replay, checks);
    // A plan without terms runs in development alone, where keys in software are good enough.
    let development = plan.terms().is_none() || given.wanted == Wanted::Development;
    let trust = &given.known.trust;
    let Judged { keys, records, is_trial } =
        custody::judge(transcript, plan, &replay, &devices, trust, development, checks)?;
    let signed = signatures::judge(transcript, plan, &replay, &keys, checks)?;
    statements::judge(plan, before, &replay, &signed, checks);
    Ok(Core { replay, keys, records, is_trial, signed, who, deviations })
}

/// The audit of the log: checkpoint, tree, and what the entries say by themselves.
fn log(known: &Known, folder: &Folder, key: &VerifierKey, checks: &mut Checks) -> Result<(), NoVerdict> {
    match audit_as(folder, key, Scope::Everything, known, |_| {}) {
        Ok(report) => {
            let compared = format!("{} entries, root {}", report.size, report.root);
            checks.compared(Subject::Transcript, compared);
            checks.found(Subject::Transcript, report.findings);
        }
        Err(NoAudit::Folder(error @ FolderError::Io { .. })) => return Err(error.into()),
        Err(error) => checks.wrong(Subject::Transcript, "checkpoint", error.to_string()),
    }
    Ok(())
}

/// The plan in the transcript is the one that was given, to the byte, and every entry is of it.
fn is_of_plan(
    transcript: &Transcript<'_>,
    plan: &Plan,
    replay: &Replay<'_>,
    checks: &mut Checks,
) -> Result<(), NoVerdict> {
    checks.compared(Subject::Plan, format!("{} bytes, SHA-256 {}", plan.text().len(), plan.digest()));
    if transcript.key.name() != plan.origin() {
        let what =
            format!("the transcript is {}, and that of the plan is {}", transcript.key.name(), plan.origin());
        checks.wrong(Subject::Plan, "plan-origin", what);
    }
    if replay.plans.is_empty() {
        checks.wrong(Subject::Plan, "plan-text", "the transcript does not hold its plan");
    }
    for (entry, policy) in &replay.plans {
        let text = transcript.plan_text(policy)?;
        if text.as_deref() != Some(plan.text().as_bytes()) {
            let what = match text {
                Some(_) => "the plan in the transcript is another text than the one that was given",
                None => "the text of the plan is missing",
            };
            checks.entry(Subject::Plan, entry.index, "plan-text", what);
        }
    }
    let named = |body: &Body| match body {
        Body::Ceremony(it) => Some(it.plan),
        Body::Policy(it) => Some(it.sha256),
        _ => None,
    };
    let is_other = |entry: &&Entry| named(&entry.body).is_some_and(|named| named != plan.digest());
    let others: Vec<_> = transcript.entries.iter().filter(is_other).collect();
    if let Some(first) = others.first() {
        let what =
            format!("it is of another plan than the one that was given, as {} entries are", others.len());
        checks.entry(Subject::Plan, first.index, "plan-digest", what);
    }
    let is_production = plan.mode() == Mode::Production;
    if is_production && plan.terms().is_none() {
        checks.compared(
            Subject::Plan,
            format!("{} bytes, SHA-256 {}; it has no terms", plan.text().len(), plan.digest()),
        );
    }
    Ok(())
}
