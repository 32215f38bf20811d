//! Nodes that attest with a TPM, in steps that nobody can leave out (`docs/attestation.md`):
//! [`Policy::endorse`], [`Genuine::candidate`], [`Candidate::activated`] or [`Candidate::recalled`], [`Bound::quoted`],
//! [`Quoted::certified`] or [`Quoted::certified_at_creation`], which end in [`Attested`].

mod attested;
mod candidate;
mod policy;
mod quote;
mod refusal;

pub use attested::{Assurance, Attested, Certification, Creation};
pub use candidate::{Binding, Bound, Candidate, Genuine};
pub use policy::{Maker, Policy, TpmClass, TpmId, WeakFirmware, WeakKeys, known_weak_firmware};
pub use quote::{Clock, Quote, Quoted, Since};
pub(crate) use refusal::of_attest_code;
pub use refusal::{Code, Refusal};

use sha2::{Digest as _, Sha256};

/// What an attestation key signs for, or a key is created for, in the exchange of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// TPM2_Quote.
    Quote,
    /// TPM2_Certify and TPM2_CertifyCreation of the certificate's key.
    Key,
    /// outsideInfo of TPM2_Create.
    Creation,
}

impl Purpose {
    /// The extraData, or outsideInfo, in an exchange whose transcript has this hash.
    pub fn qualifying(self, transcript: &[u8; 32]) -> [u8; 32] {
        let context: &[u8] = match self {
            Self::Quote => b"undercroft node quote v1\n",
            Self::Key => b"undercroft node key v1\n",
            Self::Creation => b"undercroft node creation v1\n",
        };
        Sha256::new_with_prefix(context).chain_update(transcript).finalize().into()
    }
}
