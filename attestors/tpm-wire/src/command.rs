//! What a TPM hashes of the commands that it executes: cpHash and rpHash (Part 1, sections 18.7 and 18.8), and the
//! digest of an audit epoch (Part 1, section 31.2). SHA-256 throughout.

use sha2::{Digest as _, Sha256};

use crate::Name;
use crate::public_area::Scheme;
use crate::wire::push_buffer;

/// TPM_RC_SUCCESS: only commands that succeed are audited.
const SUCCESS: u32 = 0;
/// TPM_RH_ENDORSEMENT, which is its own Name (Part 1, section 16).
const ENDORSEMENT: u32 = 0x4000_000b;
/// TPM_ST_HASHCHECK and TPM_RH_NULL: the ticket that says that the TPM did not hash the message itself.
const NO_TICKET: [u8; 8] = [0x80, 0x24, 0x40, 0x00, 0x00, 0x07, 0x00, 0x00];

/// A command code (Part 2, section 6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandCode(pub u32);

impl CommandCode {
    /// TPM2_GetCommandAuditDigest.
    pub const GET_COMMAND_AUDIT_DIGEST: Self = Self(0x133);
    /// TPM2_NV_Increment.
    pub const NV_INCREMENT: Self = Self(0x134);
    /// TPM2_Sign.
    pub const SIGN: Self = Self(0x15d);
    /// TPM2_PolicySigned.
    pub const POLICY_SIGNED: Self = Self(0x160);
    /// TPM2_PolicyOR.
    pub const POLICY_OR: Self = Self(0x171);
    /// TPM2_NV_Certify.
    pub const NV_CERTIFY: Self = Self(0x184);

    /// What a ledger audits: every command of revision 1.59 that uses a private key, moves or replaces a counter, or
    /// changes what is audited. A TPM leaves out those that it does not have.
    pub const AUDITED: [Self; 20] = [
        Self(0x122), // NV_UndefineSpace
        Self(0x12a), // NV_DefineSpace
        Self(0x12e), // SetPrimaryPolicy
        Self::GET_COMMAND_AUDIT_DIGEST,
        Self::NV_INCREMENT,
        Self(0x140), // SetCommandCodeAuditStatus, which is always audited
        Self(0x148), // Certify
        Self(0x14a), // CertifyCreation
        Self(0x14c), // GetTime
        Self(0x14d), // GetSessionAuditDigest
        Self(0x154), // ECDH_ZGen
        Self(0x155), // HMAC
        Self(0x158), // Quote
        Self(0x159), // RSA_Decrypt
        Self(0x15b), // HMAC_Start
        Self::SIGN,
        Self::NV_CERTIFY,
        Self(0x18b), // Commit
        Self(0x18d), // ZGen_2Phase
        Self(0x197), // CertifyX509
    ];

    /// Those without which a TPM's ledger says nothing: it must audit them.
    pub const REQUIRED: [Self; 6] = [
        Self::GET_COMMAND_AUDIT_DIGEST,
        Self::NV_INCREMENT,
        Self(0x148),
        Self(0x158),
        Self::SIGN,
        Self::NV_CERTIFY,
    ];
}

/// The digest of a command's code, the Names of its handles and its parameters.
pub type CpHash = [u8; 32];

/// The digest of a successful command's code and its response's parameters.
pub type RpHash = [u8; 32];

/// TPM2_Sign of `digest` by an unrestricted key, with no ticket.
pub fn sign(key: &Name, digest: &[u8], scheme: Scheme) -> CpHash {
    let mut parameters = Vec::new();
    push_buffer(&mut parameters, digest);
    scheme.write(&mut parameters);
    parameters.extend(NO_TICKET);
    cp_hash(CommandCode::SIGN, &[key.as_bytes()], &parameters)
}

/// TPM2_GetCommandAuditDigest under the endorsement hierarchy, signed as `signer` is fixed to.
pub fn get_command_audit_digest(signer: &Name, qualifying: &[u8]) -> CpHash {
    let mut parameters = Vec::new();
    push_buffer(&mut parameters, qualifying);
    Scheme::None.write(&mut parameters);
    let handles = [&ENDORSEMENT.to_be_bytes()[..], signer.as_bytes()];
    cp_hash(CommandCode::GET_COMMAND_AUDIT_DIGEST, &handles, &parameters)
}

/// TPM2_NV_Increment, authorised by the index itself.
pub fn nv_increment(index: &Name) -> CpHash {
    cp_hash(CommandCode::NV_INCREMENT, &[index.as_bytes(), index.as_bytes()], &[])
}

