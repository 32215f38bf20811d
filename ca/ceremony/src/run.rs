//! Running a ceremony, or rehearsing one.
//!
//! Everything that can be checked is checked before the first key is made: the plan, its terms, the devices, the requests
//! and where their keys live, that nothing would be overwritten, and lint of every object. From then on each step stands
//! in the transcript before it is done, and its signature is made by the same cycle as online: intent, receipt, issue,
//! outcome. A run that was interrupted is run again, and goes on where it stopped.

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use serde_json::json;
use undercroft_attestors::trust::Trust;
use undercroft_ca::approval::{Action, Approved};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Mode, Plan};
use undercroft_ca::transcript::Standing;
use undercroft_cli::system::{Stopwatch, SystemClock};
use undercroft_cli::{Environment, ExitStatus, Failure, Terminal};
use undercroft_keymgr::{Key, KeyUri};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Body, Ceremony, CeremonyEvent, Digest, KeyEvent, Policy, Text, TranscriptHead};

use crate::approvals::{Approvals, DeviationKind};
use crate::devices::{self, Recognised};
use crate::doing::Doing;
use crate::lint;
use crate::operator::{Answer, Operator};
use crate::requests::{self, Request};
use crate::transcript::{Read, Transcript};

/// Where a ceremony reads and writes.
pub(crate) struct Places {
    pub(crate) requests: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) transcript: PathBuf,
    pub(crate) approvals: Approvals,
    pub(crate) rehearsal: Option<PathBuf>,
    pub(crate) previous: Option<PathBuf>,
}

/// How many days the quorum has to approve a result.
const DAYS_TO_APPROVE: u16 = 30;

/// What is wanted of a ceremony.
pub(crate) enum Errand {
    /// That it goes on to its end.
    GoOn,
    /// Everything up to the making of the first key.
    DryRun,
    /// That this stands in the transcript.
    Note(String),
    /// That it is given up, for this reason.
    Abort(String),
}

pub(crate) fn run(
    plan: &Plan,
    environment: &Environment,
    places: &Places,
    operator: &Operator,
    errand: &Errand,
    terminal: &Terminal,
) -> Result<(), Failure> {
    // A rehearsal accepts keys in software, and nothing else.
    let development = environment.development;
    if plan.mode() == Mode::Rehearsal && !development {
        return Err(Failure::usage(
            "a rehearsal is on simulated tokens; give it an environment with development = true, such as `hsm-sim up` writes",
        ));
    }
    let trust = plan.trust(&environment.trust.endorsement)?;
    let requests = requests::read(plan, &places.requests, &trust, SystemClock.now())?;
    for request in &requests {
        let demand = request.intermediate.custody().unwrap_or(plan.custody());
        let required = match plan.mode() {
            Mode::Production => demand.grade(development),
            Mode::Rehearsal => undercroft_attestors::custody::Grade::Software,
        };
        request.custody.require(required).map_err(|error| Failure::refused(error.to_string()))?;
    }
    if plan.mode() == Mode::Production && plan.terms().is_none() && !development {
        return Err(Failure::refused(
            "the plan has no roster, so that nobody has approved it; add [roster], requester, window and [[device]], or set development = true in the environment",
        ));
    }
    let begun = places.transcript.join("head.json").exists();
    if !begun && matches!(errand, Errand::Note(_) | Errand::Abort(_)) {
        return Err(Failure::usage(format!("{} holds no transcript yet", places.transcript.display())));
    }
    if !begun {
        nothing_would_be_overwritten(plan, places)?;
    }
    let steps = plan.steps();
    let bar = terminal.progress(lint::objects(plan) + steps.len() as u64, "lint");
    let before = block_on(Before::check(plan, environment, places, &requests, begun, &bar))?;
    if matches!(errand, Errand::DryRun) {
        return terminal.result(&json!({ "digest": plan.digest().to_string(), "made": [] }), || {
            "Everything is in order; nothing was made.".into()
        });
    }
    let ceremony =
        Running { plan, environment, places, operator, trust, before, begun, errand, terminal, bar: &bar };
    let ended = block_on(ceremony.run(&requests))?;
    drop(bar);
    ended.tell(plan, places, terminal)
}

