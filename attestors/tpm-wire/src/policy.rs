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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublicArea;

    /// Made with swtpm 0.7.1 and tpm2-tools 5.4: `tpm2_loadexternal` gave the Names of two gates' keys from these areas,
    /// trial sessions with `tpm2_policysigned` and `tpm2_policyor` the digests.
    const GATES: [(&str, &str, &str); 2] = [
        (
            "0023000b00040040000000100018000b000300100020b71eaa532df1a589713587a162f76846bbab552cd7e3b0ae821d8259f311f04900202b2146f9887fe617bc86970e151aa452191c82117492136dd40b993f0a3631d5",
            "000b505c961aaafb6bc7cd744cdac7fb3ea33b51098e7cbdb3fcd83c16f98167f728",
            "440a9777205382a09ee65f0e19290a6e221d575c6f7fb9168826ff6b5cab6c45",
        ),
        (
            "0023000b00040040000000100018000b000300100020ab0454d382ab53714453e7773f99b877f0100028329c5638b81ca905aca00c7d0020724b7c2f9f4c190b599b13e45244b7372cd80c6c19e94df1857ee83e28796b99",
            "000b7dcb3d0759210c65da39370288f898b0b478ba5f46a9490b9cde85af3fc4264f",
            "799befe7ba6138af5116dc556635396348c4d15900bf9b454f9ced6e9ce5778b",
        ),
    ];
    const EITHER: &str = "d91764cf09a2fde1266145aa0109dc3e70f22ce8b6d8d0e5fdeb6f8e8b22f3f0";
    const EITHER_REVERSED: &str = "f5e56990477b33596aad2b18d478f662c16f7bf5ad86330ee6e416118c22a4e8";
    /// What `tpm2_policysigned --nonce-tpm --expiration 15 --cphash-input --raw-data` says is to be signed.
    const NONCE: &str = "c246990630c5d04d668f6483ac2694ff038c46c70bd928af7af661e9579b4f62";
    const CP_HASH: &str = "69c3838222b70e1e9e876256eecaf5e89f4d907082e73aa6897eda434a503bb3";
    const TO_BE_SIGNED: &str = "c246990630c5d04d668f6483ac2694ff038c46c70bd928af7af661e9579b4f620000000f69c3838222b70e1e9e876256eecaf5e89f4d907082e73aa6897eda434a503bb3";

    fn areas() -> [PublicArea; 2] {
        GATES.map(|(area, ..)| PublicArea::parse(&hex::decode(area).unwrap()).unwrap())
    }

    #[test]
    fn a_gates_area_is_that_of_its_template() {
        for (area, (bytes, name, _)) in areas().iter().zip(GATES) {
            assert_eq!(area.name().to_string(), name);
            let of_key = PublicArea::of_gate(&area.public_key().unwrap()).unwrap();
            assert_eq!(hex::encode(of_key.encode()), bytes);
        }
    }

    #[test]
    fn policies_are_those_that_a_tpm_computes() {
        let names = areas().map(|area| area.name());
        let branches: Vec<_> = names.iter().map(signed).collect();
        for (branch, (.., policy)) in branches.iter().zip(GATES) {
            assert_eq!(hex::encode(branch), policy);
        }
        assert_eq!(hex::encode(or(&branches)), EITHER);
        assert_eq!(hex::encode(gated_by(&names)), EITHER);
        let [first, second] = names;
        assert_eq!(hex::encode(gated_by(&[second.clone(), first.clone()])), EITHER_REVERSED);
        // Nor is it that of one gate, of one gate twice, or of none.
        for other in [&[first.clone()][..], &[first.clone(), first], &[second], &[]] {
            assert_ne!(hex::encode(gated_by(other)), EITHER, "{other:?}");
        }
    }

    #[test]
    fn what_a_gate_signs_is_what_a_tpm_verifies() {
        let nonce = hex::decode(NONCE).unwrap();
        let mut cp_hash = [0; 32];
        hex::decode_to_slice(CP_HASH, &mut cp_hash).unwrap();
        assert_eq!(hex::encode(authorisation(&nonce, 15, &cp_hash)), TO_BE_SIGNED);
        assert_ne!(hex::encode(authorisation(&nonce, -15, &cp_hash)), TO_BE_SIGNED);
        // Two's complement: TPMs give tickets for negative expirations.
        assert!(hex::encode(authorisation(&nonce, -1, &cp_hash)).contains("ffffffff"));
    }
}
