//! What is said when an attestation key is activated across machines: JSON, in two steps, over HTTP or by files that people
//! carry (`docs/keys.md`).

use jiff::Timestamp;
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
    /// Until when an answer is taken.
    pub until: Timestamp,
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

/// The file of the first step: all endorsement keys of a TPM, since its host cannot tell which manufacturers are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RequestFile {
    /// Hexadecimal of the attestation key's TPMT_PUBLIC.
    pub attestation_key: String,
    /// The endorsement keys.
    pub endorsements: Vec<EndorsementText>,
}

impl RequestFile {
    /// The first step with each of the endorsement keys.
    pub fn steps(self) -> impl Iterator<Item = Begin> {
        let Self { attestation_key, endorsements } = self;
        endorsements
            .into_iter()
            .map(move |endorsement| Begin { endorsement, attestation_key: attestation_key.clone() })
    }
}

/// The file that answers it. The second step's is [`Finish`], and what answers that one is
/// [`Activation`](super::evidence::Activation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChallengeFile {
    /// The endorsement key that it was made for.
    pub endorsement: EndorsementText,
    /// The credential.
    pub challenge: Begun,
}
