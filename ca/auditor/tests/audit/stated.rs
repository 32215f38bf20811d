//! What a ceremony's quorum has said of the roots of a domain, in front of its first bundle.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::names::parse_trust_domain;
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::time::Validity;
use undercroft_log::leaf::Digest;

use crate::installation::INSTALLATION;
use crate::log::Log;

fn of_bundle(log: &Log) -> Vec<AuthorityCertificate> {
    let roots = log.value(log.first("bundle"))["body"]["roots"].clone();
    let roots: Vec<undercroft_log::leaf::Base64Bytes> = serde_json::from_value(roots).unwrap();
    roots.iter().map(|root| AuthorityCertificate::from_der(&root.0).unwrap()).collect()
}

fn text(number: u64, domain: &str, roots: &[&AuthorityCertificate]) -> String {
    let validity =
        Validity::new("2026-01-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
    let domain = parse_trust_domain(domain).unwrap();
    RootsStatement::new(&domain, number, roots, validity.unwrap()).text().unwrap()
}

/// The approval of a text, with another text beside it.
fn approval(text: &str, about: Option<&str>) -> Value {
    let statement = json!({
        "format": "undercroft-approval-v1",
        "action": "bundle-roots",
        "object": Digest::of(text.as_bytes()).to_string(),
        "roster": "07".repeat(32),
        "origin": "ca.example/undercroft/ceremony/2026-11/1",
        "requester": "carol",
        "expires": "2027-01-01T00:00:00Z",
        "nonce": "909130fc2e226067ac279df523caf9af",
    });
    let mut body = json!({
        "statement": statement.to_string(),
        "signatures": ["-----BEGIN SSH SIGNATURE-----"],
        "by": ["alice"],
    });
    if let Some(about) = about {
        body["about"] = json!(about);
    }
    body
}

/// What is found where these stand in front of the first bundle.
fn found(approvals: &[Value]) -> BTreeSet<&'static str> {
    let mut log = INSTALLATION.prod.clone();
    let at = log.first("bundle");
    for approval in approvals.iter().rev() {
        log.insert(at, "approval", approval.clone());
    }
    log.audit().findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_first_bundle_has_no_root_that_the_quorum_has_not_stated() {
    let log = &INSTALLATION.prod;
    let roots = of_bundle(log);
    let stated: Vec<_> = roots.iter().collect();
    let other = of_bundle(&INSTALLATION.control);
    let other: Vec<_> = other.iter().collect();
    let prod = "prod.example";
    let approved = |text: &str| approval(text, Some(text));
    let good = text(1, prod, &stated);
    let none = BTreeSet::new();
    assert_eq!(found(&[approved(&good)]), none);
    // More may be allowed than is published; of several the newest counts; others are of no concern.
    let both: Vec<_> = stated.iter().chain(&other).copied().collect();
    assert_eq!(found(&[approved(&text(1, prod, &both))]), none);
    assert_eq!(found(&[approved(&text(1, prod, &other)), approved(&text(2, prod, &stated))]), none);
    assert_eq!(found(&[approved(&text(1, "edge.example", &other))]), none);

    let bundle = BTreeSet::from(["bundle"]);
    assert_eq!(found(&[approved(&text(1, prod, &other))]), bundle);
    assert_eq!(found(&[approved(&text(2, prod, &other)), approved(&good)]), bundle);
    // The text must be what was approved, and must be there.
    let wrong = BTreeSet::from(["approval"]);
    assert_eq!(found(&[approval("something else", Some(&good))]), wrong);
    assert_eq!(found(&[approval(&good, None)]), wrong);
}
