//! Evidence of where a PKCS#11 key lives.

use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody};
use undercroft_keys::{Numbers, PublicKey};

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
/// Where the token shows a request of a SmartCard-HSM for this key, the format is [`CARD_FORMAT`], and the object has one more
/// member: `"card_verifiable": {"requests": ["<hex>"], "certificates": ["<hex>"]}`.
///
/// A token's word is no proof: whoever controls the module controls every value. It is graded `declared` at best, but for
/// the certificates, which are there if the token shows any of its vendor's: they are judged by who signed them.
pub const CUSTODY_FORMAT: &str = "pkcs11-attributes-v1";

/// The format of evidence with card-verifiable certificates.
pub const CARD_FORMAT: &str = "smartcard-hsm-v1";

#[derive(Serialize)]
struct Evidence {
    module: ModuleSays,
    token: TokenSays,
    key: KeySays,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_verifiable: Option<CardVerifiable>,
}

#[derive(Serialize)]
struct CardVerifiable {
    requests: Vec<String>,
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
        let collected =
            self.token.run_again(move |session| collect(session, &id, &label, &public_key, &subject));
        collected.await
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
) -> Result<CustodyEvidence, Error> {
    let key = session.private_key(id, public_key, subject)?;
    let protection = Protection::read(&session.session, key, subject)?;
    let module = session.module_info(subject)?;
    let token = session.token_info(subject)?;
    let module_maker = trimmed(module.manufacturer_id());
    let card_verifiable = of_cards(session, id, public_key, &module_maker, subject)?;
    let format = if card_verifiable.is_some() { CARD_FORMAT } else { CUSTODY_FORMAT };
    let evidence = Evidence {
        module: ModuleSays {
            manufacturer: module_maker,
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
        card_verifiable,
    };
    let bytes = serde_json::to_vec(&evidence)
        .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))?;
    Ok(CustodyEvidence { format, bytes })
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

/// CKA_CVC_REQUEST of CardContact's module (sc-hsm-pkcs11.h), a vendor's attribute of public keys.
const CVC_REQUEST: AttributeType = AttributeType::VendorDefined(0x8000_0110);
/// Whose module has it: to others the number may mean anything.
const CARD_CONTACT: &str = "CardContact";

/// The tags that requests and certificates begin with (BSI TR-03110 part 3, D.2).
const REQUEST: &[u8] = &[0x67];
const CARD_CERTIFICATE: &[u8] = &[0x7f, 0x21];

/// The most bytes of EF.C_DevAut, which holds two certificates.
const CHAIN: usize = 4096;

/// What a SmartCard-HSM states of this key, and its certificates; nothing if it states nothing. They are taken from where
/// CardContact's module has them, and from data objects, into which somebody may have put what other modules do not show.
fn of_cards(
    session: &TokenSession,
    id: &[u8],
    public_key: &PublicKey,
    maker: &str,
    subject: &str,
) -> Result<Option<CardVerifiable>, Error> {
    let looking = || failed(format!("cannot look for attestations beside {subject}"));
    let session = &session.session;
    let mut shown = Vec::new();
    if maker.contains(CARD_CONTACT) {
        let own = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.to_vec())];
        for object in session.find_objects(&own).map_err(looking())? {
            for attribute in session.get_attributes(object, &[CVC_REQUEST]).map_err(looking())? {
                if let Attribute::VendorDefined((_, request)) = attribute {
                    shown.push(request);
                }
            }
        }
    }
    for class in [ObjectClass::CERTIFICATE, ObjectClass::DATA] {
        for object in session.find_objects(&[Attribute::Class(class)]).map_err(looking())? {
            let read = session.get_attributes(object, &[AttributeType::Value]).map_err(looking())?;
            if let [Attribute::Value(value)] = &read[..] {
                shown.push(value.clone());
            }
        }
    }
    // Other keys have requests, too.
    let number = match public_key.numbers() {
        Numbers::Ec { x, .. } => x,
        Numbers::Rsa { n, .. } => n,
        Numbers::Ed25519 { x } => x,
    };
    let of_this_key = |value: &&Vec<u8>| {
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        value.len() <= CERTIFICATE && value.windows(number.len()).any(|window| window == number)
    };
    let begins = |with: &'static [u8]| shown.iter().filter(move |value| value.starts_with(with));
    let requests: Vec<_> = begins(REQUEST).filter(of_this_key).take(CERTIFICATES).map(hex::encode).collect();
    if requests.is_empty() {
        return Ok(None);
    }
    let certificates = begins(CARD_CERTIFICATE).filter(|value| value.len() <= CHAIN);
    let certificates = certificates.take(CERTIFICATES).map(hex::encode).collect();
    Ok(Some(CardVerifiable { requests, certificates }))
}
