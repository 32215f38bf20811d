//! What is said when an attestation key is activated across machines: JSON, in two steps (`docs/keys.md`).

use serde::{Deserialize, Serialize};

use super::evidence::EndorsementText;

/// The most bytes of either message: some certificates.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// Where the first step is posted, below the activator's address.
pub const BEGIN: &str = "activate/begin";
/// Where the second is.
pub const FINISH: &str = "activate/finish";

/// The first step: an endorsement key with its certificates, and the attestation key beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Begin {
    /// The endorsement key.
    pub endorsement: EndorsementText,
    /// Hexadecimal of the attestation key's TPMT_PUBLIC.
    pub attestation_key: String,
}

/// The answer: a credential, good for one try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Begun {
    /// By which the second step names it.
    pub session: String,
    /// Hexadecimal of the content of TPM2B_ID_OBJECT.
    pub credential: String,
    /// Hexadecimal of the content of TPM2B_ENCRYPTED_SECRET.
    pub secret: String,
}

/// The second step: what the TPM found in the credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Finish {
    /// The session.
    pub session: String,
    /// Hexadecimal of the attestation key's TPMT_PUBLIC, the same as in the first step.
    pub attestation_key: String,
    /// Hexadecimal of the secret.
    pub secret: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Finished {
    /// The certificate of the attestation key.
    pub certificate: String,
}
