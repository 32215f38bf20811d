//! TPML_PCR_SELECTION (Part 2, section 10.9.7) and TPML_DIGEST (section 10.9.3).

use crate::HashAlgorithm;
use crate::wire::{Reader, WireError, push_buffer};

/// PCRs 0 to 23, as on every PC (TCG PC Client Platform TPM Profile, section 4.6).
pub const PCRS: u8 = 24;
/// As many banks as there are hashes.
const MAX_BANKS: u32 = 3;
/// A TPML_DIGEST has eight at the most; what TPM2_PCR_Read gives is put together of several.
const MAX_DIGESTS: u32 = 8;

/// Which PCRs: each bank once, in the order in which the TPM hashes them, and with at least one PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection(Vec<(HashAlgorithm, u32)>);

impl PcrSelection {
    /// These PCRs of one bank. Nothing if there is none, or one that no TPM has.
    pub fn of(bank: HashAlgorithm, pcrs: &[u8]) -> Option<Self> {
        let bits = pcrs.iter().try_fold(0, |bits, pcr| (*pcr < PCRS).then(|| bits | 1u32 << pcr))?;
        (bits != 0).then(|| Self(vec![(bank, bits)]))
    }

    /// These PCRs of several banks, in this order. Nothing if a bank stands there twice or with no PCR, or there is none.
    pub fn of_banks(banks: impl IntoIterator<Item = (HashAlgorithm, Vec<u8>)>) -> Option<Self> {
        let mut selected: Vec<(HashAlgorithm, u32)> = Vec::new();
        for (bank, pcrs) in banks {
            let one = Self::of(bank, &pcrs)?;
            if selected.iter().any(|(known, _)| *known == bank) {
                return None;
            }
            selected.extend(one.0);
        }
        (!selected.is_empty()).then_some(Self(selected))
    }

    /// Parses a TPML_PCR_SELECTION.
    ///
    /// # Errors
    /// It is none, selects nothing, names a bank twice or an empty one, or a bank of a hash that we do not take.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let read = Self::read(&mut reader)?;
        reader.end()?;
        match read.is_empty() {
            true => Err(WireError::NotCanonical("TPML_PCR_SELECTION")),
            false => Ok(read),
        }
    }

    /// One that may be empty, as in creation data and in quotes of nothing.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.u32("TPML_PCR_SELECTION.count")?;
        if count > MAX_BANKS {
            return Err(WireError::Unknown { field: "TPML_PCR_SELECTION.count", value: count });
        }
        let mut banks: Vec<(HashAlgorithm, u32)> = Vec::new();
        for _ in 0..count {
            let field = "TPMS_PCR_SELECTION.hash";
            let bank = HashAlgorithm::from_id(reader.u16(field)?, field)?;
            if reader.u8("TPMS_PCR_SELECTION.sizeofSelect")? != PCRS / 8 {
                return Err(WireError::NotCanonical("TPMS_PCR_SELECTION.sizeofSelect"));
            }
            let mut bits = 0;
            for byte in 0..PCRS / 8 {
                bits |= u32::from(reader.u8("TPMS_PCR_SELECTION.pcrSelect")?) << (8 * byte);
            }
            // With a bank twice, whoever asks decides which value is which (CVE-2024-29039).
            if bits == 0 || banks.iter().any(|(known, _)| *known == bank) {
                return Err(WireError::NotCanonical("TPMS_PCR_SELECTION"));
            }
            banks.push((bank, bits));
        }
        Ok(Self(banks))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.0.len() as u32).to_be_bytes());
        for (bank, bits) in &self.0 {
            out.extend(bank.id().to_be_bytes());
            out.push(PCRS / 8);
            out.extend(&bits.to_le_bytes()[..usize::from(PCRS / 8)]);
        }
    }

    /// The TPML_PCR_SELECTION as a TPM encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Whether it selects nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The PCRs in the order in which their values are hashed: bank after bank, ascending in each.
    pub fn iter(&self) -> impl Iterator<Item = (HashAlgorithm, u8)> {
        let each = |(bank, bits): &(HashAlgorithm, u32)| {
            let (bank, bits) = (*bank, *bits);
            (0..PCRS).filter(move |pcr| bits >> pcr & 1 == 1).map(move |pcr| (bank, pcr))
        };
        self.0.iter().flat_map(each)
    }
}

/// Parses a TPML_DIGEST.
///
/// # Errors
/// It is none, has more than eight digests, or one longer than any.
pub fn digests(bytes: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32("TPML_DIGEST.count")?;
    if count > MAX_DIGESTS {
        return Err(WireError::Unknown { field: "TPML_DIGEST.count", value: count });
    }
    let read = (0..count).map(|_| reader.buffer(64, "TPM2B_DIGEST").map(<[u8]>::to_vec));
    let digests = read.collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(digests)
}

/// The TPML_DIGEST of some digests.
pub fn encode_digests(digests: &[Vec<u8>]) -> Vec<u8> {
    let mut out = (digests.len() as u32).to_be_bytes().to_vec();
    digests.iter().for_each(|digest| push_buffer(&mut out, digest));
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(text: &str) -> Result<PcrSelection, WireError> {
        PcrSelection::parse(&hex::decode(text).unwrap())
    }

    #[test]
    fn pcrs_are_bits_from_the_least_of_the_first_byte() {
        // tpm2_pcrread of swtpm prints sha256: 0, 7, 23 for this.
        let read = selection("00000001000b03810080").unwrap();
        assert_eq!(read.iter().map(|(_, pcr)| pcr).collect::<Vec<_>>(), [0, 7, 23]);
        assert_eq!(PcrSelection::of(HashAlgorithm::Sha256, &[23, 7, 0]), Some(read));
        assert_eq!(PcrSelection::of(HashAlgorithm::Sha256, &[24]), None);
        assert_eq!(PcrSelection::of(HashAlgorithm::Sha256, &[]), None);
    }

    #[test]
    fn selections_that_are_refused() {
        for (text, why) in [
            ("00000000", "nothing"),
            ("00000001000b03000000", "an empty bank"),
            ("00000001000403800000", "SHA-1"),
            ("00000001000b0180", "one byte"),
            ("00000001000b0480000000", "four bytes"),
            ("00000002000b03800000000b03008000", "a bank twice"),
            ("00000002000b03800000000b03800000", "a bank twice, the same"),
            ("00000002000b03800000", "cut off"),
            ("00000001000b0380000000", "more"),
            ("ffffffff", "as many banks as there are numbers"),
        ] {
            assert!(selection(text).is_err(), "{why}");
        }
        assert!(digests(&[0, 0, 0, 9]).is_err());
        assert!(digests(&[0, 0, 0, 1, 0, 65]).is_err());
        assert!(digests(&[0, 0, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_encoded_so(bytes in prop::collection::vec(any::<u8>(), 0..40), at in 0..18usize, to in any::<u8>()) {
            let mut whole = hex::decode("00000002000b03810080000c03000001").unwrap();
            whole.get_mut(at).into_iter().for_each(|byte| *byte = to);
            for bytes in [&bytes, &whole] {
                if let Ok(read) = PcrSelection::parse(bytes) {
                    prop_assert_eq!(&read.encode(), bytes);
                }
                if let Ok(read) = digests(bytes) {
                    prop_assert_eq!(&encode_digests(&read), bytes);
                }
            }
        }
    }
}
