//! Policy digests (Part 1, section 19.7; Part 3, sections 23.3 and 23.6), of SHA-256 throughout.

use sha2::{Digest as _, Sha256};

use crate::Name;
use crate::command::CommandCode;

/// The most branches that TPM2_PolicyOR takes (Part 2, section 10.9.5: TPML_DIGEST), and the fewest.
pub const OR_BRANCHES: std::ops::RangeInclusive<usize> = 2..=8;

/// A policy digest, or a step on the way to one.
pub type PolicyDigest = [u8; 32];

/// The policy that a signature of `signer` satisfies: TPM2_PolicySigned with an empty policyRef.
///
/// `H(H(0^32 || TPM_CC_PolicySigned || Name(signer)) || policyRef)`: the second hash is made for an empty policyRef too
/// (PolicyUpdate, Part 3, section 23.2.3).
pub fn signed(signer: &Name) -> PolicyDigest {
    let first = Sha256::new()
        .chain_update([0; 32])
        .chain_update(CommandCode::POLICY_SIGNED.0.to_be_bytes())
        .chain_update(signer.as_bytes())
        .finalize();
    Sha256::digest(first).into()
}

/// The policy that any of `branches` satisfies: TPM2_PolicyOR.
pub fn or(branches: &[PolicyDigest]) -> PolicyDigest {
    let mut hash = Sha256::new().chain_update([0; 32]).chain_update(CommandCode::POLICY_OR.0.to_be_bytes());
    for branch in branches {
        hash.update(branch);
    }
    hash.finalize().into()
}

/// The policy of a key that any of these gates may release. The order counts.
pub fn gated_by(gates: &[Name]) -> PolicyDigest {
    or(&gates.iter().map(signed).collect::<Vec<_>>())
}

/// What a gate signs, before hashing: `nonceTPM || expiration || cpHashA || policyRef` with an empty policyRef
/// (Part 3, section 23.3.1). The expiration is in seconds since the nonce was made; 0 would be never.
pub fn authorisation(nonce: &[u8], expiration: i32, cp_hash: &[u8; 32]) -> Vec<u8> {
    let mut message = nonce.to_vec();
    message.extend(expiration.to_be_bytes());
    message.extend(cp_hash);
    message
}
