//! Audits of logs that the CA's own code made, of such logs with changed files, and of such logs that were made again
//! from changed entries and signed with their own key.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod asked;
mod changed;
mod fetched;
mod fetched_by_tls;
mod freezes;
mod honest;
mod installation;
mod ledger;
mod ledger_told;
mod lies;
mod log;
mod memory;
#[path = "../ceremony/moved.rs"]
#[allow(dead_code, reason = "shared with the verification of ceremonies, which uses all of it")]
mod moved;
mod nodes;
mod proofs;
mod reconcile;
mod reverified;
mod revocations;
mod served;
mod stated;
mod statements;
mod stock;
mod tampering;
mod tpm;
