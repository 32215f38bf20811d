//! The names of a TPM in the certificate of its attestation key (WebAuthn level 2, section 8.3.1).

use const_oid::ObjectIdentifier;
use der::asn1::{ContextSpecific, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use undercroft_attestors::tpm::endorsement::MODEL;

/// id-on-permanentIdentifier (RFC 4043 section 2).
pub const PERMANENT_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.3");

/// The longest name of a model.
const MAX_NAME: usize = 64;

/// PermanentIdentifier (RFC 4043 section 2). Without assigner, whoever issues the certificate assigns the value.
#[derive(Sequence)]
struct PermanentIdentifier<'a> {
    identifier_value: Utf8StringRef<'a>,
}

/// Which TPM, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmNames {
    model: [String; 3],
    identifier: String,
}

impl TpmNames {
    /// Manufacturer, model and version as the endorsement certificate has them, and SHA-256 of the endorsement key's
    /// SubjectPublicKeyInfo.
    ///
    /// None if a name is empty, longer than 64 characters or not printable ASCII.
    pub fn new(model: [String; 3], endorsement: [u8; 32]) -> Option<Self> {
        let sound = |name: &String| {
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        model.iter().all(sound).then(|| Self { model, identifier: hex::encode(endorsement) })
    }

    /// The attributes of the directoryName: tPMManufacturer, tPMModel, tPMVersion.
    pub fn attributes(&self) -> impl Iterator<Item = (ObjectIdentifier, &String)> {
        MODEL.iter().map(|(oid, _)| *oid).zip(&self.model)
    }

    /// The value of its permanentIdentifier: 64 digits of lower-case hexadecimal.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// How lists of certificates call it.
    pub fn text(&self) -> String {
        Self::text_of(&self.identifier)
    }

    pub(crate) fn text_of(identifier: &str) -> String {
        format!("tpm:{identifier}")
    }

    /// The DER of the PermanentIdentifier.
    pub(crate) fn permanent_identifier_der(&self) -> Result<Vec<u8>, der::Error> {
        PermanentIdentifier { identifier_value: Utf8StringRef::new(&self.identifier)? }.to_der()
    }
}

/// The value of a permanentIdentifier without assigner, from what follows the type in its OtherName.
pub(crate) fn read_permanent_identifier(value: &[u8]) -> Option<String> {
    let value = ContextSpecific::<PermanentIdentifier<'_>>::from_der(value).ok()?;
    (value.tag_number == der::TagNumber(0)).then(|| value.value.identifier_value.as_str().to_owned())
}
