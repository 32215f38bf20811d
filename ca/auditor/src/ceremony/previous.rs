//! The ceremony before: the one whose head the plan names.

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::plan::{Mode, Plan};
use undercroft_ca::signed::Signed;
use undercroft_log::leaf::{Body, CeremonyEvent, Digest, OutcomeResult};

use super::order::Approves;
use super::record::{Transcript, opened};
use super::verdict::{Checks, Subject};
use super::{Core, Given, NoVerdict, log};
use crate::NoAudit;

/// Judges it.
pub(crate) fn judge(
    given: &Given<'_>,
    plan: &Plan,
    before: Option<&Plan>,
    of_ceremony: &Core<'_>,
    checks: &mut Checks,
) -> Result<(), NoVerdict> {
    let (expected, (entry, head)) = match (plan.previous(), of_ceremony.replay.continues) {
        (None, None) => {
            checks.not_applicable(Subject::Previous, "the plan names none");
            return Ok(());
        }
        (None, Some((entry, _))) => {
            let what = "the plan names no ceremony before";
            checks.entry(Subject::Previous, entry.index, "previous-unplanned", what);
            return Ok(());
        }
        (Some(_), None) if plan.mode() == Mode::Rehearsal => {
            checks.not_applicable(Subject::Previous, "a rehearsal does not have the key of its transcript");
            return Ok(());
        }
        (Some(expected), None) => {
            let what =
                format!("the plan continues the ceremony with the head {expected}, and nothing verified it");
            checks.wrong(Subject::Previous, "previous-missing", what);
            return Ok(());
        }
        (Some(expected), Some(continues)) => (expected, continues),
    };
    let wrong = |checks: &mut Checks, rule, what: String| {
        checks.entry(Subject::Previous, entry.index, rule, what);
        Ok(())
    };
    let (head_key, head) = match opened(head) {
        Ok(opened) => opened,
        Err(what) => return wrong(checks, "previous-head", what),
    };
    let found = Digest::of(head.text().as_bytes());
    if found != expected {
        let what = format!("its head is {found}, and the plan continues {expected}");
        wrong(checks, "previous-head", what)?;
    }
    let Some((folder, key)) = &given.previous else {
        checks.not_looked_at(
            Subject::Previous,
            format!(
                "its head ({} entries) alone; give the transcript with --previous and --previous-key",
                head.size
            ),
        );
        return Ok(());
    };
    let transcript = match Transcript::read(folder, key) {
        Ok(transcript) => transcript,
        Err(NoAudit::Folder(error)) => return Err(error.into()),
        Err(error) => return wrong(checks, "previous-unsound", error.to_string()),
    };
    if transcript.checkpoint != head || **key != head_key {
        wrong(
            checks,
            "previous-head",
            "the transcript that was given is not the one that the entry names".into(),
        )?;
    }
    let mut own = Checks::default();
    log(given.known, folder, key, &mut own)?;
    if let Some(finding) = own.first() {
        wrong(checks, "previous-unsound", format!("the ceremony before is not sound: {finding}"))?;
    }
    let ended = transcript
        .entries
        .last()
        .is_some_and(|entry| matches!(&entry.body, Body::Ceremony(it) if it.event == CeremonyEvent::Closed));
    if !ended {
        wrong(checks, "previous-unsound", "the ceremony before was not closed".into())?;
    }
    if let Some(before) = before {
        roster(plan, before, of_ceremony, checks);
        let same = |a: &Plan| {
            (&a.transcript().device, &a.transcript().label)
                == (&plan.transcript().device, &plan.transcript().label)
        };
        if plan.mode() == Mode::Production && same(before) && key.key() != given.key.key() {
            let what = "both plans name one key for their transcripts, and two have signed".to_owned();
            wrong(checks, "previous-key", what)?;
        }
    }
    let mut adopted = Vec::new();
    let existing = plan.roots().iter().filter_map(|root| Some((root, root.certificate()?)));
    for (root, certificate) in existing {
        let known = before.and_then(|before| {
            before.roots().iter().find(|it| it.name() == root.name() || it.subject() == root.subject())
        });
        let is_same = match known.map(|known| known.certificate()) {
            None => {
                adopted.push(root.name());
                continue;
            }
            Some(Some(known)) => known == certificate,
            Some(None) => was_made(&transcript, certificate)?,
        };
        if !is_same {
            let what =
                format!("the certificate of `{}` is not the one that the ceremony before had", root.name());
            wrong(checks, "previous-roots", what)?;
        }
    }
    let adopted = match adopted.is_empty() {
        true => String::new(),
        false => format!("; adopted and not of it: {}", adopted.join(", ")),
    };
    let compared =
        format!("{} entries of {}, its head, end, roots and roster{adopted}", head.size, key.name());
    checks.compared(Subject::Previous, compared);
    Ok(())
}

/// The roster is that of the ceremony before, or the quorum of that has approved another.
fn roster(plan: &Plan, before: &Plan, of_ceremony: &Core<'_>, checks: &mut Checks) {
    let Some(old) = before.terms() else { return };
    let Some(terms) = plan.terms() else {
        let what = "the ceremony before had a roster, and the plan has none";
        return checks.wrong(Subject::Previous, "previous-roster", what);
    };
    let changes = old.roster.changes(&terms.roster).join("; ");
    let approvals = of_ceremony.replay.approvals.iter().zip(&of_ceremony.who);
    let approved = approvals.filter(|(seen, _)| seen.of == Approves::Roster).any(|(_, who)| !who.is_empty());
    if old.roster.digest() != terms.roster.digest() && plan.mode() == Mode::Production && !approved {
        let what = format!("the roster was changed, and its own quorum has not approved that: {changes}");
        checks.wrong(Subject::Previous, "previous-roster", what);
    }
}

/// The plan of the ceremony before, as far as it was given and can be read. Whether it is the right one is judged later.
pub(crate) fn plan_before(given: &Given<'_>) -> Result<Option<Plan>, NoVerdict> {
    let Some((folder, key)) = &given.previous else { return Ok(None) };
    match Transcript::read(folder, key) {
        Ok(transcript) => plan_of(&transcript),
        Err(NoAudit::Folder(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// The plan that a transcript is of.
pub(crate) fn plan_of(transcript: &Transcript<'_>) -> Result<Option<Plan>, NoVerdict> {
    for entry in &transcript.entries {
        if let Body::Policy(policy) = &entry.body {
            let text = transcript.plan_text(policy)?.and_then(|text| String::from_utf8(text).ok());
            return Ok(text.and_then(|text| Plan::parse("the plan of the ceremony before", &text).ok()));
        }
    }
    Ok(None)
}

/// Whether a certificate was signed in a transcript.
fn was_made(transcript: &Transcript<'_>, certificate: &AuthorityCertificate) -> Result<bool, NoVerdict> {
    let Ok(signed) = Signed::from_der(certificate.der()) else { return Ok(false) };
    for entry in &transcript.entries {
        let Body::Intent(intent) = &entry.body else { continue };
        if transcript.to_be_signed(intent)?.as_deref() != Some(&signed.tbs[..]) {
            continue;
        }
        let signs = |body: &Body| {
            matches!(body, Body::Outcome(outcome) if outcome.intent == entry.index
                && matches!(&outcome.result, OutcomeResult::Signature(it) if it.0 == signed.signature))
        };
        if transcript.entries.iter().any(|entry| signs(&entry.body)) {
            return Ok(true);
        }
    }
    Ok(false)
}
