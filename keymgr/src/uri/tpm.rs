//! `tpm:` URIs.

use std::fmt;

use super::attributes::{complete, each, encode, set, text};
use super::{Scheme, UriError};

const ATTRIBUTES: [&str; 2] = ["handle", "tcti"];

/// Persistent handles that an owner may use (TCG "Registry of Reserved TPM 2.0 Handles and Localities" 2.3.1).
const OWNER_HANDLES: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;

/// A TPM 2.0, or a persistent key in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TpmUri {
    /// The persistent handle of the key, 0x81000000 to 0x817fffff.
    pub handle: Option<u32>,
    /// How the TPM is reached, as tpm2-tss writes it: `device:/dev/tpmrm0`, `swtpm:path=…`, `tabrmd:`.
    pub tcti: Option<String>,
}

impl TpmUri {
    pub(super) fn parse(rest: &str) -> Result<Self, UriError> {
        let mut uri = Self::default();
        each(Scheme::Tpm, &ATTRIBUTES, rest, ';', |name, value| match name {
            "handle" => set(&mut uri.handle, name, handle(text("handle", value)?)?),
            "tcti" => set(&mut uri.tcti, name, text("tcti", value)?),
            _ => Ok(false),
        })?;
        Ok(uri)
    }

    pub(super) fn completed_by(&self, device: &Self) -> Result<Self, UriError> {
        Ok(Self {
            handle: complete("handle", &self.handle, &device.handle)?,
            tcti: complete("tcti", &self.tcti, &device.tcti)?,
        })
    }
}

fn handle(value: String) -> Result<u32, UriError> {
    value
        .strip_prefix("0x")
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .filter(|handle| OWNER_HANDLES.contains(handle))
        .ok_or(UriError::Value {
            attribute: "handle",
            value,
            rule: "it must be a persistent handle of the owner, 0x81000000 to 0x817fffff",
        })
}

impl fmt::Display for TpmUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tpm:")?;
        if let Some(handle) = self.handle {
            write!(f, "handle={handle:#010x}")?;
        }
        match &self.tcti {
            Some(tcti) => {
                let separator = if self.handle.is_some() { ";" } else { "" };
                write!(f, "{separator}tcti={}", encode(tcti))
            }
            None => Ok(()),
        }
    }
}
