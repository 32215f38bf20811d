//! Running a ceremony, or rehearsing one.
//!
//! Everything that can be checked is checked before the first key is made: the plan, its terms, the devices, the requests
//! and where their keys live, that nothing would be overwritten, and lint of every object. From then on each step stands
//! in the transcript before it is done, and its signature is made by the same cycle as online: intent, receipt, issue,
//! outcome. A run that was interrupted is run again, and goes on where it stopped.

use std::path::PathBuf;

use futures::executor::block_on;
use serde_json::json;
use undercroft_attestors::trust::Trust;
use undercroft_ca::approval::{Action, Approved, DeviationKind};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Mode, Plan, What};
use undercroft_ca::transcript::{Stage, Standing};
use undercroft_cli::system::{Stopwatch, SystemClock};
use undercroft_cli::{Environment, ExitStatus, Failure, Terminal};
use undercroft_keymgr::{Key, KeyUri};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Body, Ceremony, CeremonyEvent, Digest, KeyEvent, Policy, Text, TranscriptHead};

use crate::approvals::Approvals;
use crate::before::{self, Before};
use crate::devices;
use crate::doing::Doing;
use crate::lint;
use crate::next;
use crate::operator::{Answer, Operator};
use crate::requests::{self, Request};
use crate::transcript::{self, Transcript};

/// Where a ceremony reads and writes.
pub(crate) struct Places {
    pub(crate) requests: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) transcript: PathBuf,
    pub(crate) approvals: Approvals,
    pub(crate) rehearsal: Option<PathBuf>,
    pub(crate) previous: Option<PathBuf>,
    pub(crate) next: Option<PathBuf>,
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
    let trust = plan.trust(&environment.trust)?;
    let standing = transcript::standing(&places.transcript)?;
    has_not_ended(plan, places, &standing)?;
    if standing.size == 0 && matches!(errand, Errand::Note(_) | Errand::Abort(_)) {
        return Err(Failure::usage(format!("{} holds no transcript yet", places.transcript.display())));
    }
    // Nothing is made any more by whoever notes something, gives up, or takes in what the quorum says of the result.
    let makes = matches!(errand, Errand::GoOn | Errand::DryRun) && standing.stage() != Stage::Awaiting;
    let steps = plan.steps();
    let bar = terminal.progress(lint::objects(plan) + steps.len() as u64, "lint");
    let (requests, before) = match makes {
        true => {
            let requests = requests(plan, places, &trust, development)?;
            if plan.mode() == Mode::Production && plan.terms().is_none() && !development {
                return Err(Failure::refused(
                    "the plan has no roster, so that nobody has approved it; add [roster], requester, window and [[device]], or set development = true in the environment",
                ));
            }
            let before = Before::check(plan, environment, places, &requests, &standing, &bar);
            let before = block_on(before)?;
            (requests, before)
        }
        false => (Vec::new(), Before::default()),
    };
    if matches!(errand, Errand::DryRun) {
        return terminal.result(&json!({ "digest": plan.digest().to_string(), "made": [] }), || {
            "Everything is in order; nothing was made.".into()
        });
    }
    let ceremony =
        Running { plan, environment, places, operator, trust, before, standing, errand, terminal, bar: &bar };
    let ended = block_on(ceremony.run(&requests))?;
    drop(bar);
    ended.tell(plan, places, terminal)
}

/// Nothing goes on in the transcript of another plan, nor after the end.
fn has_not_ended(plan: &Plan, places: &Places, standing: &Standing) -> Result<(), Failure> {
    if let Some(other) = standing.plan.filter(|other| *other != plan.digest()) {
        return Err(Failure::refused(format!(
            "{} is the transcript of the plan {other}, and this plan is {}; give the plan that was begun, or another folder",
            places.transcript.display(),
            plan.digest()
        )));
    }
    match standing.stage() {
        Stage::Ended => Err(Failure::usage(format!(
            "{} is the transcript of a ceremony that has ended, and a ceremony overwrites nothing; choose another folder",
            places.transcript.display()
        ))),
        Stage::Opening | Stage::Steps | Stage::Awaiting => Ok(()),
    }
}

