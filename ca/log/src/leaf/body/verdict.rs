//! What was decided about the evidence of a node.

use serde::{Deserialize, Serialize};

use super::super::encoding::{Base64Bytes, Digest, integer};
use super::BlobOf;

/// The evidence of a node was judged. A certificate that rests on it names the same evidence in its intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The trust domain that the node wanted to be in.
    pub domain: String,
    /// How it was judged: `tpm`.
    pub attestor: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key, if a maker vouches for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endorsement: Option<Digest>,
    /// All that was said and done in the exchange: a blob.
    pub evidence: BlobOf,
    /// The policy for nodes with everything that it names: a blob.
    pub policy: BlobOf,
    /// Taken or refused.
    pub result: VerdictResult,
}

/// Taken or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum VerdictResult {
    /// It is what it says, and may have a certificate.
    Accepted(Accepted),
    /// It may not.
    Refused(RefusedNode),
}

/// What a node that was taken may have, and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The rule of the policy for nodes that takes it.
    pub rule: String,
    /// Who it is.
    pub spiffe_id: String,
    /// How much the evidence is worth: `software`, `cloud-hardware` or `hardware`.
    pub assurance: String,
    /// The hash of the transcript: good for one certificate.
    pub transcript: Digest,
    /// The Name of its attestation key.
    pub attestation_key: Base64Bytes,
    /// The clock of its TPM.
    pub clock: TpmClock,
    /// What is known of it.
    pub selectors: Vec<String>,
}

/// The clock of a TPM (TPMS_CLOCK_INFO), and the version of its firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmClock {
    /// Milliseconds with power since it was cleared.
    #[serde(deserialize_with = "integer::deserialize")]
    pub milliseconds: u64,
    /// resetCount.
    pub resets: u32,
    /// restartCount.
    pub restarts: u32,
    /// Whether `milliseconds` was never as high before.
    pub safe: bool,
    /// firmwareVersion.
    pub firmware: [u32; 2],
}

/// Why a node was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedNode {
    /// The rule that it broke (`docs/attestation.md`).
    pub code: String,
    /// Why, in words, as it was told.
    pub reason: String,
}
