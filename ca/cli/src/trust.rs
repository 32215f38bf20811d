//! Whom custody evidence is believed: configuration that daemon, ceremony and auditor share.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::custody::HsmAnchors;
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::certificates_from_pem;

use crate::{Failure, read_text};

/// An `[[activator]]` table.
///
/// ```toml
/// endorsement-anchors = "anchors"   # a folder of manufacturers' certificates, PEM
/// hsm-anchors = "hsm"               # a folder with two more in it, `manufacturers` and `owners`, for the HSMs of clouds
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
pub fn trust(
    anchors: Option<&Path>,
    hsm: Option<&Path>,
    activators: &[ActivatorConfig],
    base: &Path,
) -> Result<Trust, Failure> {
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
        hsm: hsm.map(|folder| hsm_anchors(&base.join(folder))).transpose()?.unwrap_or_default(),
    })
}

/// The roots of HSMs in clouds: `manufacturers` and `owners` in a folder, each with files of one PEM certificate.
///
/// # Errors
/// A folder or a file cannot be read, holds something else, or there is none.
pub fn hsm_anchors(folder: &Path) -> Result<HsmAnchors, Failure> {
    let read = |name: &str| -> Result<Vec<String>, Failure> {
        let folder = folder.join(name);
        let wrong = |what: &str| Failure::usage(format!("hsm-anchors: {}: {what}", folder.display()));
        let unreadable = |error: std::io::Error| wrong(&error.to_string());
        let files = std::fs::read_dir(&folder).map_err(unreadable)?;
        let files: Vec<PathBuf> =
            files.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>().map_err(unreadable)?;
        let mut texts = Vec::new();
        for path in files.iter().filter(|path| path.is_file()) {
            texts.push(read_text(path)?);
        }
        match texts.is_empty() {
            false => Ok(texts),
            true => Err(wrong("it has no certificates")),
        }
    };
    let (makers, owners) = (read("manufacturers")?, read("owners")?);
    let makers: Vec<&str> = makers.iter().map(String::as_str).collect();
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    HsmAnchors::from_pem(&makers, &owners)
        .map_err(|error| Failure::usage(format!("hsm-anchors: {}: {error}", folder.display())))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hsm_anchors_without_both_kinds_of_roots_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || hsm_anchors(folder.path()).unwrap_err().to_string();
        assert!(refusal().contains("manufacturers"), "{}", refusal());
        for name in ["manufacturers", "owners"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            assert!(refusal().contains("no certificates") || refusal().contains("owners"), "{}", refusal());
            fs::write(folder.path().join(name).join("root.pem"), "no PEM").unwrap();
        }
        assert!(refusal().contains("an anchor of HSMs cannot be read"), "{}", refusal());
    }
}
