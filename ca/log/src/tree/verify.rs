//! Verification of proofs (RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use super::hash::{Hash, node_hash};

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf or the old tree lies beyond the tree.
    #[error("it speaks of leaf or size {0}, which is beyond the tree of size {1}")]
    OutOfRange(u64, u64),
    /// The proof has more or fewer hashes than the tree's shape wants.
    #[error("it has the wrong number of hashes for its place in the tree")]
    WrongLength,
    /// The proof leads to another root.
    #[error("it leads to another root")]
    WrongRoot,
}

/// Verifies that a leaf of hash `leaf` stands at `index` in the tree of `size` leaves with `root`.
///
/// # Errors
/// It does not, or the proof does not show it.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange(index, size));
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::WrongRoot),
        _ => Err(ProofError::WrongLength),
    }
}

/// Verifies that the tree of `old` leaves with `old_root` is a prefix of that of `new` leaves with `new_root`.
///
/// A tree of size 0 is a prefix of every tree, with an empty proof (C2SP tlog-witness wants it so).
///
/// # Errors
/// It is not, or the proof does not show it.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::OutOfRange(old, new));
    }
    if old == new || old == 0 {
        let expected = if old == 0 { &Hash::empty_root() } else { new_root };
        return match (proof.is_empty(), old_root == expected) {
            (false, _) => Err(ProofError::WrongLength),
            (true, false) => Err(ProofError::WrongRoot),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // If the old tree is complete, its root is where the proof starts, and is not repeated in it.
    let (seed, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(ProofError::WrongLength)?
    };
    let (mut first_root, mut second_root) = (*seed, *seed);
    for hash in rest {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node & 1 == 1 || node == last {
            first_root = node_hash(hash, &first_root);
            second_root = node_hash(hash, &second_root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            second_root = node_hash(&second_root, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, first_root == *old_root && second_root == *new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::WrongRoot),
        _ => Err(ProofError::WrongLength),
    }
}
