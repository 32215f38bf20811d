//! Custody evidence of the format `tpm2-certify-v1`: a JSON object, UTF-8, all bytes in hexadecimal save for DER.
//!
//! ```json
//! { "tpm": {"manufacturer": "STM ", "vendor": "ST33HTPHAHD4", "firmware": "00010101 00000002", "specification": "1.59"},
//!   "key": {"handle": "0x81010001", "public": "<TPMT_PUBLIC>"},
//!   "attestation-key": {
//!     "public": "<TPMT_PUBLIC>",
//!     "activation": {
//!       "certificate": "undercroft-attestation-key/v1\n…",
//!       "endorsement": {"public": "<TPMT_PUBLIC>", "chain": ["<base64 of DER, the endorsement key's first>"]}
//!     }
//!   },
//!   "certify": {"challenge": "<32 bytes>", "attest": "<TPMS_ATTEST>", "signature": "<TPMT_SIGNATURE>"} }
//! ```
//!
//! `activation` is what `undercroft keys activate` wrote, or absent. The manufacturer's chain is judged as of the time of the
//! activation: a certificate of an endorsement key that ran out later takes nothing back that was seen before.

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_keys::PublicKey;
use undercroft_tpm_wire::{ObjectAttributes, PublicArea};

use super::activation::{self, ActivationError};
use super::certify;
use super::endorsement::{Endorsement, EndorsementError};
use crate::custody::{Custody, Grade};
use crate::trust::Trust;

/// The name of the format.
pub const FORMAT: &str = "tpm2-certify-v1";

/// How far a time may be ahead of ours.
const SKEW: i64 = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Evidence {
    tpm: Tpm,
    key: Key,
    attestation_key: AttestationKey,
    certify: Certify,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tpm {
    manufacturer: String,
    vendor: String,
    firmware: String,
    specification: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    handle: String,
    public: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestationKey {
    public: String,
    activation: Option<Activation>,
}

/// What `undercroft keys activate` writes, and evidence carries on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The certificate of the attestation key.
    pub certificate: String,
    /// The endorsement key that it was seen beside.
    pub endorsement: EndorsementText,
}

/// An endorsement key and its certificates, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndorsementText {
    /// Hexadecimal of its TPMT_PUBLIC.
    pub public: String,
    /// Base64 of each certificate's DER, the key's own first.
    pub chain: Vec<String>,
}

impl EndorsementText {
    /// The text of a TPMT_PUBLIC and of certificates.
    pub fn new(public: &[u8], chain: &[Vec<u8>]) -> Self {
        Self {
            public: hex::encode(public),
            chain: chain.iter().map(|der| Base64::encode_string(der)).collect(),
        }
    }

