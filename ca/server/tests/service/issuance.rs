//! Grants and refusals: what callers get, and what the log says of it.

use jiff::Timestamp;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::csr::der_from_pem;
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::service::{IssueRequest, ServiceError};
use undercroft_ca::time::Lifetime;
use undercroft_ca::verify;
use undercroft_log::leaf::{Body, OutcomeResult, Refusal, RefusedAction};

use crate::rig::{Rig, ask, ask_as, csr, workload};

fn hours(hours: u64) -> Option<Lifetime> {
    Some(Lifetime::hours(hours))
}

#[test]
fn what_is_issued_stands_in_the_log_as_an_intent_and_an_outcome() {
    let rig = Rig::new();
    let (chain, receipt, key) = rig.run(async |ca| {
        let key = ca.domain("prod.example").unwrap().log().key().clone();
        let issued = ask(ca, workload()).await.unwrap();
        (issued.chain, issued.receipt, key)
    });
    let now = undercroft_log::Clock::now(&*rig.clock);
    let holder = verify::chain(&chain, &rig.domains[1].roots, now).unwrap();
    assert_eq!(holder.uris, ["spiffe://prod.example/ns/pay/sa/ledger"]);
    let proof = receipt.proof().to_string();
    let standing = verify::standing(&chain[0], receipt.leaf(), &proof, &key).unwrap();
    assert_eq!((standing.index, &*standing.intent.rule), (receipt.index(), "workloads"));
    assert_eq!(standing.intent.caller.id, "spiffe://control.example/operator/alice");

    let log = rig.log_of("prod.example");
    assert_eq!(log[usize::try_from(receipt.index()).unwrap()], Body::Intent(standing.intent));
    let outcomes: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Outcome(outcome) => Some((outcome.intent, &outcome.result)),
            _ => None,
        })
        .collect();
    let [(intent, OutcomeResult::Signature(signature))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(*intent, receipt.index());
    assert!(chain[0].ends_with(&signature.0));
}

#[test]
fn a_proof_of_another_certificate_proves_nothing() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let key = ca.domain("prod.example").unwrap().log().key().clone();
        let (one, other) = (ask(ca, workload()).await.unwrap(), ask(ca, workload()).await.unwrap());
        let proof = other.receipt.proof().to_string();
        assert!(verify::standing(&one.chain[0], other.receipt.leaf(), &proof, &key).is_err());
        assert!(verify::standing(&one.chain[0], one.receipt.leaf(), &proof, &key).is_err());
        let control = ca.domain("control.example").unwrap().log().key();
        let proof = one.receipt.proof().to_string();
        assert!(verify::standing(&one.chain[0], one.receipt.leaf(), &proof, control).is_err());
    });
}

#[test]
fn a_preview_says_what_would_be_issued_and_leaves_no_trace() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let caller = parse_spiffe_id("spiffe://control.example/operator/alice").unwrap();
        let grant = ca.preview(&caller, &workload()).await.unwrap();
        assert_eq!(grant.rule(), "workloads");
        let request = IssueRequest { lifetime: hours(5), ..workload() };
        assert!(matches!(ca.preview(&caller, &request).await, Err(ServiceError::Refused(_))));
    });
    // What is refused stands in the log, as what it was.
    let log = rig.log_of("prod.example");
    assert!(
        matches!(log.last(), Some(Body::Refusal(leaf)) if leaf.action == RefusedAction::Preview),
        "{log:?}"
    );
    assert!(!rig.log_of("prod.example").iter().any(|body| matches!(body, Body::Intent(_))));
}

