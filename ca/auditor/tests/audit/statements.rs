//! What TPMs state that no log may hold: by whom, about what, over which head, and in which order.

use serde_json::json;
use undercroft_log::leaf::{LedgerNumber, LogHead};

use crate::ledger::{finds, verdicts};
use crate::tpm::{COUNTER, Story, TpmKey};

#[test]
fn a_tpm_that_does_not_audit_what_it_must_is_a_finding() {
    for code in [0x133, 0x134, 0x148, 0x158, 0x15d, 0x184] {
        let mut story = Story::gated();
        story.tpm.audited.retain(|audited| *audited != code);
        let entry = story.close();
        let report = story.audit();
        finds(&report, entry, "ledger", &format!("{code:#x}"));
        assert_eq!(verdicts(&report).iter().filter(|(_, told)| told == "complete").count(), 0);
    }
}

#[test]
fn a_list_that_is_not_the_one_attested_to_is_a_finding() {
    let mut story = Story::gated();
    let entry = story.close_with(|_, _, audited, _| audited.truncate(19));
    finds(&story.audit(), entry, "ledger", "other commands");
    for change in
        [|audited: &mut Vec<u32>| audited.reverse(), |audited: &mut Vec<u32>| audited.push(audited[19])]
    {
        let mut story = Story::gated();
        change(&mut story.tpm.audited);
        let entry = story.close();
        finds(&story.audit(), entry, "ledger", "list of audited commands");
    }
}

#[test]
fn a_key_that_would_sign_anything_attests_to_nothing() {
    let mut story = Story::gated();
    story.tpm.attests = TpmKey::unrestricted();
    let entry = story.close();
    finds(&story.audit(), entry, "ledger", "could sign what its TPM never said");
    // What it could sign is what the restricted one would have to.
    let mut story = Story::gated();
    story.anchor();
    story.announce(2);
    story.tpm.attests = TpmKey::unrestricted();
    let entry = story.anchor_over(story.head(), |_| {});
    finds(&story.audit(), entry, "anchor", "could sign what its TPM never said");
}

#[test]
fn a_statement_that_the_tpm_has_not_signed_is_a_finding() {
    let other = TpmKey::attesting();
    for (words, lie) in [
        ("has not signed", 0usize),
        ("has not signed", 1),
        ("1 bytes follow", 2),
        ("has not signed", 3),
        ("1 bytes follow", 4),
    ] {
        let mut story = Story::gated();
        let other = other.clone();
        let entry = story.close_with(|_, _, _, attested| match lie {
            0 => *attested.signature.0.last_mut().unwrap() ^= 1,
            1 => attested.attest.0[60] ^= 1,
            2 => attested.signature.0.push(0),
            3 => attested.signer.0 = other.area.encode(),
            _ => attested.signer.0.push(0),
        });
        let report = story.audit();
        finds(&report, entry, "ledger", words);
        assert!(!verdicts(&report).iter().any(|(epoch, told)| *epoch == 2 && told == "complete"));
    }
}

#[test]
fn a_statement_about_something_else_is_a_finding() {
    let mut story = Story::gated();
    story.anchor();
    let head = story.head();
    let qualifying = story.qualifying(&head);
    let (_, of_counter) = story.tpm.certify(COUNTER, &qualifying);
    let entry = story.close_with(|_, _, _, attested| *attested = of_counter);
    finds(&story.audit(), entry, "ledger", "something else than commands");

    let mut story = Story::gated();
    let value = story.announce(1);
    let head = story.head();
    let qualifying = story.qualifying(&head);
    let (_, of_ledger) = story.tpm.read_ledger(&qualifying);
    let entry = story.anchor_over(head, |anchor| anchor.attested = of_ledger);
    assert_eq!(entry, value + 1);
    finds(&story.audit(), entry, "anchor", "does not attest");
}

#[test]
fn the_head_is_the_one_that_the_tpm_was_given() {
    let mut story = Story::gated();
    let earlier = story.head();
    story.issue();
    let entry = story.close_with(|head, _, _, _| *head = earlier);
    finds(&story.audit(), entry, "ledger", "another head");
    let mut story = Story::gated();
    let earlier = story.head();
    story.announce(1);
    let entry = story.anchor_over(story.head(), |anchor| anchor.head = earlier);
    finds(&story.audit(), entry, "anchor", "another head");
}

/// The TPM attests to whatever it is given. That the log had that head is for the log to show.
#[test]
fn a_head_that_the_log_never_had_is_a_finding() {
    let mut story = Story::gated();
    let mut head = story.head();
    head.size -= 1;
    let qualifying = story.qualifying(&head);
    let (number, attested) = story.tpm.read_ledger(&qualifying);
    let entry = story.close_with(|told, of, _, by| (*told, *of, *by) = (head, number, attested));
    finds(&story.audit(), entry, "head", "never had the root");
}

