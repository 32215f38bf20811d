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
