//! When entries of a log are really lost (`docs/recovery.md`).
//!
//! Witnesses are never reset: one that has seen size 110 refuses a different 111 for ever. So the lost entries are found
//! again, byte for byte, in a mirror; or the log is closed, and goes on under another origin, whose first entry holds the
//! old log's last checkpoint, by a statement that the quorum has signed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Body, Channel, Digest, EnrolmentEvent, Evidence, Freeze, FreezeEvent, Intent, Leaf, LogHead, Object,
    OutcomeResult, Reason, RotationEvent, ToBeSigned, Verdict, VerdictResult,
};
use undercroft_log::note::{KeyName, VerifierKey};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::names::{PERMANENT_IDENTIFIER, TpmNames, read_permanent_identifier};
use crate::revocation::facts::Change;
use crate::serial::SerialNumber;
use crate::store::{CertificateFact, Effect, NodeFact};
use crate::subject::Subject;

/// The format of a statement.
const FORMAT: &str = "undercroft-recovery-v1";

/// What the quorum signs: that a log has lost entries, and goes on under another origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    format: String,
    /// The key (vkey) of the log; its name is the log's origin.
    pub log: String,
    /// What is left of it.
    pub kept: LogHead,
    /// The newest checkpoint of it that anybody knows, with every cosignature: a signed note.
    pub newest: String,
    /// The origin under which it goes on.
    pub goes_on_as: String,
    /// Why.
    pub reason: String,
    /// Until when the statement may be carried out.
    pub expires: Timestamp,
    /// Random, hexadecimal: no two statements are the same.
    pub nonce: String,
}

/// Why a statement cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recovery statement: {0}")]
pub struct StatementError(String);

impl Statement {
    /// A statement about a log.
    ///
    /// # Errors
    /// The log cannot go on as `goes_on_as`, or the checkpoint is not the log's.
    pub fn new(
        log: &VerifierKey,
        kept: LogHead,
        newest: String,
        reason: String,
        expires: Timestamp,
        nonce: [u8; 16],
    ) -> Result<Self, StatementError> {
        let statement = Self {
            format: FORMAT.to_owned(),
            log: log.to_string(),
            kept,
            newest,
            goes_on_as: next_epoch(log.name())?.to_string(),
            reason,
            expires,
            nonce: hex::encode(nonce),
        };
        statement.is_sound(log)?;
        Ok(statement)
    }

    /// Reads a statement, exactly as it was signed.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        let statement: Self =
            serde_json::from_str(text).map_err(|error| StatementError(error.to_string()))?;
        match statement.format == FORMAT {
            true => Ok(statement),
            false => Err(StatementError(format!("its format is `{}` and not {FORMAT}", statement.format))),
        }
    }

    /// The text that is signed.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, StatementError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| StatementError(error.to_string()))?;
        Ok(text + "\n")
    }

    /// Whether it is about this log as it is stored now, and still good.
    ///
    /// # Errors
    /// What it says and is not so.
    pub fn may_be_carried_out(
        &self,
        log: &VerifierKey,
        stored: &LogHead,
        now: Timestamp,
    ) -> Result<(), StatementError> {
        self.is_sound(log)?;
        if now > self.expires {
            return Err(StatementError(format!("it was good until {}; have a new one signed", self.expires)));
        }
        match self.kept == *stored {
            true => Ok(()),
            false => Err(StatementError(format!(
                "it is about {} entries with root {}, and {} with root {} are stored",
                self.kept.size, self.kept.root, stored.size, stored.root
            ))),
        }
    }

    fn is_sound(&self, log: &VerifierKey) -> Result<(), StatementError> {
        let wrong = |what: String| Err(StatementError(what));
        if self.log != log.to_string() {
            return wrong(format!("it is about another log than {}", log.name()));
        }
        if self.goes_on_as != next_epoch(log.name())?.as_str() {
            return wrong(format!("{} cannot go on as `{}`", log.name(), self.goes_on_as));
        }
        let newest =
            Checkpoint::open(&self.newest, log).map_err(|error| StatementError(error.to_string()))?;
        match newest.size < self.kept.size {
            true => {
                wrong(format!("more is left ({}) than was ever signed ({})", self.kept.size, newest.size))
            }
            false => Ok(()),
        }
    }
}

/// The origin of the epoch after this one.
///
/// # Errors
/// The origin has no epoch.
pub fn next_epoch(origin: &KeyName) -> Result<KeyName, StatementError> {
    let next = origin.as_str().rsplit_once('/').and_then(|(log, epoch)| {
        let epoch: u32 = epoch.parse().ok()?;
        format!("{log}/{}", epoch.checked_add(1)?).parse().ok()
    });
    next.ok_or_else(|| StatementError(format!("`{origin}` ends in no epoch")))
}

