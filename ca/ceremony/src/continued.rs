//! The ceremony before: the one whose head a plan names, and whose roster says who may change the roster.

use std::path::Path;

use undercroft_ca::approval::{Action, Approved};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Mode, Plan};
use undercroft_cli::{Environment, Failure, read_text};
use undercroft_log::leaf::{Body, CeremonyEvent, Digest, TranscriptHead};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::approvals::Approvals;
use crate::devices;
use crate::transcript::Read;

/// The ceremony before.
pub(crate) struct Continued {
    pub(crate) head: TranscriptHead,
    pub(crate) plan: Plan,
}

impl Continued {
    /// The ceremony that `plan` continues, verified with the key of its transcript. That key is in the token; without an
    /// environment, and in a rehearsal whose token does not have it, it is the one that lies beside the transcript.
    /// Nothing where the plan continues none.
    pub(crate) async fn read(
        plan: &Plan,
        path: Option<&Path>,
        environment: Option<&Environment>,
    ) -> Result<Option<Self>, Failure> {
        let Some(expected) = plan.previous() else { return Ok(None) };
        let path = match (path, plan.mode()) {
            (Some(path), _) => path,
            (None, Mode::Rehearsal) => return Ok(None),
            (None, Mode::Production) => {
                return Err(Failure::usage(
                    "the plan continues a ceremony; give its transcript with --previous",
                ));
            }
        };
        let key = match (environment, plan.mode()) {
            (Some(environment), Mode::Production) => Some(key_in_token(plan, path, environment).await?),
            (None, _) | (_, Mode::Rehearsal) => None,
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
        let plan = plan_of(&read, path)?;
        Ok(Some(Self { head: read.head, plan }))
    }

    /// That each statement about roots counts more than the one before about the same domain.
    ///
    /// # Errors
    /// Status 2: its number is not greater.
    pub(crate) fn statements_grow(&self, plan: &Plan) -> Result<(), Failure> {
        match plan.statement_not_after(&self.plan) {
            None => Ok(()),
            Some((statement, before)) => Err(Failure::usage(format!(
                "`{}` in the plan has number {}, and the ceremony before has stated number {before} about `{}`; give it a greater one",
                statement.name(),
                statement.number(),
                statement.domain().as_str()
            ))),
        }
    }

    /// What the old roster's quorum says of the new roster, where they differ.
    ///
    /// # Errors
    /// Status 4: the roster was changed, and its own quorum has not approved that.
    pub(crate) fn roster_change(
        &self,
        plan: &Plan,
        approvals: &Approvals,
        now: jiff::Timestamp,
    ) -> Result<Option<Approved>, Failure> {
        let Some(before) = self.plan.terms() else { return Ok(None) };
        let Some(terms) = plan.terms() else {
            return Err(Failure::refused(
                "the ceremony before had a roster, and this plan has none; add [roster], requester, window and [[device]]",
            ));
        };
        let object = terms.roster.digest();
        if before.roster.digest() == object {
            return Ok(None);
        }
        let changes = before.roster.changes(&terms.roster).join("; ");
        approvals
            .get_of(&before.roster, plan, "roster", Action::Roster, object, now)
            .map(Some)
            .map_err(|failure| failure.during(format!("the roster was changed ({changes})")))
    }
}

/// The verifier key of the transcript before, for the key that is in the token.
async fn key_in_token(plan: &Plan, path: &Path, environment: &Environment) -> Result<VerifierKey, Failure> {
    let planned = plan.transcript();
    let (_, uri) = devices::locate(&environment.tokens, planned)?;
    let key = devices::find(&environment.tokens, planned).await?.ok_or_else(|| {
        Failure::unreachable(format!(
            "{uri}, which signed the transcript of the ceremony before, is not in its token; connect the token that holds it"
        ))
    })?;
    let beside: VerifierKey = read_text(&path.join("log.vkey"))?
        .trim()
        .parse()
        .map_err(|error| Failure::tampered(format!("{}: log.vkey: {error}", path.display())))?;
    let own = LogKey::new(beside.name().clone(), key).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(own.verifier().clone())
}

/// The plan that a transcript is of.
pub(crate) fn plan_of(read: &Read, path: &Path) -> Result<Plan, Failure> {
    let wrong = |what: &str| Failure::tampered(format!("the transcript {}: {what}", path.display()));
    let digest = read.leaves.iter().find_map(|leaf| match &leaf.body {
        Body::Policy(policy) => Some(policy.sha256),
        _ => None,
    });
    let digest = digest.ok_or_else(|| wrong("it names no plan"))?;
    let text = Folder::new(path).blob(digest).map_err(|error| wrong(&error.to_string()))?;
    let text =
        text.and_then(|text| String::from_utf8(text).ok()).ok_or_else(|| wrong("its plan is missing"))?;
    Ok(Plan::parse(&path.display().to_string(), &text)?)
}
