//! The witness's configuration: one TOML file. Paths in it are relative to its own folder.
//!
//! ```toml
//! name = "witness.example/w1"                 # a DNS name of yours, and what you call it
//! key = "pkcs11:token=witness;object=witness" # Ed25519
//! state = "state"                             # what was seen last. On a disk that is not reset with the machine
//! listen = "127.0.0.1:8444"                   # for those that run; `activate` alone needs none
//! endorsement-anchors = "anchors"             # manufacturers (PEM) whose TPMs' attestation keys it certifies
//!
//! [[device]]
//! name = "witness"
//! uri = "pkcs11:token=witness?module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
//! pin-file = "witness.pin"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use undercroft_attestors::chain::Anchors;
use undercroft_ca::strict_toml;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_cli::{Failure, endorsement_anchors, read_text, tokens};
use undercroft_keymgr::{Backend, DeviceConfig, KeyUri, Secrecy, SigningKey, Tokens};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::note::KeyName;

use crate::activation::Activator;
use crate::activation::sessions::Sessions;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    name: String,
    key: String,
    state: PathBuf,
    listen: Option<SocketAddr>,
    endorsement_anchors: Option<PathBuf>,
    #[serde(default, rename = "device")]
    devices: Vec<DeviceConfig>,
}

/// A configuration whose parts agree with each other.
#[derive(Debug)]
pub struct Config {
    /// The witness's name.
    pub name: KeyName,
    /// Its key.
    pub key: KeyUri,
    /// The folder of its state.
    pub state: PathBuf,
    /// Where it listens if it runs.
    pub listen: Option<SocketAddr>,
    /// The manufacturers of TPMs whose attestation keys it certifies; none if it certifies none.
    pub endorsement: Option<Anchors>,
    /// The devices.
    pub tokens: Tokens,
}

impl Config {
    /// An activator of this configuration, whose key is opened, and its key.
    ///
    /// # Errors
    /// There are no `endorsement-anchors`, or the key cannot be had or is no Ed25519 key.
    pub async fn activator(&self, sessions: Sessions) -> Result<Activator, Failure> {
        let anchors = self.endorsement.clone().ok_or_else(|| {
            Failure::usage(format!(
                "{}: there are no endorsement-anchors: without manufacturers that are known, no attestation key is certified",
                self.name
            ))
        })?;
        let signer = self.tokens.open(&self.key, KeyAlgorithm::Ed25519).await?.signer;
        let key = self.vkey(&*signer)?;
        tracing::info!(%key, manufacturers = anchors.len(), "it certifies attestation keys");
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Ok(Activator::new(key, signer, anchors, clock, entropy, sessions))
    }

    /// The key that verifies what `signer` signs under this configuration's name.
    ///
    /// # Errors
    /// It is no Ed25519 key.
    pub fn vkey(&self, signer: &dyn SigningKey) -> Result<WitnessKey, Failure> {
        WitnessKey::ed25519(self.name.clone(), signer.public_key().clone())
            .map_err(|error| Failure::usage(format!("{}: {error}", self.key)))
    }

    /// Reads the file at `path`. `backends` are those that the program was built with.
    ///
    /// # Errors
    /// The file cannot be read, or contradicts itself.
    pub fn read(path: &Path, secrecy: Secrecy, backends: Vec<Box<dyn Backend>>) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let raw: RawConfig = strict_toml::parse(&path.display().to_string(), &text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let name = raw.name.parse();
        Ok(Self {
            name: name.map_err(|error| Failure::usage(format!("{}: name: {error}", path.display())))?,
            key: raw.key.parse()?,
            state: base.join(raw.state),
            listen: raw.listen,
            endorsement: raw
                .endorsement_anchors
                .map(|folder| endorsement_anchors(&base.join(folder)))
                .transpose()?,
            tokens: tokens(raw.devices, base, secrecy, backends)?,
        })
    }
}