/// Every rule that refuses; each leaves its name in the log, and no intent.
#[test]
fn every_refusal_is_in_the_log_before_it_is_told() {
    let rig = Rig::new();
    let broken = {
        let mut csr = workload().csr;
        *csr.last_mut().unwrap() ^= 1;
        csr
    };
    // RSA with 1024 bits, by `openssl req -new -newkey rsa:1024 -nodes -subj /`.
    let weak = der_from_pem(include_str!("weak.csr.pem")).unwrap();
    let alice = "spiffe://control.example/operator/alice";
    let with_csr = |uris: &[&str]| IssueRequest { csr: csr(uris), ..workload() };
    let table: Vec<(&str, &str, IssueRequest)> = vec![
        ("caller-unknown", "spiffe://control.example/visitor/mallory", workload()),
        ("caller-unknown", "spiffe://prod.example/operator/alice", workload()),
        ("no-rule", alice, IssueRequest { profile: "spire-ca".into(), ..workload() }),
        ("no-rule", alice, IssueRequest { profile: "no-such".into(), ..workload() }),
        ("no-rule", alice, IssueRequest { domain: "control.example".into(), ..workload() }),
        ("id-missing", alice, with_csr(&[])),
        ("id-malformed", alice, with_csr(&["spiffe://prod.example/ns//sa/b"])),
        ("id-of-another-domain", alice, with_csr(&["spiffe://edge.example/ns/pay/sa/ledger"])),
        ("id-reserved", alice, with_csr(&["spiffe://prod.example/spire/agent/x"])),
        ("id-not-allowed", alice, with_csr(&["spiffe://prod.example/db/main"])),
        (
            "id-several",
            alice,
            with_csr(&["spiffe://prod.example/ns/a/sa/b", "spiffe://prod.example/ns/a/sa/c"]),
        ),
        (
            "id-contradiction",
            alice,
            IssueRequest { spiffe_id: "spiffe://prod.example/ns/other/sa/b".into(), ..workload() },
        ),
        ("dns-not-allowed", alice, IssueRequest { dns_names: vec!["www.edge.example".into()], ..workload() }),
        ("lifetime-over-cap", alice, IssueRequest { lifetime: hours(5), ..workload() }),
        ("csr-signature", alice, IssueRequest { csr: broken, ..workload() }),
        ("csr-key", alice, IssueRequest { csr: weak, ..workload() }),
        ("csr-malformed", alice, IssueRequest { csr: b"no request".to_vec(), ..workload() }),
        ("csr-malformed", alice, IssueRequest { csr: Vec::new(), ..workload() }),
        ("csr-malformed", alice, IssueRequest { csr: vec![0x30; 100_000], ..workload() }),
    ];
    rig.run(async |ca| {
        for (rule, caller, request) in &table {
            match ask_as(ca, caller, request.clone()).await {
                Err(ServiceError::Refused(refusal)) => assert_eq!(refusal.rule, *rule, "{refusal}"),
                other => panic!("{rule}: {other:?}"),
            }
        }
    });
    let refusals = |domain| -> Vec<Refusal> {
        rig.log_of(domain)
            .into_iter()
            .filter_map(|body| match body {
                Body::Refusal(refusal) => Some(refusal),
                _ => None,
            })
            .collect()
    };
    let logged = [refusals("control.example"), refusals("prod.example")].concat();
    assert_eq!(logged.len(), table.len());
    for (rule, caller, _) in &table {
        assert!(logged.iter().any(|leaf| leaf.rule == *rule && leaf.caller.id == *caller), "{rule}");
    }
    assert!(!rig.log_of("prod.example").iter().any(|body| matches!(body, Body::Intent(_))));
}

#[test]
fn what_is_refused_for_an_unknown_domain_stands_in_the_control_log_cut_short() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let request = IssueRequest { domain: "x".repeat(5000), spiffe_id: "é".repeat(5000), ..workload() };
        ask(ca, request).await.unwrap_err();
    });
    let control = rig.log_of("control.example");
    let Some(Body::Refusal(refusal)) = control.last() else { panic!("{control:?}") };
    assert_eq!((refusal.domain.len(), refusal.asked.spiffe_id.chars().count()), (300, 300));
    assert_eq!(refusal.rule, "no-rule");
}

#[test]
fn what_the_csr_wishes_and_policy_does_not_allow_is_withheld_and_said() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![
            rcgen::SanType::URI("spiffe://prod.example/ns/a/sa/b".try_into().unwrap()),
            rcgen::SanType::DnsName("ledger.prod.example".try_into().unwrap()),
            rcgen::SanType::DnsName("www.bank.example".try_into().unwrap()),
        ];
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = params.serialize_request(&key).unwrap().der().to_vec();
        let issued = ask(ca, IssueRequest { csr, ..workload() }).await.unwrap();
        let text = String::from_utf8_lossy(&issued.chain[0]).into_owned();
        assert!(text.contains("ledger.prod.example") && !text.contains("www.bank.example"));
        assert!(AuthorityCertificate::from_der(&issued.chain[0]).is_err(), "a leaf became a CA");
    });
    let log = rig.log_of("prod.example");
    let withheld = log.iter().find_map(|body| match body {
        Body::Intent(intent) => Some(intent.withheld.clone()),
        _ => None,
    });
    let withheld = withheld.unwrap();
    assert!(withheld.iter().any(|what| what.contains("www.bank.example")), "{withheld:?}");
    assert!(!withheld.iter().any(|what| what.contains("ledger.prod.example")), "{withheld:?}");
}

/// RFC 5280 section 6.1 would accept it until the issuer ends, and then break: validity is cut instead.
#[test]
fn a_certificate_never_outlives_its_issuer() {
    let rig = Rig::new();
    let ends: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    // One hour before the intermediate ends.
    let now = undercroft_log::Clock::now(&*rig.clock);
    rig.clock.advance(ends.as_second() - now.as_second() - 3600);
    rig.run(async |ca| {
        let issued = ask(ca, IssueRequest { lifetime: hours(4), ..workload() }).await.unwrap();
        assert_eq!(verify::holder(&issued.chain[0]).unwrap().validity.not_after(), ends);
        let spire =
            IssueRequest { profile: "spire-ca".into(), csr: csr(&["spiffe://prod.example"]), ..workload() };
        let issued = ask_as(ca, "spiffe://control.example/server/prod", spire).await.unwrap();
        assert_eq!(verify::holder(&issued.chain[0]).unwrap().validity.not_after(), ends);
    });
    rig.clock.advance(3601);
    rig.run(async |ca| {
        let error = ask(ca, workload()).await.unwrap_err();
        assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains("`i1`")), "{error}");
    });
}
