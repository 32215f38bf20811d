use undercroft_audit::Intents;
use undercroft_log::leaf::{Grade, Kind};

use crate::installation::INSTALLATION;

#[test]
fn nothing_is_found_in_the_transcript_of_a_ceremony() {
    let report = INSTALLATION.ceremony.audit();
    assert_eq!(report.findings, []);
    // Two roots, two intermediates and a CRL; a key for each certificate, and the transcript's own.
    assert_eq!(report.intents, Intents { signed: 5, abandoned: 0, open: 0 });
    assert_eq!(report.keys.len(), 5);
    assert_eq!((report.kinds[&Kind::Policy], report.kinds[&Kind::Ceremony]), (1, 4));
    assert_eq!(report.size, INSTALLATION.ceremony.entries.len() as u64);
    assert_eq!(report.origin, "ca.example/undercroft/ceremony/2026-11/1");
}

#[test]
fn nothing_is_found_in_the_logs_of_a_daemon_that_was_started_twice() {
    let report = INSTALLATION.control.audit();
    assert_eq!(report.findings, []);
    // A server certificate and an enrolment.
    assert_eq!(report.intents, Intents { signed: 2, abandoned: 0, open: 0 });
    for (kind, count) in [
        (Kind::Start, 2),
        (Kind::Policy, 2),
        (Kind::Ceremony, 1),
        (Kind::Key, 4),
        (Kind::Bundle, 1),
        (Kind::Enrolment, 1),
        (Kind::Refusal, 2),
    ] {
        assert_eq!(report.kinds[&kind], count, "{kind}");
    }
    let report = INSTALLATION.prod.audit();
    assert_eq!(report.findings, []);
    assert_eq!(report.intents, Intents { signed: 4, abandoned: 1, open: 0 });
    assert_eq!((report.kinds[&Kind::Bundle], report.kinds[&Kind::Refusal]), (2, 2));
    // A root that the quorum approved, and a step that was too early.
    assert_eq!((report.kinds[&Kind::Approval], report.kinds[&Kind::Rotation]), (1, 3));
    assert!(report.first.unwrap() < report.last.unwrap());
    assert!(report.keys.iter().all(|key| key.grade == Grade::Software), "{:?}", report.keys);
    // The same keys were opened twice.
    assert_eq!(report.keys.len(), 2);
}

/// A power cut between log and key leaves an intent; that is what it looks like, and no crime.
#[test]
fn an_intent_that_nothing_came_of_is_open_and_no_finding() {
    let mut log = INSTALLATION.prod.clone();
    let last = log.last("outcome");
    log.remove(last);
    let report = log.audit();
    assert_eq!(report.findings, []);
    assert_eq!(report.intents, Intents { signed: 3, abandoned: 1, open: 1 });
}

#[test]
fn a_log_without_entries_has_nothing_wrong_with_it() {
    let mut log = INSTALLATION.prod.clone();
    log.entries.clear();
    let report = log.audit();
    assert_eq!((report.findings, report.size, report.first), (vec![], 0, None));
}

#[test]
fn an_audit_tells_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let log = &INSTALLATION.prod;
    let mut entries = 0;
    undercroft_audit::audit(&log.write(directory.path()), &log.verifier(), |more| entries += more).unwrap();
    assert_eq!(entries, 2 * log.entries.len() as u64);
}
