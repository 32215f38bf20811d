//! What is left in the log when something fails half-way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use undercroft_ca::service::{IssueRequest, ServiceError};
use undercroft_log::leaf::{AlertEvent, Body, OutcomeResult};

use crate::rig::{Mood, MoodyWitness, Rig, ask, workload};

/// Each intent of the log, with what became of it.
fn fates(bodies: &[Body]) -> Vec<Option<&OutcomeResult>> {
    let outcome_of = |index: usize| {
        let mut outcomes = bodies.iter().filter_map(|body| match body {
            Body::Outcome(outcome) if outcome.intent == index as u64 => Some(&outcome.result),
            _ => None,
        });
        let outcome = outcomes.next();
        assert!(outcomes.next().is_none(), "entry {index} has two outcomes");
        outcome
    };
    let intents = bodies.iter().enumerate().filter(|(_, body)| matches!(body, Body::Intent(_)));
    intents.map(|(index, _)| outcome_of(index)).collect()
}

#[test]
fn a_key_that_fails_leaves_an_abandoned_intent_and_no_certificate() {
    for (mood, says) in [(Mood::Fails, "pulled out"), (Mood::SignsSomethingElse, "does not verify")] {
        let rig = Rig::new();
        rig.run(async |ca| {
            rig.domains[1].key.set(mood);
            let error = ask(ca, workload()).await.unwrap_err();
            assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains(says)), "{error}");
            rig.domains[1].key.set(Mood::Signs);
            ask(ca, workload()).await.unwrap();
        });
        let log = rig.log_of("prod.example");
        let fates = fates(&log);
        let [Some(OutcomeResult::Abandoned(why)), Some(OutcomeResult::Signature(_))] = &fates[..] else {
            panic!("{fates:?}")
        };
        assert!(why.contains(says), "{why}");
    }
}

/// Where `durable` is enough, the authority's key signs what is in the log before the log's key has signed its head; and
/// nobody is given a certificate without its proof.
#[test]
fn what_is_signed_when_it_is_durable_leaves_with_its_proof_or_not_at_all() {
    let rig = Rig::new();
    let soon = || IssueRequest { profile: "soon".into(), ..workload() };
    rig.run(async |ca| {
        rig.domains[1].log_key.set(Mood::Fails);
        for request in [soon(), workload()] {
            let error = ask(ca, request).await.unwrap_err();
            assert!(
                matches!(&error, ServiceError::Unavailable(why) if why.contains("pulled out")),
                "{error}"
            );
        }
        rig.domains[1].key.set(Mood::Fails);
        let error = ask(ca, soon()).await.unwrap_err();
        assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains("pulled out")), "{error}");
        rig.domains[1].key.set(Mood::Signs);
        rig.domains[1].log_key.set(Mood::Signs);
        let issued = ask(ca, soon()).await.unwrap();
        let key = ca.domain("prod.example").unwrap().log().key();
        issued.receipt.proof().verify(issued.receipt.leaf(), key).unwrap();
        // 1.3.6.1.4.1.32473.1.<svid>.<durable>
        let policy = [0x06, 0x0b, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xfd, 0x59, 0x01, 0x04, 0x01];
        assert!(issued.chain[0].windows(policy.len()).any(|window| window == &policy[..]));
    });
    let log = rig.log_of("prod.example");
    let fates = fates(&log);
    let signed = |fate: &Option<&OutcomeResult>| matches!(fate, Some(OutcomeResult::Signature(_)));
    assert_eq!(fates.iter().map(signed).collect::<Vec<_>>(), [true, false, false, true], "{fates:?}");
    assert!(fates.iter().all(Option::is_some), "{fates:?}");
}

/// The token of the log keys and that of the authority go one after the other, in the middle of a batch, and come back.
#[test]
fn a_log_key_that_goes_away_and_comes_back_leaves_nothing_signed_and_nothing_open() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let ask_many = async || futures::future::join_all((0..6).map(|_| ask(ca, workload()))).await;
        assert!(ask_many().await.iter().all(Result::is_ok));
        rig.domains[1].log_key.set(Mood::Fails);
        for told in ask_many().await {
            let error = told.unwrap_err();
            assert!(
                matches!(&error, ServiceError::Unavailable(why) if why.contains("pulled out")),
                "{error}"
            );
        }
        // Refusals need no signature, and the log goes on.
        let refused = ask(ca, IssueRequest { profile: "none".into(), ..workload() }).await;
        assert!(matches!(refused, Err(ServiceError::Refused(_))), "{refused:?}");
        rig.domains[1].log_key.set(Mood::Signs);
        rig.domains[1].key.set(Mood::Fails);
        assert!(ask_many().await.iter().all(Result::is_err));
        rig.domains[1].key.set(Mood::Signs);
        for issued in ask_many().await {
            let receipt = issued.unwrap().receipt;
            let key = ca.domain("prod.example").unwrap().log().key();
            receipt.proof().verify(receipt.leaf(), key).unwrap();
        }
    });
    let log = rig.log_of("prod.example");
    let fates = fates(&log);
    let signed = |fate: &&Option<&OutcomeResult>| matches!(fate, Some(OutcomeResult::Signature(_)));
    assert!(fates.iter().all(Option::is_some), "{fates:?}");
    assert_eq!((fates.len(), fates.iter().filter(signed).count()), (24, 12));
}

