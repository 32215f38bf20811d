//! The API of the daemon: generated code, and how a client reaches it.
//!
//! [`v1`], [`recovery`] and [`node`] are generated from the files in `proto` and committed; a test generates them again and fails
//! on a difference. [`connect`] makes channels: over TCP with TLS that identifies the daemon by its SPIFFE ID and not
//! by a host name, or over the administration socket.

pub mod connect;
pub mod identity;

/// Generated from `proto/undercroft/v1/undercroft.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    elided_lifetimes_in_paths,
    reason = "generated code"
)]
pub mod v1 {
    include!("generated/undercroft.v1.rs");
}

/// Generated from `proto/undercroft/recovery/v1/recovery.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    elided_lifetimes_in_paths,
    reason = "generated code"
)]
pub mod recovery {
    include!("generated/undercroft.recovery.v1.rs");
}

/// Generated from `proto/undercroft/node/v1/node.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    elided_lifetimes_in_paths,
    reason = "generated code"
)]
pub mod node {
    include!("generated/undercroft.node.v1.rs");
}
