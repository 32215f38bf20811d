//! Evidence of where a PKCS#11 key lives.

use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody};
use undercroft_keys::PublicKey;

use crate::attributes::Protection;
use crate::error::failed;
use crate::session::TokenSession;
use crate::token::TokenInner;

/// The format of this evidence: a JSON object of the shape below, UTF-8, in which every value is what the token
/// said when it was asked.
///
/// ```json
/// { "module":  {"manufacturer": "SoftHSM", "description": "Implementation of PKCS11", "version": "2.6"},
///   "token":   {"label": "prod", "manufacturer": "SoftHSM project", "model": "SoftHSM v2",
///               "serial": "3f0c…", "hardware": "2.6", "firmware": "2.6"},
///   "key":     {"label": "intermediate", "id": "<hex>", "spki": "<hex of the SubjectPublicKeyInfo>",
///               "sensitive": true, "always_sensitive": true, "extractable": false,
///               "never_extractable": true, "local": true},
///   "certificates": ["<hex of the DER>"] }
/// ```
///
/// A token's word is no proof: whoever controls the module controls every value. It is graded `declared` at best, but for
/// the certificates, which are there if the token shows any of its vendor's: they are judged by who signed them.
pub const CUSTODY_FORMAT: &str = "pkcs11-attributes-v1";

#[derive(Serialize)]
struct Evidence {
    module: ModuleSays,
    token: TokenSays,
    key: KeySays,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
}

#[derive(Serialize)]
struct ModuleSays {
    manufacturer: String,
    description: String,
    version: String,
}

#[derive(Serialize)]
struct TokenSays {
    label: String,
    manufacturer: String,
    model: String,
    serial: String,
    hardware: String,
    firmware: String,
}

#[derive(Serialize)]
struct KeySays {
    label: String,
    id: String,
    spki: String,
    #[serde(flatten)]
    protection: Protection,
}

/// Asks a token about one of its keys.
#[derive(Debug)]
pub(crate) struct Custody {
    pub(crate) token: Arc<TokenInner>,
    pub(crate) id: Vec<u8>,
    pub(crate) label: String,
    pub(crate) public_key: PublicKey,
    pub(crate) subject: String,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let (id, label, public_key, subject) =
            (self.id.clone(), self.label.clone(), self.public_key.clone(), self.subject.clone());
        let bytes =
            self.token.run_again(move |session| collect(session, &id, &label, &public_key, &subject)).await?;
        Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes })
    }

    fn connections(&self) -> u64 {
        self.token.reopened()
    }
}

fn collect(
    session: &mut TokenSession,
    id: &[u8],
    label: &str,
    public_key: &PublicKey,
    subject: &str,
) -> Result<Vec<u8>, Error> {
    let key = session.private_key(id, public_key, subject)?;
    let protection = Protection::read(&session.session, key, subject)?;
    let module = session.module_info(subject)?;
    let token = session.token_info(subject)?;
    let evidence = Evidence {
        module: ModuleSays {
            manufacturer: trimmed(module.manufacturer_id()),
            description: trimmed(module.library_description()),
            version: version(module.library_version()),
        },
        token: TokenSays {
            label: trimmed(token.label()),
            manufacturer: trimmed(token.manufacturer_id()),
            model: trimmed(token.model()),
            serial: trimmed(token.serial_number()),
            hardware: version(token.hardware_version()),
            firmware: version(token.firmware_version()),
        },
        key: KeySays {
            label: label.to_owned(),
            id: hex::encode(id),
            spki: hex::encode(public_key.spki()),
            protection,
        },
        certificates: of_vendors(session, subject)?,
    };
    serde_json::to_vec(&evidence)
        .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))
}

/// 1.3.6.1.4.1.41482 as DER has it: what Yubico's tokens certify has extensions below it.
const YUBICO: [u8; 8] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0a];

/// The most certificates, and bytes of one, that go into evidence.
const CERTIFICATES: usize = 8;
const CERTIFICATE: usize = 3072;

/// The certificates in the token that may attest to its keys, as hex.
fn of_vendors(session: &TokenSession, subject: &str) -> Result<Vec<String>, Error> {
    let looking = || failed(format!("cannot look for attestations beside {subject}"));
    let found =
        session.session.find_objects(&[Attribute::Class(ObjectClass::CERTIFICATE)]).map_err(looking())?;
    let mut certificates = Vec::new();
    for object in found {
        let read = session.session.get_attributes(object, &[AttributeType::Value]).map_err(looking())?;
        let [Attribute::Value(der)] = &read[..] else { continue };
        let is_yubicos = der.windows(YUBICO.len()).any(|window| window == YUBICO);
        if is_yubicos && der.len() <= CERTIFICATE && certificates.len() < CERTIFICATES {
            certificates.push(hex::encode(der));
        }
    }
    Ok(certificates)
}

/// PKCS#11 pads texts with blanks (PKCS #11 v2.40 section 3.2).
pub(crate) fn trimmed(text: &str) -> String {
    text.trim_end().to_owned()
}

pub(crate) fn version(version: cryptoki::types::Version) -> String {
    format!("{}.{}", version.major(), version.minor())
}
