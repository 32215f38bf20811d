//! Where tokens are and how they are unlocked: the `[[device]]` tables of configurations and environments.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{AttestationPlace, KeyUri, Secrecy, SecretSource, UriError};

/// A `[[device]]` table as it is written.
///
/// ```toml
/// [[device]]
/// name = "prod"
/// uri = "pkcs11:token=prod?module-path=/usr/lib/softhsm/libsofthsm2.so"
/// pin-file = "prod.pin"   # or pin-credential = "prod-pin", pin-prompt = true, pin-environment = "PROD_PIN"
/// sessions = 4
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceConfig {
    /// How plans and messages call the device.
    pub name: String,
    /// A key URI without the attributes of a key.
    pub uri: String,
    /// A file that holds the PIN, relative to the configuration's folder.
    pub pin_file: Option<PathBuf>,
    /// The name of a systemd credential that holds the PIN.
    pub pin_credential: Option<String>,
    /// Ask for the PIN on the terminal.
    #[serde(default)]
    pub pin_prompt: bool,
    /// The name of an environment variable that holds the PIN. Refused where secrecy is strict.
    pub pin_environment: Option<String>,
    /// How many sessions to hold; a token's own limit may be lower. The default is the backend's.
    pub sessions: Option<NonZeroUsize>,
    /// For a TPM: the persistent handle of the attestation key that certifies its keys.
    pub attestation_key: Option<String>,
    /// The file that `undercroft keys activate` wrote for it, relative to the configuration's folder.
    pub activation: Option<PathBuf>,
}

/// A token: its name, where it is, and how it is unlocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// How plans and messages call it.
    pub name: String,
    /// Where it is.
    pub uri: KeyUri,
    /// Where its PIN comes from, if it needs one.
    pub pin: Option<SecretSource>,
    /// How many sessions to hold; none for the backend's default.
    pub sessions: Option<NonZeroUsize>,
    /// The key that certifies its keys, if it is a TPM that has one.
    pub attestation: Option<AttestationPlace>,
}

impl Device {
    /// Validates a table. Relative paths are taken from `base`, the folder of the file that holds it.
    ///
    /// # Errors
    /// The URI is none, or names a key, or more than one PIN source is given, or one that `secrecy` refuses.
    pub fn from_config(config: DeviceConfig, base: &Path, secrecy: Secrecy) -> Result<Self, DeviceError> {
        let device = config.name;
        let uri: KeyUri =
            config.uri.parse().map_err(|error| DeviceError::Uri { device: device.clone(), error })?;
        if uri.names_a_key() {
            return Err(DeviceError::NamesKey { device });
        }
        let mut sources = [
            config.pin_file.map(|path| SecretSource::File(base.join(path))),
            config.pin_credential.map(SecretSource::Credential),
            config.pin_prompt.then_some(SecretSource::Prompt),
            config.pin_environment.map(SecretSource::Environment),
        ]
        .into_iter()
        .flatten();
        let pin = sources.next();
        if sources.next().is_some() {
            return Err(DeviceError::SeveralPins { device });
        }
        if uri.scheme().is_cloud() && pin.is_some() {
            return Err(DeviceError::PinOfCloud { device });
        }
        if let (Secrecy::Strict, Some(SecretSource::Environment(variable))) = (secrecy, &pin) {
            return Err(DeviceError::EnvironmentPin { device, variable: variable.clone() });
        }
        let attestation = attestation(&device, config.attestation_key, config.activation, base)?;
        if attestation.is_some() && !matches!(uri, KeyUri::Tpm(_)) {
            return Err(DeviceError::Attestation { device, what: "only TPMs have attestation keys" });
        }
        Ok(Self { name: device, uri, pin, sessions: config.sessions, attestation })
    }
}

fn attestation(
    device: &str,
    handle: Option<String>,
    activation: Option<PathBuf>,
    base: &Path,
) -> Result<Option<AttestationPlace>, DeviceError> {
    let wrong = |what| DeviceError::Attestation { device: device.to_owned(), what };
    let Some(text) = handle else {
        return match activation {
            None => Ok(None),
            Some(_) => Err(wrong("activation is of an attestation-key; say which")),
        };
    };
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let handle = u32::from_str_radix(digits, 16).ok().filter(|handle| handle >> 24 == 0x81);
    let handle = handle.ok_or_else(|| wrong("attestation-key is a persistent handle, 0x81…"))?;
    Ok(Some(AttestationPlace { handle, activation: activation.map(|path| base.join(path)) }))
}

