//! The CA as a value, on SQLite: what it logs, what it refuses, and what is left when something fails half-way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod compromise;
mod drill;
mod enrolment;
mod every_write;
mod failures;
mod first_bundle;
mod freeze;
mod issuance;
mod nodes;
mod published;
mod rig;
mod rotation;
mod start;
