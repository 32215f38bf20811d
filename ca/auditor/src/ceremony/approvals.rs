//! Approvals: by the roster of the plan, of what they must be of, at the time of their entries.

use std::collections::BTreeSet;

use jiff::Timestamp;
use undercroft_ca::approval::{Action, ApprovalError, Roster, Statement, Wanted};
use undercroft_ca::plan::{Mode, Plan, Terms, What};
use undercroft_log::leaf::Digest;

use super::order::{ApprovalSeen, Approves, Replay};
use super::record::Transcript;
use super::verdict::{Checks, Subject};

/// Judges every approval; gives for each who made it, as far as it counts. That of another roster is judged by the roster of
/// the plan `before`, and by nobody where that is not known.
pub(crate) fn judge(
    transcript: &Transcript<'_>,
    plan: &Plan,
    before: Option<&Plan>,
    replay: &Replay<'_>,
    checks: &mut Checks,
) -> Vec<Vec<String>> {
    let Some(terms) = plan.terms() else {
        for seen in &replay.approvals {
            let what = "the plan has no roster that could approve anything";
            checks.entry(Subject::Approvals, seen.entry.index, "approval-roster", what);
        }
        checks.not_applicable(Subject::Approvals, "the plan has no roster");
        return vec![Vec::new(); replay.approvals.len()];
    };
    let before = before.and_then(Plan::terms).map(|terms| &terms.roster);
    let mut reader = Reader { transcript, plan, terms, before, replay, checks, nonces: BTreeSet::new() };
    let who: Vec<_> = (0..replay.approvals.len()).map(|at| reader.judge_one(at)).collect();
    let by: Vec<_> = replay
        .approvals
        .iter()
        .zip(&who)
        .filter(|(seen, _)| seen.of != Approves::Deviation)
        .map(|(seen, who)| {
            let who = if who.is_empty() { "nobody that counts".to_owned() } else { who.join(", ") };
            format!("{} by {who}", seen.of.in_words())
        })
        .collect();
    let quorum = format!("{} of {} persons", terms.roster.quorum(), terms.roster.names().count());
    match (plan.mode(), by.is_empty()) {
        (Mode::Rehearsal, true) => {
            checks.not_applicable(Subject::Approvals, "a rehearsal needs none");
        }
        _ => checks.compared(Subject::Approvals, format!("quorum {quorum}: {}", by.join("; "))),
    }
    for (of, place) in [(Approves::Plan, "the plan"), (Approves::Result, "the result")] {
        if plan.mode() == Mode::Production && !replay.approvals.iter().any(|seen| seen.of == of) {
            let what = format!("nobody has approved {place}, and the plan demands {quorum}");
            checks.wrong(Subject::Approvals, "approval-missing", what);
        }
    }
    who
}

/// An approval, for the report.
#[derive(Debug)]
pub(crate) struct ApprovalTold {
    pub(crate) entry: u64,
    pub(crate) time: Timestamp,
    pub(crate) of: &'static str,
    /// Who made it, as far as it counts.
    pub(crate) who: Vec<String>,
    pub(crate) object: String,
    pub(crate) expires: String,
}

/// Every approval, in order.
pub(crate) fn told(replay: &Replay<'_>, who: &[Vec<String>]) -> Vec<ApprovalTold> {
    let told = replay.approvals.iter().zip(who).map(|(seen, who)| {
        let statement = Statement::parse(&seen.approval.statement).ok();
        ApprovalTold {
            entry: seen.entry.index,
            time: seen.entry.time,
            of: seen.of.in_words(),
            who: who.clone(),
            object: statement.as_ref().map(|it| it.object.to_string()).unwrap_or_default(),
            expires: statement.as_ref().map(|it| it.expires.to_string()).unwrap_or_default(),
        }
    });
    told.collect()
}

impl Approves {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Roster => "roster",
            Self::Deviation => "deviation",
            Self::Roots => "roots",
            Self::Result => "result",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Plan => Action::CeremonyPlan,
            Self::Roster => Action::Roster,
            Self::Deviation => Action::CeremonyDeviation,
            Self::Roots => Action::BundleRoots,
            Self::Result => Action::CeremonyResult,
        }
    }
}

struct Reader<'r, 'a, 'c> {
    transcript: &'r Transcript<'r>,
    plan: &'r Plan,
    terms: &'r Terms,
    before: Option<&'r Roster>,
    replay: &'r Replay<'a>,
    checks: &'c mut Checks,
    nonces: BTreeSet<String>,
}

