//! Verifiers: pure functions from evidence to a verdict.
//!
//! Nothing here opens a token, a socket or a file, or reads a clock, so that an auditor who has the evidence can run
//! the very same judgement years later. A failure of any kind is a worse verdict and never a better one.
//!
//! Today there is one: [`custody`], which grades where a key of the CA lives.

pub mod custody;
