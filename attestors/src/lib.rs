//! Verifiers: pure functions from evidence to a verdict.
//!
//! Nothing here opens a token, a socket or a file, or reads a clock, so that an auditor who has the evidence can run
//! the very same judgement years later. A failure of any kind is a worse verdict and never a better one.
//!
//! [`custody`] grades where a key of the CA lives; [`tpm`] is what a TPM can prove of itself, over [`chain`]s of certificates
//! of manufacturers; [`exchange`] is what a node and Undercroft say to each other.

pub mod chain;
pub mod custody;
pub mod exchange;
pub mod tpm;
pub mod trust;
pub mod webauthn;
