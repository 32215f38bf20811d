//! Evidence of where a TPM key lives.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody, SessionThreads};

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

/// TPM_PT constants (Part 2, section 6.13).
const PT_FIXED: u32 = 0x100;
const PT_REVISION: u32 = 0x102;
const PT_MANUFACTURER: u32 = 0x105;
const PT_VENDOR_STRINGS: std::ops::RangeInclusive<u32> = 0x106..=0x109;
const PT_FIRMWARE: [u32; 2] = [0x10b, 0x10c];

#[derive(Serialize)]
struct Evidence {
    tpm: TpmSays,
    key: KeySays,
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
    pub(crate) threads: Arc<SessionThreads<Session>>,
    pub(crate) identity: Identity,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let identity = self.identity.clone();
        let bytes = self.threads.run_again(move |session| collect(&mut session.esys, &identity)).await?;
        Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes })
    }
}

fn collect(esys: &mut Esys, identity: &Identity) -> Result<Vec<u8>, Error> {
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
    let evidence = Evidence {
        tpm: TpmSays {
            manufacturer: text(value(PT_MANUFACTURER)),
            vendor: PT_VENDOR_STRINGS.map(|property| text(value(property))).collect(),
            firmware: PT_FIRMWARE.map(|property| format!("{:08x}", value(property))).join(" "),
            specification: format!("{}.{:02}", value(PT_REVISION) / 100, value(PT_REVISION) % 100),
        },
        key: KeySays { handle: format!("{:#010x}", identity.handle), public: hex::encode(public) },
    };
    serde_json::to_vec(&evidence)
        .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))
}
