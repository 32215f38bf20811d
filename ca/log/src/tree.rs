//! The Merkle tree of RFC 6962 section 2.1, with SHA-256.

mod growing;
mod hash;
mod prove;
mod verify;

pub use growing::{FullTile, GrowingTree, TILE_WIDTH, WrongEdge, partial_width, tile_root};
pub use hash::{Hash, complete_root, leaf_hash, node_hash};
pub use prove::{MissingNode, Nodes, consistency_proof, inclusion_proof, root};
pub use verify::{ProofError, verify_consistency, verify_inclusion};

#[cfg(test)]
mod tests;
