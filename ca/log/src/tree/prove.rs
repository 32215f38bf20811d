//! Roots and proofs, from nodes that someone has kept.
//!
//! This is the definition of RFC 6962 written down as recursion, top-down. [`super::GrowingTree`] computes the same
//! roots bottom-up; a checkpoint is signed only when both agree.

use super::hash::{Hash, node_hash};

/// Where the hashes of complete subtrees come from.
pub trait Nodes {
    /// The hash of the complete subtree of `2^level` leaves that begins at leaf `index * 2^level`, if it is kept.
    fn node(&self, level: u32, index: u64) -> Option<Hash>;
}

/// A node that a proof needs is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree node {index} of level {level} is missing")]
pub struct MissingNode {
    /// Its level; leaves are level 0.
    pub level: u32,
    /// Its index in the level.
    pub index: u64,
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// A node is missing.
pub fn root(nodes: &impl Nodes, size: u64) -> Result<Hash, MissingNode> {
    match size {
        0 => Ok(Hash::empty_root()),
        _ => subtree(nodes, 0, size),
    }
}

/// The inclusion proof of leaf `index` in the tree of `size` leaves, leaf to root (RFC 6962 section 2.1.1).
///
/// # Errors
/// A node is missing. A leaf outside the tree has no proof: its own node is reported missing.
pub fn inclusion_proof(nodes: &impl Nodes, index: u64, size: u64) -> Result<Vec<Hash>, MissingNode> {
    if index >= size {
        return Err(MissingNode { level: 0, index });
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(nodes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `old` leaves is a prefix of that of `new` leaves (RFC 6962 section 2.1.2).
///
/// It is empty if `old` is 0 or equal to `new`.
///
/// # Errors
/// A node is missing. `old` larger than `new` has no proof: the first leaf beyond is reported missing.
pub fn consistency_proof(nodes: &impl Nodes, old: u64, new: u64) -> Result<Vec<Hash>, MissingNode> {
    if old > new {
        return Err(MissingNode { level: 0, index: new });
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    // Descend to the subtree whose right edge is the old tree's; what lies beside the way is the proof.
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(nodes, start, middle)?);
            start = middle;
        }
    }
    // SUBPROOF(m, D[m], true) is empty: the verifier knows the old root itself.
    if start != 0 {
        proof.push(subtree(nodes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// MTH(D[start:end]) for ranges that the recursion of RFC 6962 makes: `start` is a multiple of the length's next
/// power of two.
fn subtree(nodes: &impl Nodes, start: u64, end: u64) -> Result<Hash, MissingNode> {
    let length = end - start;
    if length.is_power_of_two() {
        let level = length.trailing_zeros();
        let index = start >> level;
        return nodes.node(level, index).ok_or(MissingNode { level, index });
    }
    let middle = start + split(length);
    Ok(node_hash(&subtree(nodes, start, middle)?, &subtree(nodes, middle, end)?))
}

/// The largest power of two that is smaller than `length`.
fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}
