//! The ceremony after: rehearsed from what this one has made, where the plan asks for that.

use undercroft_ca::approval::DeviationKind;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::plan::{Mode, Plan, Root};
use undercroft_ca::signed::reassemble;

use super::previous::plan_of;
use super::record::{Transcript, opened};
use super::verdict::{Checks, Subject};
use super::{Core, Given, NoVerdict, core, deviations, log};
use crate::NoAudit;

/// Judges it.
pub(crate) fn judge(
    given: &Given<'_>,
    plan: &Plan,
    of_ceremony: &Core<'_>,
    checks: &mut Checks,
) -> Result<(), NoVerdict> {
    let asked = plan.terms().is_some_and(|terms| terms.rehearse_next) && plan.mode() == Mode::Production;
    let Some((entry, head)) = of_ceremony.replay.next else {
        let allowed = deviations::allows(&of_ceremony.deviations, DeviationKind::NextNotRehearsed);
        match (asked, allowed) {
            (false, _) => checks.not_applicable(Subject::Next, "the plan does not ask for its rehearsal"),
            (true, true) => checks.not_applicable(Subject::Next, "none, by an approved deviation"),
            (true, false) => {
                let what = "the next ceremony was not rehearsed, and no approved deviation allows that";
                checks.wrong(Subject::Next, "next-missing", what);
            }
        }
        return Ok(());
    };
    let wrong = |checks: &mut Checks, rule, what: String| {
        checks.entry(Subject::Next, entry.index, rule, what);
        Ok(())
    };
    let (head_key, head) = match opened(head) {
        Ok(opened) => opened,
        Err(what) => return wrong(checks, "next-head", what),
    };
    let Some((folder, key)) = &given.next else {
        let compared =
            format!("its head ({} entries) alone; give the transcript with --next and --next-key", head.size);
        checks.not_looked_at(Subject::Next, compared);
        return Ok(());
    };
    let transcript = match Transcript::read(folder, key) {
        Ok(transcript) => transcript,
        Err(NoAudit::Folder(error)) => return Err(error.into()),
        Err(error) => return wrong(checks, "next-unsound", error.to_string()),
    };
    if transcript.checkpoint != head || **key != head_key {
        let what = "the transcript that was given is not the one that the entry names".to_owned();
        wrong(checks, "next-head", what)?;
    }
    let mut own = Checks::default();
    log(given.known, folder, key, &mut own)?;
    let Some(next) = plan_of(&transcript)? else {
        return wrong(checks, "next-unsound", "its plan is missing".into());
    };
    let rehearsed = next.clone().rehearsed()?;
    if key.name() != rehearsed.origin() {
        let what = format!("it is of {}, and a rehearsal of its plan is {}", key.name(), rehearsed.origin());
        wrong(checks, "next-unsound", what)?;
    }
    core(given, &transcript, &rehearsed, None, &mut own)?;
    if let Some(finding) = own.first() {
        wrong(checks, "next-unsound", format!("the rehearsal itself is not sound: {finding}"))?;
    }
    let mut taken_over = Vec::new();
    for root in plan.staying_roots() {
        match certificate(plan, root, of_ceremony) {
            Some(certificate) if next.takes_over(&certificate) => taken_over.push(root.name()),
            _ => {
                let what = format!("its plan has no existing root with the certificate of `{}`", root.name());
                wrong(checks, "next-roots", what)?;
            }
        }
    }
    let compared =
        format!("{} entries of {}, with the roots {}", head.size, key.name(), taken_over.join(", "));
    checks.compared(Subject::Next, compared);
    Ok(())
}

/// The certificate of a root: the plan's, or the one that was signed.
fn certificate(plan: &Plan, root: &Root, of_ceremony: &Core<'_>) -> Option<AuthorityCertificate> {
    if let Some(certificate) = root.certificate() {
        return Some(certificate.clone());
    }
    let step = plan.steps().into_iter().find(|step| step.name() == root.name())?;
    let object = of_ceremony.signed.iter().find(|object| object.number == step.number)?;
    let der = reassemble(&object.tbs, object.algorithm, &object.signature).ok()?;
    AuthorityCertificate::from_der(&der).ok()
}
