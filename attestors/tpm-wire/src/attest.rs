//! TPMS_ATTEST (Part 2, section 10.12.8): what a TPM says of itself, signed by a key that signs nothing else.

use crate::command::CommandCode;
use crate::pcr::PcrSelection;
use crate::wire::{Reader, WireError, push_buffer};
use crate::{HashAlgorithm, Name};

/// TPM_GENERATED_VALUE: a restricted key refuses to sign anything from outside that begins so.
const GENERATED: u32 = 0xff54_4347;
/// The longest Name: nameAlg and SHA-512.
const MAX_NAME: usize = 66;
/// The longest qualifying data.
const MAX_DATA: usize = 66;
const ST_ATTEST_NV: u16 = 0x8014;
const ST_ATTEST_COMMAND_AUDIT: u16 = 0x8015;
const ST_ATTEST_CERTIFY: u16 = 0x8017;
const ST_ATTEST_QUOTE: u16 = 0x8018;
const ST_ATTEST_CREATION: u16 = 0x801a;

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
    /// Whether no value of `clock` was ever given before that is as high.
    pub safe: bool,
    /// The version of the TPM's firmware, plus a number as with `resets`.
    pub firmware: u64,
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
    /// TPMS_CERTIFY_INFO: an object with this Name is loaded in the TPM.
    Certify {
        /// The Name of the object.
        name: Name,
        /// Its qualified Name: that of its parent and its own.
        qualified: Name,
    },
    /// TPMS_QUOTE_INFO.
    Quote {
        /// The PCRs that are in the digest; maybe none.
        selection: PcrSelection,
        /// The digest over their values, by the hash of the signature.
        digest: Vec<u8>,
    },
    /// TPMS_CREATION_INFO: an object with this Name was made in the TPM.
    Creation {
        /// The Name of the object.
        name: Name,
        /// The digest of its TPMS_CREATION_DATA, by the object's nameAlg.
        digest: Vec<u8>,
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
        let safe = match reader.u8("TPMS_CLOCK_INFO.safe")? {
            0 => false,
            1 => true,
            _ => return Err(WireError::NotCanonical("TPMS_CLOCK_INFO.safe")),
        };
        let firmware = reader.u64("TPMS_ATTEST.firmwareVersion")?;
        let attested = match kind {
            ST_ATTEST_COMMAND_AUDIT => Attested::command_audit(&mut reader)?,
            ST_ATTEST_NV => Attested::counter(&mut reader)?,
            ST_ATTEST_CERTIFY => Attested::Certify {
                name: Name::from_bytes(reader.buffer(MAX_NAME, "TPMS_CERTIFY_INFO.name")?),
                qualified: Name::from_bytes(reader.buffer(MAX_NAME, "TPMS_CERTIFY_INFO.qualifiedName")?),
            },
            ST_ATTEST_QUOTE => Attested::Quote {
                selection: PcrSelection::read(&mut reader)?,
                digest: reader.buffer(64, "TPMS_QUOTE_INFO.pcrDigest")?.to_vec(),
            },
            ST_ATTEST_CREATION => Attested::Creation {
                name: Name::from_bytes(reader.buffer(MAX_NAME, "TPMS_CREATION_INFO.objectName")?),
                digest: reader.buffer(64, "TPMS_CREATION_INFO.creationHash")?.to_vec(),
            },
            value => return Err(WireError::Unknown { field: "TPMS_ATTEST.type", value: value.into() }),
        };
        reader.end()?;
        let attest = Self { signer, qualifying, clock, resets, restarts, safe, firmware, attested };
        match attest.encode() == bytes {
            true => Ok(attest),
            false => Err(WireError::NotCanonical("TPMS_ATTEST")),
        }
    }

    /// The TPMS_ATTEST as a TPM encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = GENERATED.to_be_bytes().to_vec();
        out.extend(self.attested.kind().to_be_bytes());
        push_buffer(&mut out, self.signer.as_bytes());
        push_buffer(&mut out, &self.qualifying);
        out.extend(self.clock.to_be_bytes());
        out.extend(self.resets.to_be_bytes());
        out.extend(self.restarts.to_be_bytes());
        out.push(self.safe.into());
        out.extend(self.firmware.to_be_bytes());
        self.attested.write(&mut out);
        out
    }
}

