//! Judging again what was judged: with the policy of then, or with another.

use jiff::Timestamp;
use serde::Serialize;
use undercroft_log::leaf::{Accepted, Digest, TpmClock, Verdict, VerdictResult};

use super::appraisal::{Appraised, Refused, appraise, candidate};
use super::policy::NodePolicy;
use super::record::{LastClock, Record};

/// Something in a verdict that does not come out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// What differs; it stays (`docs/node-policy.md`).
    pub rule: &'static str,
    /// How, in words.
    pub what: String,
}

impl Difference {
    fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Judges the evidence that a blob holds.
///
/// # Errors
/// As [`appraise`]; `evidence-unreadable` if the blob is no record.
pub fn judge(evidence: &[u8], policy: &NodePolicy, at: Timestamp) -> Result<Appraised, Refused> {
    let record = Record::parse(evidence).map_err(|error| Refused::new("evidence-unreadable", error))?;
    let again = appraise(&record, policy, at);
    // Whom no challenge could be made for was refused before there was one.
    match again {
        Err(refused) if refused.code == "exchange-unanswered" && record.challenge.is_none() => {
            Err(unchallenged(&record, policy, at).unwrap_or(refused))
        }
        again => again,
    }
}

fn unchallenged(record: &Record, policy: &NodePolicy, at: Timestamp) -> Option<Refused> {
    let (_, _, candidate) = candidate(record.hello.as_bytes(), policy, at).ok()?;
    let endorsement = Some(Digest(candidate.binding().endorsement));
    let error = candidate.credential(&[1; 32], &[1; 64]).err()?;
    Some(Refused { endorsement, ..Refused::new("ek-template", error) })
}

/// Judges again what a verdict is about, from both blobs that it names and at its time, and says what comes out differently:
/// nothing, if all is well. Words of a reason are not compared.
pub fn reverify(verdict: &Verdict, at: Timestamp, evidence: &[u8], policy: &[u8]) -> Vec<Difference> {
    let blobs = [("evidence-blob", &verdict.evidence, evidence), ("policy-blob", &verdict.policy, policy)];
    let mut changed = Vec::new();
    for (rule, of, bytes) in blobs {
        if of.sha256 != Digest::of(bytes) || of.length != bytes.len() as u64 {
            changed
                .push(Difference::new(rule, format!("the blob is not {}, which the entry names", of.sha256)));
        }
    }
    if !changed.is_empty() {
        return changed;
    }
    let policy = match NodePolicy::from_bundle(policy) {
        Ok(policy) => policy,
        Err(error) => return vec![Difference::new("policy-unreadable", error.to_string())],
    };
    let mut differences = Vec::new();
    if verdict.attestor != "tpm" {
        differences.push(Difference::new(
            "verdict-attestor",
            format!("`{}` is judged by nothing here", verdict.attestor),
        ));
    }
    match (&verdict.result, judge(evidence, &policy, at)) {
        (VerdictResult::Accepted(said), Ok(again)) => {
            same(
                &mut differences,
                "verdict-endorsement",
                &verdict.endorsement,
                &Some(again.claims.endorsement()),
            );
            same(
                &mut differences,
                "verdict-domain",
                &verdict.domain.as_str(),
                &again.admitted.domain.as_str(),
            );
            of_accepted(&mut differences, said, &again);
        }
        (VerdictResult::Refused(said), Err(again)) => {
            same(&mut differences, "verdict-endorsement", &verdict.endorsement, &again.endorsement);
            same(&mut differences, "verdict-code", &said.code.as_str(), &again.code);
        }
        (VerdictResult::Accepted(said), Err(again)) => {
            let what = format!(
                "the entry takes {}, and judged again it is refused: {} ({})",
                said.spiffe_id, again.reason, again.code
            );
            differences.push(Difference::new("verdict-result", what));
        }
        (VerdictResult::Refused(said), Ok(again)) => {
            let what = format!(
                "the entry refuses it ({}), and judged again it is {} by rule `{}`",
                said.code, again.admitted.spiffe_id, again.admitted.rule
            );
            differences.push(Difference::new("verdict-result", what));
        }
    }
    differences
}

fn of_accepted(differences: &mut Vec<Difference>, said: &Accepted, again: &Appraised) {
    let attested = &again.claims.attested;
    let clock = TpmClock::from(LastClock::from(*attested.clock()));
    let selectors: Vec<_> = again.claims.selectors().into_iter().collect();
    same(differences, "verdict-rule", &said.rule, &again.admitted.rule);
    same(differences, "verdict-id", &said.spiffe_id, &again.admitted.spiffe_id.to_string());
    same(differences, "verdict-assurance", &said.assurance.as_str(), &attested.assurance().as_str());
    same(differences, "verdict-transcript", &said.transcript, &Digest(again.transcript));
    let key = hex::encode(&attested.binding().attestation_key);
    same(differences, "verdict-attestation-key", &hex::encode(&said.attestation_key.0), &key);
    same(differences, "verdict-clock", &said.clock, &clock);
    same(differences, "verdict-selectors", &said.selectors, &selectors);
}

fn same<T: PartialEq + std::fmt::Debug>(
    differences: &mut Vec<Difference>,
    rule: &'static str,
    said: &T,
    again: &T,
) {
    if said != again {
        differences.push(Difference::new(
            rule,
            format!("the entry says {said:?}, and judged again it is {again:?}"),
        ));
    }
}
