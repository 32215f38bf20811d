//! Verdicts that are judged again.

use undercroft_log::leaf::{Accepted, BlobOf, RefusedNode, Verdict, VerdictResult};

use super::*;
use crate::nodes::{LastClock, reverify};

fn blob(bytes: &[u8]) -> BlobOf {
    BlobOf { sha256: Digest::of(bytes), length: bytes.len() as u64 }
}

/// The entry of what is judged now.
fn verdict(record: &Record, policy: &NodePolicy) -> Verdict {
    let (endorsement, result) = match appraise(record, policy, now()) {
        Ok(taken) => {
            let attested = &taken.claims.attested;
            let accepted = Accepted {
                rule: taken.admitted.rule.clone(),
                spiffe_id: taken.admitted.spiffe_id.to_string(),
                assurance: attested.assurance().as_str().to_owned(),
                transcript: Digest(taken.transcript),
                attestation_key: Base64Bytes(attested.binding().attestation_key.clone()),
                clock: LastClock::from(*attested.clock()).into(),
                selectors: taken.claims.selectors().into_iter().collect(),
            };
            (Some(taken.claims.endorsement()), VerdictResult::Accepted(accepted))
        }
        Err(refused) => {
            let told = RefusedNode { code: refused.code.to_owned(), reason: refused.reason };
            (refused.endorsement, VerdictResult::Refused(told))
        }
    };
    Verdict {
        domain: "prod.example".to_owned(),
        attestor: "tpm".to_owned(),
        endorsement,
        evidence: blob(&record.encode()),
        policy: blob(policy.bundle()),
        result,
    }
}

#[test]
fn a_verdict_comes_out_again_and_whatever_was_changed_is_named() {
    let lab = Lab::new(&MeasuredBoot::honest());
    let policy = lab.policy(RULE);
    let record = lab.record(&policy);
    let evidence = record.encode();
    let good = verdict(&record, &policy);
    let again = |verdict: &Verdict, at, evidence: &[u8], policy: &[u8]| -> Vec<&'static str> {
        reverify(verdict, at, evidence, policy).into_iter().map(|difference| difference.rule).collect()
    };
    let bundle = policy.bundle();
    assert!(again(&good, now(), &evidence, bundle).is_empty());
    let strict = lab.policy(&format!("{RULE}firmware-at-least = {{ \"id:1\" = \"1.0\" }}"));
    let refused = verdict(&record, &strict);
    assert!(again(&refused, now(), &evidence, strict.bundle()).is_empty());

    // Blobs.
    let mut other = record.clone();
    other.exporter = Digest([0; 32]);
    let other = other.encode();
    assert_eq!(again(&good, now(), &other, bundle), ["evidence-blob"]);
    assert_eq!(again(&good, now(), &evidence, strict.bundle()), ["policy-blob"]);
    let of = |evidence: &[u8], policy: &[u8]| Verdict {
        evidence: blob(evidence),
        policy: blob(policy),
        ..good.clone()
    };
    assert_eq!(again(&of(&other, bundle), now(), &other, bundle), ["verdict-result"]);
    assert_eq!(again(&of(&evidence, strict.bundle()), now(), &evidence, strict.bundle()), ["verdict-result"]);
    assert_eq!(again(&of(b"{}", bundle), now(), b"{}", bundle), ["verdict-result"]);
    assert_eq!(again(&of(&evidence, b"{}"), now(), &evidence, b"{}"), ["policy-unreadable"]);
    // The result, turned round.
    let flipped = Verdict { result: refused.result.clone(), ..good.clone() };
    assert_eq!(again(&flipped, now(), &evidence, bundle), ["verdict-result"]);
    let flipped = Verdict { result: good.result.clone(), ..refused.clone() };
    assert_eq!(again(&flipped, now(), &evidence, strict.bundle()), ["verdict-result"]);
    // Another time: before the endorsement key was certified.
    assert_eq!(again(&good, "2001-01-01T00:00:00Z".parse().unwrap(), &evidence, bundle), ["verdict-result"]);
    assert_eq!(
        again(&refused, "2001-01-01T00:00:00Z".parse().unwrap(), &evidence, strict.bundle()),
        ["verdict-endorsement", "verdict-code"]
    );
    // Each member.
    let changed = |change: &dyn Fn(&mut Accepted)| {
        let mut verdict = good.clone();
        if let VerdictResult::Accepted(accepted) = &mut verdict.result {
            change(accepted);
        }
        again(&verdict, now(), &evidence, bundle)
    };
    assert_eq!(changed(&|accepted| accepted.rule.push('x')), ["verdict-rule"]);
    assert_eq!(changed(&|accepted| accepted.spiffe_id.push('x')), ["verdict-id"]);
    assert_eq!(changed(&|accepted| accepted.assurance = "hardware".to_owned()), ["verdict-assurance"]);
    assert_eq!(changed(&|accepted| accepted.transcript = Digest([0; 32])), ["verdict-transcript"]);
    assert_eq!(changed(&|accepted| accepted.attestation_key.0[5] ^= 1), ["verdict-attestation-key"]);
    assert_eq!(changed(&|accepted| accepted.clock.resets += 1), ["verdict-clock"]);
    assert_eq!(changed(&|accepted| drop(accepted.selectors.pop())), ["verdict-selectors"]);
    let own = |verdict: Verdict| again(&verdict, now(), &evidence, bundle);
    assert_eq!(own(Verdict { endorsement: None, ..good.clone() }), ["verdict-endorsement"]);
    assert_eq!(own(Verdict { domain: "other.example".to_owned(), ..good.clone() }), ["verdict-domain"]);
    assert_eq!(own(Verdict { attestor: "word".to_owned(), ..good.clone() }), ["verdict-attestor"]);
    let code = RefusedNode { code: "ek-denied".to_owned(), reason: String::new() };
    let other = Verdict { result: VerdictResult::Refused(code), ..refused.clone() };
    assert_eq!(again(&other, now(), &evidence, strict.bundle()), ["verdict-code"]);
}
