//! Taking certificates back, and saying so: what may become of what, CRLs and OCSP (`docs/revocation.md`).
//!
//! A revocation is an entry of the log and a row beside it. What is published is made from the rows: CRLs by [`crls`],
//! OCSP responses by [`responder`], each through the issuance cycle.

pub mod facts;
mod shards;

pub use shards::Shards;