impl Reader<'_, '_, '_> {
    /// What an approval in this place must be of; nothing if that cannot be said.
    fn object(&self, at: usize, of: Approves) -> Option<Digest> {
        match of {
            Approves::Plan => Some(self.plan.digest()),
            Approves::Roster => Some(self.terms.roster.digest()),
            Approves::Deviation => {
                let of = |it: &&super::order::DeviationSeen<'_>| it.approval == Some(at);
                self.replay.deviations.iter().find(of).map(|it| Digest::of(it.text.as_bytes()))
            }
            Approves::Roots => {
                // They stand in the order of the statements.
                let before = self.replay.approvals[..at].iter();
                let before = before.filter(|seen| seen.of == Approves::Roots).count();
                let is = |what: &What<'_>| matches!(what, What::BundleStatement(_));
                self.replay.steps.iter().filter(|seen| is(&seen.step.what)).nth(before)?.output
            }
            Approves::Result => {
                // Over everything up to and with `awaiting`, computed from the entries that stand here.
                let head = self.transcript.checkpoint_at(self.replay.awaiting? + 1)?;
                Some(Digest::of(head.text().as_bytes()))
            }
        }
    }

    fn judge_one(&mut self, at: usize) -> Vec<String> {
        let ApprovalSeen { entry, approval, of } = &self.replay.approvals[at];
        let mut wrong = Vec::new();
        let statement = match Statement::parse(&approval.statement) {
            Ok(statement) => statement,
            Err(error) => {
                self.checks.entry(Subject::Approvals, entry.index, "approval-statement", error.to_string());
                return Vec::new();
            }
        };
        let quorum = match of {
            Approves::Roster => self.before,
            Approves::Plan | Approves::Deviation | Approves::Roots | Approves::Result => {
                Some(&self.terms.roster)
            }
        };
        let Some(quorum) = quorum else { return Vec::new() };
        let object = self.object(at, *of);
        let origin = self.plan.origin().as_str();
        let roster = quorum.digest();
        let differs = |what: &str, is: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
            format!("its {what} is {is}, and {wanted} is wanted")
        };
        if statement.action != of.action() {
            wrong.push(("approval-action", differs("action", &statement.action, &of.action())));
        }
        if object.is_some_and(|object| object != statement.object) {
            let rule = if *of == Approves::Deviation { "deviation-approval" } else { "approval-object" };
            wrong.push((
                rule,
                differs("object", &statement.object, &object.map(|it| it.to_string()).unwrap_or_default()),
            ));
        }
        if statement.origin != origin {
            wrong.push(("approval-origin", differs("origin", &statement.origin, &origin)));
        }
        if statement.roster != roster {
            wrong.push(("approval-roster", differs("roster", &statement.roster, &roster)));
        }
        if entry.time > statement.expires {
            let what =
                format!("it was good until {}, and stands there since {}", statement.expires, entry.time);
            wrong.push(("approval-expired", what));
        }
        if *of != Approves::Deviation && statement.requester != self.terms.requester {
            let what = differs("requester", &statement.requester, &self.terms.requester);
            wrong.push(("approval-requester", what));
        }
        if !self.nonces.insert(statement.nonce.clone()) {
            wrong.push((
                "approval-replayed",
                "its nonce stands in another approval of this transcript".into(),
            ));
        }
        let mut who = Vec::new();
        // What the statement says was judged above; here it is only who has signed it.
        let own = Wanted { action: statement.action, object: statement.object, origin: &statement.origin };
        let now = entry.time.min(statement.expires);
        match quorum.approve(own, &approval.statement, &approval.signatures, now) {
            Ok(approved) => {
                who.extend(approved.who().iter().cloned());
                if who.contains(&self.terms.requester) {
                    let what = format!("{} asked for the ceremony and has approved", self.terms.requester);
                    wrong.push(("approval-requester", what));
                }
                if who != approval.by {
                    let what =
                        format!("it names {}, and {} have signed", approval.by.join(", "), who.join(", "));
                    wrong.push(("approval-names", what));
                }
            }
            Err(error) => match error {
                ApprovalError::Requester(_) => wrong.push(("approval-requester", error.to_string())),
                ApprovalError::TooFew { .. } => wrong.push(("approval-quorum", error.to_string())),
                // The roster was compared above.
                ApprovalError::Statement(_) | ApprovalError::Roster(_) => {}
                _ => wrong.push(("approval-signature", error.to_string())),
            },
        }
        let (index, counts) = (entry.index, wrong.is_empty());
        for (rule, what) in wrong {
            let subject = if rule == "deviation-approval" { Subject::Deviations } else { Subject::Approvals };
            self.checks.entry(subject, index, rule, format!("the approval of the {}: {what}", of.in_words()));
        }
        if counts { who } else { Vec::new() }
    }
}
