//! Everything that can be found out before anything is made.

use std::path::Path;

use undercroft_ca::approval::{Action, Approved, DeviationKind};
use undercroft_ca::plan::{Mode, Plan, What};
use undercroft_ca::transcript::{Stage, Standing};
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Environment, ExitStatus, Failure, Progress};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{CeremonyEvent, TranscriptHead};

use crate::continued::Continued;
use crate::devices::{self, Recognised};
use crate::doing;
use crate::lint;
use crate::requests::Request;
use crate::run::Places;
use crate::transcript::Read;

/// Whatever was found out before anything was made.
#[derive(Default)]
pub(crate) struct Before {
    pub(crate) devices: Vec<Recognised>,
    pub(crate) rehearsal: Option<Read>,
    /// The head of the ceremony before.
    pub(crate) continues: Option<TranscriptHead>,
    /// Its quorum's approval of another roster.
    pub(crate) roster: Option<Approved>,
}

impl Before {
    /// Finds out whether the steps that are left can be done. Before the first one that includes whether they may.
    pub(crate) async fn check(
        plan: &Plan,
        environment: &Environment,
        places: &Places,
        requests: &[Request<'_>],
        standing: &Standing,
        bar: &Progress,
    ) -> Result<Self, Failure> {
        let opening = standing.stage() == Stage::Opening;
        if opening {
            nothing_would_be_overwritten(plan, places)?;
        }
        let devices = devices::recognise(plan, environment).await?;
        let rehearsal = places.rehearsal.as_deref().map(|path| rehearsal(plan, path)).transpose()?;
        // It stands in the transcript once the first step is begun.
        let before = match opening {
            true => Continued::read(plan, places.previous.as_deref(), Some(environment)).await?,
            false => None,
        };
        if let Some(before) = &before {
            before.statements_grow(plan)?;
        }
        let now = SystemClock.now();
        let roster = match (&before, plan.mode()) {
            (Some(before), Mode::Production) => before.roster_change(plan, &places.approvals, now)?,
            _ => None,
        };
        if plan.mode() == Mode::Production && plan.terms().is_some() {
            inside_its_window(plan, places, now)?;
            if opening {
                may_begin(plan, places, rehearsal.is_some(), now)?;
            }
        }
        if opening {
            no_key_is_there_yet(plan, environment).await?;
        }
        every_key_to_destroy_is_there(plan, environment, standing).await?;
        lint::lint(plan, &environment.tokens, requests, bar).await?;
        Ok(Self { devices, rehearsal, continues: before.map(|before| before.head), roster })
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
pub(crate) fn allowed(
    plan: &Plan,
    places: &Places,
    kind: DeviationKind,
    now: jiff::Timestamp,
) -> Result<bool, Failure> {
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
    for path in plan.steps().iter().filter_map(|step| doing::path(plan, &places.out, step)) {
        if path.exists() {
            return Err(Failure::usage(format!(
                "{} exists already, and a ceremony overwrites nothing; choose another folder",
                path.display()
            )));
        }
        can_be_written(&path)?;
    }
    can_be_written(&places.transcript.join("checkpoint"))
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

async fn every_key_to_destroy_is_there(
    plan: &Plan,
    environment: &Environment,
    standing: &Standing,
) -> Result<(), Failure> {
    for step in plan.steps() {
        if let What::Destruction(destruction) = step.what
            && standing.is_ahead(step.number)
        {
            doing::is_there(plan, environment, destruction).await?;
        }
    }
    Ok(())
}
