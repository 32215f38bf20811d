//! TPMS_ATTEST (Part 2, section 10.12.8): what a TPM says of itself, signed by a key that signs nothing else.

use crate::command::CommandCode;
use crate::wire::{Reader, WireError};
use crate::{HashAlgorithm, Name};

/// TPM_GENERATED_VALUE: a restricted key refuses to sign anything from outside that begins so.
const GENERATED: u32 = 0xff54_4347;
/// The longest Name: nameAlg and SHA-512.
const MAX_NAME: usize = 66;
/// The longest qualifying data.
const MAX_DATA: usize = 66;
const ST_ATTEST_NV: u16 = 0x8014;
const ST_ATTEST_COMMAND_AUDIT: u16 = 0x8015;

/// What a TPM attests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// The qualified Name of the key that signs.
    pub signer: Name,
    /// What whoever asked wanted to see in it.
    pub qualifying: Vec<u8>,
    /// Milliseconds that the TPM has been powered since it was last cleared.
    pub clock: u64,
    /// How often the TPM was reset, plus a number that only the signing key's hierarchy and Name decide.
    pub resets: u32,
    /// How often it was restarted or resumed since the last reset, plus another such number.
    pub restarts: u32,
    /// What it says.
    pub attested: Attested,
}

/// The part that depends on the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// TPMS_COMMAND_AUDIT_INFO.
    CommandAudit {
        /// The number of the epoch. Each audited command that begins one counts it up.
        epoch: u64,
        /// The digest over its commands; none if the TPM was reset and has executed none since.
        digest: Option<[u8; 32]>,
        /// The digest over the list of audited commands.
        commands: [u8; 32],
    },
    /// TPMS_NV_CERTIFY_INFO of a whole counter.
    Counter {
        /// The Name of its index.
        index: Name,
        /// Its value.
        value: u64,
    },
}

impl Attest {
    /// Parses a TPMS_ATTEST.
    ///
    /// # Errors
    /// Everything that is not exactly one of a kind that we ask for.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u32("TPMS_ATTEST.magic")? {
            GENERATED => {}
            value => return Err(WireError::Unknown { field: "TPMS_ATTEST.magic", value }),
        }
        let kind = reader.u16("TPMS_ATTEST.type")?;
        let signer = Name::from_bytes(reader.buffer(MAX_NAME, "TPMS_ATTEST.qualifiedSigner")?);
        let qualifying = reader.buffer(MAX_DATA, "TPMS_ATTEST.extraData")?.to_vec();
        let clock = reader.u64("TPMS_CLOCK_INFO.clock")?;
        let resets = reader.u32("TPMS_CLOCK_INFO.resetCount")?;
        let restarts = reader.u32("TPMS_CLOCK_INFO.restartCount")?;
        match reader.u8("TPMS_CLOCK_INFO.safe")? {
            0 | 1 => {}
            _ => return Err(WireError::NotCanonical("TPMS_CLOCK_INFO.safe")),
        }
        reader.u64("TPMS_ATTEST.firmwareVersion")?;
        let attested = match kind {
            ST_ATTEST_COMMAND_AUDIT => Attested::command_audit(&mut reader)?,
            ST_ATTEST_NV => Attested::counter(&mut reader)?,
            value => return Err(WireError::Unknown { field: "TPMS_ATTEST.type", value: value.into() }),
        };
        reader.end()?;
        Ok(Self { signer, qualifying, clock, resets, restarts, attested })
    }
}

impl Attested {
    fn command_audit(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let epoch = reader.u64("TPMS_COMMAND_AUDIT_INFO.auditCounter")?;
        let field = "TPMS_COMMAND_AUDIT_INFO.digestAlg";
        let algorithm = reader.u16(field)?;
        if HashAlgorithm::from_id(algorithm, field)? != HashAlgorithm::Sha256 {
            return Err(WireError::Unknown { field, value: algorithm.into() });
        }
        let digest = match reader.buffer(32, "TPMS_COMMAND_AUDIT_INFO.auditDigest")? {
            [] => None,
            digest => {
                let whole = digest.try_into();
                Some(whole.map_err(|_| WireError::NotCanonical("TPMS_COMMAND_AUDIT_INFO.auditDigest"))?)
            }
        };
        let commands = reader.digest("TPMS_COMMAND_AUDIT_INFO.commandDigest")?;
        Ok(Self::CommandAudit { epoch, digest, commands })
    }

    fn counter(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let index = Name::from_bytes(reader.buffer(MAX_NAME, "TPMS_NV_CERTIFY_INFO.indexName")?);
        match reader.u16("TPMS_NV_CERTIFY_INFO.offset")? {
            0 => {}
            _ => return Err(WireError::NotCanonical("TPMS_NV_CERTIFY_INFO.offset")),
        }
        let mut contents = Reader::new(reader.buffer(8, "TPMS_NV_CERTIFY_INFO.nvContents")?);
        let value = contents.u64("TPMS_NV_CERTIFY_INFO.nvContents")?;
        Ok(Self::Counter { index, value })
    }
}

/// A list of audited commands as a TPM gave it: ascending, none twice.
///
/// # Errors
/// It is not so.
pub fn audited_commands(codes: &[u32]) -> Result<Vec<CommandCode>, WireError> {
    if !codes.is_sorted_by(|a, b| a < b) {
        return Err(WireError::NotCanonical("the list of audited commands"));
    }
    Ok(codes.iter().copied().map(CommandCode).collect())
}

/// TPMS_NV_PUBLIC (Part 2, section 13.6) of a counter, and its Name.
pub mod counter {
    use sha2::{Digest as _, Sha256};

    use crate::Name;

    /// TPMA_NV: counter, written, and used by its own authValue, which dictionary attacks do not lock.
    pub const ATTRIBUTES: u32 = AUTHWRITE | COUNTER | AUTHREAD | NO_DA | WRITTEN;
    const AUTHWRITE: u32 = 1 << 2;
    const COUNTER: u32 = 1 << 4;
    const AUTHREAD: u32 = 1 << 18;
    const NO_DA: u32 = 1 << 25;
    /// Set by the first increment.
    pub const WRITTEN: u32 = 1 << 29;

    /// The Name of a counter of ours at `index`: nothing but the index decides it.
    pub fn name(index: u32) -> Name {
        let mut public = index.to_be_bytes().to_vec();
        public.extend(0x000b_u16.to_be_bytes());
        public.extend(ATTRIBUTES.to_be_bytes());
        public.extend(0u16.to_be_bytes());
        public.extend(8u16.to_be_bytes());
        let mut name = 0x000b_u16.to_be_bytes().to_vec();
        name.extend(Sha256::digest(&public));
        Name::from_bytes(&name)
    }
}
