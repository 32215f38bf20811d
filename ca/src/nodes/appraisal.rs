//! The judgement: a record, a policy and a time in, what the node may have or a refusal out.

use jiff::Timestamp;
use undercroft_attestors::exchange::{self, Answer, Hello, TpmAnswer, TpmHello};
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_attestors::tpm::event_log::{Boot, EventLog, EventLogError, SecureBoot};
use undercroft_attestors::tpm::node::{
    Bound, Candidate, Certification, Creation, Quote, Quoted, Refusal as TpmRefusal,
};
use undercroft_log::leaf::Digest;

use super::claims::{BootClaims, Claims};
use super::policy::{Admitted, NodePolicy};
use super::record::{Known, Record};
use crate::csr::Csr;

/// A node that is what it says, and what it may have.
#[derive(Clone, Debug)]
pub struct Appraised {
    /// Its request, whose key lives in its TPM.
    pub request: Csr,
    /// What is known of it.
    pub claims: Claims,
    /// The hash of the transcript: good for one certificate.
    pub transcript: [u8; 32],
    /// What policy gives it.
    pub admitted: Admitted,
}

/// Why a node is refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The rule that was broken; it stays (`docs/attestation.md`).
    pub code: &'static str,
    /// Why, in words. It holds no secret and no expected value.
    pub reason: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key, if a maker vouches for it.
    pub endorsement: Option<Digest>,
    /// Whether it was shown that this TPM took part: it opened the credential, or its attestation key has signed for this
    /// exchange. Before that, anybody may have sent its certificate.
    pub present: bool,
    /// What is known of it, if all was well but policy does not take it.
    pub claims: Option<Box<Claims>>,
}

impl Refused {
    /// A refusal of somebody of whom nothing is known.
    pub fn new(code: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { code, reason: reason.to_string(), endorsement: None, present: false, claims: None }
    }
}

impl From<TpmRefusal> for Refused {
    fn from(refusal: TpmRefusal) -> Self {
        Self::new(refusal.code().as_str(), refusal)
    }
}

impl From<EventLogError> for Refused {
    fn from(error: EventLogError) -> Self {
        Self::new(error.rule.code(), error)
    }
}

/// Judges the keys in a hello, up to the question of whether they are in one TPM.
///
/// # Errors
/// Of the request, of the endorsement key or of the attestation key.
pub fn candidate<'p>(
    hello: &[u8],
    policy: &'p NodePolicy,
    at: Timestamp,
) -> Result<(Hello, Csr, Candidate<'p>), Refused> {
    let hello: Hello = exchange::read(hello).map_err(|error| Refused::new("exchange-malformed", error))?;
    let request = Csr::from_der(&hello.request.0).map_err(|error| Refused::new(error.rule(), error))?;
    let TpmHello { endorsement, chain, attestation_key, .. } = &hello.tpm;
    let chain: Vec<_> = chain.iter().map(|der| der.0.clone()).collect();
    let endorsement = Endorsement::read(&endorsement.0, &chain).map_err(TpmRefusal::from)?;
    let genuine = policy.tpm().endorse(endorsement, at)?;
    let of = Digest(genuine.public_hash());
    let candidate = genuine.candidate(&attestation_key.0);
    let candidate = candidate.map_err(|refusal| Refused { endorsement: Some(of), ..refusal.into() })?;
    Ok((hello, request, candidate))
}

/// Judges an exchange. `at` is when the node answered.
///
/// # Errors
/// The first rule that it broke.
pub fn appraise(record: &Record, policy: &NodePolicy, at: Timestamp) -> Result<Appraised, Refused> {
    let (hello, request, candidate) = candidate(record.hello.as_bytes(), policy, at)?;
    let endorsement = Digest(candidate.binding().endorsement);
    let transcript = exchange::transcript(
        record.hello.as_bytes(),
        record.challenge.as_ref().map(String::as_bytes),
        &record.exporter.0,
    );
    let mut present = false;
    let answered = answer(record).and_then(|answer| {
        let bound = bound(record, candidate, transcript, &answer)?;
        present = record.challenge.is_some();
        let quoted = quoted(record, policy, bound, &answer)?;
        present = true;
        claims(policy, (&hello, &request), &record.exporter.0, quoted, &answer)
    });
    let claims =
        answered.map_err(|refused| Refused { endorsement: Some(endorsement), present, ..refused })?;
    match policy.admit(&hello.domain, &claims) {
        Ok(admitted) => Ok(Appraised { request, claims, transcript, admitted }),
        Err(refusal) => Err(Refused {
            code: refusal.rule,
            reason: refusal.reason,
            endorsement: Some(endorsement),
            present: true,
            claims: Some(Box::new(claims)),
        }),
    }
}