/// What becomes durable with an entry, taken from the entry itself: what was committed with it when it was first
/// appended. For entries that are found again.
pub fn effects_of(leaf: &Leaf) -> Vec<Effect> {
    match &leaf.body {
        Body::Intent(intent) => effects_of_intent(intent, leaf.time),
        Body::Outcome(outcome) => match outcome.result {
            OutcomeResult::Abandoned(_) => vec![Effect::Abandoned { intent: outcome.intent }],
            OutcomeResult::Signature(_) | OutcomeResult::Signatures(_) => {
                vec![Effect::Resolved { intent: outcome.intent }]
            }
        },
        Body::Revocation(revocation) => vec![Effect::Revocation(Change {
            event: revocation.event,
            issuer: revocation.issuer.0,
            certificates: revocation
                .serials
                .iter()
                .filter_map(|serial| Some((SerialNumber::from_bytes(serial.0)?, None)))
                .collect(),
            reason: revocation.reason.unwrap_or(Reason::Unspecified),
            date: revocation.date,
        })],
        Body::Enrolment(enrolment) => match enrolment.event {
            EnrolmentEvent::Made => vec![Effect::EnrolmentMade {
                token: enrolment.token,
                id: enrolment.id.clone(),
                expires: enrolment.expires,
            }],
            EnrolmentEvent::NodeReleased => vec![Effect::NodeReleased { endorsement: enrolment.token }],
        },
        // With the verdict and not with the intent that rests on it, which says less. A TPM is claimed in both ways.
        Body::Verdict(Verdict {
            result: VerdictResult::Accepted(accepted),
            domain,
            endorsement,
            evidence,
            ..
        }) => {
            let node = |endorsement: &Digest| NodeFact {
                endorsement: *endorsement,
                domain: domain.clone(),
                spiffe_id: accepted.spiffe_id.clone(),
                attestation_key: accepted.attestation_key.0.clone(),
                clock: accepted.clock.into(),
                transcript: accepted.transcript,
                evidence: evidence.sha256,
            };
            endorsement.iter().map(|endorsement| Effect::NodeAttested(node(endorsement))).collect()
        }
        Body::Bundle(bundle) => vec![Effect::Bundle(bundle.clone())],
        Body::Rotation(rotation) if rotation.event != RotationEvent::Refused => {
            vec![Effect::Rotation(rotation.clone())]
        }
        Body::Policy(policy) => vec![Effect::Policy { policy: policy.sha256 }],
        Body::Ceremony(ceremony) => ceremony
            .transcript
            .iter()
            .map(|head| Effect::CeremonyAdopted { checkpoint: Digest::of(head.checkpoint.as_bytes()) })
            .collect(),
        Body::AnchorIntent(intent) => {
            vec![Effect::AnchorAnnounced { counter: intent.index, value: intent.value }]
        }
        Body::Freeze(freeze) => effects_of_freeze(freeze),
        Body::Refusal(_)
        | Body::Key(_)
        | Body::Command(_)
        | Body::Anchor(_)
        | Body::Alert(_)
        | Body::Approval(_)
        | Body::Epoch(_)
        | Body::Rotation(_)
        | Body::Recovery(_)
        | Body::Start(_)
        | Body::Verdict(_) => Vec::new(),
    }
}

fn effects_of_freeze(freeze: &Freeze) -> Vec<Effect> {
    let what = freeze.what.clone();
    match &freeze.event {
        FreezeEvent::Frozen { .. } => vec![Effect::Frozen { what }],
        FreezeEvent::Unfrozen { nonce, .. } => {
            let mut bytes = [0; 16];
            let carried_out = hex::decode_to_slice(nonce, &mut bytes).is_ok();
            let carried_out = carried_out.then_some(Effect::ApprovalCarriedOut { nonce: bytes });
            [Effect::Unfrozen { what }].into_iter().chain(carried_out).collect()
        }
    }
}

fn effects_of_intent(intent: &Intent, time: Timestamp) -> Vec<Effect> {
    let certificate = match (&intent.tbs, intent.object) {
        (ToBeSigned::Der(der), Object::Certificate) => certificate_fact(intent, &der.0),
        _ => None,
    };
    let mut effects = vec![certificate.map_or(Effect::Signed, Effect::Certificate)];
    if intent.caller.by == Channel::EnrolmentToken {
        // The token is among the evidence; whatever else is there is no token of ours.
        let redeemed = |evidence: &Evidence| Effect::EnrolmentRedeemed { token: evidence.sha256, now: time };
        effects.extend(intent.evidence.iter().take(1).map(redeemed));
    }
    effects
}

fn certificate_fact(intent: &Intent, tbs: &[u8]) -> Option<CertificateFact> {
    let (_, certificate) = TbsCertificate::from_der(tbs).ok()?;
    let serial = SerialNumber::from_bytes(certificate.raw_serial().try_into().ok()?)?;
    let uri = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            names.general_names.iter().find_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                GeneralName::OtherName(of, value)
                    if of.to_id_string() == PERMANENT_IDENTIFIER.to_string() =>
                {
                    read_permanent_identifier(value).map(|identifier| TpmNames::text_of(&identifier))
                }
                _ => None,
            })
        }
        _ => None,
    });
    let subject = || Subject::from_der(certificate.subject.as_raw()).map(|subject| subject.to_string()).ok();
    Some(CertificateFact {
        serial,
        issuer: intent.key_id.0,
        name: uri.or_else(subject)?,
        not_after: Timestamp::from_second(certificate.validity.not_after.timestamp()).ok()?,
    })
}
