//! What persons have approved.

use serde::{Deserialize, Serialize};

/// Enough persons of the roster have signed a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The statement, exactly as they signed it (`docs/ceremony.md`).
    pub statement: String,
    /// Their signatures over it: SSHSIG, armoured, namespace `undercroft-approval-v1`.
    pub signatures: Vec<String>,
    /// Their names on the roster.
    pub by: Vec<String>,
    /// The text that the statement's object is the SHA-256 of, where it stands nowhere else in the log: what the quorum says
    /// of the roots of a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}
