//! The strict replay: every entry of a transcript against the documented order (`docs/ceremony.md`), and every step
//! against those of the plan.

use jiff::Timestamp;
use undercroft_ca::approval::{Action, Statement};
use undercroft_ca::plan::{Mode, Plan, Step, What};
use undercroft_log::leaf::{
    Approval, Body, Ceremony, CeremonyEvent, CeremonyStep, Digest, Intent, Key, Outcome, OutcomeResult,
    Policy, TranscriptHead,
};

use super::record::{Entry, Transcript};
use super::verdict::{Checks, Subject};

/// The purpose in the custody record of the transcript's own key.
pub(crate) const PURPOSE_OF_TRANSCRIPT: &str = "the transcript";

/// What a transcript says, sorted.
pub(crate) struct Replay<'a> {
    /// As many as the plan has, in its order.
    pub(crate) steps: Vec<StepSeen<'a>>,
    pub(crate) plans: Vec<(&'a Entry, &'a Policy)>,
    /// Every record of a key: outside steps only the transcript's own belongs.
    pub(crate) keys: Vec<KeySeen<'a>>,
    pub(crate) approvals: Vec<ApprovalSeen<'a>>,
    pub(crate) deviations: Vec<DeviationSeen<'a>>,
    pub(crate) rehearsed: Option<(&'a Entry, Option<&'a TranscriptHead>)>,
    pub(crate) continues: Option<(&'a Entry, Option<&'a TranscriptHead>)>,
    pub(crate) devices: Vec<(&'a Entry, &'a str)>,
    /// The rehearsal of the next ceremony.
    pub(crate) next: Option<(&'a Entry, Option<&'a TranscriptHead>)>,
    /// Notes, pauses and resumptions.
    pub(crate) told: Vec<(&'a Entry, &'a Ceremony)>,
    pub(crate) awaiting: Option<u64>,
    pub(crate) ended: Option<(&'a Entry, CeremonyEvent)>,
}

/// A step, as it was done.
pub(crate) struct StepSeen<'a> {
    pub(crate) step: Step<'a>,
    pub(crate) begun: Option<(u64, Timestamp)>,
    pub(crate) done: Option<(u64, Timestamp)>,
    pub(crate) output: Option<Digest>,
    pub(crate) intents: Vec<IntentSeen<'a>>,
}

/// An intent, and what became of it.
pub(crate) struct IntentSeen<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) intent: &'a Intent,
    pub(crate) outcome: Option<(&'a Entry, &'a OutcomeResult)>,
}

/// A record of a key, and the step that it stands in.
pub(crate) struct KeySeen<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) key: &'a Key,
    pub(crate) step: Option<u64>,
}

/// What an approval stands for, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approves {
    Plan,
    /// That the roster is another than that of the ceremony before, by the quorum of that.
    Roster,
    Deviation,
    /// A statement about roots.
    Roots,
    Result,
}

/// An approval, and what its place says that it is of.
pub(crate) struct ApprovalSeen<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) approval: &'a Approval,
    pub(crate) of: Approves,
}

/// A leave from the plan, and the approval in front of it.
pub(crate) struct DeviationSeen<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) text: &'a str,
    /// Where it is in [`Replay::approvals`].
    pub(crate) approval: Option<usize>,
}

/// How far a transcript has come. Each stands behind those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Nothing,
    Opened,
    TranscriptKey,
    Plan,
    Approved,
    Rehearsed,
    Continues,
    RosterChanged,
    Devices,
    Steps,
    NextRehearsed,
    Awaiting,
    RootsApproved,
    ResultApproved,
    Ended,
}

