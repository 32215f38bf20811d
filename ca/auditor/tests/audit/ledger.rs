//! What a TPM did, against what a log says that it did. Most of it is about what must not pass.

use serde_json::json;
use undercroft_audit::{Covered, Report};
use undercroft_log::leaf::LedgerNumber;

use crate::tpm::{COUNTER, Story, Tpm, TpmKey};

/// The verdicts: `complete`, `open`, or why not.
pub(crate) fn verdicts(report: &Report) -> Vec<(u64, String)> {
    let told = |covered: &Covered| match covered {
        Covered::Complete => "complete".to_owned(),
        Covered::Open => "open".to_owned(),
        Covered::Uncovered { reason, .. } => reason.clone(),
    };
    report.ledger.iter().map(|epoch| (epoch.epoch, told(&epoch.covered))).collect()
}

pub(crate) fn verdict(report: &Report, epoch: u64) -> String {
    let told: Vec<_> = verdicts(report).into_iter().filter(|(number, _)| *number == epoch).collect();
    assert_eq!(told.len(), 1, "epoch {epoch}: {told:?}");
    told[0].1.clone()
}

pub(crate) fn hidden(report: &Report, epoch: u64) -> Option<u64> {
    let epoch = report.ledger.iter().find(|told| told.epoch == epoch).unwrap();
    let Covered::Uncovered { hidden, .. } = &epoch.covered else { panic!("{epoch:?}") };
    *hidden
}

/// The rules that find something, with the entries.
pub(crate) fn findings(report: &Report) -> Vec<(Option<u64>, &'static str)> {
    report.findings.iter().map(|finding| (finding.entry, finding.rule)).collect()
}

#[track_caller]
pub(crate) fn finds(report: &Report, entry: u64, rule: &'static str, words: &str) {
    assert_eq!(findings(report), [(Some(entry), rule)], "{:?}", report.findings);
    assert!(report.findings[0].what.contains(words), "{:?}", report.findings);
}

#[track_caller]
pub(crate) fn is_uncovered(report: &Report, epoch: u64, words: &str) {
    assert_eq!(report.findings, [], "an epoch that is not covered is no lie");
    let told = verdict(report, epoch);
    assert!(told.contains(words), "epoch {epoch}: {told}");
}

/// Three whole epochs: nothing in two, signatures and an anchor in the other.
#[test]
fn what_the_tpm_did_and_the_log_tells_is_complete() {
    let mut story = Story::gated();
    story.issue();
    story.issue();
    story.anchor();
    story.increment();
    story.close();
    story.close();
    story.issue();
    let report = story.audit();
    assert_eq!(report.findings, []);
    let told = verdicts(&report);
    assert!(told[0].1.contains("what came before"), "{told:?}");
    let rest = [(2, "complete".to_owned()), (3, "complete".to_owned()), (4, "open".to_owned())];
    assert_eq!(told[1..], rest);
    let commands: Vec<_> = report.ledger.iter().map(|epoch| epoch.commands).collect();
    // Each begins with the command that closed the one before.
    assert_eq!(commands, [0, 6, 1, 2]);
    assert!(report.ledger.iter().all(|epoch| epoch.attested_by.is_some()));
    assert_eq!(hidden(&report, 1), Some(0));
}

#[test]
fn an_outcome_may_stand_behind_the_entry_that_closes_its_epoch() {
    let mut story = Story::gated();
    let (intent, tbs) = story.intent();
    let (number, signature) = story.sign(&tbs);
    story.close();
    assert!(verdict(&story.audit(), 2).contains("did something"));
    assert_eq!(hidden(&story.audit(), 2), Some(1));
    story.issue();
    story.outcome(intent, &signature, Some(number));
    story.close();
    let report = story.audit();
    assert_eq!(report.findings, []);
    assert_eq!((verdict(&report, 2), verdict(&report, 3)), ("complete".to_owned(), "complete".to_owned()));
}

#[test]
fn a_signature_that_the_log_does_not_hold_is_seen() {
    let mut story = Story::gated();
    story.issue();
    let (_, tbs) = story.intent();
    story.sign(&tbs);
    story.close();
    story.close();
    let report = story.audit();
    is_uncovered(&report, 2, "did something");
    assert_eq!(verdict(&report, 3), "complete");
}

#[test]
fn a_signature_over_bytes_of_which_the_log_knows_nothing_is_seen() {
    let mut story = Story::gated();
    story.sign(b"not in the log");
    story.issue();
    story.close();
    is_uncovered(&story.audit(), 2, "a command of it");
}

