//! What a TPM has done and attests to: its ledger, and the counter that the log is anchored in.

use serde::{Deserialize, Serialize};

use super::super::encoding::{Base64Bytes, Digest, integer};
use crate::tree::Hash;

/// Which command of a TPM it was: commands are counted from 1 in each epoch of the TPM's audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerNumber {
    /// The epoch, as the TPM counts them.
    #[serde(deserialize_with = "integer::deserialize")]
    pub epoch: u64,
    /// The position in the epoch.
    #[serde(deserialize_with = "integer::deserialize")]
    pub ordinal: u64,
}

/// The head of this log at an earlier moment: a checkpoint that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// How many entries there were.
    #[serde(deserialize_with = "integer::deserialize")]
    pub size: u64,
    /// The root over them, base64.
    #[serde(with = "root")]
    pub root: Hash,
}

impl LogHead {
    /// What a TPM is given to attest to: SHA-256 of the text of the checkpoint (C2SP tlog-checkpoint) of this head.
    pub fn qualifying(&self, origin: &str) -> Digest {
        Digest::of(format!("{origin}\n{}\n{}\n", self.size, self.root).as_bytes())
    }
}

/// A statement of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// TPMT_PUBLIC of the key that attests.
    pub signer: Base64Bytes,
    /// TPMS_ATTEST. Its extraData is [`LogHead::qualifying`].
    pub attest: Base64Bytes,
    /// TPMT_SIGNATURE.
    pub signature: Base64Bytes,
}

/// Why an epoch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The daemon started: it is the epoch in which it stopped, or that others left behind.
    Start,
    /// It had lasted as long as an epoch lasts.
    Timer,
    /// The daemon stopped.
    Stop,
}

/// A command of a TPM that is neither a signature of an outcome nor part of an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Command {
    /// TPM2_GetCommandAuditDigest: the epoch before is over, and this is the first command of its own.
    CloseEpoch {
        /// Which command it was.
        number: LedgerNumber,
        /// Why.
        reason: CloseReason,
        /// The codes of the commands that the TPM audits, ascending.
        audited: Vec<u32>,
        /// The head of the log that the TPM was given.
        head: LogHead,
        /// What it says.
        attested: Attested,
    },
    /// TPM2_NV_Increment of a counter, of which no anchor came.
    IncrementCounter {
        /// Which command it was.
        number: LedgerNumber,
        /// The NV index of the counter.
        index: u32,
    },
}

/// A counter is about to be counted up to this value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorIntent {
    /// The NV index of the counter.
    pub index: u32,
    /// The value that it will have.
    #[serde(deserialize_with = "integer::deserialize")]
    pub value: u64,
}

/// A counter was counted up, and its TPM attests to that over a head of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The NV index of the counter.
    pub index: u32,
    /// The value that it has.
    #[serde(deserialize_with = "integer::deserialize")]
    pub value: u64,
    /// The head: the checkpoint that the anchor's intent stands under.
    pub head: LogHead,
    /// Which command counted it up.
    pub increment: LedgerNumber,
    /// Which command attested to it.
    pub certify: LedgerNumber,
    /// What the TPM says.
    pub attested: Attested,
}

mod root {
    use serde::{Deserializer, Serializer, de::Error as _};

    use crate::tree::Hash;

    pub(super) fn serialize<S: Serializer>(value: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format_args!("`{text}` is no root in base64")))
    }
}
