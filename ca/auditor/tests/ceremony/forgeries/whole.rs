//! Transcripts that are another one as a whole.

use super::*;

#[test]
fn a_transcript_that_was_signed_again_by_another_key_is_refused_whole() {
    let mut copy = WORLD.copy();
    copy.log.key = software(KeyAlgorithm::Ed25519);
    let verdict = copy.verify();
    assert_eq!(verdict.findings().map(|it| it.rule).collect::<Vec<_>>(), ["checkpoint"]);
    assert!(!verdict.passed);
}

#[test]
fn a_transcript_with_changed_files_is_found_by_the_audit_of_the_log() {
    let copy = WORLD.copy();
    let size = copy.log.entries.len();
    let bundle = copy.places.out.join(format!("transcript/tile/entries/000.p/{size}"));
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(8).position(|window| window == b"Rotation").unwrap();
    bytes[at] = b'M';
    std::fs::write(bundle, bytes).unwrap();
    let verdict = copy.verify_files();
    let found: BTreeSet<_> = verdict.findings().map(|it| it.rule).collect();
    assert!(found.contains("entry") && found.contains("approval-object"), "{}", verdict.text());
}

#[test]
fn a_rehearsal_is_never_accepted_as_a_ceremony() {
    let mut copy = WORLD.copy();
    copy.places.out = copy.places.rehearsal.clone();
    copy.key = copy.rehearsal.verifier();
    for (wanted, passed) in
        [(Wanted::Ceremony, false), (Wanted::Development, false), (Wanted::Rehearsal, true)]
    {
        copy.wanted = wanted;
        let verdict = copy.verify_files();
        assert_eq!((verdict.outcome, verdict.passed), (Outcome::Rehearsal, passed), "{}", verdict.text());
    }
    // And a ceremony is no rehearsal.
    let mut copy = WORLD.copy();
    copy.wanted = Wanted::Rehearsal;
    let verdict = copy.verify_files();
    assert_eq!((verdict.outcome, verdict.passed), (Outcome::Accepted, false));
}

#[test]
fn a_rehearsal_on_real_tokens_is_none() {
    let mut copy = WORLD.copy();
    on_real_token(&mut copy.rehearsal);
    copy.verify();
    copy.places.out = copy.places.rehearsal.clone();
    copy.key = copy.rehearsal.verifier();
    copy.wanted = Wanted::Rehearsal;
    let verdict = copy.verify_files();
    assert_eq!(verdict.findings().map(|it| it.rule).collect::<Vec<_>>(), ["custody-simulated"]);
    assert!(!verdict.passed);
}

#[test]
fn a_rehearsal_under_the_name_of_the_ceremony_is_found_by_its_keys() {
    let mut copy = WORLD.copy();
    let mut log = WORLD.rehearsal.log.clone();
    log.origin = WORLD.made.log.origin.clone();
    for index in 0..log.entries.len() as u64 {
        log.edit(index, |value| value["origin"] = json!(log_origin()));
    }
    copy.key = log.verifier();
    copy.log = log;
    let found: BTreeSet<_> = copy.verify().findings().map(|it| it.rule).collect();
    for rule in ["opened", "custody-grade", "approval-missing", "window", "rehearsal-missing", "key-other"] {
        assert!(found.contains(rule), "{rule}: {found:?}");
    }
}

#[test]
fn a_ceremony_without_terms_is_for_development() {
    let (made, out) = &WORLD.corporate;
    let plan = crate::plans::parse(&crate::plans::corporate());
    let folder = undercroft_log_files::Folder::new(out.join("transcript"));
    let key = made.log.verifier();
    for (wanted, passed) in [(Wanted::Ceremony, false), (Wanted::Development, true)] {
        let verdict = undercroft_audit::ceremony::verify(&undercroft_audit::ceremony::Given {
            transcript: &folder,
            key: &key,
            plan: &plan,
            outputs: Some(out),
            requests: None,
            rehearsal: None,
            previous: None,
            next: None,
            known: &undercroft_audit::Known::default(),
            wanted,
        })
        .unwrap()
        .verdict;
        assert_eq!((verdict.outcome, verdict.passed), (Outcome::Development, passed), "{}", verdict.text());
    }
}

/// Whatever is taken out, and whoever approves the result then: it is found, unless it was said by the way.
#[test]
fn no_entry_can_be_taken_out() {
    let mut passed = Vec::new();
    for index in 0..WORLD.made.log.entries.len() as u64 {
        let mut copy = WORLD.copy();
        // What the ceremony before must have approved is missed by who looks at that, too.
        copy.alone = copy.approval(Action::Roster) != index;
        let said = copy.log.value(index)["body"]["event"].as_str().unwrap_or_default().to_owned();
        let can_be_approved = said != "awaiting" && copy.approval(Action::CeremonyResult) != index;
        copy.log.remove(index);
        if can_be_approved {
            copy.approve_again();
        }
        if copy.verify().passed {
            passed.push(said);
        }
    }
    assert_eq!(passed, ["note", "resumed"]);
}

#[test]
fn keys_in_software_are_for_development() {
    for (wanted, outcome) in
        [(Wanted::Ceremony, Outcome::Refused), (Wanted::Development, Outcome::Development)]
    {
        let mut copy = WORLD.copy();
        copy.wanted = wanted;
        copy.alone = true;
        let at = copy.find("root new-root");
        copy.log.edit_body(at, |body| {
            body["format"] = json!("software-v1");
            body["grade"] = json!("software");
        });
        copy.approve_again();
        let verdict = copy.verify();
        assert_eq!(
            (verdict.outcome, verdict.passed),
            (outcome, wanted == Wanted::Development),
            "{}",
            verdict.text()
        );
    }
}