/// It would attest to entries that did not exist.
#[test]
fn a_head_that_covers_what_came_later_is_a_finding() {
    let mut story = Story::gated();
    let mut later = story.log.clone();
    let body = json!({ "event": "raised", "rule": "x", "text": "x" });
    later.push("alert", body.clone());
    later.push("alert", body.clone());
    let head = LogHead { size: later.entries.len() as u64, root: later.root() };
    let qualifying = story.qualifying(&head);
    let (number, attested) = story.tpm.read_ledger(&qualifying);
    let entry = story.close_with(|told, of, _, by| (*told, *of, *by) = (head, number, attested));
    story.log.push("alert", body);
    finds(&story.audit(), entry, "head", "never had the root");
}

#[test]
fn the_number_of_a_closing_is_the_first_of_the_next_epoch() {
    for lie in [
        |number: &mut LedgerNumber| number.ordinal = 2,
        |number: &mut LedgerNumber| number.epoch += 1,
        |number: &mut LedgerNumber| number.epoch -= 1,
    ] {
        let mut story = Story::gated();
        let entry = story.close_with(|_, number, _, _| lie(number));
        finds(&story.audit(), entry, "ledger", "it closes epoch 2");
    }
    // There is none behind the last.
    let mut story = Story::gated();
    story.tpm.epoch = u64::MAX;
    let entry = story.close();
    assert_eq!(story.newest()["body"]["close-epoch"]["number"]["epoch"], 0);
    finds(&story.audit(), entry, "ledger", "it closes epoch 18446744073709551615");
}

#[test]
fn epochs_are_closed_in_order() {
    let mut story = Story::gated();
    let head = story.head();
    let qualifying = story.qualifying(&head);
    let (number, attested) = story.tpm.read_ledger(&qualifying);
    story.close();
    // That of epoch 2 comes after that of epoch 3.
    let entry = story.close_with(|told, of, _, by| (*told, *of, *by) = (head, number, attested));
    finds(&story.audit(), entry, "ledger", "is closed after epoch 3");
    // The same one again.
    let mut story = Story::gated();
    story.close();
    let again = story.newest()["body"].clone();
    let entry = story.log.push("command", again);
    finds(&story.audit(), entry, "ledger", "is closed after epoch 2");
}

#[test]
fn anchors_are_announced_and_there_is_one_at_a_value() {
    let mut story = Story::gated();
    let entry = story.anchor_over(story.head(), |_| {});
    finds(&story.audit(), entry, "anchor", "no entry in front of it announces 1");

    let mut story = Story::gated();
    story.anchor();
    let entry = story.log.push("anchor", story.newest()["body"].clone());
    finds(&story.audit(), entry, "anchor", "another has anchored it");

    // The TPM certifies one value as often as it is asked, over any head.
    let mut story = Story::gated();
    story.anchor();
    story.issue();
    let head = story.head();
    let qualifying = story.qualifying(&head);
    let (certify, attested) = story.tpm.certify(COUNTER, &qualifying);
    let mut body = story.log.value(story.log.last("anchor"))["body"].clone();
    body["head"] = serde_json::to_value(&head).unwrap();
    body["certify"] = json!(certify);
    body["attested"] = serde_json::to_value(&attested).unwrap();
    let entry = story.log.push("anchor", body);
    finds(&story.audit(), entry, "anchor", "another has anchored it");
}

#[test]
fn a_value_that_the_tpm_does_not_attest_to_is_a_finding() {
    let mut story = Story::gated();
    story.anchor();
    story.announce(2);
    let entry = story.anchor_over(story.head(), |anchor| anchor.value = 3);
    finds(&story.audit(), entry, "anchor", "does not attest that counter 0x1800100 is 3");
    // Nor of another counter.
    let mut story = Story::gated();
    story.announce(1);
    let entry = story.anchor_over(story.head(), |anchor| anchor.index += 1);
    finds(&story.audit(), entry, "anchor", "does not attest that counter 0x1800101");
}

/// Else the counter could have moved before the log said that it would.
#[test]
fn an_anchor_stands_over_a_head_that_covers_its_announcement() {
    let mut story = Story::gated();
    let head = story.head();
    story.announce(1);
    let entry = story.anchor_over(head, |_| {});
    finds(&story.audit(), entry, "anchor", "does not cover entry");
}

#[test]
fn announcements_go_on_by_one_or_not_at_all() {
    for (value, passes) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
        let mut story = Story::gated();
        story.anchor();
        story.announce(2);
        let entry = story.announce(value);
        let report = story.audit();
        match passes {
            true => assert_eq!(report.findings, [], "{value}"),
            false => finds(&report, entry, "anchor", &format!("it announces {value}")),
        }
    }
    let mut story = Story::gated();
    story.anchor();
    let entry = story.announce(1);
    finds(&story.audit(), entry, "anchor", "anchored at Some(1)");
}
