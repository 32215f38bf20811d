//! Logs that continue others, logs that lost entries, and authorities that were compromised.

use serde::{Deserialize, Serialize};

/// The first entry of a log that continues another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// The key (vkey) of the log before; its name is that log's origin.
    pub previous: String,
    /// The last checkpoint of the log before that is known, with every cosignature: a signed note.
    pub checkpoint: String,
}

/// How a log goes on that has lost entries, or an installation whose authority is compromised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryWay {
    /// They were found again, byte for byte.
    Refilled,
    /// They were not, and the log goes on under another origin.
    NewEpoch,
    /// Nothing was lost: what a compromise needs was rehearsed on simulated tokens.
    Drilled,
    /// An authority is compromised, and is replaced as the statement's plan says.
    Compromise,
}

/// Something was lost, or might have been, and by whose authority it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// How it goes on.
    pub way: RecoveryWay,
    /// The statement that people signed, exactly as they signed it (`docs/recovery.md`).
    pub statement: String,
    /// Their signatures over it: SSHSIG, armoured, namespace `undercroft-approval-v1`.
    pub approvals: Vec<String>,
}
