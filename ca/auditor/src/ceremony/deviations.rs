//! Leaves from the plan or its rules, and the window, which one of them may leave.

use serde::Deserialize;
use undercroft_ca::plan::{Mode, Plan};

use super::order::Replay;
use super::record::Transcript;
use super::verdict::{Checks, DeviationTold, Subject};

/// The kind that allows a ceremony without a rehearsal.
pub(crate) const NOT_REHEARSED: &str = "not-rehearsed";
/// The kind that allows a ceremony outside of its window.
const OUTSIDE_WINDOW: &str = "outside-window";
/// The format of the texts.
const FORMAT: &str = "undercroft-deviation-v1";

/// The text of a deviation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    kind: String,
    reason: String,
}

/// Judges the deviations. `who` has approved what [`Replay::approvals`] holds, as far as it counts.
pub(crate) fn judge(replay: &Replay<'_>, who: &[Vec<String>], checks: &mut Checks) -> Vec<DeviationTold> {
    let mut told = Vec::new();
    for seen in &replay.deviations {
        let index = seen.entry.index;
        let text = serde_json::from_str::<Text>(seen.text);
        let text = text.ok().filter(|text| text.format == FORMAT && !text.reason.trim().is_empty());
        let approved_by = seen.approval.and_then(|at| who.get(at)).cloned().unwrap_or_default();
        if approved_by.is_empty() {
            let what = "no approval that counts stands in front of it";
            checks.entry(Subject::Deviations, index, "deviation-approval", what);
        }
        let (kind, reason) = match text {
            Some(text) => (text.kind, text.reason),
            None => {
                let what = format!("it is no {FORMAT} with a kind and a reason");
                checks.entry(Subject::Deviations, index, "deviation-format", what);
                ("unknown".to_owned(), seen.text.to_owned())
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
pub(crate) fn allows(deviations: &[DeviationTold], kind: &str) -> bool {
    deviations.iter().any(|it| it.kind == kind && !it.approved_by.is_empty())
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
    if allows(deviations, OUTSIDE_WINDOW) {
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
