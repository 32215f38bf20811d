//! Attestation keys of tokens, and how a party other than the CA comes to know them (`docs/keys.md`).

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::Error;

/// Where a TPM's attestation key is, and what others say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationPlace {
    /// The persistent handle.
    pub handle: u32,
    /// The file that `undercroft keys activate` wrote. It is read each time that evidence is collected.
    pub activation: Option<PathBuf>,
}

/// An endorsement key, as its TPM gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// The DER of its certificate, and of those that the TPM has besides it.
    pub chain: Vec<Vec<u8>>,
}

/// A token with an endorsement key, beside which an attestation key can be shown to live.
#[async_trait]
pub trait Activate: fmt::Debug + Send + Sync {
    /// The attestation key's TPMT_PUBLIC. It is made if there is nothing at its place.
    ///
    /// # Errors
    /// `Denied` if something else is there.
    async fn attestation_key(&self) -> Result<Vec<u8>, Error>;

    /// The endorsement keys that have a certificate, each with those that the token has besides it.
    ///
    /// # Errors
    /// The token does not answer, or an endorsement key is not where its certificate says.
    async fn endorsements(&self) -> Result<Vec<EndorsementKey>, Error>;

    /// The secret in a credential (the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET) that was made for this
    /// attestation key and this endorsement key.
    ///
    /// # Errors
    /// `Denied` if it was made for others.
    async fn activate(
        &self,
        endorsement: &EndorsementKey,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, Error>;
}
