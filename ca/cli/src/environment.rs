//! Environment files: where devices are on this machine, and how they are unlocked.

use std::path::Path;

use serde::Deserialize;
use undercroft_ca::strict_toml;
use undercroft_keymgr::{Backend, Device, DeviceConfig, Secrecy, Tokens};

use crate::{Failure, read_text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EnvironmentConfig {
    #[serde(default)]
    development: bool,
    #[serde(default, rename = "device")]
    devices: Vec<DeviceConfig>,
}

/// Arguments of every command that opens devices.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct StrictArgs {
    /// Refuse PINs in environment variables and static cloud credentials.
    #[arg(long, env = "UNDERCROFT_STRICT")]
    strict: bool,
}

impl StrictArgs {
    /// What is asked for.
    pub fn secrecy(self) -> Secrecy {
        match self.strict {
            true => Secrecy::Strict,
            false => Secrecy::Lenient,
        }
    }
}

/// An environment file, read.
#[derive(Debug)]
pub struct Environment {
    /// Software keys are accepted.
    pub development: bool,
    /// The devices.
    pub tokens: Tokens,
}

impl Environment {
    /// Reads the file at `path`. `backends` are those that the program was built with.
    ///
    /// # Errors
    /// The file cannot be read or is no environment.
    pub fn read(path: &Path, secrecy: Secrecy, backends: Vec<Box<dyn Backend>>) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let config: EnvironmentConfig = strict_toml::parse(&path.display().to_string(), &text)?;
        let tokens = tokens(config.devices, path.parent().unwrap_or(Path::new(".")), secrecy, backends)?;
        Ok(Self { development: config.development, tokens })
    }
}

/// The tokens of `[[device]]` tables. Relative paths are taken from `base`.
///
/// # Errors
/// A table describes no device, or two have one name.
pub fn tokens(
    devices: Vec<DeviceConfig>,
    base: &Path,
    secrecy: Secrecy,
    backends: Vec<Box<dyn Backend>>,
) -> Result<Tokens, Failure> {
    let devices = devices
        .into_iter()
        .map(|device| Device::from_config(device, base, secrecy))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Tokens::new(devices, backends)?)
}
