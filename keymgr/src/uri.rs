//! Key URIs: one string that selects backend, token and key.

mod attributes;
mod awskms;
mod azurekv;
mod cloud;
mod gcpkms;
mod pkcs11;
mod tpm;

use std::fmt;
use std::str::FromStr;

pub use awskms::AwsKmsUri;
pub use azurekv::AzureKvUri;
pub use gcpkms::GcpKmsUri;
pub use pkcs11::Pkcs11Uri;
pub use tpm::TpmUri;

/// The longest URI that is parsed, in bytes.
const MAX_URI: usize = 4096;

/// The scheme of a [`KeyUri`], which selects the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `pkcs11:`, a PKCS#11 token (RFC 7512).
    Pkcs11,
    /// `tpm:`, a TPM 2.0.
    Tpm,
    /// `awskms:`, AWS KMS.
    AwsKms,
    /// `gcpkms:`, Google Cloud KMS.
    GcpKms,
    /// `azurekv:`, Azure Key Vault and Managed HSM.
    AzureKv,
}

impl Scheme {
    /// Every scheme, in the order in which documents list them.
    pub const ALL: [Self; 5] = [Self::Pkcs11, Self::Tpm, Self::AwsKms, Self::GcpKms, Self::AzureKv];

    /// The scheme as written, and the name of the Cargo feature that builds its backend in.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pkcs11 => "pkcs11",
            Self::Tpm => "tpm",
            Self::AwsKms => "awskms",
            Self::GcpKms => "gcpkms",
            Self::AzureKv => "azurekv",
        }
    }

    /// Whether its keys are with a cloud provider, who knows its callers by their ambient identity and not by a PIN.
    pub const fn is_cloud(self) -> bool {
        match self {
            Self::Pkcs11 | Self::Tpm => false,
            Self::AwsKms | Self::GcpKms | Self::AzureKv => true,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names a token, or a key in one.
///
/// ```text
/// pkcs11:token=prod;object=intermediate?module-path=/usr/lib/softhsm/libsofthsm2.so
/// tpm:handle=0x81010001;tcti=device:/dev/tpmrm0
/// awskms:region=eu-central-1;account=111122223333;alias=prod-intermediate
/// gcpkms:project=acme-pki;location=europe-west3;key-ring=prod;key=intermediate;version=1
/// azurekv:vault=prod.managedhsm.azure.net;key=intermediate;version=78deebed173b48e48f55abf87ed4cf71
/// ```
///
/// Attributes may be absent; [`KeyUri::completed_by`] fills them in from the device's own URI. Parsing is strict:
/// unknown and repeated attributes are errors, and a PIN inside a URI is refused whatever RFC 7512 allows, since
/// URIs are printed and logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyUri {
    /// A PKCS#11 token or key.
    Pkcs11(Pkcs11Uri),
    /// A TPM or a key in it.
    Tpm(TpmUri),
    /// AWS KMS in a region, or a key in it.
    AwsKms(AwsKmsUri),
    /// A key ring of Google Cloud KMS, or a key in it.
    GcpKms(GcpKmsUri),
    /// An Azure Key Vault or Managed HSM, or a key in it.
    AzureKv(AzureKvUri),
}

impl KeyUri {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Pkcs11(_) => Scheme::Pkcs11,
            Self::Tpm(_) => Scheme::Tpm,
            Self::AwsKms(_) => Scheme::AwsKms,
            Self::GcpKms(_) => Scheme::GcpKms,
            Self::AzureKv(_) => Scheme::AzureKv,
        }
    }

    /// Whether it has attributes of a key, and not of a token alone.
    pub fn names_a_key(&self) -> bool {
        match self {
            Self::Pkcs11(uri) => uri.object.is_some() || uri.id.is_some(),
            Self::Tpm(uri) => uri.handle.is_some(),
            Self::AwsKms(uri) => cloud::names_a_key(uri),
            Self::GcpKms(uri) => cloud::names_a_key(uri),
            Self::AzureKv(uri) => cloud::names_a_key(uri),
        }
    }

    /// This URI with its absent attributes taken from `device`.
    ///
    /// # Errors
    /// The two contradict each other: [`UriError::Conflict`] names the attribute and both values.
    pub fn completed_by(&self, device: &Self) -> Result<Self, UriError> {
        match (self, device) {
            (Self::Pkcs11(key), Self::Pkcs11(device)) => key.completed_by(device).map(Self::Pkcs11),
            (Self::Tpm(key), Self::Tpm(device)) => key.completed_by(device).map(Self::Tpm),
            (Self::AwsKms(key), Self::AwsKms(device)) => cloud::completed_by(key, device).map(Self::AwsKms),
            (Self::GcpKms(key), Self::GcpKms(device)) => cloud::completed_by(key, device).map(Self::GcpKms),
            (Self::AzureKv(key), Self::AzureKv(device)) => {
                cloud::completed_by(key, device).map(Self::AzureKv)
            }
            _ => Err(UriError::Conflict {
                attribute: "scheme",
                key: self.scheme().to_string(),
                device: device.scheme().to_string(),
            }),
        }
    }
}

