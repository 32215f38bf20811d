//! What runs on a node: it proves with its TPM what the machine is, and keeps a fresh SVID for local software (`docs/node.md`).
//!
//! [`evidence`] is the TPM's side of an exchange and [`exchange`] the network's; [`received`] believes nothing of the answer
//! before it is verified; [`output`] is what consumers see; [`renewal`] says when to do it again.

pub mod config;
pub mod dry_run;
pub mod evidence;
pub mod exchange;
pub mod key_file;
pub mod memory;
pub mod output;
pub mod received;
pub mod renewal;
pub mod run;
