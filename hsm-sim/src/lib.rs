//! Simulated key hardware: SoftHSM tokens, swtpm TPMs, clouds, software keys, and the suite that every backend must pass.
//!
//! Nothing here is ever part of a release binary: the walls test refuses a dependency on this crate that is not
//! for tests. What it starts is real software (SoftHSM, swtpm) wherever that exists; its own
//! [`SoftwareKeys`](software::SoftwareKeys) serve the tests of code above the joint, where a token adds nothing.

pub mod aws;
pub mod azure;
pub mod conformance;
pub mod faulty_module;
pub mod faulty_tpm;
pub mod google;
pub mod installation;
pub mod loopback;
pub mod measured_boot;
pub mod node;
pub mod persons;
pub mod programs;
pub mod soak;
pub mod softhsm;
pub mod software;
pub mod swtpm;
pub mod tpm2_pkcs11;
