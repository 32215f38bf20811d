//! TPMS_CREATION_DATA (Part 2, section 15.1): under which circumstances a TPM made an object.

use crate::HashAlgorithm;
use crate::pcr::PcrSelection;
use crate::wire::{Reader, WireError, push_buffer};

const ALG_NULL: u16 = 0x0010;

/// What a TPM says of the making of an object. Its hash stands in what TPM2_CertifyCreation signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationData {
    /// The PCRs that are in the digest; maybe none.
    pub selection: PcrSelection,
    /// The digest over them, by the object's nameAlg.
    pub digest: Vec<u8>,
    /// The locality at which it was made, as TPMA_LOCALITY.
    pub locality: u8,
    /// The nameAlg of the parent; none for primary objects.
    pub parent_algorithm: Option<HashAlgorithm>,
    /// The Name of the parent: for primary objects, the handle of the hierarchy.
    pub parent: Vec<u8>,
    /// The qualified Name of the parent.
    pub parent_qualified: Vec<u8>,
    /// What whoever had it made wanted to see in it.
    pub outside: Vec<u8>,
}

impl CreationData {
    /// Parses a TPMS_CREATION_DATA.
    ///
    /// # Errors
    /// Everything that is not exactly one.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let selection = PcrSelection::read(&mut reader)?;
        let digest = reader.buffer(64, "TPMS_CREATION_DATA.pcrDigest")?.to_vec();
        let locality = reader.u8("TPMS_CREATION_DATA.locality")?;
        let field = "TPMS_CREATION_DATA.parentNameAlg";
        let parent_algorithm = match reader.u16(field)? {
            ALG_NULL => None,
            id => Some(HashAlgorithm::from_id(id, field)?),
        };
        let parent = reader.buffer(66, "TPMS_CREATION_DATA.parentName")?.to_vec();
        let parent_qualified = reader.buffer(66, "TPMS_CREATION_DATA.parentQualifiedName")?.to_vec();
        let outside = reader.buffer(66, "TPMS_CREATION_DATA.outsideInfo")?.to_vec();
        reader.end()?;
        Ok(Self { selection, digest, locality, parent_algorithm, parent, parent_qualified, outside })
    }

    /// The TPMS_CREATION_DATA as a TPM encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.selection.encode();
        push_buffer(&mut out, &self.digest);
        out.push(self.locality);
        out.extend(self.parent_algorithm.map_or(ALG_NULL, HashAlgorithm::id).to_be_bytes());
        [&self.parent, &self.parent_qualified, &self.outside]
            .into_iter()
            .for_each(|field| push_buffer(&mut out, field));
        out
    }
}

#[cfg(test)]
mod tests;