    /// What the text says.
    ///
    /// # Errors
    /// It is no text of such things.
    pub fn read(&self) -> Result<Endorsement, EndorsementError> {
        let public =
            hex::decode(&self.public).map_err(|error| EndorsementError::Public(error.to_string()))?;
        let chain = self.chain.iter().map(|text| Base64::decode_vec(text)).collect::<Result<Vec<_>, _>>();
        Endorsement::read(&public, &chain.map_err(|_| EndorsementError::Profile("it is no base64"))?)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certify {
    challenge: String,
    attest: String,
    signature: String,
}

/// The public area of the key that evidence is about.
///
/// # Errors
/// It is no such evidence.
pub fn public_area(evidence: &[u8]) -> Result<PublicArea, String> {
    let evidence: Evidence = read(evidence)?;
    area("the key's public area", &evidence.key.public)
}

/// The challenge that evidence says that it answers, in hexadecimal. Judging it shows whether it does.
pub fn challenge(evidence: &[u8]) -> Option<String> {
    Some(read(evidence).ok()?.certify.challenge)
}

/// Judges evidence of where `key` lives, at a time.
pub fn judge(evidence: &[u8], key: &PublicKey, trust: &Trust, now: Timestamp) -> Custody {
    let unknown = |finding: String| Custody { grade: Grade::Unknown, findings: vec![finding] };
    let read = read(evidence).and_then(|evidence| {
        let area_of_key = area("the key's public area", &evidence.key.public)?;
        let signer = area("the attestation key's public area", &evidence.attestation_key.public)?;
        Ok((evidence, area_of_key, signer))
    });
    let (evidence, area, signer) = match read {
        Ok(read) => read,
        Err(what) => return unknown(what),
    };
    if area.public_key().as_ref() != Ok(key) {
        return unknown("the evidence is about another key".into());
    }
    let mut findings = described(&evidence, &area, &signer);
    if let Err(what) = certified(&evidence.certify, &signer, &area) {
        findings.push(what);
        return Custody { grade: Grade::Unknown, findings };
    }
    findings.push("the attestation key certifies that the key is in its TPM and cannot leave it".into());
    let seen = match &evidence.attestation_key.activation {
        None => Err(Unproven::Asserted("nobody certified the attestation key".into())),
        Some(activation) => activated(activation, &signer, trust, now),
    };
    match seen {
        Ok(proof) => {
            findings.extend(proof);
            Custody { grade: Grade::Proven, findings }
        }
        Err(Unproven::Contradiction(what)) => {
            findings.push(what);
            Custody { grade: Grade::Unknown, findings }
        }
        Err(Unproven::Asserted(what)) => {
            findings.push(format!("activation: asserted: {what}"));
            // libtpms, the library behind swtpm, calls itself so.
            let software = evidence.tpm.manufacturer == "IBM" && evidence.tpm.vendor.contains("SW");
            if software {
                findings.push("this is swtpm, a TPM in software".into());
            }
            Custody { grade: if software { Grade::Software } else { Grade::Declared }, findings }
        }
    }
}

fn read(evidence: &[u8]) -> Result<Evidence, String> {
    serde_json::from_slice(evidence).map_err(|error| format!("the evidence cannot be read: {error}"))
}

fn area(what: &str, hexadecimal: &str) -> Result<PublicArea, String> {
    let bytes = bytes(what, hexadecimal)?;
    PublicArea::parse(&bytes).map_err(|error| format!("{what} cannot be read: {error}"))
}

fn bytes(what: &str, hexadecimal: &str) -> Result<Vec<u8>, String> {
    hex::decode(hexadecimal).map_err(|error| format!("{what} cannot be read: {error}"))
}

fn described(evidence: &Evidence, area: &PublicArea, signer: &PublicArea) -> Vec<String> {
    let Tpm { manufacturer, vendor, firmware, specification } = &evidence.tpm;
    let mut findings = vec![
        format!("TPM {specification}: {manufacturer} {vendor}, firmware {firmware}"),
        format!("handle {}, name {}, attributes {}", evidence.key.handle, area.name(), area.attributes),
        format!("attestation key {}", signer.name()),
    ];
    if area.signs_by_policy_alone() {
        findings
            .push(format!("the TPM signs with it only under the policy {}", hex::encode(&area.auth_policy)));
    } else if area.attributes.has(ObjectAttributes::NO_DA) {
        findings.push(
            "the key was made without an authorisation value: whoever reaches this TPM may sign with it"
                .into(),
        );
    }
    findings
}

fn certified(certify: &Certify, signer: &PublicArea, area: &PublicArea) -> Result<(), String> {
    let challenge = bytes("the challenge", &certify.challenge)?;
    let challenge = challenge.try_into().map_err(|_| "the challenge has not 32 bytes".to_owned())?;
    let attest = bytes("the attestation", &certify.attest)?;
    let signature = bytes("the signature", &certify.signature)?;
    certify::verify(signer, area, &challenge, &attest, &signature).map_err(|error| error.to_string())
}

/// Why evidence that is sound as far as it goes proves nothing.
enum Unproven {
    /// Nobody whom we trust says that the attestation key lives in a TPM.
    Asserted(String),
    /// Somebody put together what does not belong together.
    Contradiction(String),
}

/// Who saw the attestation key's TPM open a credential, and whose TPM it is.
fn activated(
    activation: &Activation,
    signer: &PublicArea,
    trust: &Trust,
    now: Timestamp,
) -> Result<[String; 2], Unproven> {
    let contradiction = |what: &dyn std::fmt::Display| Unproven::Contradiction(what.to_string());
    let vouched = match activation::open(&activation.certificate, &trust.activators) {
        Ok(vouched) => vouched,
        Err(error @ ActivationError::Untrusted) => return Err(Unproven::Asserted(error.to_string())),
        Err(error) => return Err(contradiction(&error)),
    };
    let statement = &vouched.statement;
    if statement.name != signer.name().to_string() {
        return Err(contradiction(&"the certificate of the attestation key is that of another one"));
    }
    if vouched.at.as_second() > now.as_second().saturating_add(SKEW) {
        return Err(contradiction(&format!(
            "the attestation key is certified in the future, at {}",
            vouched.at
        )));
    }
    let endorsement = activation.endorsement.read().map_err(|error| contradiction(&error))?;
    if endorsement.certificate.digest() != statement.certificate
        || endorsement.chain_digest() != statement.chain
    {
        return Err(contradiction(
            &"the endorsement certificates are others than those that the activator saw",
        ));
    }
    let Some(anchor) = trust.endorsement.with_digest(&statement.anchor) else {
        let unknown = "the manufacturer that the activator trusted is not trusted here";
        return Err(Unproven::Asserted(unknown.into()));
    };
    let anchor = crate::chain::Anchors::new(vec![anchor.clone()]);
    let endorsed = endorsement.verify(&anchor, vouched.at).map_err(|error| contradiction(&error))?;
    Ok([
        format!(
            "{} saw at {} that the attestation key lives in a TPM of {}",
            vouched.by, vouched.at, endorsed.manufacturer
        ),
        format!("the endorsement certificate says: {}", endorsed.model),
    ])
}
