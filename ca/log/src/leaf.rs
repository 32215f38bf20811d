//! What an entry of the log says.
//!
//! An entry is one JSON object (RFC 8259, UTF-8) with an envelope and a body that its kind decides:
//!
//! ```json
//! {"v":1,"origin":"ca.example/undercroft/prod.example/1","index":7,"time":"2026-11-22T08:00:00Z",
//!  "kind":"intent","sequence":3,"body":{…}}
//! ```
//!
//! The stored bytes are what is hashed, and are authoritative. Reading is strict: unknown and repeated members are
//! refused, integers are below 2^53, DER is base64 with padding, digests and key ids are lower-case hexadecimal,
//! times are whole seconds in UTC. The envelope and the kinds never change their meaning; a later version of the
//! envelope has another `v`.

mod body;
mod encoding;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use undercroft_keys::KeyId;

pub use body::{
    Accepted, Alert, AlertEvent, Anchor, AnchorIntent, Approval, Asked, Attested, BlobOf, Body, Bundle,
    Caller, Ceremony, CeremonyEvent, CeremonyStep, Channel, CloseReason, Command, Enrolment, EnrolmentEvent,
    EnteredPhase, Epoch, Evidence, Freezable, Freeze, FreezeEvent, Grade, Intent, Key, KeyEvent, KeyEvidence,
    LedgerNumber, LogHead, MOST_SERIALS, Object, Outcome, OutcomeResult, Policy, Reason, Recovery,
    RecoveryWay, Refusal, RefusedAction, RefusedNode, Replacement, Revocation, RevocationEvent, RotatedRoots,
    Rotation, RotationBlocker, RotationEvent, RotationPhase, RotationSchedule, Start, Text, ToBeSigned,
    TpmClock, TranscriptHead, Verdict, VerdictResult,
};
pub use encoding::{Base64Bytes, Digest, HexKeyId, HexSerial};

use crate::note::KeyName;
use crate::tile::MAX_ENTRY;

/// The version of the envelope.
const VERSION: u8 = 1;

/// The largest integer in an entry: every JSON reader keeps it exactly (RFC 8259 section 6).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something will be signed: everything that decided, and the whole to-be-signed bytes.
    Intent,
    /// What became of an intent.
    Outcome,
    /// A command that a TPM executed (ledger).
    Command,
    /// A request that was refused, and by which rule.
    Refusal,
    /// The verdict on evidence.
    Verdict,
    /// A person's approval.
    Approval,
    /// The policy that is in force from here on.
    Policy,
    /// A key was made or opened, and what is known of where it lives.
    Key,
    /// The roots of a domain as they are published from here on.
    Bundle,
    /// An enrolment token was made.
    Enrolment,
    /// A step of a ceremony, or a ceremony that the online log takes note of.
    Ceremony,
    /// A rotation was planned, entered a phase, or was refused to.
    Rotation,
    /// Certificates were revoked, put on hold or released.
    Revocation,
    /// Issuance was frozen or released.
    Freeze,
    /// An alert, or what was done about it.
    Alert,
    /// A counter in hardware is about to move.
    AnchorIntent,
    /// A counter in hardware has moved.
    Anchor,
    /// The first entry of a log that continues another.
    Epoch,
    /// Entries were lost, and by whose authority the log goes on.
    Recovery,
    /// The daemon has started.
    Start,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// An entry, read and understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The log that it stands in.
    pub origin: KeyName,
    /// Where it stands.
    pub index: u64,
    /// When it was stamped.
    pub time: Timestamp,
    /// For intents: the how-manieth use of the key this is, counted from 1 in this log.
    pub sequence: Option<u64>,
    /// What it says.
    pub body: Body,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    v: u8,
    origin: String,
    index: u64,
    #[serde(with = "encoding::utc_seconds")]
    time: Timestamp,
    kind: Kind,
    sequence: Option<u64>,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Leaf {
    /// Reads an entry.
    ///
    /// # Errors
    /// It is not exactly one entry of a version and kind that we know.
    pub fn parse(bytes: &[u8]) -> Result<Self, LeafError> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(LeafError::Envelope)?;
        if envelope.v != VERSION {
            return Err(LeafError::Version(envelope.v));
        }
        for (member, value) in [("index", Some(envelope.index)), ("sequence", envelope.sequence)] {
            if value.is_some_and(|value| value > MAX_INTEGER) {
                return Err(LeafError::Integer(member));
            }
        }
        if envelope.sequence.is_some() != (envelope.kind == Kind::Intent) {
            return Err(LeafError::Sequence(envelope.kind));
        }
        Ok(Self {
            origin: envelope.origin.parse().map_err(|_| LeafError::Origin(envelope.origin.clone()))?,
            index: envelope.index,
            time: envelope.time,
            sequence: envelope.sequence,
            body: Body::parse(envelope.kind, envelope.body.get())?,
        })
    }

    /// The body of an entry as it stands in its bytes, without the envelope.
    ///
    /// # Errors
    /// As [`Leaf::parse`], for the envelope.
    pub fn raw_body(bytes: &[u8]) -> Result<&str, LeafError> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(LeafError::Envelope)?;
        Ok(envelope.body.get())
    }
}

/// An entry that is not stamped yet: its body is fixed, its place and time are the sequencer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    kind: Kind,
    body: String,
    key: Option<KeyId>,
}

impl Draft {
    /// Drafts an entry.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn new(body: &Body) -> Result<Self, LeafError> {
        let key = match body {
            Body::Intent(intent) => Some(intent.key_id.0),
            _ => None,
        };
        Ok(Self { kind: body.kind(), body: body.to_json()?, key })
    }

    /// The body, exactly as it will stand in the entry.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The key whose sequence number the entry takes.
    pub(crate) fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// The bytes of the entry. `origin` is written as a JSON string already.
    pub(crate) fn stamp(&self, origin: &str, index: u64, time: Timestamp, sequence: Option<u64>) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut leaf = String::with_capacity(self.body.len() + origin.len() + 128);
        // Writing to a String cannot fail.
        let _ = write!(
            leaf,
            r#"{{"v":{VERSION},"origin":{origin},"index":{index},"time":"{time}","kind":"{}","#,
            self.kind
        );
        if let Some(sequence) = sequence {
            let _ = write!(leaf, r#""sequence":{sequence},"#);
        }
        let _ = write!(leaf, r#""body":{}}}"#, self.body);
        leaf.into_bytes()
    }
}

/// Why some bytes are no entry of a log of ours.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The envelope is not as it must be.
    #[error("the envelope of the entry: {0}")]
    Envelope(serde_json::Error),
    /// Another version.
    #[error("the entry has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// An integer that not every reader keeps exactly.
    #[error("`{0}` is 2^53 or more")]
    Integer(&'static str),
    /// A sequence number where none belongs, or none where one does.
    #[error("an entry of kind {0} must have a sequence number if it is an intent, and none otherwise")]
    Sequence(Kind),
    /// The origin is no name of a log.
    #[error("`{0}` cannot be the origin of a log")]
    Origin(String),
    /// The body is not as its kind wants it.
    #[error("the body of the {kind} entry: {error}")]
    Body {
        /// The kind.
        kind: Kind,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The entry would be longer than a bundle takes.
    #[error("an entry of {0} bytes is longer than {MAX_ENTRY}; large objects belong in a blob")]
    TooLong(usize),
}

#[cfg(test)]
mod tests;
