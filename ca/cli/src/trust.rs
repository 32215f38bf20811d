//! Whom custody evidence is believed: configuration that daemon, ceremony and auditor share.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::certificates_from_pem;

use crate::{Failure, read_text};

/// An `[[activator]]` table.
///
/// ```toml
/// endorsement-anchors = "anchors"   # a folder of manufacturers' certificates, PEM
///
/// [[activator]]
/// vkey = "witness.example/w1+…"     # from `undercroft-witness key`
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivatorConfig {
    vkey: String,
}

/// Reads whom configuration trusts. Relative paths are taken from `base`.
///
/// # Errors
/// A file cannot be read, is no certificate, or a key is none of a witness.
pub fn trust(anchors: Option<&Path>, activators: &[ActivatorConfig], base: &Path) -> Result<Trust, Failure> {
    let activators = activators.iter().map(|activator| {
        let key = activator.vkey.parse();
        key.map_err(|error| Failure::usage(format!("activator `{}`: {error}", activator.vkey)))
    });
    Ok(Trust {
        endorsement: anchors
            .map(|folder| endorsement_anchors(&base.join(folder)))
            .transpose()?
            .unwrap_or_default(),
        activators: activators.collect::<Result<_, _>>()?,
    })
}

/// The certificates of manufacturers in a folder: all its files, which are PEM.
///
/// # Errors
/// The folder or a file cannot be read, holds something else, or there is none.
pub fn endorsement_anchors(folder: &Path) -> Result<Anchors, Failure> {
    let wrong = |what: String| Failure::usage(format!("endorsement-anchors: {what}"));
    let unreadable = |error: std::io::Error| wrong(format!("{}: {error}", folder.display()));
    let files = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut files: Vec<PathBuf> =
        files.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    files.retain(|path| path.is_file());
    files.sort();
    let mut anchors = Vec::new();
    for path in &files {
        let during = |what: String| wrong(format!("{}: {what}", path.display()));
        for der in certificates_from_pem(&read_text(path)?).map_err(|error| during(error.to_string()))? {
            anchors.push(Certificate::from_der(&der).map_err(|error| during(error.to_string()))?);
        }
    }
    match anchors.is_empty() {
        false => Ok(Anchors::new(anchors)),
        true => Err(wrong(format!("{} has no certificates", folder.display()))),
    }
}
