//! Freezes: what may have no certificates, from when, by whom, and who let it go again.

use serde::{Deserialize, Serialize};

use super::Caller;
use crate::leaf::encoding::{Digest, HexKeyId, integer};

/// What is frozen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Freezable {
    /// The authority with this key signs no certificates.
    Authority(HexKeyId),
    /// Nothing is issued for this trust domain.
    Domain(String),
    /// Nothing is issued to the caller with this SPIFFE ID.
    Caller(String),
}

/// What happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum FreezeEvent {
    /// It was frozen.
    Frozen {
        /// Why, in words.
        reason: String,
    },
    /// It was released.
    Unfrozen {
        /// SHA-256 of the entry that froze it: what the quorum has approved to undo.
        freeze: Digest,
        /// The index of the entry with the approval, in the same log.
        #[serde(deserialize_with = "integer::deserialize")]
        approval: u64,
        /// The nonce of the statement that was approved: 16 bytes, hexadecimal. It counts once.
        nonce: String,
    },
}

/// Something was frozen or released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// What.
    pub what: Freezable,
    /// What happened to it.
    pub event: FreezeEvent,
    /// Who did it.
    pub caller: Caller,
}
