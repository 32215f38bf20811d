//! Whom custody evidence is believed: configuration that daemon, ceremony and auditor share.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::custody::{CardAnchors, HsmAnchors};
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::certificates_from_pem;

use crate::{Failure, read_text};

/// An `[[activator]]` table.
///
/// ```toml
/// endorsement-anchors = "anchors"   # a folder of manufacturers' certificates, PEM, and of roots of SmartCard-HSMs, `.cvc`
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
    let (endorsement, cards) =
        anchors.map(|folder| makers(&base.join(folder))).transpose()?.unwrap_or_default();
    Ok(Trust {
        endorsement,
        cards,
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

/// The certificates of manufacturers of TPMs in a folder of [`makers`].
///
/// # Errors
/// As [`makers`]; or there is none.
pub fn endorsement_anchors(folder: &Path) -> Result<Anchors, Failure> {
    let (anchors, _) = makers(folder)?;
    match anchors.is_empty() {
        false => Ok(anchors),
        true => Err(Failure::usage(format!(
            "endorsement-anchors: {} has no certificates of manufacturers of TPMs",
            folder.display()
        ))),
    }
}

/// The certificates of makers of hardware in a folder: files ending in `.cvc` are roots of SmartCard-HSMs, binary, and all
/// others PEM.
///
/// # Errors
/// The folder or a file cannot be read, holds something else, or there is none.
pub fn makers(folder: &Path) -> Result<(Anchors, CardAnchors), Failure> {
    let wrong = |what: String| Failure::usage(format!("endorsement-anchors: {what}"));
    let unreadable = |error: std::io::Error| wrong(format!("{}: {error}", folder.display()));
    let files = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut files: Vec<PathBuf> =
        files.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    files.retain(|path| path.is_file());
    files.sort();
    let (mut anchors, mut cards) = (Vec::new(), CardAnchors::default());
    for path in &files {
        let during = |what: String| wrong(format!("{}: {what}", path.display()));
        if path.extension().is_some_and(|extension| extension == "cvc") {
            let bytes = std::fs::read(path).map_err(|error| during(error.to_string()))?;
            cards = cards.and(CardAnchors::new(&[bytes]).map_err(|error| during(error.to_string()))?);
            continue;
        }
        for der in certificates_from_pem(&read_text(path)?).map_err(|error| during(error.to_string()))? {
            anchors.push(Certificate::from_der(&der).map_err(|error| during(error.to_string()))?);
        }
    }
    match anchors.is_empty() && cards.is_empty() {
        false => Ok((Anchors::new(anchors), cards)),
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

    #[test]
    fn roots_of_cards_are_in_the_same_folder_and_count_for_cards_alone() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |refused: Failure| refused.to_string();
        assert!(refusal(makers(folder.path()).unwrap_err()).contains("has no certificates"));
        // The head of a card-verifiable certificate, and nothing else of it.
        let path = folder.path().join("root.cvc");
        fs::write(&path, [0x7f, 0x21, 0x82, 0x01, 0xb4]).unwrap();
        let refused = refusal(makers(folder.path()).unwrap_err());
        assert!(refused.contains("root.cvc") && refused.contains("card-verifiable"), "{refused}");
        // DESRCACC100001.
        let root = hex::decode(
            include_str!("../../../attestors/src/custody/smartcard_hsm/desrcacc100001.hex").trim_end(),
        )
        .unwrap();
        fs::write(&path, root).unwrap();
        let (anchors, cards) = makers(folder.path()).unwrap();
        assert!(anchors.is_empty() && !cards.is_empty());
        assert!(refusal(endorsement_anchors(folder.path()).unwrap_err()).contains("of TPMs"));
        let trusted = trust(Some(folder.path()), None, &[], Path::new(".")).unwrap();
        assert_eq!(trusted.cards, cards);
    }
}