#[test]
fn an_outcome_that_is_missing_or_has_no_number_is_seen() {
    for number_is_told in [false, true] {
        let mut story = Story::gated();
        let (intent, tbs) = story.intent();
        let (_, signature) = story.sign(&tbs);
        if number_is_told {
            story.outcome(intent, &signature, None);
        }
        story.issue();
        story.close();
        let report = story.audit();
        is_uncovered(&report, 2, "a command of it does not stand in the log");
        assert_eq!(hidden(&report, 2), Some(u64::from(!number_is_told)));
    }
}

#[test]
fn numbers_count_up_from_one_without_gaps() {
    for (ordinal, words) in
        [(3, "a command of it"), (0, "a command of it"), (u64::from(u32::MAX), "a command of it")]
    {
        let mut story = Story::gated();
        let (intent, tbs) = story.intent();
        let (number, signature) = story.sign(&tbs);
        assert_eq!(number, LedgerNumber { epoch: 2, ordinal: 2 });
        story.outcome(intent, &signature, Some(LedgerNumber { ordinal, ..number }));
        story.close();
        is_uncovered(&story.audit(), 2, words);
    }
}

#[test]
fn what_was_done_in_another_order_is_seen() {
    let mut story = Story::gated();
    let (intents, numbers): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (intent, tbs) = story.intent();
            let (number, signature) = story.sign(&tbs);
            ((intent, signature), number)
        })
        .unzip();
    for ((intent, signature), number) in intents.iter().zip(numbers.iter().rev()) {
        story.outcome(*intent, signature, Some(*number));
    }
    story.close();
    is_uncovered(&story.audit(), 2, "did something");
}

#[test]
fn two_commands_with_one_number_are_a_finding() {
    let mut story = Story::gated();
    let number = story.issue();
    let (intent, tbs) = story.intent();
    let (_, signature) = story.sign(&tbs);
    let entry = story.outcome(intent, &signature, Some(number));
    finds(&story.audit(), entry, "ledger", "stands twice");
}

/// The epoch is over and accounted for: there was nothing else in it.
#[test]
fn a_command_of_an_epoch_that_is_complete_without_it_is_a_finding() {
    for later in [0, 1] {
        let mut story = Story::gated();
        let number = story.issue();
        story.close();
        assert_eq!(verdict(&story.audit(), 2), "complete");
        let (intent, tbs) = story.intent();
        let (_, signature) = story.sign(&tbs);
        let number = LedgerNumber { ordinal: number.ordinal + later, ..number };
        let entry = story.outcome(intent, &signature, Some(number));
        let report = story.audit();
        finds(&report, entry, "ledger", "complete without it");
        assert_eq!(verdict(&report, 2), "complete");
    }
}

#[test]
fn a_signature_by_a_key_that_is_in_no_tpm_has_no_number() {
    let mut story = Story::gated();
    let number = LedgerNumber { epoch: 2, ordinal: 2 };
    let outcome = story.log.last("outcome");
    // Of a key in software, whose custody record says so.
    let entry = story
        .log
        .all("outcome")
        .into_iter()
        .rfind(|index| story.log.value(*index)["body"]["result"]["signature"].is_string());
    let entry = story.log.edit_body(entry.unwrap_or(outcome), |body| body["command"] = json!(number));
    let report = story.audit();
    assert!(findings(&report).contains(&(Some(entry), "ledger")), "{:?}", report.findings);
}

/// Nobody can tell whether something was done that the TPM has forgotten.
#[test]
fn an_epoch_in_which_the_tpm_was_reset_is_never_complete() {
    for (before, after) in [(true, false), (false, true), (true, true), (false, false)] {
        let mut story = Story::gated();
        if before {
            story.issue();
        }
        story.tpm.reset();
        if after {
            story.issue();
        }
        let closed = story.tpm.epoch;
        story.close();
        story.issue();
        story.close();
        let report = story.audit();
        is_uncovered(&report, closed, "was reset");
        assert_eq!(verdict(&report, closed + 1), "complete");
        assert_eq!(verdicts(&report).iter().filter(|(_, told)| told == "open").count(), 1);
    }
}

#[test]
fn a_restart_of_the_tpm_is_told() {
    let mut story = Story::gated();
    story.tpm.restarts += 1;
    story.close();
    story.close();
    let report = story.audit();
    is_uncovered(&report, 2, "was restarted");
    assert_eq!(verdict(&report, 3), "complete");
}

/// What they read is gone, and they may have done anything before.
#[test]
fn an_epoch_that_somebody_else_closed_is_uncovered_and_so_is_the_next() {
    let mut story = Story::gated();
    story.issue();
    story.tpm.read_ledger(&[0; 32]);
    story.close();
    story.close();
    let report = story.audit();
    is_uncovered(&report, 2, "nothing closes epoch 2");
    is_uncovered(&report, 3, "somebody else read the ledger");
    assert_eq!(verdict(&report, 4), "complete");
    assert_eq!(hidden(&report, 2), Some(0));
}