impl Place {
    fn in_words(self) -> &'static str {
        match self {
            Self::Nothing => "the beginning",
            Self::Opened => "`opened`",
            Self::TranscriptKey => "the transcript's key",
            Self::Plan => "the plan",
            Self::Approved => "the plan's approval",
            Self::Rehearsed => "`rehearsed`",
            Self::Continues => "`continues`",
            Self::RosterChanged => "the approval of the roster",
            Self::Devices => "a device",
            Self::Steps => "the first step",
            Self::NextRehearsed => "`next-rehearsed`",
            Self::Awaiting => "`awaiting`",
            Self::RootsApproved => "the approval of a statement about roots",
            Self::ResultApproved => "the result's approval",
            Self::Ended => "the end",
        }
    }
}

/// Replays a transcript.
pub(crate) fn replay<'a>(transcript: &'a Transcript<'_>, plan: &'a Plan, checks: &mut Checks) -> Replay<'a> {
    let steps = plan.steps().into_iter();
    let steps =
        steps.map(|step| StepSeen { step, begun: None, done: None, output: None, intents: Vec::new() });
    let replay = Replay {
        steps: steps.collect(),
        plans: Vec::new(),
        keys: Vec::new(),
        approvals: Vec::new(),
        deviations: Vec::new(),
        rehearsed: None,
        continues: None,
        devices: Vec::new(),
        next: None,
        told: Vec::new(),
        awaiting: None,
        ended: None,
    };
    let mut reader = Reader {
        plan,
        replay,
        checks,
        place: Place::Nothing,
        current: None,
        done: 0,
        resumed: false,
        pending: None,
    };
    transcript.entries.iter().for_each(|entry| reader.read(entry));
    reader.conclude(transcript)
}

struct Reader<'a, 'c> {
    plan: &'a Plan,
    replay: Replay<'a>,
    checks: &'c mut Checks,
    place: Place,
    /// The number of the step that is being done.
    current: Option<u64>,
    /// The number of the last step that was done.
    done: u64,
    /// Whether the program was started again since the last step was begun.
    resumed: bool,
    /// The approval of a deviation that must come next.
    pending: Option<usize>,
}

