//! Where tokens are and how they are unlocked: the `[[device]]` tables of configurations and environments.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{KeyUri, SecretSource, TimeLimit, UriError};

/// A `[[device]]` table as it is written.
///
/// ```toml
/// [[device]]
/// name = "prod"
/// uri = "pkcs11:token=prod?module-path=/usr/lib/softhsm/libsofthsm2.so"
/// pin-file = "prod.pin"        # or pin-credential = "prod-pin", or pin-prompt = true
/// sessions = 4
/// time-limit = "10s"
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
    /// How many sessions to hold; a token's own limit may be lower. The default is the backend's.
    pub sessions: Option<NonZeroUsize>,
    /// How long a call may take, from being asked to the answer.
    #[serde(default)]
    pub time_limit: TimeLimit,
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
    /// How long a call may take.
    pub time_limit: TimeLimit,
}

impl Device {
    /// Validates a table. Relative paths are taken from `base`, the folder of the file that holds it.
    ///
    /// # Errors
    /// The URI is none, or names a key, or more than one PIN source is given.
    pub fn from_config(config: DeviceConfig, base: &Path) -> Result<Self, DeviceError> {
        let device = config.name;
        let uri: KeyUri =
            config.uri.parse().map_err(|error| DeviceError::Uri { device: device.clone(), error })?;
        let names_a_key = match &uri {
            KeyUri::Pkcs11(uri) => uri.object.is_some() || uri.id.is_some(),
            KeyUri::Tpm(uri) => uri.handle.is_some(),
        };
        if names_a_key {
            return Err(DeviceError::NamesKey { device });
        }
        let mut sources = [
            config.pin_file.map(|path| SecretSource::File(base.join(path))),
            config.pin_credential.map(SecretSource::Credential),
            config.pin_prompt.then_some(SecretSource::Prompt),
        ]
        .into_iter()
        .flatten();
        let pin = sources.next();
        if sources.next().is_some() {
            return Err(DeviceError::SeveralPins { device });
        }
        Ok(Self { name: device, uri, pin, sessions: config.sessions, time_limit: config.time_limit })
    }
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
    #[error("device `{device}`: its URI names a key (object, id or handle); leave that to the keys")]
    NamesKey {
        /// The device.
        device: String,
    },
    /// Two ways to get the PIN.
    #[error("device `{device}`: give one of pin-file, pin-credential and pin-prompt, not several")]
    SeveralPins {
        /// The device.
        device: String,
    },
}
