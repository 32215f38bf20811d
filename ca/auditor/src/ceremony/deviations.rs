//! Leaves from the plan or its rules, and the window, which one of them may leave.

use undercroft_ca::approval::{Deviation, DeviationKind};
use undercroft_ca::plan::{Mode, Plan};

use super::order::Replay;
use super::record::Transcript;
use super::verdict::{Checks, DeviationTold, Subject};

/// Judges the deviations. `who` has approved what [`Replay::approvals`] holds, as far as it counts.
pub(crate) fn judge(replay: &Replay<'_>, who: &[Vec<String>], checks: &mut Checks) -> Vec<DeviationTold> {
    let mut told = Vec::new();
    for seen in &replay.deviations {
        let index = seen.entry.index;
        let approved_by = seen.approval.and_then(|at| who.get(at)).cloned().unwrap_or_default();
        if approved_by.is_empty() {
            let what = "no approval that counts stands in front of it";
            checks.entry(Subject::Deviations, index, "deviation-approval", what);
        }
        let (kind, reason) = match Deviation::parse(seen.text) {
            Ok(deviation) => (Some(deviation.kind), deviation.reason),
            Err(error) => {
                checks.entry(Subject::Deviations, index, "deviation-format", error.to_string());
                (None, seen.text.to_owned())
            }
        };
        told.push(DeviationTold { entry: index, kind, reason, approved_by });
    }
    match told.len() {
        0 => checks.not_applicable(Subject::Deviations, "none is recorded"),
        some => {
            checks.compared(Subject::Deviations, format!("{some}, each with the approval in front of it"))
        }
    }
    told
}

/// Whether a deviation of that kind was approved.
pub(crate) fn allows(deviations: &[DeviationTold], kind: DeviationKind) -> bool {
    deviations.iter().any(|it| it.kind == Some(kind) && !it.approved_by.is_empty())
}

/// Every entry up to `awaiting` is stamped inside the window of the plan.
pub(crate) fn window(
    transcript: &Transcript<'_>,
    plan: &Plan,
    awaiting: Option<u64>,
    deviations: &[DeviationTold],
    checks: &mut Checks,
) {
    let Some(terms) = plan.terms() else {
        return checks.not_applicable(Subject::Time, "the plan has no window");
    };
    if plan.mode() == Mode::Rehearsal {
        return checks.not_applicable(Subject::Time, "a rehearsal has no window");
    }
    let window = terms.window;
    // What the quorum approves when everything is done it may approve later, while its statement is good.
    let last = awaiting.unwrap_or(u64::MAX);
    let carried_out: Vec<_> = transcript.entries.iter().filter(|entry| entry.index <= last).collect();
    let compared = format!("{} entries with {} to {}", carried_out.len(), window.begins, window.ends);
    let outside: Vec<_> = carried_out.iter().filter(|entry| !window.contains(entry.time)).collect();
    if allows(deviations, DeviationKind::OutsideWindow) {
        let compared = format!("{compared}; {} are outside by an approved deviation", outside.len());
        return checks.compared(Subject::Time, compared);
    }
    checks.compared(Subject::Time, compared);
    if let Some(first) = outside.first() {
        let what = format!(
            "it was stamped at {}, outside of the window of the plan, as {} of {} entries were",
            first.time,
            outside.len(),
            carried_out.len()
        );
        checks.entry(Subject::Time, first.index, "window", what);
    }
}