/// The requests of the plan, from keys that live where they must.
fn requests<'a>(
    plan: &'a Plan,
    places: &Places,
    trust: &Trust,
    development: bool,
) -> Result<Vec<Request<'a>>, Failure> {
    let requests = requests::read(plan, &places.requests, trust, SystemClock.now())?;
    for request in &requests {
        let demand = request.of.custody.unwrap_or(plan.custody());
        let required = match plan.mode() {
            Mode::Production => demand.grade(development),
            Mode::Rehearsal => undercroft_attestors::custody::Grade::Software,
        };
        request.custody.require(required).map_err(|error| Failure::refused(error.to_string()))?;
    }
    Ok(requests)
}

/// A ceremony whose checks have passed.
struct Running<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    places: &'a Places,
    operator: &'a Operator,
    trust: Trust,
    before: Before,
    standing: Standing,
    errand: &'a Errand,
    terminal: &'a Terminal,
    bar: &'a undercroft_cli::Progress,
}

/// An entry, and the blobs that it names.
type Said = (Body, Vec<Vec<u8>>);

/// The text of a deviation, and the quorum's approval of it.
type Deviated = (String, Approved);

/// A statement about roots that was written.
struct Stated {
    /// The name of its approval.
    approval: String,
    text: String,
    /// SHA-256 of the text.
    object: Digest,
    /// How long it is good, and so its approval.
    ends: jiff::Timestamp,
}

/// How far it came.
pub(crate) enum Ended {
    /// Every step is done, and nothing is open.
    Closed,
    /// Every step is done, and the quorum is to approve the result.
    Awaiting(Vec<PathBuf>),
    /// Somebody stopped it.
    Paused(u64),
    /// Somebody gave it up.
    Aborted,
    /// Somebody's note stands in the transcript.
    Noted,
}

