//! A ceremony as it should be.

use undercroft_audit::ceremony::{Outcome, Status, Subject};

use crate::world::WORLD;

#[test]
fn an_honest_ceremony_with_every_kind_of_artefact_is_accepted() {
    let verdict = WORLD.copy().verify_files();
    assert_eq!(verdict.outcome, Outcome::Accepted, "{}", verdict.text());
    assert!(verdict.passed);
    for check in &verdict.checks {
        // What a rehearsal of the next ceremony must be is told in `forgeries/after.rs`.
        let expected = if check.check == Subject::Next { Status::NotApplicable } else { Status::Ok };
        assert_eq!(check.status, expected, "{}", check.check.name());
    }
    // Written anew from its entries it is the same.
    let again = WORLD.copy().verify();
    assert_eq!(again, verdict);
}

#[test]
fn the_quorum_may_approve_the_result_after_the_window() {
    let mut copy = WORLD.copy();
    let awaiting = copy.find(r#""event":"awaiting""#);
    for index in awaiting + 1..copy.log.entries.len() as u64 {
        copy.log.edit(index, |value| value["time"] = serde_json::json!("2026-11-24T08:00:00Z"));
    }
    let verdict = copy.verify();
    assert!(verdict.passed, "{}", verdict.text());
}

#[test]
fn other_ceremonies_may_have_written_to_the_same_folder() {
    let copy = WORLD.copy();
    std::fs::copy(copy.places.previous.join("old-root.pem"), copy.places.out.join("root-of-2025.pem"))
        .unwrap();
    let verdict = copy.verify_files();
    assert!(verdict.passed, "{}", verdict.text());
}
