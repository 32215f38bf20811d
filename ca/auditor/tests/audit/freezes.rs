//! Freezes and releases that the log should not have.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use undercroft_keymgr::SigningKey as _;
use undercroft_log::leaf::Digest;

use crate::installation::INSTALLATION;
use crate::lies::{Leaf, issue};
use crate::log::Log;

const NONCE: &str = "909130fc2e226067ac279df523caf9af";

fn caller() -> Value {
    json!({ "id": "uid:1000", "by": "unix-socket" })
}

fn freeze(log: &mut Log, what: Value) -> Digest {
    let frozen = json!({ "what": what, "event": { "frozen": { "reason": "x" } }, "caller": caller() });
    let index = log.push("freeze", frozen);
    Digest::of(&log.entries[usize::try_from(index).unwrap()])
}

/// A statement that undoes a freeze of this log.
fn statement(log: &Log, freeze: Digest) -> Value {
    json!({
        "format": "undercroft-approval-v1",
        "action": "unfreeze",
        "object": freeze.to_string(),
        "roster": "07".repeat(32),
        "origin": log.origin.to_string(),
        "requester": "alice",
        "expires": "2026-12-24T00:00:00Z",
        "nonce": NONCE,
    })
}

fn approve(log: &mut Log, statement: &Value, by: &[&str]) -> u64 {
    let signatures = vec!["-----BEGIN SSH SIGNATURE-----"; 2];
    log.push("approval", json!({ "statement": statement.to_string(), "signatures": signatures, "by": by }))
}

fn release(log: &mut Log, what: Value, freeze: Digest, approval: u64, nonce: &str) {
    let unfrozen = json!({ "freeze": freeze.to_string(), "approval": approval, "nonce": nonce });
    log.push("freeze", json!({ "what": what, "event": { "unfrozen": unfrozen }, "caller": caller() }));
}

fn bob() -> Value {
    json!({ "caller": "spiffe://control.example/operator/bob" })
}

fn found(log: &Log) -> BTreeSet<&'static str> {
    log.audit().findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn what_the_quorum_has_released_is_no_finding() {
    let mut log = INSTALLATION.control.clone();
    let entry = freeze(&mut log, bob());
    let statement = statement(&log, entry);
    let approval = approve(&mut log, &statement, &["bob", "carol"]);
    release(&mut log, bob(), entry, approval, NONCE);
    assert_eq!(log.audit().findings, []);
    // Frozen again, it is another freeze: the approval is neither for it nor good a second time.
    freeze(&mut log, bob());
    release(&mut log, bob(), entry, approval, NONCE);
    assert_eq!(found(&log), BTreeSet::from(["freeze"]));
    assert_eq!(log.audit().findings.len(), 2);
}

/// Each changes one thing of a release that would be right.
#[test]
fn every_release_without_the_quorums_word_is_found() {
    /// A name, a change of the statement, who has approved, the nonce of the release, and the rules that find it.
    type Case<'a> = (&'a str, fn(&mut Value), &'a [&'a str], &'a str, &'a [&'static str]);
    let cases: [Case<'_>; 10] = [
        ("another action", |it| it["action"] = json!("recover"), &["bob", "carol"], NONCE, &["freeze"]),
        ("another object", |it| it["object"] = json!("08".repeat(32)), &["bob", "carol"], NONCE, &["freeze"]),
        ("another log", |it| it["origin"] = json!("ca.example/x/1"), &["bob", "carol"], NONCE, &["freeze"]),
        (
            "too late",
            |it| it["expires"] = json!("2020-01-01T00:00:00Z"),
            &["bob", "carol"],
            NONCE,
            &["freeze"],
        ),
        ("another nonce", |_| (), &["bob", "carol"], "00000000000000000000000000000000", &["freeze"]),
        ("no statement", |it| it["format"] = json!("x"), &["bob", "carol"], NONCE, &["approval", "freeze"]),
        ("by nobody", |_| (), &[], NONCE, &["approval", "freeze"]),
        ("by who asked", |_| (), &["alice", "bob"], NONCE, &["approval", "freeze"]),
        ("by one twice", |_| (), &["bob", "bob"], NONCE, &["approval", "freeze"]),
        ("by more than signed", |_| (), &["bob", "carol", "dave"], NONCE, &["approval", "freeze"]),
    ];
    for (name, change, by, nonce, rules) in cases {
        let mut log = INSTALLATION.control.clone();
        let entry = freeze(&mut log, bob());
        let mut statement = statement(&log, entry);
        change(&mut statement);
        let approval = approve(&mut log, &statement, by);
        release(&mut log, bob(), entry, approval, nonce);
        assert_eq!(found(&log), rules.iter().copied().collect(), "{name}: {:#?}", log.audit().findings);
    }
}

#[test]
fn what_stands_in_the_wrong_order_or_place_is_found() {
    let frozen_twice: fn(&mut Log) = |log| {
        freeze(log, bob());
        freeze(log, bob());
    };
    let never_frozen: fn(&mut Log) = |log| {
        let statement = statement(log, Digest([7; 32]));
        let approval = approve(log, &statement, &["bob", "carol"]);
        release(log, bob(), Digest([7; 32]), approval, NONCE);
    };
    let no_approval: fn(&mut Log) = |log| {
        let entry = freeze(log, bob());
        release(log, bob(), entry, 0, NONCE);
    };
    let approved_later: fn(&mut Log) = |log| {
        let entry = freeze(log, bob());
        let next = log.entries.len() as u64 + 1;
        release(log, bob(), entry, next, NONCE);
        let statement = statement(log, entry);
        approve(log, &statement, &["bob", "carol"]);
    };
    for tell in [frozen_twice, never_frozen, no_approval, approved_later] {
        let mut log = INSTALLATION.control.clone();
        tell(&mut log);
        assert_eq!(found(&log), BTreeSet::from(["freeze"]), "{:#?}", log.audit().findings);
    }
}

/// A freeze in the log of a domain stands in the wrong place, and what is signed behind it is found all the same.
#[test]
fn what_is_signed_while_it_is_frozen_is_found() {
    for what in [
        json!({ "domain": "prod.example" }),
        json!({ "authority": INSTALLATION.prod_authority.key.public_key().id().to_string() }),
    ] {
        let mut log = INSTALLATION.prod.clone();
        freeze(&mut log, what);
        let tbs = Leaf::of_prod(&log).tbs();
        issue(&mut log, &INSTALLATION.prod_authority, &tbs, |_| ());
        assert_eq!(found(&log), BTreeSet::from(["freeze", "frozen"]), "{:#?}", log.audit().findings);
    }
    // Abandoned, it is what must be.
    let mut log = INSTALLATION.prod.clone();
    freeze(&mut log, json!({ "domain": "prod.example" }));
    let tbs = Leaf::of_prod(&log).tbs();
    issue(&mut log, &INSTALLATION.prod_authority, &tbs, |_| ());
    let outcome = log.last("outcome");
    log.edit_body(outcome, |body| body["result"] = json!({ "abandoned": "frozen" }));
    assert_eq!(found(&log), BTreeSet::from(["freeze"]));
}
