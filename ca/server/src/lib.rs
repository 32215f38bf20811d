//! The daemon and the operator's commands.

pub mod store;
