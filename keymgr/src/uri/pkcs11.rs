//! `pkcs11:` URIs (RFC 7512).

use std::fmt;
use std::path::PathBuf;

use super::attributes::{complete, each, encode, set, text};
use super::{Scheme, UriError};

const PATH_ATTRIBUTES: [&str; 8] =
    ["token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"];
const QUERY_ATTRIBUTES: [&str; 1] = ["module-path"];

/// A PKCS#11 token, or a key in it. Every attribute that is given must match (RFC 7512 section 2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pkcs11Uri {
    /// The shared library that drives the token.
    pub module_path: Option<PathBuf>,
    /// CK_TOKEN_INFO label.
    pub token: Option<String>,
    /// CK_TOKEN_INFO serialNumber.
    pub serial: Option<String>,
    /// CK_TOKEN_INFO manufacturerID.
    pub manufacturer: Option<String>,
    /// CK_TOKEN_INFO model.
    pub model: Option<String>,
    /// CK_SLOT_ID. Slots are renumbered by some modules; prefer `serial`.
    pub slot_id: Option<u64>,
    /// CKA_LABEL of the key.
    pub object: Option<String>,
    /// CKA_ID of the key.
    pub id: Option<Vec<u8>>,
}

impl Pkcs11Uri {
    pub(super) fn parse(rest: &str) -> Result<Self, UriError> {
        let mut uri = Self::default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        each(Scheme::Pkcs11, &PATH_ATTRIBUTES, path, ';', |name, value| match name {
            "token" => set(&mut uri.token, name, text("token", value)?),
            "serial" => set(&mut uri.serial, name, text("serial", value)?),
            "manufacturer" => set(&mut uri.manufacturer, name, text("manufacturer", value)?),
            "model" => set(&mut uri.model, name, text("model", value)?),
            "object" => set(&mut uri.object, name, text("object", value)?),
            "slot-id" => {
                let value = text("slot-id", value)?;
                let slot = value.parse().map_err(|_| UriError::Value {
                    attribute: "slot-id",
                    value,
                    rule: "it must be a decimal number",
                })?;
                set(&mut uri.slot_id, name, slot)
            }
            "id" if value.is_empty() || value.len() > 255 => Err(UriError::Value {
                attribute: "id",
                value: hex::encode(value),
                rule: "it must have 1 to 255 bytes",
            }),
            "id" => set(&mut uri.id, name, value),
            // What other tools print for the two halves of a key pair; we always mean the pair.
            "type" if value == b"private" || value == b"public" => Ok(true),
            "pin-value" => Err(UriError::PinInUri),
            _ => Ok(false),
        })?;
        each(Scheme::Pkcs11, &QUERY_ATTRIBUTES, query, '&', |name, value| match name {
            "module-path" => set(&mut uri.module_path, name, text("module-path", value)?.into()),
            "pin-value" => Err(UriError::PinInUri),
            _ => Ok(false),
        })?;
        Ok(uri)
    }

    pub(super) fn completed_by(&self, device: &Self) -> Result<Self, UriError> {
        Ok(Self {
            module_path: complete("module-path", &self.module_path, &device.module_path)?,
            token: complete("token", &self.token, &device.token)?,
            serial: complete("serial", &self.serial, &device.serial)?,
            manufacturer: complete("manufacturer", &self.manufacturer, &device.manufacturer)?,
            model: complete("model", &self.model, &device.model)?,
            slot_id: complete("slot-id", &self.slot_id, &device.slot_id)?,
            object: complete("object", &self.object, &device.object)?,
            id: complete("id", &self.id, &device.id)?,
        })
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pkcs11:")?;
        let mut separator = "";
        let mut attribute = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            write!(f, "{separator}{name}={value}")?;
            separator = ";";
            Ok::<(), fmt::Error>(())
        };
        for (name, value) in [
            ("token", &self.token),
            ("serial", &self.serial),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("object", &self.object),
        ] {
            if let Some(value) = value {
                attribute(f, name, &encode(value))?;
            }
        }
        if let Some(slot) = self.slot_id {
            attribute(f, "slot-id", &slot)?;
        }
        if let Some(id) = &self.id {
            let encoded: String = id.iter().map(|byte| format!("%{byte:02x}")).collect();
            attribute(f, "id", &encoded)?;
        }
        match &self.module_path {
            Some(path) => write!(f, "?module-path={}", encode(&path.to_string_lossy())),
            None => Ok(()),
        }
    }
}