/// Whatever was found out before anything was made.
struct Before {
    devices: Vec<Recognised>,
    rehearsal: Option<Read>,
}

impl Before {
    async fn check(
        plan: &Plan,
        environment: &Environment,
        places: &Places,
        requests: &[Request<'_>],
        begun: bool,
        bar: &undercroft_cli::Progress,
    ) -> Result<Self, Failure> {
        let devices = devices::recognise(plan, environment).await?;
        let rehearsal = places.rehearsal.as_deref().map(|path| rehearsal(plan, path)).transpose()?;
        if plan.mode() == Mode::Production && plan.terms().is_some() {
            let now = SystemClock.now();
            inside_its_window(plan, places, now)?;
            if !begun {
                may_begin(plan, places, rehearsal.is_some(), now)?;
            }
        }
        if !begun {
            no_key_is_there_yet(plan, environment).await?;
        }
        lint::lint(plan, &environment.tokens, requests, bar).await?;
        Ok(Self { devices, rehearsal })
    }
}

/// The quorum has approved, and the plan was rehearsed unless the quorum allows otherwise.
fn may_begin(plan: &Plan, places: &Places, rehearsed: bool, now: jiff::Timestamp) -> Result<(), Failure> {
    places.approvals.get(plan, "plan", Action::CeremonyPlan, plan.digest(), now)?;
    if !rehearsed && !allowed(plan, places, DeviationKind::NotRehearsed, now)? {
        return Err(Failure::refused(
            "the plan was not rehearsed: run `undercroft-ceremony rehearse` and give its transcript with --rehearsal, or have a deviation `not-rehearsed` approved",
        ));
    }
    Ok(())
}

fn inside_its_window(plan: &Plan, places: &Places, now: jiff::Timestamp) -> Result<(), Failure> {
    let window = crate::approvals::terms(plan)?.window;
    if window.contains(now) || allowed(plan, places, DeviationKind::OutsideWindow, now)? {
        return Ok(());
    }
    Err(Failure::new(
        if now < window.begins { ExitStatus::NotYet } else { ExitStatus::Refused },
        format!(
            "it is {now}, and the plan's window is {} to {}; set the clock of this machine, wait, or have a deviation `outside-window` approved",
            window.begins, window.ends
        ),
    ))
}

/// Whether the quorum allows to deviate like this.
fn allowed(plan: &Plan, places: &Places, kind: DeviationKind, now: jiff::Timestamp) -> Result<bool, Failure> {
    let deviations = places.approvals.deviations(plan, now)?;
    Ok(deviations.iter().any(|(deviation, _, _)| deviation.kind == kind))
}

/// The transcript of a rehearsal of this plan that went through to its end.
fn rehearsal(plan: &Plan, path: &Path) -> Result<Read, Failure> {
    let read = Read::folder(path, None)?;
    let expected = plan.clone().rehearsed()?;
    let wrong = |what: String| Err(Failure::refused(format!("the rehearsal {}: {what}", path.display())));
    if read.checkpoint.origin != *expected.origin() {
        return wrong(format!("it is of {}, and not of {}", read.checkpoint.origin, expected.origin()));
    }
    let standing = read.standing();
    if standing.plan != Some(plan.digest()) {
        return wrong("another plan was rehearsed; rehearse this one".into());
    }
    match standing.ended {
        Some(CeremonyEvent::Closed) => Ok(read),
        _ => wrong("it did not go through to its end; rehearse again".into()),
    }
}

fn nothing_would_be_overwritten(plan: &Plan, places: &Places) -> Result<(), Failure> {
    let outputs = plan
        .steps()
        .iter()
        .filter_map(|step| crate::doing::path(plan, &places.out, step))
        .collect::<Vec<_>>();
    for path in outputs.into_iter().chain([places.transcript.join("head.json")]) {
        if path.exists() {
            return Err(Failure::usage(format!(
                "{} exists already, and a ceremony overwrites nothing; choose another folder",
                path.display()
            )));
        }
        can_be_written(&path)?;
    }
    Ok(())
}

/// Finds out before a key is made and not after.
fn can_be_written(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let tried = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    tried.map(drop).map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))
}

