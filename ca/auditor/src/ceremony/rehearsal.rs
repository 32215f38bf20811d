//! The rehearsal of a ceremony: of the same plan, closed, and with the same bytes save the keys.

use undercroft_ca::approval::DeviationKind;
use undercroft_ca::masked::Masks;
use undercroft_ca::plan::{Mode, Plan};

use super::record::{Transcript, opened};
use super::verdict::{Checks, Subject};
use super::{Core, Given, NoVerdict, core, deviations, log};
use crate::NoAudit;

/// Judges it.
pub(crate) fn judge(
    given: &Given<'_>,
    plan: &Plan,
    rehearsed: &Plan,
    of_ceremony: &Core<'_>,
    checks: &mut Checks,
) -> Result<(), NoVerdict> {
    if plan.mode() == Mode::Rehearsal {
        checks.not_applicable(Subject::Rehearsal, "this is one");
        return Ok(());
    }
    let Some((entry, head)) = of_ceremony.replay.rehearsed else {
        let allowed = deviations::allows(&of_ceremony.deviations, DeviationKind::NotRehearsed);
        match (plan.terms().is_some(), allowed) {
            (true, false) => {
                let what = "the plan was not rehearsed, and no approved deviation allows that";
                checks.wrong(Subject::Rehearsal, "rehearsal-missing", what);
            }
            (true, true) => checks.not_applicable(Subject::Rehearsal, "none, by an approved deviation"),
            (false, _) => checks.not_applicable(Subject::Rehearsal, "the plan has no terms"),
        }
        return Ok(());
    };
    let wrong = |checks: &mut Checks, rule, what: String| {
        checks.entry(Subject::Rehearsal, entry.index, rule, what);
        Ok(())
    };
    let (head_key, head) = match opened(head) {
        Ok(opened) => opened,
        Err(what) => return wrong(checks, "rehearsal-head", what),
    };
    if head_key.name() != rehearsed.origin() {
        let what =
            format!("it is of {}, and a rehearsal of this plan is {}", head_key.name(), rehearsed.origin());
        wrong(checks, "rehearsal-origin", what)?;
    }
    let Some((folder, key)) = &given.rehearsal else {
        checks.not_looked_at(
            Subject::Rehearsal,
            format!(
                "its head ({} entries) alone; give the transcript with --rehearsal and --rehearsal-key",
                head.size
            ),
        );
        return Ok(());
    };
    let mut own = Checks::default();
    let transcript = match Transcript::read(folder, key) {
        Ok(transcript) => transcript,
        Err(NoAudit::Folder(error)) => return Err(error.into()),
        Err(error) => return wrong(checks, "rehearsal-unsound", error.to_string()),
    };
    log(given.known, folder, key, &mut own)?;
    let seen = core(given, &transcript, rehearsed, None, &mut own)?;
    let size = transcript.checkpoint.size;
    checks.compared(
        Subject::Rehearsal,
        format!(
            "{size} entries of {}, {} signed objects with the keys masked",
            key.name(),
            seen.signed.len()
        ),
    );
    if transcript.checkpoint != head || **key != head_key {
        wrong(
            checks,
            "rehearsal-head",
            "the transcript that was given is not the one that the entry names".into(),
        )?;
    }
    if own.has("plan-text") || own.has("plan-digest") {
        wrong(checks, "rehearsal-plan", "another plan was rehearsed".into())?;
    }
    if let Some(finding) = own.first() {
        wrong(checks, "rehearsal-unsound", format!("the rehearsal itself is not sound: {finding}"))?;
    }
    let (ours, theirs) = (Masks::new(plan, &of_ceremony.keys), Masks::new(rehearsed, &seen.keys));
    let steps = rehearsed.steps();
    for object in &of_ceremony.signed {
        let Some(step) = steps.iter().find(|step| step.number == object.number) else { continue };
        let signed = seen.signed.iter().find(|other| other.number == object.number);
        // An attempt that was cut off in one of them alone leaves other serial numbers: then those bytes are compared that
        // the rehearsal's keys would have given in the same attempt.
        let theirs = signed.and_then(|other| match other.attempt == object.attempt {
            true => Some(theirs.mask(&other.tbs)),
            false => {
                let prepared = step.prepare(rehearsed, &seen.keys, object.attempt).ok()??;
                Some(theirs.mask(prepared.to_be_signed()))
            }
        });
        if theirs.as_ref() != Some(&ours.mask(&object.tbs)) {
            let what = format!("the bytes of `{}` are not those of the rehearsal, keys masked", step.name());
            wrong(checks, "rehearsal-tbs", what)?;
        }
    }
    Ok(())
}
