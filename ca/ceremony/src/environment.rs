//! The environment of a ceremony: where the devices are on this machine, and how they are unlocked.

use std::path::Path;

use serde::Deserialize;
use undercroft_ca::strict_toml;
use undercroft_cli::{Failure, read_text};
use undercroft_keymgr::{Backend, Device, DeviceConfig, Tokens};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EnvironmentConfig {
    #[serde(default)]
    development: bool,
    #[serde(default, rename = "device")]
    devices: Vec<DeviceConfig>,
}

/// An environment file, read.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Software keys are accepted.
    pub(crate) development: bool,
    /// The devices.
    pub(crate) tokens: Tokens,
}

impl Environment {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let config: EnvironmentConfig = strict_toml::parse(&path.display().to_string(), &text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let devices = config
            .devices
            .into_iter()
            .map(|device| Device::from_config(device, base))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { development: config.development, tokens: Tokens::new(devices, backends())? })
    }
}

/// The backends that this program was built with.
fn backends() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "pkcs11")]
        Box::new(undercroft_pkcs11::Pkcs11Backend),
        #[cfg(feature = "tpm")]
        Box::new(undercroft_tpm::TpmBackend),
    ]
}