/// Why a `[[device]]` table does not describe a token.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The URI is wrong.
    #[error("device `{device}`: {error}")]
    Uri {
        /// The device.
        device: String,
        /// What is wrong with its URI.
        error: UriError,
    },
    /// The URI has attributes of a key.
    #[error(
        "device `{device}`: its URI names a key; leave attributes such as object, id, handle, alias, key-id, key and version to the keys"
    )]
    NamesKey {
        /// The device.
        device: String,
    },
    /// A PIN in the environment, which strict secrecy refuses.
    #[error(
        "device `{device}`: its PIN comes from the environment variable {variable}, which --strict refuses: others can read it in /proc; use pin-file or pin-credential"
    )]
    EnvironmentPin {
        /// The device.
        device: String,
        /// The variable.
        variable: String,
    },
    /// The attestation key or its certificate.
    #[error("device `{device}`: {what}")]
    Attestation {
        /// The device.
        device: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two ways to get the PIN.
    #[error(
        "device `{device}`: give one of pin-file, pin-credential, pin-prompt and pin-environment, not several"
    )]
    SeveralPins {
        /// The device.
        device: String,
    },
    /// A PIN for a cloud.
    #[error(
        "device `{device}` is a cloud's, which has no PIN: it knows this program by its ambient identity (instance role, workload identity); remove its pin-… line"
    )]
    PinOfCloud {
        /// The device.
        device: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: impl FnOnce(&mut DeviceConfig)) -> DeviceConfig {
        let mut config = DeviceConfig {
            name: "prod".into(),
            uri: "pkcs11:token=prod".into(),
            pin_file: None,
            pin_credential: None,
            pin_prompt: false,
            pin_environment: None,
            sessions: None,
            attestation_key: None,
            activation: None,
        };
        more(&mut config);
        config
    }

    #[test]
    fn a_pin_in_the_environment_is_refused_where_secrecy_is_strict() {
        let wanted = || config(|device| device.pin_environment = Some("PROD_PIN".into()));
        let device = Device::from_config(wanted(), Path::new("/etc"), Secrecy::Lenient).unwrap();
        assert_eq!(device.pin, Some(SecretSource::Environment("PROD_PIN".into())));
        let refusal =
            Device::from_config(wanted(), Path::new("/etc"), Secrecy::Strict).unwrap_err().to_string();
        assert!(refusal.contains("`prod`") && refusal.contains("PROD_PIN") && refusal.contains("pin-file"));
    }

    #[test]
    fn several_pins_and_uris_of_keys_are_refused() {
        let refused = |config| Device::from_config(config, Path::new("/etc"), Secrecy::Lenient).unwrap_err();
        let two = config(|device| {
            device.pin_prompt = true;
            device.pin_environment = Some("PROD_PIN".into());
        });
        assert!(matches!(refused(two), DeviceError::SeveralPins { .. }));
        for uri in ["pkcs11:token=prod;object=ca", "pkcs11:token=prod;id=%01", "tpm:handle=0x81010001"] {
            let names_a_key = config(|device| device.uri = uri.into());
            assert!(matches!(refused(names_a_key), DeviceError::NamesKey { .. }), "{uri}");
        }
    }

    fn device(uri: &str, pin: Option<&str>) -> Result<Device, String> {
        let config = config(|device| {
            device.uri = uri.into();
            device.pin_file = pin.map(Into::into);
        });
        let device = Device::from_config(config, Path::new("/etc/undercroft"), Secrecy::Strict);
        device.map_err(|error| error.to_string())
    }

    #[test]
    fn a_devices_uri_names_no_key() {
        for uri in [
            "pkcs11:token=prod;object=ca",
            "tpm:handle=0x81010001",
            "awskms:region=eu-central-1;alias=ca",
            "awskms:key-id=mrk-1234abcd12ab34cd56ef1234567890ab",
            "gcpkms:key=ca",
            "gcpkms:version=1",
            "azurekv:key=ca",
            "azurekv:version=78deebed173b48e48f55abf87ed4cf71",
        ] {
            let refusal = device(uri, None).unwrap_err();
            assert!(refusal.contains("`prod`: its URI names a key"), "{uri}: {refusal}");
        }
        device("awskms:region=eu-central-1;account=111122223333", None).unwrap();
    }

    #[test]
    fn a_cloud_has_no_pin() {
        for uri in
            ["awskms:region=eu-central-1", "gcpkms:key-ring=prod", "azurekv:vault=prod.vault.azure.net"]
        {
            let refusal = device(uri, Some("prod.pin")).unwrap_err();
            assert!(refusal.contains("ambient identity") && refusal.contains("remove its pin-"), "{refusal}");
        }
        assert!(device("pkcs11:token=prod", Some("prod.pin")).unwrap().pin.is_some());
    }
}