async fn no_key_is_there_yet(plan: &Plan, environment: &Environment) -> Result<(), Failure> {
    for root in plan.roots().iter().filter(|root| root.certificate().is_none()) {
        let (_, uri) = devices::locate(&environment.tokens, root.key())?;
        match devices::find(&environment.tokens, root.key()).await {
            Ok(None) => {}
            Err(failure) if failure.status() == ExitStatus::Unreachable => return Err(failure),
            Ok(Some(_)) | Err(_) => {
                return Err(Failure::usage(format!(
                    "`{}`: {uri} exists already, and a ceremony makes new keys; choose another label in the plan",
                    root.name()
                )));
            }
        }
    }
    Ok(())
}

/// A ceremony whose checks have passed.
struct Running<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    places: &'a Places,
    operator: &'a Operator,
    trust: Trust,
    before: Before,
    begun: bool,
    errand: &'a Errand,
    terminal: &'a Terminal,
    bar: &'a undercroft_cli::Progress,
}

/// How far it came.
pub(crate) enum Ended {
    /// Every step is done, and nothing is open.
    Closed,
    /// Every step is done, and the quorum is to approve the result.
    Awaiting(PathBuf),
    /// Somebody stopped it.
    Paused(u64),
    /// Somebody gave it up.
    Aborted,
    /// Somebody's note stands in the transcript.
    Noted,
}