fn answer(record: &Record) -> Result<TpmAnswer, Refused> {
    let answer = record.answer.as_ref().ok_or_else(|| {
        Refused::new("exchange-unanswered", "the node did not answer while an answer was taken")
    })?;
    let Answer { tpm } =
        exchange::read(answer.as_bytes()).map_err(|error| Refused::new("exchange-malformed", error))?;
    Ok(tpm)
}

/// That the attestation key is in the TPM: by the secret that was in the credential, or because it was seen before.
fn bound<'p>(
    record: &Record,
    candidate: Candidate<'p>,
    transcript: [u8; 32],
    answer: &TpmAnswer,
) -> Result<Bound<'p>, Refused> {
    match (&record.challenge, &record.secret, &record.known) {
        (Some(_), Some(secret), _) => {
            let mac = answer.mac.as_ref().map_or(&[][..], |mac| &mac.0);
            Ok(candidate.activated(&secret.0, transcript, mac)?)
        }
        (None, None, Some(known)) => Ok(candidate.recalled(&known.binding(), transcript)?),
        _ => Err(Refused::new(
            "ak-binding",
            "the node answered without a challenge, and its attestation key was never seen",
        )),
    }
}

fn quoted<'p>(
    record: &Record,
    policy: &NodePolicy,
    bound: Bound<'p>,
    answer: &TpmAnswer,
) -> Result<Quoted<'p>, Refused> {
    let values: Vec<_> = answer.pcrs.iter().map(|value| value.0.clone()).collect();
    let quote =
        Quote { attest: &answer.quote.attest.0, signature: &answer.quote.signature.0, values: &values };
    // Outside the endorsement hierarchy another key has other counters.
    let own = |known: &&Known| known.attestation_key.0 == bound.binding().attestation_key;
    let last = record.known.as_ref().filter(own).map(|known| known.clock.into());
    Ok(bound.quoted(&quote, policy.selection(), last.as_ref())?)
}

fn claims(
    policy: &NodePolicy,
    (hello, request): (&Hello, &Csr),
    exported: &[u8; 32],
    quoted: Quoted<'_>,
    answer: &TpmAnswer,
) -> Result<Claims, Refused> {
    let boot = boot(policy, &quoted, answer)?;
    let certification = Certification {
        public: &hello.tpm.key.0,
        attest: &answer.certify.attest.0,
        signature: &answer.certify.signature.0,
    };
    let attested = match &answer.creation {
        Some(data) => quoted.certified_at_creation(
            &certification,
            &Creation { data: &data.0, fresh: exported },
            request.public_key(),
        )?,
        None => quoted.certified(&certification, request.public_key())?,
    };
    Ok(Claims { attested, boot })
}

fn boot(policy: &NodePolicy, quoted: &Quoted<'_>, answer: &TpmAnswer) -> Result<Option<BootClaims>, Refused> {
    let log = match (policy.wanted().event_log, &answer.event_log) {
        // What was not asked for is not looked at.
        (false, _) => return Ok(None),
        (true, None) => {
            return Err(Refused::new("log-missing", "the node sent no event log, and policy wants it"));
        }
        (true, Some(log)) => log,
    };
    let log = EventLog::parse(&log.0)?.verify(&quoted.boot_pcrs(policy.bank())?)?;
    Ok(Some(BootClaims { boot: Boot::read(&log)?, secure_boot: SecureBoot::read(&log), log }))
}
