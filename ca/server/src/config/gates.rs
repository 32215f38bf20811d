//! Files of gates: those that a key is made with, and signs with, in this order.
//!
//! ```toml
//! [[gate]]
//! name = "gate-1"
//! url = "https://gate-1.example"
//! key = "gate-1.pem"       # from `undercroft-witness gate key`
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_ca::certificate::public_key_from_pem;
use undercroft_ca::strict_toml;
use undercroft_cli::{Failure, read_text};
use undercroft_keys::PublicKey;

use super::is_elsewhere;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct GatesConfig {
    #[serde(rename = "gate")]
    gates: Vec<GateConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct GateConfig {
    name: String,
    url: String,
    key: PathBuf,
}

/// A gate, and how it is reached.
#[derive(Clone, Debug)]
pub struct GateAddress {
    /// How messages call it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its key.
    pub key: PublicKey,
}

impl GateAddress {
    /// Reads a file of gates. One on this host counts for nothing outside development.
    ///
    /// # Errors
    /// It cannot be read, or a gate of it is none.
    pub fn read_file(path: &Path, development: bool) -> Result<Vec<Self>, Failure> {
        let config: GatesConfig = strict_toml::parse(&path.display().to_string(), &read_text(path)?)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let mut gates: Vec<Self> = Vec::new();
        for GateConfig { name, url, key } in config.gates {
            let wrong = |what: String| Failure::usage(format!("{}: gate `{name}`: {what}", path.display()));
            is_elsewhere(&url, development).map_err(wrong)?;
            let pem = read_text(&base.join(&key))?;
            let key =
                public_key_from_pem(&pem).map_err(|error| wrong(format!("{}: {error}", key.display())))?;
            if gates.iter().any(|gate| gate.key == key || gate.name == name) {
                return Err(wrong("it stands twice".to_owned()));
            }
            gates.push(Self { name, url, key });
        }
        Ok(gates)
    }
}
