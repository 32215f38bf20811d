//! Stories: what an installation does, driven through its real binaries. And the walls that keep the packages apart.
//!
//! The binaries must have been built (`make test` does it).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod walls;
