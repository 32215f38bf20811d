//! Custody records: what is known of where a key lives, as it stands in the log.

use undercroft_attestors::custody::{self, Custody, Grade};
use undercroft_keymgr::{CustodyEvidence, Key};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::{Base64Bytes, Body, Grade as LoggedGrade, HexKeyId, Key as KeyLeaf, KeyEvent};

/// A key, and what it is for.
#[derive(Clone, Debug)]
pub struct KeyUse<'a> {
    /// What happened to it.
    pub event: KeyEvent,
    /// What it is for, in words.
    pub purpose: String,
    /// The URI that names it.
    pub uri: String,
    /// The public key.
    pub public_key: &'a PublicKey,
    /// What it is and how it signs.
    pub algorithm: KeyAlgorithm,
}

/// A key's custody, judged and ready to be logged.
#[derive(Clone, Debug)]
pub struct CustodyRecord {
    /// The judgement.
    pub custody: Custody,
    /// The entry that records it, evidence included.
    pub entry: Body,
    /// What the key is for.
    purpose: String,
}

impl CustodyRecord {
    /// Asks the key's token for evidence and judges it.
    ///
    /// # Errors
    /// The token does not answer.
    pub async fn of(
        key: &Key,
        event: KeyEvent,
        purpose: String,
        uri: String,
    ) -> Result<Self, undercroft_keymgr::Error> {
        let evidence = key.custody.custody_evidence().await?;
        let public_key = key.signer.public_key();
        let used = KeyUse { event, purpose, uri, public_key, algorithm: key.signer.algorithm() };
        Ok(Self::judge(used, evidence.format, &evidence.bytes))
    }

    /// Judges evidence that came from elsewhere.
    pub fn judge(used: KeyUse<'_>, format: &str, evidence: &[u8]) -> Self {
        let custody = custody::judge(format, evidence, used.public_key);
        let entry = Body::Key(KeyLeaf {
            event: used.event,
            purpose: used.purpose.clone(),
            key_id: HexKeyId(used.public_key.id()),
            spki: Base64Bytes(used.public_key.spki().to_vec()),
            algorithm: used.algorithm,
            uri: used.uri,
            grade: logged(custody.grade),
            findings: custody.findings.clone(),
            format: format.to_owned(),
            evidence: Base64Bytes(evidence.to_vec()),
        });
        Self { custody, entry, purpose: used.purpose }
    }

    /// Whether the key lives where it must.
    ///
    /// # Errors
    /// The grade is worse than `required`; the error says what was found instead.
    pub fn require(&self, required: Grade) -> Result<(), PoorCustody> {
        if self.custody.grade >= required {
            return Ok(());
        }
        Err(PoorCustody {
            purpose: self.purpose.clone(),
            required,
            grade: self.custody.grade,
            findings: self.custody.findings.clone(),
        })
    }
}

fn logged(grade: Grade) -> LoggedGrade {
    match grade {
        Grade::Unknown => LoggedGrade::Unknown,
        Grade::Software => LoggedGrade::Software,
        Grade::Declared => LoggedGrade::Declared,
        Grade::Proven => LoggedGrade::Proven,
    }
}

/// A key is not where it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the custody of the key of {purpose} is graded `{grade}`, and `{required}` is required: {}. Make the key in hardware; for trials alone, `development = true` accepts keys in software",
    findings.join("; ")
)]
pub struct PoorCustody {
    /// What the key is for.
    pub purpose: String,
    /// What is required.
    pub required: Grade,
    /// What was found.
    pub grade: Grade,
    /// What it rests on.
    pub findings: Vec<String>,
}

/// Evidence as it travels in a file beside a CSR, from the machine where a key was made to the ceremony.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyFile {
    /// The URI that names the key on its machine.
    pub uri: String,
    /// What it is and how it signs.
    pub algorithm: String,
    /// The format of the evidence.
    pub format: String,
    /// The evidence.
    pub evidence: Base64Bytes,
}

impl CustodyFile {
    /// The TPMT_PUBLIC of a key in a TPM.
    ///
    /// # Errors
    /// The key lives elsewhere, or the evidence is malformed.
    pub fn tpm_public_area(&self) -> Result<Vec<u8>, String> {
        match self.format.as_str() {
            "tpm2-public-v1" => Ok(custody::tpm_public_area(&self.evidence.0)?.encode()),
            other => Err(format!("the key is in no TPM: its evidence is {other}")),
        }
    }

    /// The file for a key.
    pub fn new(uri: String, algorithm: KeyAlgorithm, evidence: CustodyEvidence) -> Self {
        Self {
            uri,
            algorithm: algorithm.to_string(),
            format: evidence.format.to_owned(),
            evidence: Base64Bytes(evidence.bytes),
        }
    }
}
