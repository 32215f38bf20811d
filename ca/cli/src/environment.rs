//! Environment files: where devices are on this machine, and how they are unlocked.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_attestors::custody::{self, Custody};
use undercroft_attestors::trust::Trust;
use undercroft_ca::strict_toml;
use undercroft_keymgr::{Backend, CustodyEvidence, Device, DeviceConfig, Key, Secrecy, Tokens};
use undercroft_log::Clock as _;

use crate::system::SystemClock;
use crate::trust::{ActivatorConfig, trust};
use crate::{Failure, read_text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EnvironmentConfig {
    #[serde(default)]
    development: bool,
    endorsement_anchors: Option<PathBuf>,
    hsm_anchors: Option<PathBuf>,
    #[serde(default, rename = "activator")]
    activators: Vec<ActivatorConfig>,
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
    /// Who is believed about TPMs and HSMs.
    pub trust: Trust,
}

impl Environment {
    /// Reads the file at `path`. `backends` are those that the program was built with.
    ///
    /// # Errors
    /// The file cannot be read or is no environment.
    pub fn read(path: &Path, secrecy: Secrecy, backends: Vec<Box<dyn Backend>>) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let config: EnvironmentConfig = strict_toml::parse(&path.display().to_string(), &text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let (endorsement, hsm) = (config.endorsement_anchors.as_deref(), config.hsm_anchors.as_deref());
        let trust = trust(endorsement, hsm, &config.activators, base)?;
        let tokens = tokens(config.devices, base, secrecy, backends)?;
        Ok(Self { development: config.development, tokens, trust })
    }
}

impl Environment {
    /// Judges now where a key lives, by whom this environment believes.
    pub fn judge(&self, evidence: &CustodyEvidence, key: &Key) -> Custody {
        let now = SystemClock.now();
        custody::judge(evidence.format, &evidence.bytes, key.signer.public_key(), &self.trust, now)
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
