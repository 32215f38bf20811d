//! Nodes that attest: from evidence to what a node may have (`docs/attestation.md`).
//!
//! [`appraise`] is the whole judgement and pure: a [`Record`] of all that was said and done, the [`NodePolicy`] with everything
//! that it names, and a time. The daemon calls it once, and an auditor again, years later, on the bytes that the log keeps.

mod appraisal;
mod claims;
mod policy;
mod record;

pub use appraisal::{Appraised, Refused, appraise, candidate};
pub use claims::{BootClaims, Claims};
pub use policy::{Admitted, NodePolicy, NodePolicyError};
pub use record::{FORMAT, Known, LastClock, Record, RecordError};
