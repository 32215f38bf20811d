//! The audit log of Undercroft: what stands in it, how it grows, and how anyone can check it.
//!
//! The formats are C2SP's, so that foreign tools can follow: signed notes, tlog-checkpoint, tlog-tiles, tlog-proof
//! (`docs/log.md` describes our leaves). This crate does no I/O and knows no runtime: entries are kept by a
//! [`LogStore`](store::LogStore), checkpoints are signed by a [`CheckpointSigner`](checkpoint::CheckpointSigner),
//! the time comes from a [`Clock`], and [`sequencer`] is a future that anyone may drive.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`tree`] | RFC 6962 hashes, growth, proofs and their verification |
//! | [`note`], [`checkpoint`] | signed notes, verifier keys, checkpoints |
//! | [`add_checkpoint`] | what a log asks of a witness, and how a witness decides |
//! | [`authorise`] | what a CA asks of a gate, and what a gate answers |
//! | [`cosigning`] | how the sequencer has checkpoints cosigned |
//! | [`cosignature`], [`witnesses`] | witnesses' keys and lines, and policies that say whose are needed |
//! | [`tile`], [`proof`] | tiles, entry bundles, `.tlog-proof` files |
//! | [`leaf`] | what an entry says |
//! | [`stored`] | tiles and proofs of a log that is stored |
//! | [`scrub`] | going through a stored log again, to see that nothing older was lost or changed |
//! | [`store`], [`sequencer`], [`Receipt`], [`Promise`] | how entries become durable, signed and provable |

pub mod add_checkpoint;
pub mod authorise;
pub mod checkpoint;
pub mod cosignature;
pub mod cosigning;
pub mod leaf;
pub mod note;
pub mod proof;
mod receipt;
pub mod scrub;
pub mod second_key;
pub mod sequencer;
pub mod store;
pub mod stored;
pub mod tile;
pub mod tree;
pub mod witnesses;

pub use receipt::{Logged, Promise, Receipt};

/// Gives the time, in whole seconds. Binaries read the system's clock in one file; tests own theirs.
pub trait Clock: Send + Sync {
    /// The time now; fractions of a second are cut off by whoever stamps with it.
    fn now(&self) -> jiff::Timestamp;
}