#[test]
fn a_request_that_is_dropped_half_way_is_abandoned_at_the_next_start() {
    let rig = Rig::new();
    rig.run(async |ca| {
        rig.domains[1].key.set(Mood::Hangs);
        let size = || ca.domain("prod.example").unwrap().log().checkpoint().unwrap().checkpoint().size;
        let before = size();
        let request = tokio::spawn({
            let ca = ca.clone();
            async move { ask(&ca, workload()).await.map(drop) }
        });
        while size() == before {
            tokio::task::yield_now().await;
        }
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    });
    assert_eq!(fates(&rig.log_of("prod.example")), [None]);
    rig.domains[1].key.set(Mood::Signs);
    rig.run(async |ca| {
        ask(ca, workload()).await.unwrap();
    });
    let log = rig.log_of("prod.example");
    let fates = fates(&log);
    assert!(
        matches!(&fates[..], [Some(OutcomeResult::Abandoned(_)), Some(OutcomeResult::Signature(_))]),
        "{fates:?}"
    );
}

#[test]
fn a_clock_that_was_set_back_stops_issuance_until_it_has_caught_up() {
    let rig = Rig::new();
    rig.run(async |ca| {
        ask(ca, workload()).await.unwrap();
        rig.clock.advance(-3600);
        let error = ask(ca, workload()).await.unwrap_err();
        assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains("clock")), "{error}");
        rig.clock.advance(3600);
        ask(ca, workload()).await.unwrap();
    });
    assert_eq!(fates(&rig.log_of("prod.example")).len(), 2);
}

/// A connection may live for days; who is at its other end may not.
#[test]
fn a_caller_whose_certificate_has_ended_is_nobody_on_an_open_connection() {
    use tonic::{Code, Request};
    use undercroft_proto::v1;
    use undercroft_proto::v1::issuance_server::Issuance as _;
    use undercroft_upstream::IssuanceApi;
    use undercroft_upstream::acceptor::Peer;

    let rig = Rig::new();
    rig.run(async |ca| {
        let api = IssuanceApi::new(ca.clone());
        let until = ca.now() + jiff::SignedDuration::from_hours(1);
        let ask = async || {
            let mut request = Request::new(v1::IssueRequest {
                domain: "prod.example".into(),
                profile: "svid".into(),
                csr: workload().csr,
                ..v1::IssueRequest::default()
            });
            request.extensions_mut().insert(Peer {
                spiffe_id: Some("spiffe://control.example/operator/alice".into()),
                until: Some(until),
                address: "192.0.2.1:1".parse().unwrap(),
                binding: None,
            });
            api.issue(request).await.map(drop).map_err(|status| status.code())
        };
        assert_eq!(ask().await, Ok(()));
        rig.clock.advance(3601);
        assert_eq!(ask().await, Err(Code::Unauthenticated));
    });
}

/// Leaves go on for a while when witnesses are away, which the log says; then they wait for them like everything else.
#[test]
fn leaves_go_on_without_witnesses_for_a_while_and_no_longer() {
    let witness = Arc::new(MoodyWitness::default());
    let mut rig = Rig::new();
    rig.witness = Some(witness.clone());
    rig.run(async |ca| {
        ask(ca, workload()).await.unwrap();
        witness.is_away.store(true, Ordering::SeqCst);
        // The first one does not know yet. Its head is shown to nobody.
        ask(ca, workload()).await.unwrap();
        while ca.domain("prod.example").unwrap().log().witnesses_away_since().is_none() {
            tokio::task::yield_now().await;
        }
        rig.clock.advance(599);
        ask(ca, workload()).await.unwrap();
        rig.clock.advance(2);
        let error = ask(ca, workload()).await.unwrap_err();
        assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains("too few")), "{error}");
        witness.is_away.store(false, Ordering::SeqCst);
        ask(ca, workload()).await.unwrap();
        ask(ca, workload()).await.unwrap();
    });
    let log = rig.log_of("prod.example");
    let alerts: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Alert(alert) => Some((alert.event, alert.rule.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(alerts, [(AlertEvent::Raised, "witnesses-away"), (AlertEvent::Ended, "witnesses-away")]);
    let signed = fates(&log).iter().filter(|fate| matches!(fate, Some(OutcomeResult::Signature(_)))).count();
    assert_eq!(signed, 5);
}
