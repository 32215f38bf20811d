//! What a node and Undercroft say to each other when the node attests (`docs/attestation.md`, "The exchange").
//!
//! Each message is one JSON object, carried as opaque bytes: both sides hash it as it was sent. Bytes inside are base64 with padding.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use undercroft_log::leaf::{Base64Bytes, Digest};
use undercroft_tpm_wire::HashAlgorithm;
use undercroft_tpm_wire::pcr::PcrSelection;

/// The most bytes of a message.
pub const MAX_MESSAGE: usize = 2 * 1024 * 1024;
/// Bytes of what the tls-exporter gives (RFC 9266 section 2).
pub const EXPORTED: usize = 32;

/// What the node begins with: who it says it is, and what it wants a certificate for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hello {
    /// The trust domain that it wants to be in.
    pub domain: String,
    /// DER of a PKCS #10 request. Only its key is taken.
    pub request: Base64Bytes,
    /// Its TPM.
    pub tpm: TpmHello,
}

/// The keys of a node's TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmHello {
    /// TPMT_PUBLIC of the endorsement key.
    pub endorsement: Base64Bytes,
    /// DER of its certificates, its own first.
    pub chain: Vec<Base64Bytes>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: Base64Bytes,
    /// TPMT_PUBLIC of the key that the request is for.
    pub key: Base64Bytes,
}

/// What Undercroft answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Challenge {
    /// 32 random bytes, never given twice.
    pub nonce: Digest,
    /// For the TPM.
    pub tpm: TpmChallenge,
    /// Until when an answer is taken.
    pub until: Timestamp,
}

/// What the TPM is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmChallenge {
    /// The content of TPM2B_ID_OBJECT.
    pub credential: Base64Bytes,
    /// The content of TPM2B_ENCRYPTED_SECRET.
    pub secret: Base64Bytes,
    /// What else it is to show.
    pub wanted: Wanted,
}

/// What a TPM is to show of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wanted {
    /// The PCRs to quote, a bank each, in the order in which they are to be selected.
    pub pcrs: Vec<WantedBank>,
    /// Whether the firmware's event log is to be sent.
    pub event_log: bool,
}

/// PCRs of a bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WantedBank {
    /// The bank: `sha256`, `sha384` or `sha512`.
    pub bank: BankName,
    /// Their indices, 0 to 23, ascending.
    pub pcrs: Vec<u8>,
}

/// A bank, by the name of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankName {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl From<BankName> for HashAlgorithm {
    fn from(name: BankName) -> Self {
        match name {
            BankName::Sha256 => Self::Sha256,
            BankName::Sha384 => Self::Sha384,
            BankName::Sha512 => Self::Sha512,
        }
    }
}

impl From<HashAlgorithm> for BankName {
    fn from(hash: HashAlgorithm) -> Self {
        match hash {
            HashAlgorithm::Sha256 => Self::Sha256,
            HashAlgorithm::Sha384 => Self::Sha384,
            HashAlgorithm::Sha512 => Self::Sha512,
        }
    }
}

impl Wanted {
    /// As it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        // Names and numbers alone: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The selection of TPM2_Quote that they are. Nothing if a bank stands there twice or without a PCR, or an index is above 23.
    pub fn selection(&self) -> Option<PcrSelection> {
        PcrSelection::of_banks(self.pcrs.iter().map(|bank| (bank.bank.into(), bank.pcrs.clone())))
    }
}

/// What the node shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Answer {
    /// Of its TPM.
    pub tpm: TpmAnswer,
}

/// What a TPM shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmAnswer {
    /// HMAC-SHA256 of T under what was in the credential. Absent where there was no challenge.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<Base64Bytes>,
    /// TPM2_Quote of what was wanted.
    pub quote: Signed,
    /// The values of the PCRs that were wanted, in their order.
    pub pcrs: Vec<Base64Bytes>,
    /// TPM2_Certify of the key, or TPM2_CertifyCreation.
    pub certify: Signed,
    /// TPMS_CREATION_DATA, where `certify` is TPM2_CertifyCreation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub creation: Option<Base64Bytes>,
    /// The firmware's event log, where it was wanted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_log: Option<Base64Bytes>,
}

/// An attestation and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signed {
    /// TPMS_ATTEST.
    pub attest: Base64Bytes,
    /// TPMT_SIGNATURE.
    pub signature: Base64Bytes,
}

/// Reads a message.
///
/// # Errors
/// It is too long, or not exactly one object of its kind: which member, and where.
pub fn read<T: DeserializeOwned>(message: &[u8]) -> Result<T, MessageError> {
    match message.len() {
        ..=MAX_MESSAGE => serde_json::from_slice(message).map_err(MessageError::Json),
        length => Err(MessageError::Long(length)),
    }
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("the message has {0} bytes, more than {MAX_MESSAGE}")]
    Long(usize),
    /// Not what it should be.
    #[error("the message cannot be read: {0}")]
    Json(serde_json::Error),
}

/// The hash of all that was said before an answer, and of the connection that it was said on. A challenge that was not given
/// gives another hash than any that was.
pub fn transcript(hello: &[u8], challenge: Option<&[u8]>, exported: &[u8; EXPORTED]) -> [u8; 32] {
    let context: &[u8] = match challenge {
        Some(_) => b"undercroft node exchange v1\n",
        None => b"undercroft node again v1\n",
    };
    let mut hash = Sha256::new_with_prefix(context);
    for message in [Some(hello), challenge].into_iter().flatten() {
        hash.update((message.len() as u64).to_be_bytes());
        hash.update(message);
    }
    hash.chain_update(exported).finalize().into()
}

#[cfg(test)]
mod tests;