impl Attested {
    fn kind(&self) -> u16 {
        match self {
            Self::CommandAudit { .. } => ST_ATTEST_COMMAND_AUDIT,
            Self::Counter { .. } => ST_ATTEST_NV,
            Self::Certify { .. } => ST_ATTEST_CERTIFY,
            Self::Quote { .. } => ST_ATTEST_QUOTE,
            Self::Creation { .. } => ST_ATTEST_CREATION,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::CommandAudit { epoch, digest, commands } => {
                out.extend(epoch.to_be_bytes());
                out.extend(HashAlgorithm::Sha256.id().to_be_bytes());
                push_buffer(out, digest.as_ref().map_or(&[], |digest| &digest[..]));
                push_buffer(out, commands);
            }
            Self::Counter { index, value } => {
                push_buffer(out, index.as_bytes());
                out.extend(0u16.to_be_bytes());
                push_buffer(out, &value.to_be_bytes());
            }
            Self::Certify { name, qualified } => {
                push_buffer(out, name.as_bytes());
                push_buffer(out, qualified.as_bytes());
            }
            Self::Quote { selection, digest } => {
                selection.write(out);
                push_buffer(out, digest);
            }
            Self::Creation { name, digest } => {
                push_buffer(out, name.as_bytes());
                push_buffer(out, digest);
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // swtpm 0.7.1, by tpm2-tools 5.4: `tpm2_nvcertify` of a counter as ours, and `tpm2_getcommandauditdigest` of an epoch
    // with one command and of one with none.
    const COUNTER: &str = "ff54434780140022000b282d9db4f9ff941fabaae3acc741f244e076fc9baaeddbda0bbb34be8c6f93f800207171717171717171717171717171717171717171717171717171717171717171000000000000c55165cb2484ede91dc2010ffd7cd63c7b496e0022000bc3cfeeabb89a32c82405b5fa62a5e01e23b6af3ad83904beb0133fb43b8bc242000000080000000000000001";
    const EPOCH: &str = "ff54434780150022000b282d9db4f9ff941fabaae3acc741f244e076fc9baaeddbda0bbb34be8c6f93f800207171717171717171717171717171717171717171717171717171717171717171000000000001490e65cb2484ede91dc2010ffd7cd63c7b496e0000000000000002000b00203d7d4814bfa6d67c0ebaf55e39f9a2716d4d6fa4b35590451280f33b4f4f9e42002088957763a76db91fc872567c1278f6e798a2096f8c30e8debcf3875e6c88fd21";
    const EMPTY_EPOCH: &str = "ff54434780150022000b282d9db4f9ff941fabaae3acc741f244e076fc9baaeddbda0bbb34be8c6f93f800207171717171717171717171717171717171717171717171717171717171717171000000000001496565cb2484ede91dc2010ffd7cd63c7b496e0000000000000002000b0000002088957763a76db91fc872567c1278f6e798a2096f8c30e8debcf3875e6c88fd21";
    const SIGNER: &str = "000b282d9db4f9ff941fabaae3acc741f244e076fc9baaeddbda0bbb34be8c6f93f8";
    /// TPMS_ATTEST before what depends on the command: magic, type, signer, 32 bytes of qualifying data, clock, version.
    const HEAD: usize = 4 + 2 + 2 + 34 + 2 + 32 + 17 + 8;
    /// Where TPMS_CLOCK_INFO.safe stands.
    const SAFE: usize = HEAD - 9;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn what_a_tpm_attests_to_is_read() {
        let counter = Attest::parse(&bytes(COUNTER)).unwrap();
        assert_eq!(counter.signer.to_string(), SIGNER);
        assert_eq!(counter.qualifying, [0x71; 32]);
        assert_eq!(
            counter.attested,
            // The Name by tpm2_nvreadpublic.
            Attested::Counter { index: super::counter::name(0x0180_0010), value: 1 }
        );
        let Attested::CommandAudit { epoch, digest, commands } =
            Attest::parse(&bytes(EPOCH)).unwrap().attested
        else {
            panic!("no command audit")
        };
        let digest = digest.map(hex::encode);
        assert_eq!(epoch, 2);
        assert_eq!(
            digest.as_deref(),
            Some("3d7d4814bfa6d67c0ebaf55e39f9a2716d4d6fa4b35590451280f33b4f4f9e42")
        );
        let list = [CommandCode::NV_INCREMENT, CommandCode(0x140), CommandCode::SIGN];
        assert_eq!(commands, crate::command::command_digest(&list));
        let empty = Attest::parse(&bytes(EMPTY_EPOCH)).unwrap();
        assert_eq!(empty.attested, Attested::CommandAudit { epoch, digest: None, commands });
        let clocks = [&counter, &empty].map(|attest| (attest.resets, attest.restarts));
        assert_eq!(clocks[0], clocks[1]);
        assert!(counter.clock < empty.clock);
    }

    #[test]
    fn the_name_of_a_counter_is_that_of_its_index() {
        assert_eq!(
            super::counter::name(0x0180_0010).to_string(),
            "000bc3cfeeabb89a32c82405b5fa62a5e01e23b6af3ad83904beb0133fb43b8bc242"
        );
        assert_ne!(super::counter::name(0x0180_0010), super::counter::name(0x0180_0011));
    }

    #[test]
    fn what_is_cut_off_or_has_more_is_refused() {
        for text in [COUNTER, EPOCH, EMPTY_EPOCH] {
            let whole = bytes(text);
            for length in 0..whole.len() {
                let refused = Attest::parse(&whole[..length]);
                assert!(matches!(refused, Err(WireError::Truncated(_))), "{length}: {refused:?}");
            }
            for more in [&[0][..], &[0; 64], &whole] {
                let refused = Attest::parse(&[&whole, more].concat());
                assert_eq!(refused, Err(WireError::Trailing(more.len())));
            }
        }
    }

    #[test]
    fn what_no_tpm_of_ours_says_is_refused_by_field() {
        let changed = |text: &str, at: usize, to: &[u8]| {
            let mut bytes = bytes(text);
            bytes[at..at + to.len()].copy_from_slice(to);
            Attest::parse(&bytes).unwrap_err()
        };
        let unknown = |field, value| WireError::Unknown { field, value };
        for (refused, expected) in [
            (changed(COUNTER, 0, &[0xfe]), unknown("TPMS_ATTEST.magic", 0xfe54_4347)),
            (changed(COUNTER, 0, &[0; 4]), unknown("TPMS_ATTEST.magic", 0)),
            // Times and the rest; and each of ours read as another.
            (changed(COUNTER, 4, &[0x80, 0x19]), unknown("TPMS_ATTEST.type", 0x8019)),
            (changed(COUNTER, 4, &[0x80, 0x16]), unknown("TPMS_ATTEST.type", 0x8016)),
            // The offset of a counter reads as an empty Name, and its size and contents are behind that.
            (changed(COUNTER, 4, &[0x80, 0x17]), WireError::Trailing(10)),
            (changed(COUNTER, 4, &[0, 0]), unknown("TPMS_ATTEST.type", 0)),
            (changed(EPOCH, 4, &[0x80, 0x14]), WireError::Truncated("TPMS_NV_CERTIFY_INFO.nvContents")),
            (changed(COUNTER, SAFE, &[2]), WireError::NotCanonical("TPMS_CLOCK_INFO.safe")),
            (changed(COUNTER, SAFE, &[0xff]), WireError::NotCanonical("TPMS_CLOCK_INFO.safe")),
            (
                changed(COUNTER, 6, &[0, 67]),
                WireError::TooLong { field: "TPMS_ATTEST.qualifiedSigner", length: 67, limit: 66 },
            ),
            (
                changed(COUNTER, 42, &[0xff, 0xff]),
                WireError::TooLong { field: "TPMS_ATTEST.extraData", length: 65_535, limit: 66 },
            ),
            (changed(COUNTER, HEAD + 36, &[0, 1]), WireError::NotCanonical("TPMS_NV_CERTIFY_INFO.offset")),
            (changed(COUNTER, HEAD + 38, &[0, 7]), WireError::Truncated("TPMS_NV_CERTIFY_INFO.nvContents")),
            (
                changed(COUNTER, HEAD + 38, &[0, 9]),
                WireError::TooLong { field: "TPMS_NV_CERTIFY_INFO.nvContents", length: 9, limit: 8 },
            ),
            // SHA-1, which is no hash to us, and those that no ledger of ours uses.
            (changed(EPOCH, HEAD + 8, &[0, 4]), unknown("TPMS_COMMAND_AUDIT_INFO.digestAlg", 4)),
            (changed(EPOCH, HEAD + 8, &[0, 0xc]), unknown("TPMS_COMMAND_AUDIT_INFO.digestAlg", 0xc)),
            (changed(EPOCH, HEAD + 8, &[0, 0xd]), unknown("TPMS_COMMAND_AUDIT_INFO.digestAlg", 0xd)),
            (
                changed(EPOCH, HEAD + 10, &[0, 31]),
                WireError::NotCanonical("TPMS_COMMAND_AUDIT_INFO.auditDigest"),
            ),
            (
                changed(EPOCH, HEAD + 10, &[0, 33]),
                WireError::TooLong { field: "TPMS_COMMAND_AUDIT_INFO.auditDigest", length: 33, limit: 32 },
            ),
            (
                changed(EMPTY_EPOCH, HEAD + 12, &[0, 0]),
                WireError::NotCanonical("TPMS_COMMAND_AUDIT_INFO.commandDigest"),
            ),
        ] {
            assert_eq!(refused, expected);
        }
        // A clock that is not safe is said so by the TPM, and no reason to refuse what it says.
        let mut safe = bytes(COUNTER);
        safe[SAFE] ^= 1;
        assert!(Attest::parse(&safe).is_ok());
    }

    #[test]
    fn the_list_of_audited_commands_ascends() {
        assert_eq!(audited_commands(&[]), Ok(Vec::new()));
        assert_eq!(audited_commands(&[1, 3]), Ok(vec![CommandCode(1), CommandCode(3)]));
        for wrong in [&[3, 1][..], &[1, 1], &[1, 3, 2]] {
            assert!(audited_commands(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), keep in 0..180usize) {
            if let Ok(attest) = Attest::parse(&tail) {
                prop_assert_eq!(attest.encode(), &tail[..]);
            }
            for text in [COUNTER, EPOCH] {
                let whole = bytes(text);
                let _ = Attest::parse(&[&whole[..keep.min(whole.len())], &tail[..]].concat());
            }
        }
    }
}
