//! A whole installation on simulated devices, driven by the real binaries: what the demo shows and the stories test.

mod daemon;
pub mod forge;
mod programs;
mod site;
pub mod verifiers;

pub use daemon::Daemon;
pub use programs::{Ran, Tool};
pub use site::{Caller, Domain, Issue, Listen, Site, break_signature, certificates, request};
