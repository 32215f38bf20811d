//! Reading keys back from a token.

use cryptoki::object::{Attribute, AttributeType, KeyType as Pkcs11KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use der::Decode;
use der::asn1::OctetStringRef;
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{KeyType, PublicKey};

use crate::error::failed;

/// What a private key object says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Protection {
    pub(crate) sensitive: bool,
    pub(crate) always_sensitive: bool,
    pub(crate) extractable: bool,
    pub(crate) never_extractable: bool,
    pub(crate) local: bool,
}

impl Protection {
    /// How every key of ours must be: made in the token and never out of it.
    pub(crate) const SOUND: Self = Self {
        sensitive: true,
        always_sensitive: true,
        extractable: false,
        never_extractable: true,
        local: true,
    };

    pub(crate) fn read(session: &Session, key: ObjectHandle, subject: &str) -> Result<Self, Error> {
        let wanted = [
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
        ];
        let mut read = Self {
            sensitive: false,
            always_sensitive: false,
            extractable: true,
            never_extractable: false,
            local: false,
        };
        let attributes = session
            .get_attributes(key, &wanted)
            .map_err(failed(format!("cannot read the attributes of {subject}")))?;
        if attributes.len() != wanted.len() {
            return Err(Error::new(
                ErrorKind::Fault,
                format!("the token does not tell all of the protection attributes of {subject}"),
            ));
        }
        for attribute in attributes {
            match attribute {
                Attribute::Sensitive(value) => read.sensitive = value,
                Attribute::AlwaysSensitive(value) => read.always_sensitive = value,
                Attribute::Extractable(value) => read.extractable = value,
                Attribute::NeverExtractable(value) => read.never_extractable = value,
                Attribute::Local(value) => read.local = value,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// CKA_ID and CKA_LABEL of an object.
pub(crate) fn id_and_label(session: &Session, object: ObjectHandle) -> Result<(Vec<u8>, String), Error> {
    let mut id = Vec::new();
    let mut label = String::new();
    let attributes = session
        .get_attributes(object, &[AttributeType::Id, AttributeType::Label])
        .map_err(failed("cannot read the id of a key"))?;
    for attribute in attributes {
        match attribute {
            Attribute::Id(value) => id = value,
            Attribute::Label(value) => label = String::from_utf8_lossy(&value).into_owned(),
            _ => {}
        }
    }
    Ok((id, label))
}

/// The public half of the key pair whose CKA_ID is `id`.
///
/// It comes from the public key object, since private ones need not carry the point (SoftHSM's do not).
pub(crate) fn public_key(session: &Session, id: &[u8], subject: &str) -> Result<PublicKey, Error> {
    let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.to_vec())];
    let objects = session
        .find_objects(&template)
        .map_err(failed(format!("cannot look for the public key of {subject}")))?;
    let [object] = objects[..] else {
        return Err(Error::new(
            ErrorKind::Fault,
            format!(
                "{subject} has {} public key objects of its CKA_ID {}; there must be one",
                objects.len(),
                hex::encode(id)
            ),
        ));
    };
    let attributes = session
        .get_attributes(
            object,
            &[
                AttributeType::KeyType,
                AttributeType::EcPoint,
                AttributeType::EcParams,
                AttributeType::Modulus,
            ],
        )
        .map_err(failed(format!("cannot read the public key of {subject}")))?;
    let mut kind = None;
    let (mut point, mut modulus) = (None, None);
    for attribute in attributes {
        match attribute {
            Attribute::KeyType(value) => kind = Some(value),
            Attribute::EcPoint(value) => point = Some(value),
            Attribute::Modulus(value) => modulus = Some(value),
            _ => {}
        }
    }
    let malformed = |what: &str| {
        Error::new(ErrorKind::Fault, format!("the token gives no usable public key for {subject}: {what}"))
    };
    let parsed = match (kind, point, modulus) {
        (Some(Pkcs11KeyType::EC), Some(point), _) => {
            let point = ec_point(&point).map_err(|_| malformed("CKA_EC_POINT is no OCTET STRING"))?;
            // The length tells the curve; `from_ec_point` checks that the point lies on it.
            let key_type = if point.len() == 65 { KeyType::P256 } else { KeyType::P384 };
            PublicKey::from_ec_point(key_type, point)
        }
        (Some(Pkcs11KeyType::EC_EDWARDS), Some(point), _) => PublicKey::from_ed25519(
            ec_point(&point).map_err(|_| malformed("CKA_EC_POINT is no OCTET STRING"))?,
        ),
        (Some(Pkcs11KeyType::RSA), _, Some(modulus)) => {
            let digits = modulus.iter().position(|byte| *byte != 0).unwrap_or(modulus.len());
            PublicKey::from_rsa_modulus(&modulus[digits..])
        }
        _ => return Err(malformed("it is no EC, Ed25519 or RSA key")),
    };
    parsed.map_err(|error| {
        Error::with_source(ErrorKind::Unsupported, format!("the public key of {subject}"), error)
    })
}

/// PKCS #11 3.1 section 6.3.3: the DER of the point in an OCTET STRING; old modules give the bare point.
fn ec_point(value: &[u8]) -> Result<&[u8], der::Error> {
    match (value.len(), value.first()) {
        (65 | 97, Some(0x04)) | (32, _) => Ok(value),
        _ => <&OctetStringRef>::from_der(value).map(OctetStringRef::as_bytes),
    }
}
