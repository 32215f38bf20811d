//! Taking certificates back, and saying so: what may become of what, CRLs and OCSP (`docs/revocation.md`).
//!
//! A revocation is an entry of the log and a row beside it. What is published is made from the rows:
//! CRLs (`service/publish.rs`) and OCSP responses (`service/responder.rs`), each through the issuance cycle.

mod asked;
pub mod facts;
pub mod ocsp;
mod shards;

pub use asked::{AskedFor, without_zeros};
pub use shards::Shards;
