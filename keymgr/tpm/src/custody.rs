//! Evidence of where a TPM key lives.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use aws_lc_rs::digest;
use serde::Serialize;
use undercroft_keymgr::{AttestationPlace, CustodyEvidence, Error, ErrorKind, ProveCustody, SessionThreads};

use crate::attestation_key;
use crate::esys::Esys;
use crate::key::{self, Identity};
use crate::tpm::Session;

/// The format of this evidence: a JSON object of the shape below, UTF-8.
///
/// ```json
/// { "tpm": {"manufacturer": "STM ", "vendor": "ST33HTPHAHD4", "firmware": "00010101 00000002",
///           "specification": "1.59"},
///   "key": {"handle": "0x81010001", "public": "<hex of TPMT_PUBLIC, as TPM2_ReadPublic gave it>"} }
/// ```
///
/// The attributes in the public area say how the key is held (fixedTPM, fixedParent, sensitiveDataOrigin), and the
/// key's Name covers them; but only a `TPM2_Certify` under a key that is bound to the TPM's endorsement key would
/// prove that a TPM said so. This evidence is graded `declared` at best.
pub const CUSTODY_FORMAT: &str = "tpm2-public-v1";

/// The format of evidence that an attestation key certifies: the same object with `attestation-key` and `certify`, as
/// `undercroft-attestors` documents it. A challenge is answered by SHA-256 of `undercroft custody v1`, a line feed and the
/// challenge, in extraData.
pub const CERTIFIED_FORMAT: &str = "tpm2-certify-v1";

/// What that hash begins with.
const CONTEXT: &[u8] = b"undercroft custody v1\n";

/// The most bytes of an activation: some certificates.
const MAX_ACTIVATION: usize = 64 * 1024;

/// TPM_PT constants (Part 2, section 6.13).
const PT_FIXED: u32 = 0x100;
const PT_REVISION: u32 = 0x102;
const PT_MANUFACTURER: u32 = 0x105;
const PT_VENDOR_STRINGS: std::ops::RangeInclusive<u32> = 0x106..=0x109;
const PT_FIRMWARE: [u32; 2] = [0x10b, 0x10c];

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Evidence {
    tpm: TpmSays,
    key: KeySays,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation_key: Option<AttestationKeySays>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certify: Option<Certify>,
}

#[derive(Serialize)]
struct AttestationKeySays {
    public: String,
    /// What the file of the activation holds, as it is: who reads the evidence judges it.
    activation: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Certify {
    challenge: String,
    attest: String,
    signature: String,
}

#[derive(Serialize)]
struct TpmSays {
    manufacturer: String,
    vendor: String,
    firmware: String,
    specification: String,
}

#[derive(Serialize)]
struct KeySays {
    handle: String,
    public: String,
}

/// Asks a TPM about one of its keys.
#[derive(Debug)]
pub(crate) struct Custody {
    pub(crate) device: String,
    pub(crate) threads: Arc<SessionThreads<Session>>,
    pub(crate) identity: Identity,
    /// The key that certifies it, if there is one.
    pub(crate) attestation: Option<AttestationPlace>,
    /// How often the TPM was connected to.
    pub(crate) connections: Arc<AtomicU64>,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let mut challenge = [0; 32];
        getrandom::fill(&mut challenge).map_err(|error| {
            Error::with_source(ErrorKind::Unavailable, "the operating system gives no random bytes", error)
        })?;
        self.answer(challenge).await
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    async fn answer(&self, challenge: [u8; 32]) -> Result<CustodyEvidence, Error> {
        let (identity, device) = (self.identity.clone(), self.device.clone());
        let Some(place) = self.attestation.clone() else {
            let job = move |session: &mut Session| written(&said(&mut session.esys, &identity)?);
            let bytes = self.threads.run_again(job).await?;
            return Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes });
        };
        let activation = place.activation.as_deref().map(read_activation).transpose()?.flatten();
        let bytes = self
            .threads
            .run_again(move |session| {
                let mut evidence = said(&mut session.esys, &identity)?;
                let (public, certify) = certified(session, &identity, place.handle, challenge, &device)?;
                let public = hex::encode(public);
                evidence.attestation_key =
                    Some(AttestationKeySays { public, activation: activation.clone() });
                evidence.certify = Some(certify);
                written(&evidence)
            })
            .await?;
        Ok(CustodyEvidence { format: CERTIFIED_FORMAT, bytes })
    }
}

fn written(evidence: &Evidence) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(evidence)
        .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))
}

/// What `undercroft keys activate` wrote; nothing if it has not run yet.
fn read_activation(path: &Path) -> Result<Option<serde_json::Value>, Error> {
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Unsupported, format!("the activation {}: {error}", path.display()))
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    if text.len() > MAX_ACTIVATION {
        return Err(wrong(&format!("it has {} bytes, more than {MAX_ACTIVATION}", text.len())));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| wrong(&error))
}

/// The attestation key's public area, and what it certifies.
fn certified(
    session: &mut Session,
    identity: &Identity,
    handle: u32,
    challenge: [u8; 32],
    device: &str,
) -> Result<(Vec<u8>, Certify), Error> {
    let known = session.known(identity)?;
    let (signer, public) = attestation_key::open(&mut session.esys, handle, device)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(CONTEXT);
    hash.update(&challenge);
    let (attest, signature) = session
        .esys
        .certify(known.object, signer, hash.finish().as_ref())
        .map_err(|error| error.failed(format!("cannot have {} certified", identity.subject)))?;
    // It is an audited command like a signature.
    session.count();
    let [challenge, attest, signature] = [&challenge[..], &attest, &signature].map(hex::encode);
    Ok((public, Certify { challenge, attest, signature }))
}

fn said(esys: &mut Esys, identity: &Identity) -> Result<Evidence, Error> {
    let properties =
        esys.properties(PT_FIXED).map_err(|error| error.failed("cannot ask the TPM what it is"))?;
    let value = |wanted: u32| properties.iter().find(|(property, _)| *property == wanted).map_or(0, |p| p.1);
    let text = |value: u32| -> String {
        value.to_be_bytes().into_iter().filter(|byte| (0x20..0x7f).contains(byte)).map(char::from).collect()
    };
    let object = key::persistent(esys, identity)?;
    let public = esys
        .read_public(object)
        .map_err(|error| error.failed(format!("cannot read {}", identity.subject)))?;
    Ok(Evidence {
        tpm: TpmSays {
            manufacturer: text(value(PT_MANUFACTURER)),
            vendor: PT_VENDOR_STRINGS.map(|property| text(value(property))).collect(),
            firmware: PT_FIRMWARE.map(|property| format!("{:08x}", value(property))).join(" "),
            specification: format!("{}.{:02}", value(PT_REVISION) / 100, value(PT_REVISION) % 100),
        },
        key: KeySays { handle: format!("{:#010x}", identity.handle), public: hex::encode(public) },
        attestation_key: None,
        certify: None,
    })
}
