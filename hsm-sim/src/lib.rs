//! Simulated key hardware: SoftHSM tokens, swtpm TPMs, software keys, and the suite that every backend must pass.
//!
//! Nothing here is ever part of a release binary: the walls test refuses a dependency on this crate that is not
//! for tests. What it starts is real software (SoftHSM, swtpm) wherever that exists; its own
//! [`SoftwareKeys`](software::SoftwareKeys) serve the tests of code above the joint, where a token adds nothing.

pub mod aws;
pub mod conformance;
pub mod installation;
pub mod programs;
pub mod softhsm;
pub mod software;
pub mod swtpm;
