//! What a compromise would concern, as the log has it; and what the log takes note of.

use undercroft_ca::drill::LiveCertificates;
use undercroft_ca::service::{IssueRequest, ServiceError};
use undercroft_ca::time::Lifetime;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Body, Leaf, RecoveryWay};
use undercroft_log::store::{LogReader as _, LogStore as _};

use crate::rig::{Mood, Rig, ask, workload};

#[test]
fn every_intent_that_has_not_ended_is_live_and_of_its_own_authority_alone() {
    let rig = Rig::new();
    let lasting = |hours| IssueRequest { lifetime: Some(Lifetime::hours(hours)), ..workload() };
    let (authority, other, now) = rig.run(async |ca| {
        ask(ca, lasting(1)).await.unwrap();
        ask(ca, lasting(3)).await.unwrap();
        rig.domains[1].key.set(Mood::Fails);
        ask(ca, lasting(4)).await.unwrap_err();
        rig.domains[1].key.set(Mood::Signs);
        rig.clock.advance(2 * 3600);
        let key = |domain| ca.domain(domain).unwrap().authorities()[0].certificate().public_key().id();
        (key("prod.example"), key("control.example"), ca.now())
    });
    let live = |key: KeyId, now| {
        rig.look("prod.example", async |_, store| {
            let mut live = LiveCertificates::new(key, now);
            let size = store.head().await.unwrap().size;
            for entry in store.entries(0..size).await.unwrap() {
                live.read(&Leaf::parse(&entry).unwrap()).unwrap();
            }
            live
        })
    };
    // The first has ended; the last was abandoned, and counts as issued.
    let found = live(authority, now);
    let found: Vec<_> =
        found.all().map(|live| (live.abandoned, live.identity.uri.clone().unwrap())).collect();
    let ledger = "spiffe://prod.example/ns/pay/sa/ledger".to_owned();
    assert_eq!(found, [(false, ledger.clone()), (true, ledger)]);
    assert!(live(other, now).is_empty());
    let later = now + jiff::SignedDuration::from_hours(3);
    assert!(live(authority, later).is_empty());
}

#[test]
fn an_intent_that_cannot_be_read_is_told_and_not_passed_over() {
    let entry = |der: &str, key: &str| {
        let text = format!(
            r#"{{"v":1,"origin":"ca.example/undercroft/prod.example/1","index":7,"time":"2026-11-22T08:00:00Z","kind":"intent","sequence":1,"body":{{"object":"certificate","domain":"prod.example","profile":"svid","key_id":"{key}","algorithm":"ecdsa-p256-sha256","tbs":{{"der":"{der}"}},"caller":{{"id":"x","by":"mtls"}},"rule":"r","policy":"{key}"}}}}"#
        );
        Leaf::parse(text.as_bytes()).unwrap()
    };
    let mut live = LiveCertificates::new(KeyId::from([7; 32]), "2026-11-22T08:00:00Z".parse().unwrap());
    let told = live.read(&entry("MAA=", &"07".repeat(32))).unwrap_err();
    assert!(told.contains("entry 7"), "{told}");
    // Of another authority it is none of ours to read.
    live.read(&entry("MAA=", &"08".repeat(32))).unwrap();
}

#[test]
fn the_log_takes_note_of_drills_and_of_nothing_else() {
    let rig = Rig::new();
    let good = format!(
        r#"{{"format":"undercroft-drill-v1","domain":"prod.example","authority":"i1","key-id":"{}","begun":"2026-11-22T08:00:00Z","live":0,"steps":[],"attached-rate":null,"recovery-ms":null}}"#,
        "07".repeat(32)
    );
    rig.run(async |ca| {
        for wrong in
            ["", "DRILL", "{}", &good.replace("-v1", "-v2"), &format!("{good}{}", " ".repeat(33_000))]
        {
            let told = ca.note_drill(wrong).await;
            assert!(
                matches!(&told, Err(ServiceError::Refused(it)) if it.rule == "drill-summary"),
                "{told:?}"
            );
        }
        ca.note_drill(&good).await.unwrap();
    });
    let log = rig.log_of("control.example");
    let noted: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Recovery(recovery) => Some((recovery.way, recovery.statement.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(noted, [(RecoveryWay::Drilled, good.as_str())]);
}
