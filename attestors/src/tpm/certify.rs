//! TPM2_Certify: an attestation key says that a key is loaded in its TPM, and which attributes it has.

use sha2::{Digest as _, Sha256};
use undercroft_tpm_wire::attest::{Attest, Attested};
use undercroft_tpm_wire::{ObjectAttributes, PublicArea};

use super::attestation_key::{self, AttestationKeyError};

/// What the hash in extraData begins with, so that no other attestation of ours is ever taken for one of custody.
const CONTEXT: &[u8] = b"undercroft custody v1\n";

/// What a key that stays in its TPM and signs is.
const REQUIRED: [(u32, &str); 4] = [
    (ObjectAttributes::FIXED_TPM, "fixedTPM"),
    (ObjectAttributes::FIXED_PARENT, "fixedParent"),
    (ObjectAttributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (ObjectAttributes::SIGN, "sign"),
];

/// The extraData of an attestation to custody that answers `challenge`.
pub fn qualifying(challenge: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix(CONTEXT).chain_update(challenge).finalize().into()
}

/// Checks that a key's attributes hold it in its TPM, as a key that signs and does nothing else.
///
/// # Errors
/// One is missing, or one is set that allows for more.
pub fn is_held(area: &PublicArea) -> Result<(), CertifyError> {
    if let Some((_, missing)) = REQUIRED.iter().find(|(bit, _)| !area.attributes.has(*bit)) {
        return Err(CertifyError::Lacks(missing));
    }
    if area.attributes.has(ObjectAttributes::RESTRICTED) {
        return Err(CertifyError::Excess("restricted: an attestation key is no CA's"));
    }
    if area.attributes.has(ObjectAttributes::DECRYPT) {
        return Err(CertifyError::Excess("decrypt"));
    }
    Ok(())
}

/// Checks that the attestation key of `signer` attests to the key of `area` in answer to `challenge`.
///
/// # Errors
/// See [`CertifyError`].
pub fn verify(
    signer: &PublicArea,
    area: &PublicArea,
    challenge: &[u8; 32],
    attest: &[u8],
    signature: &[u8],
) -> Result<(), CertifyError> {
    attestation_key::check(signer)?;
    attestation_key::verify(signer, attest, signature)?;
    let attest = Attest::parse(attest).map_err(|error| CertifyError::Attest(error.to_string()))?;
    let Attested::Certify { name, .. } = &attest.attested else { return Err(CertifyError::Kind) };
    if attest.qualifying != qualifying(challenge) {
        return Err(CertifyError::Qualifying);
    }
    if *name != area.name() {
        return Err(CertifyError::Name);
    }
    is_held(area)
}

/// Why an attestation does not show that a key lives in the TPM of its signer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertifyError {
    /// The attestation key is none, or did not sign.
    #[error(transparent)]
    Signer(#[from] AttestationKeyError),
    /// No TPMS_ATTEST.
    #[error("what the attestation key signed is no attestation: {0}")]
    Attest(String),
    /// Another kind of attestation.
    #[error("the attestation is of another kind than TPM2_Certify")]
    Kind,
    /// Another purpose, or another challenge.
    #[error("the attestation was made for another purpose or in answer to another challenge (extraData)")]
    Qualifying,
    /// Another key.
    #[error("the attestation is about a key of another Name")]
    Name,
    /// An attribute is missing.
    #[error(
        "the key is not {0}: a key that stays in its TPM is fixedTPM, fixedParent, sensitiveDataOrigin and sign alone"
    )]
    Lacks(&'static str),
    /// An attribute too many.
    #[error("the key is {0}")]
    Excess(&'static str),
}

#[cfg(test)]
mod tests;