impl<'a> Reader<'a, '_> {
    fn read(&mut self, entry: &'a Entry) {
        if self.place == Place::Ended {
            return self.find(entry, "after-end", "it stands behind the end of the ceremony");
        }
        let is_opening = matches!(&entry.body, Body::Ceremony(it) if it.event == CeremonyEvent::Opened);
        if self.place == Place::Nothing && !is_opening {
            self.find(entry, "order", "the first entry of a transcript is `opened`");
            self.place = Place::Opened;
        }
        match &entry.body {
            Body::Ceremony(ceremony) => self.ceremony(entry, ceremony),
            Body::Key(key) => self.key(entry, key),
            Body::Policy(policy) => {
                self.come_to(entry, Place::Plan, false);
                self.replay.plans.push((entry, policy));
            }
            Body::Approval(approval) => self.approval(entry, approval),
            Body::Intent(intent) => self.intent(entry, intent),
            Body::Outcome(outcome) => self.outcome(entry, outcome),
            other => {
                let what = format!("an entry of kind {} has no place in a transcript", other.kind());
                self.find(entry, "order", what);
            }
        }
    }

    fn ceremony(&mut self, entry: &'a Entry, ceremony: &'a Ceremony) {
        if let (Some(_), false) =
            (self.pending, is_aside(ceremony.event) || ceremony.event == CeremonyEvent::Deviation)
        {
            self.find(entry, "order", "the approval of a deviation is not followed by the deviation");
            self.pending = None;
        }
        let of_step = matches!(ceremony.event, CeremonyEvent::Step | CeremonyEvent::Done);
        if of_step != ceremony.step.is_some() {
            return self.find(entry, "order", "`step` and `done` have a step, and nothing else has");
        }
        match (ceremony.event, &ceremony.step) {
            (CeremonyEvent::Opened, _) => {
                self.come_to(entry, Place::Opened, false);
                let marked = ceremony.text.starts_with("REHEARSAL") == (self.plan.mode() == Mode::Rehearsal);
                if !ceremony.text.ends_with(self.plan.title()) || !marked {
                    self.find(
                        entry,
                        "opened",
                        format!("it says `{}`, and not the plan's title", ceremony.text),
                    );
                }
            }
            (CeremonyEvent::Rehearsed, _) => {
                self.come_to(entry, Place::Rehearsed, false);
                self.replay.rehearsed = Some((entry, ceremony.transcript.as_ref()));
            }
            (CeremonyEvent::Continues, _) => {
                self.come_to(entry, Place::Continues, false);
                self.replay.continues = Some((entry, ceremony.transcript.as_ref()));
            }
            (CeremonyEvent::Deviation, _) => {
                self.is_between(entry);
                let approval = self.pending.take();
                self.replay.deviations.push(DeviationSeen { entry, text: &ceremony.text, approval });
            }
            (CeremonyEvent::Device, _) => {
                // A device is recognised again when the program is started again.
                if !(self.place == Place::Steps && self.resumed) {
                    self.come_to(entry, Place::Devices, true);
                }
                self.replay.devices.push((entry, &ceremony.text));
            }
            (CeremonyEvent::Step, Some(step)) => self.step(entry, step),
            (CeremonyEvent::Done, Some(step)) => self.step_done(entry, step),
            (event, _) if is_aside(event) => {
                self.resumed |= event == CeremonyEvent::Resumed;
                self.replay.told.push((entry, ceremony));
            }
            (CeremonyEvent::NextRehearsed, _) => {
                self.all_done(entry);
                self.come_to(entry, Place::NextRehearsed, false);
                self.replay.next = Some((entry, ceremony.transcript.as_ref()));
            }
            (CeremonyEvent::Awaiting, _) => {
                self.all_done(entry);
                self.come_to(entry, Place::Awaiting, false);
                self.replay.awaiting = Some(entry.index);
            }
            (CeremonyEvent::Closed, _) => {
                self.all_done(entry);
                self.come_to(entry, Place::Ended, false);
                self.replay.ended = Some((entry, ceremony.event));
            }
            (CeremonyEvent::Aborted, _) => {
                self.place = Place::Ended;
                self.replay.ended = Some((entry, ceremony.event));
                self.find(entry, "aborted", format!("the ceremony was given up: {}", ceremony.text));
            }
            _ => self.find(entry, "order", "this has no place in a transcript"),
        }
    }

    fn key(&mut self, entry: &'a Entry, key: &'a Key) {
        let step = match key.purpose == PURPOSE_OF_TRANSCRIPT && self.current.is_none() {
            true => {
                self.come_to(entry, Place::TranscriptKey, false);
                None
            }
            false => self.in_step(entry),
        };
        self.replay.keys.push(KeySeen { entry, key, step });
    }

    fn approval(&mut self, entry: &'a Entry, approval: &'a Approval) {
        // What it says is judged elsewhere; its place says what it should be.
        let of = match action(approval) {
            Some(Action::BundleRoots) if self.place >= Place::Awaiting => Approves::Roots,
            _ if self.place >= Place::Awaiting => Approves::Result,
            Some(Action::CeremonyDeviation) => Approves::Deviation,
            Some(Action::Roster) => Approves::Roster,
            _ if self.place < Place::Approved => Approves::Plan,
            _ => Approves::Deviation,
        };
        match of {
            Approves::Plan => self.come_to(entry, Place::Approved, false),
            Approves::Roster => self.come_to(entry, Place::RosterChanged, false),
            Approves::Deviation => {
                self.is_between(entry);
                self.pending = Some(self.replay.approvals.len());
            }
            Approves::Roots => {
                self.come_to(entry, Place::RootsApproved, true);
                let stood = self.replay.approvals.iter().filter(|seen| seen.of == Approves::Roots).count();
                if stood >= self.plan.bundle_statements().len() {
                    let what = "the plan has no further statement about roots that could be approved";
                    self.find(entry, "order", what);
                }
            }
            Approves::Result => self.come_to(entry, Place::ResultApproved, false),
        }
        self.replay.approvals.push(ApprovalSeen { entry, approval, of });
    }

    fn intent(&mut self, entry: &'a Entry, intent: &'a Intent) {
        let Some(number) = self.in_step(entry) else { return };
        let Some(seen) = self.seen(number) else { return };
        seen.intents.push(IntentSeen { entry, intent, outcome: None });
        let name = seen.step.name();
        if intent.rule != name {
            let what = format!("it is of `{}`, in the step of `{name}`", intent.rule);
            self.find(entry, "intent-artefact", what);
        }
    }

    fn outcome(&mut self, entry: &'a Entry, outcome: &'a Outcome) {
        let Some(number) = self.in_step(entry) else { return };
        let Some(seen) = self.seen(number) else { return };
        // An outcome without its intent was told by the audit of the log.
        let intent = seen.intents.iter_mut().find(|intent| intent.entry.index == outcome.intent);
        match intent {
            Some(intent) => intent.outcome = Some((entry, &outcome.result)),
            None => self.find(entry, "outside-step", "its intent is not of the step that it stands in"),
        }
    }

    fn step(&mut self, entry: &'a Entry, step: &CeremonyStep) {
        if self.place != Place::Steps {
            self.come_to(entry, Place::Steps, false);
        }
        if step.output.is_some() {
            self.find(entry, "done-output", "a step has written nothing when it is begun");
        }
        if !self.is_of_plan(entry, step) {
            return;
        }
        let number = step.number;
        match self.current {
            // After an interruption a step may be announced again.
            Some(current) if current == number && self.resumed => {}
            Some(current) if current == number => {
                self.find(entry, "step-twice", format!("step {number} was begun before"))
            }
            Some(current) => {
                self.find(
                    entry,
                    "step-open",
                    format!("step {number} is begun, and step {current} is not done"),
                );
            }
            None if number <= self.done => {
                self.find(entry, "step-twice", format!("step {number} was done before"));
            }
            None if number > self.done + 1 => {
                let what = format!("step {number} is begun after step {}", self.done);
                self.find(entry, "step-order", what);
            }
            None => {}
        }
        self.current = Some(number);
        self.resumed = false;
        if let Some(seen) = self.seen(number) {
            seen.begun.get_or_insert((entry.index, entry.time));
        }
    }

    fn step_done(&mut self, entry: &'a Entry, step: &CeremonyStep) {
        if !self.is_of_plan(entry, step) {
            return;
        }
        if self.current != Some(step.number) {
            let what = format!("step {} is done, and was not begun before it", step.number);
            self.find(entry, "done-without-step", what);
        }
        self.current = None;
        self.done = self.done.max(step.number);
        let Some(seen) = self.seen(step.number) else { return };
        seen.done.get_or_insert((entry.index, entry.time));
        seen.output = step.output;
        let writes = seen.step.output().is_some()
            || matches!(seen.step.what, What::Manual(it) if it.evidence().is_some());
        let open: Vec<_> = seen.intents.iter().filter(|it| it.outcome.is_none()).map(|it| it.entry).collect();
        for intent in open {
            self.find(intent, "intent-open", "nothing says what became of it before its step was done");
        }
        if writes != step.output.is_some() {
            let what = match writes {
                true => "nothing says which file the step wrote, or was given",
                false => "the step writes no file, and a digest of one stands here",
            };
            self.find(entry, "done-output", what);
        }
    }

    /// Whether a step is the plan's, by number and name.
    fn is_of_plan(&mut self, entry: &'a Entry, step: &CeremonyStep) -> bool {
        let number = step.number;
        match self.seen(number).map(|seen| seen.step.name()) {
            None => {
                let what =
                    format!("the plan has {} steps, and this is number {number}", self.replay.steps.len());
                self.find(entry, "step-unknown", what);
                false
            }
            Some(name) if name != step.artefact => {
                let what = format!("step {number} is `{name}`, and it says `{}`", step.artefact);
                self.find(entry, "step-artefact", what);
                true
            }
            Some(_) => true,
        }
    }

    fn all_done(&mut self, entry: &'a Entry) {
        if let Some(current) = self.current.take() {
            self.find(entry, "step-open", format!("step {current} was begun and is not done"));
        }
    }

    /// What happens once, in order.
    fn come_to(&mut self, entry: &'a Entry, place: Place, again: bool) {
        let (here, there) = (self.place.in_words(), place.in_words());
        if place < self.place {
            return self.find(entry, "order", format!("{there} stands behind {here}"));
        }
        if place == self.place && !again {
            return self.find(entry, "order", format!("{there} stands there twice"));
        }
        let before = match place {
            Place::Opened => Place::Nothing,
            Place::TranscriptKey => Place::Opened,
            Place::Plan => Place::TranscriptKey,
            // What the plan does not ask for may be absent; whether it asks is for others to say.
            Place::Ended if self.replay.awaiting.is_some() => Place::ResultApproved,
            Place::RosterChanged => Place::Continues,
            Place::RootsApproved | Place::ResultApproved => Place::Awaiting,
            Place::NextRehearsed | Place::Awaiting | Place::Ended => Place::Steps,
            _ => Place::Plan,
        };
        if self.place < before {
            self.find(
                entry,
                "order",
                format!("{there} stands behind {here}, and {} is missing", before.in_words()),
            );
        }
        self.place = place;
    }

    /// Deviations stand before the first step, or where something went otherwise than planned; never behind the last step.
    fn is_between(&mut self, entry: &'a Entry) {
        if self.place < Place::Plan || self.place > Place::Steps {
            let what = format!("a deviation stands behind {}", self.place.in_words());
            self.find(entry, "order", what);
        }
    }

    fn in_step(&mut self, entry: &'a Entry) -> Option<u64> {
        if self.current.is_none() {
            let what = format!("an entry of kind {} stands outside of every step", entry.body.kind());
            self.find(entry, "outside-step", what);
        }
        self.current
    }

    fn seen(&mut self, number: u64) -> Option<&mut StepSeen<'a>> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.replay.steps.get_mut(at)
    }

    fn find(&mut self, entry: &Entry, rule: &'static str, what: impl Into<String>) {
        self.checks.entry(Subject::Order, entry.index, rule, what);
    }

    fn conclude(self, transcript: &Transcript<'_>) -> Replay<'a> {
        let Self { replay, checks, .. } = self;
        for seen in replay.steps.iter().filter(|seen| seen.done.is_none()) {
            let (number, name) = (seen.step.number, seen.step.name());
            checks.wrong(Subject::Order, "step-missing", format!("step {number}, `{name}`, was not done"));
        }
        if replay.ended.is_none() {
            checks.wrong(Subject::Order, "not-closed", "the transcript ends, and the ceremony does not");
        }
        let own: Vec<_> =
            replay.keys.iter().filter(|seen| seen.key.purpose == PURPOSE_OF_TRANSCRIPT).collect();
        if own.is_empty() {
            checks.wrong(Subject::Order, "transcript-key", "the key of the transcript has no record");
        }
        for seen in own.iter().filter(|seen| seen.key.key_id.0 != transcript.key.key().id()) {
            let what =
                format!("it records the key {}, and another one signs the transcript", seen.key.key_id.0);
            checks.entry(Subject::Order, seen.entry.index, "transcript-key", what);
        }
        checks.compared(
            Subject::Order,
            format!("{} entries, {} steps of the plan", transcript.entries.len(), replay.steps.len()),
        );
        replay
    }
}

/// What people may have written down at any time.
fn is_aside(event: CeremonyEvent) -> bool {
    matches!(event, CeremonyEvent::Note | CeremonyEvent::Paused | CeremonyEvent::Resumed)
}

/// What an approval says that it approves.
fn action(approval: &Approval) -> Option<Action> {
    Statement::parse(&approval.statement).ok().map(|statement| statement.action)
}