/// TPM2_NV_Certify of the whole counter, authorised by the index itself, signed as `signer` is fixed to.
pub fn nv_certify(signer: &Name, index: &Name, qualifying: &[u8]) -> CpHash {
    let mut parameters = Vec::new();
    push_buffer(&mut parameters, qualifying);
    Scheme::None.write(&mut parameters);
    parameters.extend(8u16.to_be_bytes());
    parameters.extend(0u16.to_be_bytes());
    let handles = [signer.as_bytes(), index.as_bytes(), index.as_bytes()];
    cp_hash(CommandCode::NV_CERTIFY, &handles, &parameters)
}

fn cp_hash(code: CommandCode, handles: &[&[u8]], parameters: &[u8]) -> CpHash {
    let mut hash = Sha256::new().chain_update(code.0.to_be_bytes());
    for handle in handles {
        hash.update(handle);
    }
    hash.chain_update(parameters).finalize().into()
}

/// The response of TPM2_Sign: `signature` is the TPMT_SIGNATURE as the TPM gave it.
pub fn signed(signature: &[u8]) -> RpHash {
    rp_hash(CommandCode::SIGN, signature)
}

/// The response of a command that attests: a TPM2B_ATTEST and a TPMT_SIGNATURE.
pub fn attested(code: CommandCode, attest: &[u8], signature: &[u8]) -> RpHash {
    let mut parameters = Vec::new();
    push_buffer(&mut parameters, attest);
    parameters.extend(signature);
    rp_hash(code, &parameters)
}

/// The response of a command that gives nothing back.
pub fn done(code: CommandCode) -> RpHash {
    rp_hash(code, &[])
}

fn rp_hash(code: CommandCode, parameters: &[u8]) -> RpHash {
    Sha256::new()
        .chain_update(SUCCESS.to_be_bytes())
        .chain_update(code.0.to_be_bytes())
        .chain_update(parameters)
        .finalize()
        .into()
}

/// The digest of an audit epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditDigest([u8; 32]);

impl AuditDigest {
    /// That of an epoch in which nothing was executed yet.
    pub const EMPTY: Self = Self([0; 32]);

