//! All that decided about a node, as one blob of the log.

use serde::{Deserialize, Serialize};
use undercroft_attestors::tpm::node::{Binding, Clock};
use undercroft_log::leaf::{Base64Bytes, Digest, MAX_INTEGER, TpmClock};

/// The name of the format.
pub const FORMAT: &str = "undercroft-node-evidence/v1";

/// The most bytes of a record: two messages of a node, and one of ours.
const MAX_RECORD: usize = 5 * undercroft_attestors::exchange::MAX_MESSAGE;

/// An exchange, as far as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    format: String,
    /// The node's hello, as it was sent.
    pub hello: String,
    /// Our challenge, as it was sent; none where the node answered at once, or was refused before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub challenge: Option<String>,
    /// What was in the credential. It was good for one answer, which is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<Base64Bytes>,
    /// The tls-exporter of the connection.
    pub exporter: Digest,
    /// The node's answer, as it was sent; none if it was refused before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<String>,
    /// What was known of its TPM then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub known: Option<Known>,
}

/// What is known of a TPM that was here before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Known {
    /// SHA-256 of the DER of its endorsement key's SubjectPublicKeyInfo.
    pub endorsement: Digest,
    /// The Name of its attestation key.
    pub attestation_key: Base64Bytes,
    /// Its clock at the last attestation.
    pub clock: LastClock,
}

/// The clock of a TPM, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LastClock {
    /// See [`Clock`].
    pub milliseconds: u64,
    /// See [`Clock`].
    pub resets: u32,
    /// See [`Clock`].
    pub restarts: u32,
    /// See [`Clock`].
    pub safe: bool,
    /// See [`Clock`]: 16 hexadecimal digits, since JSON has no integers of 64 bits.
    #[serde(with = "firmware")]
    pub firmware: u64,
}

impl From<LastClock> for Clock {
    fn from(LastClock { milliseconds, resets, restarts, safe, firmware }: LastClock) -> Self {
        Self { milliseconds, resets, restarts, safe, firmware }
    }
}

impl From<Clock> for LastClock {
    fn from(Clock { milliseconds, resets, restarts, safe, firmware }: Clock) -> Self {
        Self { milliseconds, resets, restarts, safe, firmware }
    }
}

impl From<LastClock> for TpmClock {
    fn from(LastClock { milliseconds, resets, restarts, safe, firmware }: LastClock) -> Self {
        let firmware = [(firmware >> 32) as u32, firmware as u32];
        // No TPM has been up for 285,000 years; one that says so is believed as far as an entry goes.
        Self { milliseconds: milliseconds.min(MAX_INTEGER), resets, restarts, safe, firmware }
    }
}

impl From<TpmClock> for LastClock {
    fn from(TpmClock { milliseconds, resets, restarts, safe, firmware: [major, minor] }: TpmClock) -> Self {
        let firmware = u64::from(major) << 32 | u64::from(minor);
        Self { milliseconds, resets, restarts, safe, firmware }
    }
}

impl Known {
    /// The binding that was seen.
    pub fn binding(&self) -> Binding {
        Binding { endorsement: self.endorsement.0, attestation_key: self.attestation_key.0.clone() }
    }
}

impl Record {
    /// The record of an exchange that has just begun.
    pub fn begun(hello: &[u8], exporter: [u8; 32], known: Option<Known>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            hello: text(hello),
            challenge: None,
            secret: None,
            exporter: Digest(exporter),
            answer: None,
            known,
        }
    }

    /// The same, with what we answered and what was in the credential.
    pub fn challenged(self, challenge: &[u8], secret: &[u8]) -> Self {
        Self { challenge: Some(text(challenge)), secret: Some(Base64Bytes(secret.to_vec())), ..self }
    }

    /// The same, with the node's answer.
    pub fn answered(self, answer: &[u8]) -> Self {
        Self { answer: Some(text(answer)), ..self }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none, or of a version that we do not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::Long(bytes.len()));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::Json)?;
        match record.format == FORMAT {
            true => Ok(record),
            false => Err(RecordError::Format(record.format)),
        }
    }

    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers alone: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A message as text. What is no UTF-8 is no JSON either, and is none afterwards: U+FFFD stands in nothing that is taken.
fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

/// Why some bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than any.
    #[error("the evidence has {0} bytes, more than {MAX_RECORD}")]
    Long(usize),
    /// Not what it should be.
    #[error("the evidence cannot be read: {0}")]
    Json(serde_json::Error),
    /// Another version.
    #[error("the evidence is of the format `{0}`, and `{FORMAT}` is known")]
    Format(String),
}

mod firmware {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(version: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{version:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("a firmware version is 16 hexadecimal digits");
        match text.len() {
            16 => u64::from_str_radix(&text, 16).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}