impl Running<'_> {
    async fn run(&self, requests: &[Request<'_>]) -> Result<Ended, Failure> {
        let (key, uri, event) = self.transcript_key().await?;
        let record = self.custody(&key, event, &uri).await?;
        let log_key = LogKey::new(self.plan.origin().clone(), key)
            .map_err(|error| Failure::usage(format!("the transcript's key: {error}")))?;
        let (transcript, standing, driver) =
            Transcript::open(&self.places.transcript, log_key, self.plan.digest()).await?;
        if standing.size != self.standing.size {
            return Err(Failure::unreachable(format!(
                "another process has written to {}; run again when it has ended",
                self.places.transcript.display()
            )));
        }
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
            let written = |number| standing.done.get(&number).and_then(|done| done.output);
            let stated = self.stated(written)?;
            return self.approve(transcript, awaiting + 1, None, &stated, &standing).await;
        }
        let opening = match (standing.stage(), self.errand) {
            (Stage::Opening, Errand::GoOn) => self.opening_left(record, &standing)?,
            _ => Vec::new(),
        };
        if standing.size > 0 {
            transcript.tell(CeremonyEvent::Resumed, "the program was started again").await?;
        }
        let mut doing = Doing::new(self.plan, self.environment, self.places, &self.trust, transcript);
        if let Errand::Abort(reason) = self.errand {
            doing.clean_up(&standing).await?;
            transcript.tell(CeremonyEvent::Aborted, reason.clone()).await?;
            return Ok(Ended::Aborted);
        }
        for (body, blobs) in opening {
            transcript.append(body, blobs).await?;
        }
        if standing.stage() == Stage::Steps {
            self.deviate(transcript, &standing).await?;
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
        self.end(transcript, &doing, &standing).await
    }

    /// What is still to be said before the first step. What stands there already must be what would be said now.
    fn opening_left(&self, record: &CustodyRecord, standing: &Standing) -> Result<Vec<Said>, Failure> {
        let mut opening = self.opening(record)?;
        let same = |(stands, (now, _)): (&Body, &Said)| match (stands, now) {
            // When it was looked at differs, and how the program came by the key.
            (Body::Key(stands), Body::Key(now)) => {
                (&stands.purpose, stands.key_id) == (&now.purpose, now.key_id)
            }
            (stands, now) => stands == now,
        };
        let stands = &standing.opening;
        if stands.len() > opening.len() || !stands.iter().zip(&opening).all(same) {
            return Err(Failure::refused(format!(
                "{} was begun with another rehearsal, ceremony before, device or approval than are given now; give the same again, or abort it and begin in another folder",
                self.places.transcript.display()
            )));
        }
        Ok(opening.split_off(stands.len()))
    }

    /// Writes down what the quorum has allowed since the first step.
    async fn deviate(&self, transcript: &Transcript, standing: &Standing) -> Result<(), Failure> {
        let mut approval_stands = standing.deviating;
        for (text, approved) in self.approvals()?.1.into_iter().skip(standing.deviations) {
            if !std::mem::take(&mut approval_stands) {
                transcript.append(Body::Approval(approved.entry()), Vec::new()).await?;
            }
            transcript.tell(CeremonyEvent::Deviation, text).await?;
        }
        Ok(())
    }

    /// What stands before the first step, the same each time that it is asked for. Deviations come last: more of them may
    /// be allowed while it is being said.
    fn opening(&self, record: &CustodyRecord) -> Result<Vec<Said>, Failure> {
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
        if let Some(head) = &self.before.continues {
            let text = "the ceremony before was verified";
            entries.push((self.other(CeremonyEvent::Continues, head.clone(), text), Vec::new()));
        }
        entries.extend(self.before.roster.iter().map(|it| (Body::Approval(it.entry()), Vec::new())));
        for device in &self.before.devices {
            entries.push((self.told(CeremonyEvent::Device, device.in_words()), Vec::new()));
        }
        for (text, approved) in deviations {
            entries.push((Body::Approval(approved.entry()), Vec::new()));
            entries.push((self.told(CeremonyEvent::Deviation, text), Vec::new()));
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
    fn approvals(&self) -> Result<(Option<Approved>, Vec<Deviated>), Failure> {
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

    async fn end(
        &self,
        transcript: &Transcript,
        doing: &Doing<'_>,
        standing: &Standing,
    ) -> Result<Ended, Failure> {
        let text = "every step of the plan is done";
        if self.plan.terms().is_none() || self.plan.mode() == Mode::Rehearsal {
            transcript.tell(CeremonyEvent::Closed, text).await?;
            return Ok(Ended::Closed);
        }
        if !standing.next_rehearsed && self.wants_next()? {
            let head =
                next::rehearsed(self.plan, self.places.next.as_deref(), |root| doing.certificate(root))?;
            let text = "the next ceremony was rehearsed from what this one has made";
            transcript.append(self.other(CeremonyEvent::NextRehearsed, head, text), Vec::new()).await?;
        }
        let stated = self.stated(|number| doing.output(number))?;
        let head = transcript.tell_last(CeremonyEvent::Awaiting, text).await?;
        self.approve(transcript, head.size, Some(head.text()), &stated, standing).await
    }

    /// What the ceremony has stated about roots, as it was written.
    fn stated(&self, written: impl Fn(u64) -> Option<Digest>) -> Result<Vec<Stated>, Failure> {
        let mut stated = Vec::new();
        for step in self.plan.steps() {
            let What::BundleStatement(statement) = step.what else { continue };
            let Some(path) = crate::doing::path(self.plan, &self.places.out, &step) else { continue };
            let text = undercroft_cli::read_text(&path)?;
            let object = Digest::of(text.as_bytes());
            if written(step.number) != Some(object) {
                return Err(Failure::tampered(format!(
                    "{} is not what the transcript says was written; put the right file back",
                    path.display()
                )));
            }
            let (approval, ends) = (statement.approval(), statement.validity().not_after());
            stated.push(Stated { approval, text, object, ends });
        }
        Ok(stated)
    }

    /// Whether the plan has the next ceremony rehearsed, and the quorum does not allow otherwise.
    fn wants_next(&self) -> Result<bool, Failure> {
        let asked = self.plan.terms().is_some_and(|terms| terms.rehearse_next);
        Ok(asked
            && !before::allowed(self.plan, self.places, DeviationKind::NextNotRehearsed, SystemClock.now())?)
    }

    /// The quorum approves what was stated about roots, and the head over everything that was done; or has not yet.
    async fn approve(
        &self,
        transcript: &Transcript,
        size: u64,
        text: Option<String>,
        stated: &[Stated],
        standing: &Standing,
    ) -> Result<Ended, Failure> {
        let closed = "the quorum has approved the result";
        if standing.approved {
            transcript.tell(CeremonyEvent::Closed, closed).await?;
            return Ok(Ended::Closed);
        }
        let text = match text {
            Some(text) => text,
            None => transcript.text_at(&self.places.transcript, self.plan.origin(), size)?,
        };
        let object = Digest::of(text.as_bytes());
        let approvals = &self.places.approvals;
        let mut to_sign = Vec::new();
        for it in stated {
            let path =
                approvals.ask_until(self.plan, &it.approval, Action::BundleRoots, it.object, it.ends)?;
            to_sign.extend((!approvals.is_signed(&it.approval)?).then_some(path));
        }
        let statement =
            approvals.ask(self.plan, "result", Action::CeremonyResult, object, DAYS_TO_APPROVE)?;
        to_sign.extend((!approvals.is_signed("result")?).then_some(statement));
        if !to_sign.is_empty() {
            return Ok(Ended::Awaiting(to_sign));
        }
        let now = SystemClock.now();
        let of = |it: &Stated| approvals.get(self.plan, &it.approval, Action::BundleRoots, it.object, now);
        let of_roots = stated.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let approved = approvals.get(self.plan, "result", Action::CeremonyResult, object, now)?;
        for (it, approved) in stated.iter().zip(of_roots).skip(standing.statements) {
            transcript.append(Body::Approval(approved.entry_about(&it.text)), Vec::new()).await?;
        }
        transcript.approval(&approved).await?;
        transcript.tell(CeremonyEvent::Closed, closed).await?;
        Ok(Ended::Closed)
    }

    /// The key of the transcript is the one new key that may be there already: later ceremonies use it again.
    async fn transcript_key(&self) -> Result<(Key, KeyUri, KeyEvent), Failure> {
        let planned = self.plan.transcript();
        let (manager, uri) = devices::locate(&self.environment.tokens, planned)?;
        Ok(match devices::find(&self.environment.tokens, planned).await? {
            Some(key) => (key, uri, KeyEvent::Opened),
            None => (manager.create(&uri, planned.algorithm).await?, uri, KeyEvent::Made),
        })
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
            Self::Awaiting(statements) => {
                let names: Vec<_> = statements.iter().map(|path| path.display().to_string()).collect();
                let kept: Vec<_> = statements.iter().filter_map(|path| path.file_stem()).collect();
                let kept: Vec<_> =
                    kept.iter().map(|name| format!("{}.<person>.sig", name.display())).collect();
                Err(Failure::new(
                    ExitStatus::NotYet,
                    format!(
                        "every step is done, and the quorum is to approve the result: have {} signed (ssh-keygen -Y sign -n {}), put the signatures beside it as {}, and run again",
                        names.join(" and "),
                        undercroft_ca::approval::NAMESPACE,
                        kept.join(" and ")
                    ),
                ))
            }
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