    /// The digest after another command.
    pub fn extend(self, cp_hash: &CpHash, rp_hash: &RpHash) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(cp_hash).chain_update(rp_hash).finalize().into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The digest over a list of audited commands (TPMS_COMMAND_AUDIT_INFO.commandDigest), which TPMs keep in ascending
/// order.
pub fn command_digest(codes: &[CommandCode]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for code in codes {
        hash.update(code.0.to_be_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashAlgorithm;

    // Names and attestations of keys and a counter of swtpm 0.7.1, printed by tpm2-tools 5.4.
    const KEY: &str = "000b783d30cfd6ac5f49cdc75dcdd8deb8c747122ac21259a53028d3c9ff4d696007";
    const AK: &str = "000b0ad053b264008b890d8f449d8de5d05e209067117f2a3417fdb3e16a72ce7e4d";
    const COUNTER: &str = "000bc3cfeeabb89a32c82405b5fa62a5e01e23b6af3ad83904beb0133fb43b8bc242";
    const ATTEST: &str = "ff54434780140022000b282d9db4f9ff941fabaae3acc741f244e076fc9baaeddbda0bbb34be8c6f93f800207171717171717171717171717171717171717171717171717171717171717171000000000000c55165cb2484ede91dc2010ffd7cd63c7b496e0022000bc3cfeeabb89a32c82405b5fa62a5e01e23b6af3ad83904beb0133fb43b8bc242000000080000000000000001";
    const SIGNATURE: &str = "0018000b002008c4f10949f70558f4db36a624c37c43e6d8049f564aaa0b74b8965126edb02d0020164876ab09e8c913759ec8dbd2e26ceff87abcc1ea0e1d17e6b67984aa5765c4";
    /// SHA-256 of "to be signed".
    const DIGEST: &str = "0659a5bb8ea0422fce52c7aa211105989fc9c419af27e37c27b0f0845b95b208";
    /// 32 times `q`.
    const QUALIFYING: [u8; 32] = [0x71; 32];

    fn name(text: &str) -> Name {
        Name::from_bytes(&hex::decode(text).unwrap())
    }

    /// The first is `tpm2_sign --cphash`; the others Python's hashlib over the fields of Part 3, section 20.2, with another
    /// digest or scheme.
    #[test]
    fn cp_hashes_of_sign() {
        let digest = hex::decode(DIGEST).unwrap();
        let long = [0xab; 48];
        for (scheme, digest, cp_hash) in [
            (
                Scheme::Ecdsa(HashAlgorithm::Sha256),
                &digest[..],
                "69c3838222b70e1e9e876256eecaf5e89f4d907082e73aa6897eda434a503bb3",
            ),
            (
                Scheme::Ecdsa(HashAlgorithm::Sha384),
                &long[..],
                "bc6e9148e62af9802ab6d7f39be12821aa230f505615aa645658bc290a17e33a",
            ),
            (
                Scheme::RsaSsa(HashAlgorithm::Sha256),
                &digest[..],
                "559eb43bcb31adfd9dd8c24a07a6f189c9e2c4f92c97b70a075c14a12c9260b8",
            ),
            (
                Scheme::RsaPss(HashAlgorithm::Sha256),
                &digest[..],
                "66a87c737f7092b988f0f115127abadc2d36c39204e0ebc8c8cc64bb79fd03e3",
            ),
            (Scheme::None, &digest[..], "d7fe9a5ec0eedfce33d5a0540c9b3c473dad11866298b181e23675b3543f4188"),
        ] {
            assert_eq!(hex::encode(sign(&name(KEY), digest, scheme)), cp_hash, "{scheme:?}");
            assert_ne!(hex::encode(sign(&name(AK), digest, scheme)), cp_hash, "{scheme:?}");
            assert_ne!(hex::encode(sign(&name(KEY), &digest[1..], scheme)), cp_hash, "{scheme:?}");
        }
    }

    /// `tpm2_nvincrement --cphash`, and hashlib for the two that tpm2-tools sends with a scheme of its own choice.
    #[test]
    fn cp_hashes_of_the_ledger() {
        let (ak, counter) = (name(AK), name(COUNTER));
        for (computed, cp_hash) in [
            (nv_increment(&counter), "be0058be17e6cae0bccf7e772ab01ec9ba6ab0d5b237a3277c67ffa0b173930f"),
            (
                get_command_audit_digest(&ak, &QUALIFYING),
                "61a27118e1e70b46dd5a82f05319a1736a2c953adcbf8338e988aab4daaaece5",
            ),
            (
                nv_certify(&ak, &counter, &QUALIFYING),
                "a9e7378a4392012490a1159c80413e802824ad1cc09096903580cf395f896465",
            ),
        ] {
            assert_eq!(hex::encode(computed), cp_hash);
        }
    }

    /// hashlib over `00000000 || code || parameters`.
    #[test]
    fn rp_hashes() {
        let (attest, signature) = (hex::decode(ATTEST).unwrap(), hex::decode(SIGNATURE).unwrap());
        for (computed, rp_hash) in [
            (signed(&signature), "d543511935b64e1919c26472d7f133bd3a875e76b86568664fe3069786129170"),
            (
                attested(CommandCode::NV_CERTIFY, &attest, &signature),
                "5a35f05247ef74c2f9f68eeeae2ac68930b2708f851e24ac65518699d29c959c",
            ),
            (
                done(CommandCode::NV_INCREMENT),
                "3c228aac88851379497b0aff386c33108d748cb212ab2b0ae5f07a4efaf9c9c2",
            ),
        ] {
            assert_eq!(hex::encode(computed), rp_hash);
        }
    }

    /// What swtpm attested to (`tpm2_getcommandauditdigest`) after one NV_Increment, with NV_Increment and Sign on the list.
    #[test]
    fn an_epoch_is_what_a_tpm_attests_to() {
        let counter = name(COUNTER);
        let one = AuditDigest::EMPTY.extend(&nv_increment(&counter), &done(CommandCode::NV_INCREMENT));
        assert_eq!(
            hex::encode(one.as_bytes()),
            "3d7d4814bfa6d67c0ebaf55e39f9a2716d4d6fa4b35590451280f33b4f4f9e42"
        );
        // And hashlib once more over it.
        let (attest, signature) = (hex::decode(ATTEST).unwrap(), hex::decode(SIGNATURE).unwrap());
        let certified = attested(CommandCode::NV_CERTIFY, &attest, &signature);
        let two = one.extend(&nv_certify(&name(AK), &counter, &QUALIFYING), &certified);
        assert_eq!(
            hex::encode(two.as_bytes()),
            "0e40a301a89de369b87d8c67ba06ae680d0704058f7b9a8cf1cc24ddae0594f0"
        );
        let list = [CommandCode::NV_INCREMENT, CommandCode(0x140), CommandCode::SIGN];
        assert_eq!(
            hex::encode(command_digest(&list)),
            "88957763a76db91fc872567c1278f6e798a2096f8c30e8debcf3875e6c88fd21"
        );
    }

    #[test]
    fn what_is_audited_is_in_order_and_holds_what_is_required() {
        assert!(CommandCode::AUDITED.is_sorted_by(|a, b| a < b));
        for code in CommandCode::REQUIRED {
            assert!(CommandCode::AUDITED.contains(&code), "{:#x}", code.0);
        }
    }
}
