//! Verification of ceremonies that were made as `docs/ceremony.md` says, and of the same with one thing changed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod forgeries;
mod honest;
#[path = "../audit/log.rs"]
#[allow(dead_code, reason = "shared with the audits of logs, which use all of it")]
mod log;
mod maker;
mod moved;
mod persons;
mod plans;
mod report;
mod world;
