//! Statements about roots: each says what the plan wants of the very certificates that came out, the quorum has approved that
//! text, and its number is greater than that of the ceremony before.

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::plan::{BundleStatement, Mode, Plan, What};
use undercroft_ca::signed::reassemble;
use undercroft_log::leaf::Digest;

use super::order::{Approves, Replay};
use super::signatures::SignedObject;
use super::verdict::{Checks, Subject};

/// What stands before the text in a rehearsal, which nobody could take for a statement.
const REHEARSAL: &str = "REHEARSAL: nobody approves this\n";

/// Judges them. `before` is the plan of the ceremony before, as far as it is known.
pub(crate) fn judge(
    plan: &Plan,
    before: Option<&Plan>,
    replay: &Replay<'_>,
    signed: &[SignedObject],
    checks: &mut Checks,
) {
    let steps: Vec<_> = replay
        .steps
        .iter()
        .filter_map(|seen| match seen.step.what {
            What::BundleStatement(statement) => Some((seen, statement)),
            _ => None,
        })
        .collect();
    if steps.is_empty() {
        return checks.not_applicable(Subject::Statements, "the plan has none");
    }
    let told: Vec<_> = steps
        .iter()
        .map(|(_, it)| format!("number {} about {}", it.number(), it.domain().as_str()))
        .collect();
    let told = format!("{}: the very roots that came out, and the quorum's word", told.join("; "));
    checks.compared(Subject::Statements, told);
    if let Some((statement, number)) = before.and_then(|before| plan.statement_not_after(before)) {
        let what = format!(
            "`{}` has number {}, and the ceremony before has stated number {number} about `{}`",
            statement.name(),
            statement.number(),
            statement.domain().as_str()
        );
        checks.wrong(Subject::Statements, "statement-number", what);
    }
    let approvals: Vec<_> = replay.approvals.iter().filter(|seen| seen.of == Approves::Roots).collect();
    for (at, (seen, statement)) in steps.into_iter().enumerate() {
        let expected = text(plan, replay, signed, statement);
        if let Some((entry, _)) = seen.done
            && seen.output != expected.as_deref().map(|text| Digest::of(as_written(plan, text).as_bytes()))
        {
            let what = match &expected {
                Some(_) => "what was written does not say what the plan wants of the roots that came out",
                None => "a root that it names did not come out, so that nothing could be stated of it",
            };
            checks.entry(
                Subject::Statements,
                entry,
                "statement-text",
                format!("`{}`: {what}", statement.name()),
            );
        }
        match approvals.get(at) {
            // The text stands with its approval, for whoever reads the transcript alone.
            Some(seen) if seen.approval.about != expected => {
                let what = format!("the text with the approval is not that of `{}`", statement.name());
                checks.entry(Subject::Statements, seen.entry.index, "statement-about", what);
            }
            None if plan.mode() == Mode::Production => {
                let what = format!("nobody has approved `{}`", statement.name());
                checks.wrong(Subject::Statements, "statement-missing", what);
            }
            _ => {}
        }
    }
}

/// What a statement must say, of the certificates that the transcript has signatures for.
fn text(
    plan: &Plan,
    replay: &Replay<'_>,
    signed: &[SignedObject],
    statement: &BundleStatement,
) -> Option<String> {
    let made = |name: &str| {
        let is = |what: &What<'_>| matches!(what, What::Root(root) if root.name() == name);
        let number = replay.steps.iter().find(|seen| is(&seen.step.what))?.step.number;
        let object = signed.iter().rfind(|object| object.number == number)?;
        let der = reassemble(&object.tbs, object.algorithm, &object.signature).ok()?;
        AuthorityCertificate::from_der(&der).ok()
    };
    statement.statement(plan, made).ok()?.text().ok()
}

/// The file of a step with this text.
fn as_written(plan: &Plan, text: &str) -> String {
    match plan.mode() {
        Mode::Production => text.to_owned(),
        Mode::Rehearsal => format!("{REHEARSAL}{text}"),
    }
}
