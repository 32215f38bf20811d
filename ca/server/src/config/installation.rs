//! What a configuration says before the certificates that it names are there: as much as a request to the first ceremony
//! needs, and as the import of its response.

use std::path::{Path, PathBuf};

use undercroft_ca::certificate::{AuthorityCertificate, certificates_from_pem};
use undercroft_ca::log_key::{LogOf, origin};
use undercroft_ca::strict_toml;
use undercroft_cli::{Failure, read_text, tokens};
use undercroft_keymgr::{Backend, KeyUri, Secrecy, Tokens};
use undercroft_log::leaf::Digest;
use undercroft_log::note::KeyName;

use super::raw::Config as RawConfig;

/// An installation, as far as it is there.
#[derive(Debug)]
pub struct Installation {
    /// The origin of its control log.
    pub origin: KeyName,
    /// SHA-256 of its policy's text.
    pub policy: Digest,
    /// Its devices.
    pub tokens: Tokens,
    /// The key of its control log.
    pub log_key: KeyUri,
    /// The roots that are there already, of all domains.
    pub roots: Vec<AuthorityCertificate>,
    /// The folder beside the database in which files across the air gap are remembered.
    pub exchange: PathBuf,
}

impl Installation {
    /// Reads the configuration at `path`. Roots that it names may be missing.
    ///
    /// # Errors
    /// The file or its policy cannot be read, or it has no control domain; or a root that is there is none.
    pub fn read(path: &Path, secrecy: Secrecy, backends: Vec<Box<dyn Backend>>) -> Result<Self, Failure> {
        let raw: RawConfig = strict_toml::parse(&path.display().to_string(), &read_text(path)?)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let control = raw.domains.iter().find(|domain| domain.name == raw.control);
        let control = control
            .ok_or_else(|| wrong(format!("control: there is no [[domain]] of the name `{}`", raw.control)))?;
        let origin = origin(&raw.operator, LogOf::Control, control.epoch);
        let origin = origin.map_err(|error| wrong(format!("origin: {error}")))?;
        let log_key = control.log_key.parse()?;
        let mut roots = Vec::new();
        let paths = raw.domains.iter().flat_map(|domain| &domain.roots).map(|path| base.join(path));
        for path in paths.filter(|path| path.exists()) {
            let during = |failure: Failure| failure.during(path.display());
            for der in certificates_from_pem(&read_text(&path)?).map_err(|error| during(error.into()))? {
                roots.push(AuthorityCertificate::from_der(&der).map_err(|error| during(error.into()))?);
            }
        }
        Ok(Self {
            origin,
            policy: Digest::of(read_text(&base.join(raw.policy))?.as_bytes()),
            tokens: tokens(raw.devices, base, secrecy, backends)?,
            log_key,
            roots,
            exchange: base.join(raw.database).with_file_name("exchange"),
        })
    }
}
