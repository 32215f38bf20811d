//! Certificates of attestation keys: what somebody says who saw a TPM open a credential.
//!
//! Activation convinces only who ran it, since whoever knew the secret can make up the exchange. So who ran it signs what
//! was seen, as a cosignature (C2SP tlog-cosignature, Ed25519) over a text that is no checkpoint:
//!
//! ```text
//! undercroft-attestation-key/v1
//! name 000b5f…                     the Name of the attestation key, as its TPM computes it
//! endorsement-certificate 77ab…    SHA-256 of the endorsement key's certificate
//! endorsement-chain 01c2…          SHA-256 over that certificate and the intermediates beside it, DER after DER
//! anchor c0ff…                     SHA-256 of the manufacturer's certificate that they led to
//!
//! — witness.example/w1 …           over the text and the time of the activation
//! ```
//!
//! The second line of a checkpoint is a number, so that none of these is ever taken for one, nor the other way round.

use std::fmt;

use jiff::Timestamp;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::note::Note;
use undercroft_tpm_wire::Name;

/// The first line: what is said, and in which version.
const TITLE: &str = "undercroft-attestation-key/v1";

/// What an activator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The Name of the attestation key, in hexadecimal.
    pub name: String,
    /// SHA-256 of the endorsement key's certificate.
    pub certificate: [u8; 32],
    /// SHA-256 over it and the intermediates.
    pub chain: [u8; 32],
    /// SHA-256 of the anchor.
    pub anchor: [u8; 32],
}

impl Statement {
    /// That the key of `name` lives in the TPM of these certificates.
    pub fn new(name: &Name, certificate: [u8; 32], chain: [u8; 32], anchor: [u8; 32]) -> Self {
        Self { name: name.to_string(), certificate, chain, anchor }
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// It is not exactly such a text.
    pub fn parse(text: &str) -> Result<Self, ActivationError> {
        let malformed = || ActivationError::Malformed("its text is not the five lines of an attestation key");
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(malformed());
        }
        let mut value = |field: &str| {
            let line = lines.next().ok_or_else(malformed)?;
            line.strip_prefix(field).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(malformed)
        };
        let digest = |text: &str| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).map_err(|_| malformed()).map(|()| digest)
        };
        let read = Self {
            name: value("name")?.to_owned(),
            certificate: digest(value("endorsement-certificate")?)?,
            chain: digest(value("endorsement-chain")?)?,
            anchor: digest(value("anchor")?)?,
        };
        // Upper case, more lines, other line ends: one statement has one text.
        if read.to_string() == text { Ok(read) } else { Err(malformed()) }
    }

    /// What an activator signs, who has seen it at `time`.
    ///
    /// # Errors
    /// The activator's key is not Ed25519.
    pub fn message(&self, activator: &WitnessKey, time: Timestamp) -> Result<Vec<u8>, ActivationError> {
        activator.message(&self.to_string(), time).map_err(|_| ActivationError::KeyType)
    }

    /// The certificate: the statement under the activator's signature.
    pub fn signed(&self, activator: &WitnessKey, time: Timestamp, signature: &[u8]) -> String {
        format!("{self}\n{}", activator.line(time, signature))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, certificate, chain, anchor } = self;
        let [certificate, chain, anchor] = [certificate, chain, anchor].map(hex::encode);
        writeln!(
            f,
            "{TITLE}\nname {name}\nendorsement-certificate {certificate}\nendorsement-chain {chain}\nanchor {anchor}"
        )
    }
}

/// A statement of an activator who is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// What is said.
    pub statement: Statement,
    /// By whom.
    pub by: String,
    /// When it was seen.
    pub at: Timestamp,
}

/// Reads a certificate of an attestation key, which one of `activators` must have signed.
///
/// # Errors
/// See [`ActivationError`]; [`ActivationError::Untrusted`] if it is well formed and of somebody else.
pub fn open(note: &str, activators: &[WitnessKey]) -> Result<Vouched, ActivationError> {
    let parsed = Note::parse(note).map_err(|error| ActivationError::Note(error.to_string()))?;
    let statement = Statement::parse(parsed.unverified_text())?;
    let signer = activators.iter().find(|activator| activator.claims(&parsed));
    let activator = signer.ok_or(ActivationError::Untrusted)?;
    let at = activator.verify(&parsed).map_err(|error| ActivationError::Signature(error.to_string()))?;
    Ok(Vouched { statement, by: activator.name().to_string(), at })
}

/// Why nobody vouches for an attestation key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// No signed note.
    #[error("the certificate of the attestation key is no signed note: {0}")]
    Note(String),
    /// Another text.
    #[error("the certificate of the attestation key is malformed: {0}")]
    Malformed(&'static str),
    /// Signed by others.
    #[error("the certificate of the attestation key is signed by no activator that is trusted here")]
    Untrusted,
    /// A signature that is none.
    #[error("the certificate of the attestation key: {0}")]
    Signature(String),
    /// Not Ed25519.
    #[error("who certifies attestation keys has an Ed25519 key")]
    KeyType,
}