impl FromStr for KeyUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX_URI {
            return Err(UriError::TooLong(text.len()));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| UriError::NoScheme(text.to_owned()))?;
        match Scheme::ALL.into_iter().find(|known| known.name() == scheme) {
            Some(Scheme::Pkcs11) => Pkcs11Uri::parse(rest).map(Self::Pkcs11),
            Some(Scheme::Tpm) => TpmUri::parse(rest).map(Self::Tpm),
            Some(Scheme::AwsKms) => AwsKmsUri::parse(rest).map(Self::AwsKms),
            Some(Scheme::GcpKms) => cloud::parse(rest).map(Self::GcpKms),
            Some(Scheme::AzureKv) => cloud::parse(rest).map(Self::AzureKv),
            None => Err(UriError::UnknownScheme(scheme.to_owned())),
        }
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pkcs11(uri) => uri.fmt(f),
            Self::Tpm(uri) => uri.fmt(f),
            Self::AwsKms(uri) => uri.fmt(f),
            Self::GcpKms(uri) => uri.fmt(f),
            Self::AzureKv(uri) => uri.fmt(f),
        }
    }
}

fn known_schemes() -> String {
    Scheme::ALL.map(|scheme| format!("{scheme}:")).join(", ")
}

/// Why a text is no key URI, or two URIs do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than any sensible URI.
    #[error("a key URI of {0} bytes is too long ({MAX_URI} bytes at most)")]
    TooLong(usize),
    /// No colon.
    #[error("`{0}` is no key URI; write pkcs11:token=…;object=… or tpm:handle=0x81…")]
    NoScheme(String),
    /// A scheme that no backend of Undercroft serves.
    #[error("`{0}:` is no scheme of a key URI; known are {known}", known = known_schemes())]
    UnknownScheme(String),
    /// An attribute that the scheme does not have.
    #[error("`{attribute}` is no attribute of a {scheme}: URI; known are {known}")]
    UnknownAttribute {
        /// The scheme.
        scheme: Scheme,
        /// What was written.
        attribute: String,
        /// What may be written.
        known: String,
    },
    /// An attribute given twice.
    #[error("the attribute `{0}` stands twice in the URI")]
    Repeated(String),
    /// A value that the attribute cannot have.
    #[error("the URI attribute `{attribute}` cannot be `{value}`: {rule}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        rule: &'static str,
    },
    /// A PIN in a URI.
    #[error(
        "a PIN has no place in a URI, which is printed and logged; remove `pin-value` and give the device a `pin-file`"
    )]
    PinInUri,
    /// The key's URI and the device's URI say different things.
    #[error("the key URI says {attribute} `{key}` but its device says `{device}`; remove one of them")]
    Conflict {
        /// The attribute.
        attribute: &'static str,
        /// The key's value.
        key: String,
        /// The device's value.
        device: String,
    },
}

#[cfg(test)]
mod tests;
