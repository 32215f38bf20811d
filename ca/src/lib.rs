//! What the CA decides.
//!
//! Everything here is a decision about bytes and names: what a certificate looks like ([`profile`], [`tbs`],
//! [`lint`]), who may have one ([`policy`]), in which order things must happen before a key signs ([`issuance`]), and
//! what a ceremony makes ([`plan`]). Tokens are behind `undercroft-keymgr`'s traits, the log behind `undercroft-log`'s;
//! there is no clock, no randomness and no runtime in here that was not handed in.

pub mod acme;
pub mod activations;
pub mod approval;
pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod compromise;
pub mod csr;
pub mod custody;
pub mod drill;
pub mod exchange;
#[cfg(test)]
mod fixtures;
pub mod freeze;
pub mod gated;
pub mod issuance;
pub mod ledger;
pub mod lint;
pub mod log_key;
pub mod masked;
pub mod names;
pub mod nodes;
pub mod noted_head;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod provider_log;
pub mod recovery;
pub mod review;
pub mod revocation;
pub mod roots_statement;
pub mod rotation;
pub mod serial;
pub mod service;
pub mod signed;
pub mod spoken;
pub mod store;
pub mod strict_toml;
pub mod subject;
pub mod tbs;
pub mod time;
pub mod transcript;
pub mod verify;
