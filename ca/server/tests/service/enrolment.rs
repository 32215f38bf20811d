//! Enrolment tokens: good once, for one ID, for a while.

use undercroft_ca::service::{CertificateAuthority, EnrolmentToken, ServiceError};
use undercroft_ca::time::Lifetime;
use undercroft_ca::verify;
use undercroft_log::leaf::{Body, Caller, Channel, RefusedAction};

use crate::rig::{Mood, Rig, csr};

const ALICE: &str = "spiffe://control.example/operator/alice";

async fn token(
    ca: &CertificateAuthority,
    id: &str,
    lifetime: Lifetime,
) -> Result<EnrolmentToken, ServiceError> {
    let caller = Caller { id: "uid:0".into(), by: Channel::UnixSocket };
    ca.create_enrolment(caller, id, lifetime).await.map(|(token, _)| token)
}

fn hour() -> Lifetime {
    Lifetime::hours(1)
}

fn rule<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> &'static str {
    match result {
        Err(ServiceError::Refused(refusal)) => refusal.rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_is_good_once_and_for_its_id_alone() {
    let rig = Rig::new();
    let token = rig.run(async |ca| {
        let token = token(ca, ALICE, hour()).await.unwrap();
        // What the CSR asks for does not matter: the operator has said who it is.
        let issued = ca.enrol(&token, &csr(&["spiffe://control.example/operator/root"])).await.unwrap();
        assert_eq!(verify::holder(&issued.chain[0]).unwrap().uris, [ALICE]);
        let leaf = String::from_utf8(issued.receipt.leaf().to_vec()).unwrap();
        assert!(leaf.contains(r#""withheld":["URI spiffe://control.example/operator/root"]"#), "{leaf}");
        assert_eq!(rule(ca.enrol(&token, &csr(&[])).await), "token-used");
        token
    });
    // Not even after a restart.
    rig.run(async |ca| assert_eq!(rule(ca.enrol(&token, &csr(&[])).await), "token-used"));
    let text = format!("{:?}", rig.log_of("control.example"));
    assert!(!text.contains(token.expose()), "the token itself is in the log");
    assert!(!format!("{token:?}").contains(token.expose()));
}

#[test]
fn of_many_who_present_a_token_at_once_one_gets_a_certificate() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let token = token(ca, ALICE, hour()).await.unwrap();
        let csrs: Vec<_> = (0..8).map(|_| csr(&[])).collect();
        let answers = futures::future::join_all(csrs.iter().map(|csr| ca.enrol(&token, csr))).await;
        let (issued, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(issued.len(), 1);
        for refused in refused {
            assert_eq!(rule(refused), "token-used");
        }
    });
    let intents = |body: &&Body| matches!(body, Body::Intent(intent) if intent.rule == "built-in:enrolment");
    let log = rig.log_of("control.example");
    assert_eq!(log.iter().filter(intents).count(), 1);
    // Those who came second stand in the log, whether they were late by a second or by a microsecond.
    assert_eq!(log.iter().filter(|body| matches!(body, Body::Refusal(_))).count(), 7);
}

#[test]
fn a_token_that_waited_too_long_is_refused() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let token = token(ca, ALICE, hour()).await.unwrap();
        rig.clock.advance(3601);
        assert_eq!(rule(ca.enrol(&token, &csr(&[])).await), "token-expired");
    });
}

#[test]
fn a_token_survives_a_broken_request_and_a_restart() {
    let rig = Rig::new();
    let token = rig.run(async |ca| token(ca, ALICE, hour()).await.unwrap());
    rig.run(async |ca| {
        assert_eq!(rule(ca.enrol(&token, b"no request").await), "csr-malformed");
        ca.enrol(&token, &csr(&[])).await.unwrap();
    });
}

/// Anyone could make them up and fill the log.
#[test]
fn unknown_tokens_are_refused_without_an_entry() {
    let rig = Rig::new();
    let before = rig.run(async |ca| ca.domains()[0].log().checkpoint().unwrap().checkpoint().size);
    rig.run(async |ca| {
        for made_up in ["", "abc", &"x".repeat(100_000)] {
            let token = EnrolmentToken::presented(made_up.to_owned());
            assert_eq!(rule(ca.enrol(&token, &csr(&[])).await), "token-unknown");
        }
    });
    // What is new is what a start writes.
    let bodies = rig.log_of("control.example");
    let new = &bodies[usize::try_from(before).unwrap()..];
    assert!(new.iter().all(|body| matches!(body, Body::Start(_) | Body::Key(_))), "{new:?}");
}

#[test]
fn tokens_are_made_for_callers_of_the_control_domain_alone() {
    let rig = Rig::new();
    rig.run(async |ca| {
        for (id, expected) in [
            ("spiffe://prod.example/operator/alice", "id-of-another-domain"),
            ("spiffe://control.example", "id-reserved"),
            ("spiffe://control.example/undercroft/server", "id-reserved"),
            ("spiffe://control.example/spire/server", "id-reserved"),
            ("spiffe://control.example/a//b", "id-malformed"),
            ("https://control.example/a", "id-malformed"),
        ] {
            assert_eq!(rule(token(ca, id, hour()).await), expected, "{id}");
        }
        assert_eq!(rule(token(ca, ALICE, Lifetime::days(8)).await), "lifetime-over-cap");
    });
    let refused = |body: &&Body| matches!(body, Body::Refusal(leaf) if leaf.action == RefusedAction::Token);
    assert_eq!(rig.log_of("control.example").iter().filter(refused).count(), 7);
}

/// The operator makes another: a token whose use ended in a broken signature may have leaked.
#[test]
fn a_token_is_used_up_even_if_the_key_fails() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let token = token(ca, ALICE, hour()).await.unwrap();
        rig.domains[0].key.set(Mood::Fails);
        assert!(matches!(ca.enrol(&token, &csr(&[])).await, Err(ServiceError::Unavailable(_))));
        rig.domains[0].key.set(Mood::Signs);
        assert_eq!(rule(ca.enrol(&token, &csr(&[])).await), "token-used");
    });
}
