//! Nodes that attest: from evidence to what a node may have (`docs/attestation.md`).
//!
//! [`appraise`] is the whole judgement and pure: a [`Record`] of all that was said and done, the [`NodePolicy`] with everything
//! that it names, and a time. The daemon calls it once, and an auditor again, years later, on the bytes that the log keeps.

mod again;
mod appraisal;
mod claims;
mod explanation;
mod learning;
mod policy;
mod record;

pub use again::{Difference, judge, reverify};
pub use appraisal::{Appraised, Refused, appraise, candidate};
pub use claims::{Attestor, BootClaims, Claims, since};
pub use explanation::Explanation;
pub use learning::{Learning, LeftOut};
pub use policy::{
    Admitted, Learnt, NodePolicy, NodePolicyError, ReferenceEvent, ReferencePcr, ReferenceSet, ReferenceValue,
};
pub use record::{FORMAT, Known, LastClock, Record, RecordError};

#[cfg(test)]
mod tests;
