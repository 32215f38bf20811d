//! Custody records: what is known of where a key lives, as it stands in the log.

use jiff::Timestamp;
use undercroft_attestors::custody::{self, Custody, Grade};
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::{CustodyEvidence, Key};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::{
    Base64Bytes, BlobOf, Body, Digest, Grade as LoggedGrade, HexKeyId, Key as KeyLeaf, KeyEvent, KeyEvidence,
};

/// Evidence longer than this is a blob beside its entry.
const INLINE_EVIDENCE: usize = 4 * 1024;

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
    /// The entry that records it, with the evidence or its digest.
    pub entry: Body,
    /// The evidence, if it is too large for the entry.
    pub blobs: Vec<Vec<u8>>,
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
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Self, undercroft_keymgr::Error> {
        let evidence = key.custody.custody_evidence().await?;
        let public_key = key.signer.public_key();
        let used = KeyUse { event, purpose, uri, public_key, algorithm: key.signer.algorithm() };
        Ok(Self::judge(used, evidence.format, &evidence.bytes, trust, now))
    }

    /// Judges evidence that came from elsewhere, at a time.
    pub fn judge(used: KeyUse<'_>, format: &str, evidence: &[u8], trust: &Trust, now: Timestamp) -> Self {
        let custody = custody::judge(format, evidence, used.public_key, trust, now);
        let (logged_evidence, blobs) = match evidence.len() {
            ..=INLINE_EVIDENCE => (KeyEvidence::Inline(Base64Bytes(evidence.to_vec())), Vec::new()),
            length => {
                let blob = BlobOf { sha256: Digest::of(evidence), length: length as u64 };
                (KeyEvidence::Blob(blob), vec![evidence.to_vec()])
            }
        };
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
            evidence: logged_evidence,
        });
        Self { custody, entry, blobs, purpose: used.purpose }
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

/// What makes the demanded grade.
fn way_out(required: Grade) -> &'static str {
    match required {
        Grade::Proven => {
            "Have the TPM's attestation key activated by a witness (`undercroft keys activate`) and name witness and manufacturer in the configuration, or demand less"
        }
        Grade::Unknown | Grade::Software | Grade::Declared => {
            "Make the key in hardware; for trials alone, `development = true` accepts keys in software"
        }
    }
}

/// A key is not where it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the custody of the key of {purpose} is graded `{grade}`, and `{required}` is required: {}. {}",
    findings.join("; "),
    way_out(*required)
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
        match custody::public_area_of(&self.format, &self.evidence.0) {
            Some(area) => Ok(area?.encode()),
            None => Err(format!("the key is in no TPM: its evidence is {}", self.format)),
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
