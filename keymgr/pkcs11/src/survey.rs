//! Which PKCS#11 modules and tokens this machine has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cryptoki::slot::TokenInfo;
use undercroft_keymgr::{KeyUri, Pkcs11Uri, Sighting};

use crate::module::Module;

/// Where p11-kit is told of modules (pkcs11.conf(5)).
const MODULE_FILES: [&str; 2] = ["/etc/pkcs11/modules", "/usr/share/p11-kit/modules"];

/// Where libraries are, each with folders of its architecture.
const LIBRARIES: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// Modules by their place below a folder of libraries, with their name and the Debian package or vendor that has them.
const BELOW: [(&str, &str, &str); 8] = [
    ("softhsm/libsofthsm2.so", "SoftHSM, for tests and demos alone", "softhsm2"),
    ("opensc-pkcs11.so", "OpenSC: smart cards, Nitrokey HSM, SmartCard-HSM", "opensc-pkcs11"),
    ("libykcs11.so", "YubiKey PIV", "ykcs11"),
    ("pkcs11/yubihsm_pkcs11.so", "YubiHSM 2", "Yubico's yubihsm2-sdk"),
    ("libtpm2_pkcs11.so", "a TPM as PKCS#11", "libtpm2-pkcs11-1"),
    ("pkcs11/libtpm2_pkcs11.so", "a TPM as PKCS#11", "libtpm2-pkcs11-1"),
    ("opencryptoki/libopencryptoki.so", "openCryptoki", "opencryptoki"),
    ("libCryptoki2_64.so", "Thales Luna", "Thales' Luna client"),
];

/// Modules that have places of their own.
const ELSEWHERE: [(&str, &str); 3] = [
    ("/opt/nfast/toolkits/pkcs11/libcknfast.so", "Entrust nShield"),
    ("/usr/safenet/lunaclient/lib/libCryptoki2_64.so", "Thales Luna"),
    ("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so", "AWS CloudHSM"),
];

/// Every module that is found, and every token in it.
pub(crate) fn survey() -> Vec<Sighting> {
    let mut seen = BTreeSet::new();
    let mut sightings = Vec::new();
    for (path, name) in modules() {
        // One library may be known under several names.
        if path.canonicalize().is_ok_and(|canonical| seen.insert(canonical)) {
            sightings.extend(tokens(&path, &name));
        }
    }
    if sightings.is_empty() {
        let packages: BTreeSet<_> =
            BELOW.iter().map(|(_, name, package)| format!("{package} ({name})")).collect();
        sightings.push(Sighting::wanting(
            "PKCS#11 modules",
            format!(
                "none in the usual places; name yours with module-path, or install one of {}",
                join(packages)
            ),
        ));
    }
    sightings
}

fn modules() -> Vec<(PathBuf, String)> {
    let folders = || LIBRARIES.iter().flat_map(|folder| with_architectures(Path::new(folder)));
    let mut found = Vec::new();
    for (below, name, _) in BELOW {
        found.extend(folders().map(|folder| (folder.join(below), name.to_owned())));
    }
    found.extend(ELSEWHERE.iter().map(|(path, name)| (PathBuf::from(path), (*name).to_owned())));
    for file in MODULE_FILES.iter().flat_map(|folder| entries(Path::new(folder))) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let Some(module) = named_module(&text) else { continue };
        let name = format!("named by {}", file.display());
        // A name without a folder is one of p11-kit's own folder. What begins with p11-kit holds certificates alone.
        if Path::new(module).is_absolute() {
            found.push((module.into(), name));
        } else if !module.starts_with("p11-kit") {
            found.extend(folders().map(|folder| (folder.join("pkcs11").join(module), name.clone())));
        }
    }
    found.retain(|(path, _)| path.is_file());
    found
}

/// The `module:` line of a file for p11-kit.
fn named_module(text: &str) -> Option<&str> {
    text.lines()
        .find_map(|line| Some(line.trim().strip_prefix("module")?.trim_start().strip_prefix(':')?.trim()))
}

fn with_architectures(folder: &Path) -> Vec<PathBuf> {
    let below = entries(folder).into_iter().filter(|path| path.to_string_lossy().contains("-linux-"));
    std::iter::once(folder.to_owned()).chain(below).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What the tokens of a module are, and whether they can be used.
fn tokens(path: &Path, name: &str) -> Vec<Sighting> {
    let what = format!("{} ({name})", path.display());
    let infos = Module::load(path).and_then(|module| module.token_infos());
    match infos {
        Ok(infos) if infos.is_empty() => {
            vec![Sighting::wanting(what, "no token in it: plug one in, start its service, or initialise one")]
        }
        Ok(infos) => infos.iter().map(|info| token(path, info)).collect(),
        Err(error) => vec![Sighting::wanting(what, error.to_string())],
    }
}

fn token(path: &Path, info: &TokenInfo) -> Sighting {
    let text = |text: &str| text.trim_end_matches([' ', '\0']).to_owned();
    let label = text(info.label());
    let what = format!("token `{label}`, {} {}", text(info.manufacturer_id()), text(info.model()));
    if !info.token_initialized() {
        return Sighting::wanting(
            what,
            "not initialised: give it a label, an SO PIN and a PIN with its vendor's tool",
        );
    }
    if !info.user_pin_initialized() {
        return Sighting::wanting(what, "it has no user PIN yet: set one with its vendor's tool");
    }
    if info.user_pin_locked() {
        return Sighting::wanting(what, "its PIN is locked: unlock it with the SO PIN");
    }
    let uri = Pkcs11Uri {
        module_path: Some(path.to_owned()),
        token: Some(label).filter(|label| !label.is_empty()),
        serial: Some(text(info.serial_number())).filter(|serial| !serial.is_empty()),
        ..Pkcs11Uri::default()
    };
    Sighting::usable(what, KeyUri::Pkcs11(uri))
}

fn join(names: BTreeSet<String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_line_is_read_as_p11_kit_writes_it() {
        assert_eq!(named_module("# OpenSC\nmodule: opensc-pkcs11.so\n"), Some("opensc-pkcs11.so"));
        assert_eq!(named_module("priority: 2\n  module :/opt/a b.so \n"), Some("/opt/a b.so"));
        assert_eq!(named_module("# module: x.so\nmodules: y.so\n"), None);
    }
}
