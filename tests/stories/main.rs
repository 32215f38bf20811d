//! Stories: what an installation does, driven through its real binaries. And the walls that keep the packages apart.
//!
//! The binaries must have been built (`make test` does it).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod acme;
mod air_gap;
mod algorithms;
mod backup;
mod bad_input;
mod ceremony;
mod commands;
mod crash;
mod custody;
mod drill;
mod failing_disk;
mod faults;
mod freeze;
mod gate;
mod golden;
mod isolation;
mod judges;
mod ledger;
mod main_job;
mod node;
mod place;
mod readme;
mod recover;
mod recovery;
mod refusals;
mod replicas;
mod revocation;
mod root_rotation;
mod rotation;
mod second_key;
mod secrets;
mod served_log;
mod shared_root;
mod soak;
mod tls;
mod token;
mod walls;
mod witness;