impl Running<'_> {
    async fn run(&self, requests: &[Request<'_>]) -> Result<Ended, Failure> {
        let (key, uri) = self.transcript_key().await?;
        let event = if self.begun { KeyEvent::Opened } else { KeyEvent::Made };
        let record = self.custody(&key, event, &uri).await?;
        let log_key = LogKey::new(self.plan.origin().clone(), key)
            .map_err(|error| Failure::usage(format!("the transcript's key: {error}")))?;
        let (transcript, standing, driver) =
            Transcript::open(&self.places.transcript, log_key, self.plan.digest()).await?;
        let steps = async {
            let ended = self.go_on(&transcript, standing, &record, requests).await;
            transcript.close();
            ended
        };
        let (ended, driven) = futures::join!(steps, driver);
        driven.map_err(|error| Failure::failed(format!("the transcript: {error}")))?;
        ended
    }

    async fn go_on(
        &self,
        transcript: &Transcript,
        mut standing: Standing,
        record: &CustodyRecord,
        requests: &[Request<'_>],
    ) -> Result<Ended, Failure> {
        if let Some(plan) = standing.plan.filter(|plan| *plan != self.plan.digest()) {
            return Err(Failure::refused(format!(
                "{} is the transcript of the plan {plan}, and this plan is {}; give the plan that was begun, or another folder",
                self.places.transcript.display(),
                self.plan.digest()
            )));
        }
        if standing.ended.is_some() {
            return Err(Failure::usage(format!(
                "{} is the transcript of a ceremony that has ended, and a ceremony overwrites nothing; choose another folder",
                self.places.transcript.display()
            )));
        }
        if let Errand::Note(text) = self.errand {
            if standing.awaiting.is_some() {
                return Err(Failure::usage(
                    "every step is done, and the quorum approves what stands there; nothing more is noted",
                ));
            }
            transcript.tell(CeremonyEvent::Note, text.clone()).await?;
            return Ok(Ended::Noted);
        }
        if let (Some(awaiting), Errand::GoOn | Errand::DryRun) = (standing.awaiting, self.errand) {
            return self.approve(transcript, awaiting + 1, None, standing.approved).await;
        }
        if standing.size > 0 {
            transcript.tell(CeremonyEvent::Resumed, "the program was started again").await?;
        }
        let mut doing = Doing::new(self.plan, self.environment, self.places, &self.trust, transcript);
        if let Errand::Abort(reason) = self.errand {
            doing.clean_up(&standing).await?;
            transcript.tell(CeremonyEvent::Aborted, reason.clone()).await?;
            return Ok(Ended::Aborted);
        }
        if standing.begun.is_none() && standing.done.is_empty() {
            let stands = standing.before_steps;
            for (body, blobs) in self.opening(record).await?.into_iter().skip(stands) {
                transcript.append(body, blobs).await?;
            }
        } else {
            // What the quorum has allowed since.
            for (text, approved) in self.approvals()?.1.into_iter().skip(standing.deviations) {
                transcript.append(Body::Approval(approved.entry()), Vec::new()).await?;
                transcript.tell(CeremonyEvent::Deviation, text).await?;
            }
        }
        for intent in std::mem::take(&mut standing.open) {
            transcript.abandon(intent).await?;
        }
        let steps = self.plan.steps();
        let count = steps.len();
        let left =
            |from: usize| steps.iter().skip(from).map(|step| step.expected().as_secs()).sum::<u64>() / 60;
        for (at, step) in steps.iter().enumerate() {
            self.bar.doing(step.name().to_owned());
            let done = standing.done.get(&step.number);
            if done.is_none() {
                let head = format!("step {}/{count}  {}", step.number, step.in_words());
                let expected = step.expected().as_secs();
                self.bar.above(|| {
                    self.terminal.say(format!("{head}\n  expected {expected} s; about {} min left", left(at)))
                })?;
                match self.operator.before(step, transcript).await? {
                    Answer::Go => {}
                    Answer::Pause => {
                        transcript
                            .tell(CeremonyEvent::Paused, format!("before step {}", step.number))
                            .await?;
                        return Ok(Ended::Paused(step.number));
                    }
                    Answer::Abort(reason) => {
                        doing.clean_up(&standing).await?;
                        transcript.tell(CeremonyEvent::Aborted, reason).await?;
                        return Ok(Ended::Aborted);
                    }
                }
            }
            let watch = Stopwatch::start();
            doing.step(step, &standing, requests).await?;
            if done.is_none() {
                let spent = watch.elapsed().as_millis();
                self.bar.above(|| self.terminal.say(format!("  done in {spent} ms")))?;
            }
            self.bar.advance(1);
        }
        self.end(transcript).await
    }

    /// What stands before the first step, the same each time that it is asked for.
    async fn opening(&self, record: &CustodyRecord) -> Result<Vec<(Body, Vec<Vec<u8>>)>, Failure> {
        let mode = match (self.plan.mode(), self.environment.development) {
            (Mode::Rehearsal, _) => "REHEARSAL: ",
            (Mode::Production, true) => "in development mode, where keys in software are accepted: ",
            (Mode::Production, false) => "",
        };
        let text = self.plan.text().as_bytes().to_vec();
        let policy =
            Policy { sha256: self.plan.digest(), previous: None, text: Text::Blob(text.len() as u64) };
        let mut entries = vec![
            (self.told(CeremonyEvent::Opened, format!("{mode}{}", self.plan.title())), Vec::new()),
            (record.entry.clone(), record.blobs.clone()),
            (Body::Policy(policy), vec![text]),
        ];
        let (approval, deviations) = self.approvals()?;
        entries.extend(approval.map(|approved| (Body::Approval(approved.entry()), Vec::new())));
        if let Some(rehearsal) = &self.before.rehearsal {
            let text = "the same plan was rehearsed to its end";
            entries.push((self.other(CeremonyEvent::Rehearsed, rehearsal.head.clone(), text), Vec::new()));
        }
        if let Some(head) = self.continues().await? {
            let text = "the ceremony before was verified";
            entries.push((self.other(CeremonyEvent::Continues, head, text), Vec::new()));
        }
        for (text, approved) in deviations {
            entries.push((Body::Approval(approved.entry()), Vec::new()));
            entries.push((self.told(CeremonyEvent::Deviation, text), Vec::new()));
        }
        for device in &self.before.devices {
            entries.push((self.told(CeremonyEvent::Device, device.in_words()), Vec::new()));
        }
        Ok(entries)
    }

    fn told(&self, event: CeremonyEvent, text: String) -> Body {
        Body::Ceremony(Ceremony::told(event, self.plan.digest(), text))
    }

    fn other(&self, event: CeremonyEvent, head: TranscriptHead, text: &str) -> Body {
        Body::Ceremony(Ceremony { transcript: Some(head), ..Ceremony::told(event, self.plan.digest(), text) })
    }

    /// The quorum's approval of the plan, and of each deviation with its text.
    fn approvals(&self) -> Result<(Option<Approved>, Vec<(String, Approved)>), Failure> {
        let (now, approvals) = (SystemClock.now(), &self.places.approvals);
        // Who rehearses need not have the signatures yet.
        let needed = match self.plan.mode() {
            Mode::Production => self.plan.terms().is_some(),
            Mode::Rehearsal => self.plan.terms().is_some() && approvals.is_signed("plan")?,
        };
        if !needed {
            return Ok((None, Vec::new()));
        }
        let approved = approvals.get(self.plan, "plan", Action::CeremonyPlan, self.plan.digest(), now)?;
        let deviations = approvals.deviations(self.plan, now)?;
        Ok((Some(approved), deviations.into_iter().map(|(_, text, approved)| (text, approved)).collect()))
    }

    /// The ceremony before, verified with the key of its transcript, which is in the token.
    async fn continues(&self) -> Result<Option<TranscriptHead>, Failure> {
        let Some(expected) = self.plan.previous() else { return Ok(None) };
        if self.plan.mode() == Mode::Rehearsal && self.places.previous.is_none() {
            return Ok(None);
        }
        let path = self.places.previous.as_deref().ok_or_else(|| {
            Failure::usage("the plan continues a ceremony; give its transcript with --previous")
        })?;
        let key = match self.plan.mode() {
            // The token of a rehearsal does not have the key.
            Mode::Rehearsal => None,
            Mode::Production => {
                let (key, _) = self.transcript_key().await?;
                let beside: undercroft_log::note::VerifierKey =
                    undercroft_cli::read_text(&path.join("log.vkey"))?.trim().parse().map_err(|error| {
                        Failure::tampered(format!("{}: log.vkey: {error}", path.display()))
                    })?;
                let own = LogKey::new(beside.name().clone(), key)
                    .map_err(|error| Failure::usage(error.to_string()))?;
                Some(own.verifier().clone())
            }
        };
        let read = Read::folder(path, key)?;
        let found = Digest::of(read.checkpoint.text().as_bytes());
        if found != expected {
            return Err(Failure::refused(format!(
                "the plan continues the ceremony whose head is {expected}, and {} has the head {found}; give the transcript of the ceremony before, whole",
                path.display()
            )));
        }
        if read.standing().ended != Some(CeremonyEvent::Closed) {
            return Err(Failure::refused(format!("the ceremony before ({}) was not closed", path.display())));
        }
        Ok(Some(read.head))
    }

    async fn end(&self, transcript: &Transcript) -> Result<Ended, Failure> {
        let text = "every step of the plan is done";
        if self.plan.terms().is_none() || self.plan.mode() == Mode::Rehearsal {
            transcript.tell(CeremonyEvent::Closed, text).await?;
            return Ok(Ended::Closed);
        }
        let head = transcript.tell_last(CeremonyEvent::Awaiting, text).await?;
        self.approve(transcript, head.size, Some(head.text()), false).await
    }

    /// The quorum approves the head over everything that was done, or has not yet.
    async fn approve(
        &self,
        transcript: &Transcript,
        size: u64,
        text: Option<String>,
        approved: bool,
    ) -> Result<Ended, Failure> {
        let closed = "the quorum has approved the result";
        if approved {
            transcript.tell(CeremonyEvent::Closed, closed).await?;
            return Ok(Ended::Closed);
        }
        let text = match text {
            Some(text) => text,
            None => transcript.text_at(&self.places.transcript, self.plan.origin(), size)?,
        };
        let object = Digest::of(text.as_bytes());
        let approvals = &self.places.approvals;
        let statement =
            approvals.ask(self.plan, "result", Action::CeremonyResult, object, DAYS_TO_APPROVE)?;
        if !approvals.is_signed("result")? {
            return Ok(Ended::Awaiting(statement));
        }
        let approved =
            approvals.get(self.plan, "result", Action::CeremonyResult, object, SystemClock.now())?;
        transcript.approval(&approved).await?;
        transcript.tell(CeremonyEvent::Closed, closed).await?;
        Ok(Ended::Closed)
    }

    /// The key of the transcript is the one new key that may be there already: later ceremonies use it again.
    async fn transcript_key(&self) -> Result<(Key, KeyUri), Failure> {
        let planned = self.plan.transcript();
        let (manager, uri) = devices::locate(&self.environment.tokens, planned)?;
        let key = match devices::find(&self.environment.tokens, planned).await? {
            Some(key) => key,
            None => manager.create(&uri, planned.algorithm).await?,
        };
        Ok((key, uri))
    }

    async fn custody(&self, key: &Key, event: KeyEvent, uri: &KeyUri) -> Result<CustodyRecord, Failure> {
        let (purpose, uri) = ("the transcript".to_owned(), uri.to_string());
        let record = CustodyRecord::of(key, event, purpose, uri, &self.trust, SystemClock.now()).await?;
        crate::doing::lives_where_it_must(self.plan, self.environment, &record)?;
        Ok(record)
    }
}

impl Ended {
    fn tell(&self, plan: &Plan, places: &Places, terminal: &Terminal) -> Result<(), Failure> {
        let made: Vec<_> = plan
            .steps()
            .iter()
            .filter_map(|step| Some((step.name().to_owned(), crate::doing::path(plan, &places.out, step)?)))
            .collect();
        let state = match self {
            Self::Closed => "closed",
            Self::Awaiting(_) => "awaiting",
            Self::Paused(_) => "paused",
            Self::Aborted => "aborted",
            Self::Noted => "noted",
        };
        if !matches!(self, Self::Aborted) {
            terminal.result(
                &json!({
                    "digest": plan.digest().to_string(),
                    "transcript": places.transcript,
                    "state": state,
                    "made": made.iter().filter(|(_, path)| path.exists()).map(|(name, path)| json!({"name": name, "path": path})).collect::<Vec<_>>(),
                }),
                || {
                    let lines = made.iter().filter(|(_, path)| path.exists());
                    let lines = lines.map(|(name, path)| format!("  {name:20} {}\n", path.display()));
                    format!("{}  {:20} {}\n", lines.collect::<String>(), "transcript", places.transcript.display())
                },
            )?;
        }
        match self {
            Self::Closed | Self::Noted => Ok(()),
            Self::Awaiting(statement) => Err(Failure::new(
                ExitStatus::NotYet,
                format!(
                    "every step is done, and the quorum is to approve the result: have {} signed (ssh-keygen -Y sign -n {}), put the signatures beside it as result.<person>.sig, and run again",
                    statement.display(),
                    undercroft_ca::approval::NAMESPACE
                ),
            )),
            Self::Paused(step) => Err(Failure::new(
                ExitStatus::NotYet,
                format!("paused before step {step}; run again to go on"),
            )),
            Self::Aborted => Err(Failure::failed(
                "the ceremony was aborted: the keys that it made are destroyed and its files are removed; the transcript is kept",
            )),
        }
    }
}
