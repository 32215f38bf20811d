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
}