/// Nor does it wait for a statement for ever if what was done in it comes late.
#[test]
fn an_outcome_of_an_epoch_that_was_passed_over_leaves_it_uncovered() {
    let mut story = Story::gated();
    story.tpm.read_ledger(&[0; 32]);
    let (intent, tbs) = story.intent();
    let (number, signature) = story.sign(&tbs);
    story.tpm.read_ledger(&[0; 32]);
    story.close();
    story.outcome(intent, &signature, Some(number));
    let report = story.audit();
    for epoch in [2, 3] {
        is_uncovered(&report, epoch, "nothing closes epoch");
    }
    is_uncovered(&report, 4, "nothing closes epoch 2");
}

#[test]
fn a_change_of_what_is_audited_is_seen() {
    let mut story = Story::gated();
    story.issue();
    // Not one of those without which a ledger says nothing.
    story.tpm.audited.retain(|code| *code != 0x197);
    story.close();
    story.issue();
    story.close();
    let report = story.audit();
    is_uncovered(&report, 2, "what is audited was changed");
    assert_eq!(verdict(&report, 3), "complete");
}

/// A TPM was replaced, or another key attests: its numbers are its own.
#[test]
fn another_key_begins_another_ledger() {
    let mut story = Story::gated();
    story.issue();
    story.close();
    story.issue();
    story.tpm = Tpm::new();
    story.tpm.epoch = 1;
    // The same numbers as those of the TPM before.
    story.tpm.increment(0x0180_0999);
    story.close();
    story.issue();
    story.close();
    let report = story.audit();
    assert_eq!(report.findings, []);
    let told = verdicts(&report);
    assert_eq!(told.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [1, 2, 3, 2, 3, 4]);
    assert_eq!(told[1].1, "complete");
    assert!(told[2].1.contains("nothing closes epoch 3"), "{told:?}");
    assert!(told[3].1.contains("another key attests"), "{told:?}");
    assert_eq!((told[4].1.as_str(), told[5].1.as_str()), ("complete", "open"));
    assert_eq!(report.ledger[0].attested_by, report.ledger[2].attested_by);
    assert_ne!(report.ledger[2].attested_by, report.ledger[3].attested_by);
}

#[test]
fn a_count_of_which_the_log_says_nothing_leaves_its_epoch_uncovered() {
    let mut story = Story::gated();
    story.tpm.increment(COUNTER);
    story.close();
    is_uncovered(&story.audit(), 2, "did something");
    let mut story = Story::gated();
    story.anchor();
    let (number, other) = (LedgerNumber { epoch: 2, ordinal: 2 }, LedgerNumber { epoch: 2, ordinal: 3 });
    let anchor = story.log.last("anchor");
    story.log.edit_body(anchor, |body| (body["increment"], body["certify"]) = (json!(other), json!(number)));
    story.close();
    is_uncovered(&story.audit(), 2, "did something");
}

/// Whatever a thief had signed, gates let him have only what stands in the log, once.
#[test]
fn gates_bound_what_can_be_hidden() {
    let mut story = Story::gated();
    story.issue();
    let abandoned = story.intent().0;
    story.log.push("outcome", json!({ "intent": abandoned, "result": { "abandoned": "the token is gone" } }));
    story.intent();
    story.tpm.increment(COUNTER);
    story.close();
    let report = story.audit();
    is_uncovered(&report, 2, "did something");
    assert_eq!(hidden(&report, 2), Some(2));
}

#[test]
fn a_key_without_a_gate_lets_nothing_be_bounded() {
    let stories: [fn() -> Story; 4] = [
        || Story::of(TpmKey::ungated()),
        // Beside one that has a gate.
        || {
            let mut story = Story::gated();
            let key = TpmKey::ungated();
            story.custody(&key, &key);
            story
        },
        // One whose evidence is about another key, which has a gate.
        || {
            let mut story = Story::gated();
            let of = story.key.clone();
            story.custody(&TpmKey::ungated(), &of);
            story
        },
        // One that had none, and is said to have one now.
        || {
            let mut story = Story::of(TpmKey::ungated());
            let gated = story.key.as_if_gated();
            story.custody(&gated, &gated);
            story
        },
    ];
    for (at, story) in stories.into_iter().enumerate() {
        let mut story = story();
        story.tpm.increment(COUNTER);
        story.close();
        let report = story.audit();
        is_uncovered(&report, 2, "did something");
        assert_eq!(hidden(&report, 2), None, "{at}");
    }
}
