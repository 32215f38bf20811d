use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::tpm::node::{Maker, TpmClass};

use super::*;
use crate::fixtures::Counter;

/// What a TPM sends, and the maker who vouches for it (`attestors/conformance`).
fn honest() -> (Value, Policy, Timestamp) {
    let index: Value =
        serde_json::from_str(include_str!("../../../attestors/conformance/tpm/index.json")).unwrap();
    let honest = &index["honest"];
    let anchor = Base64::decode_vec(honest["anchors"][0].as_str().unwrap()).unwrap();
    let certificate = Certificate::from_der(&anchor).unwrap();
    let maker = Maker { certificate, class: TpmClass::Simulated, manufacturers: Vec::new() };
    let policy = Policy { makers: vec![maker], ..Policy::default() };
    let begin = json!({
        "endorsement": { "public": honest["ek"]["public"], "chain": honest["ek"]["chain"] },
        "attestation-key": honest["ak"],
    });
    (begin, policy, honest["at"].as_str().unwrap().parse().unwrap())
}

fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn code<T: std::fmt::Debug>(answer: Result<T, NotActivated>) -> &'static str {
    match answer.unwrap_err() {
        NotActivated::Refused(refusal) => refusal.rule,
        NotActivated::Malformed(_) => "malformed",
        NotActivated::Busy => "busy",
        NotActivated::Broken(_) => "broken",
    }
}

/// [`Counter`] fills each buffer with one byte: the first with 1, which is the secret.
fn answer(session: &str, begin: &Value, secret: &str) -> Vec<u8> {
    bytes_of(&json!({ "session": session, "attestation-key": begin["attestation-key"], "secret": secret }))
}

#[test]
fn a_session_is_good_for_one_answer() {
    let (begin, policy, now) = honest();
    let secret = "01".repeat(32);
    let started = || {
        let activations = Activations::default();
        let begun = activations.begin(&bytes_of(&begin), &policy, now, &Counter::default()).unwrap();
        assert_eq!(begun.until, now + WAIT);
        (activations, begun.session)
    };
    let (activations, session) = started();
    let right = answer(&session, &begin, &secret);
    let bound = activations.finish(&right, &policy, now).unwrap();
    assert_eq!(hex::encode(bound.binding().attestation_key).len(), 68);
    assert_eq!(code(activations.finish(&right, &policy, now)), "session-unknown");

    for wrong in ["", &secret[2..], &"02".repeat(32), &format!("{secret}00"), &format!("{}02", &secret[2..])]
    {
        let (activations, session) = started();
        let wrong = answer(&session, &begin, wrong);
        assert_eq!(code(activations.finish(&wrong, &policy, now)), "ak-activation");
        let right = answer(&session, &begin, &secret);
        assert_eq!(code(activations.finish(&right, &policy, now)), "session-unknown");
    }
    let (activations, session) = started();
    let right = answer(&session, &begin, &secret);
    assert!(activations.finish(&right, &policy, now + WAIT).is_ok());
    let (activations, session) = started();
    let right = answer(&session, &begin, &secret);
    let late = now + WAIT + SignedDuration::from_secs(1);
    assert_eq!(code(activations.finish(&right, &policy, late)), "session-unknown");
}

#[test]
fn what_policy_takes_back_meanwhile_is_refused() {
    let (begin, policy, now) = honest();
    let activations = Activations::default();
    let begun = activations.begin(&bytes_of(&begin), &policy, now, &Counter::default()).unwrap();
    let right = answer(&begun.session, &begin, &"01".repeat(32));
    let nobody = Policy { allowed: Some(Vec::new()), ..policy };
    assert_eq!(code(activations.finish(&right, &nobody, now)), "ek-not-allowed");
}

#[test]
fn what_is_no_message_and_no_endorsement_key_begins_nothing() {
    let (begin, policy, now) = honest();
    let activations = Activations::default();
    let begun = |message: &Value, policy: &Policy| {
        code(activations.begin(&bytes_of(message), policy, now, &Counter::default()))
    };
    assert_eq!(begun(&json!({}), &policy), "malformed");
    assert_eq!(begun(&begin, &Policy::default()), "ek-chain");
    for (field, value) in [("attestation-key", json!("zz")), ("more", json!(1))] {
        let mut other = begin.clone();
        other[field] = value;
        assert_eq!(begun(&other, &policy), "malformed", "{field}");
    }
    let mut other = begin.clone();
    other["endorsement"]["public"] = "00".into();
    assert_eq!(begun(&other, &policy), "malformed");
    assert!(activations.sessions.lock().unwrap().is_empty());
}

#[test]
fn only_so_many_wait_at_a_time() {
    let (begin, policy, now) = honest();
    let activations = Activations::default();
    // The ids must differ.
    struct Numbers(std::sync::atomic::AtomicU32);
    impl Entropy for Numbers {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), crate::serial::NoEntropy> {
            let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
            buffer.iter_mut().zip(next.iter().cycle()).for_each(|(byte, next)| *byte = *next);
            Ok(())
        }
    }
    let numbers = Numbers(1.into());
    let begun = |now| activations.begin(&bytes_of(&begin), &policy, now, &numbers);
    for _ in 0..MOST {
        begun(now).unwrap();
    }
    assert_eq!(code(begun(now)), "busy");
    assert!(begun(now + WAIT + SignedDuration::from_secs(1)).is_ok());
}
