//! What consumers see: a folder for each certificate, and a link to the one that counts (`docs/node.md`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use undercroft_ca::certificate::{AuthorityCertificate, certificates_from_pem, to_pem};
use undercroft_ca::verify::{Holder, holder};
use undercroft_cli::{Failure, read_text, write_private_file};
use undercroft_log::leaf::Digest;
use undercroft_tpm::NodeKey;

use crate::config::Config;
use crate::key_file;
use crate::received::Received;

/// The link to the generation that counts.
const CURRENT: &str = "current";
/// What a link or folder is called that is not in place yet.
const NEXT: &str = ".next";

/// The files of a generation.
pub const FILES: [&str; 8] = [
    "svid.pem",
    "svid.key",
    "bundle.pem",
    "bundle.json",
    "svid.tlog-proof",
    "svid.entry",
    "log.vkey",
    "pkcs11.txt",
];

/// A generation: a certificate, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its folder, by its own name.
    pub folder: PathBuf,
    /// What the certificate says.
    pub holder: Holder,
    /// Its key.
    pub key: NodeKey,
    /// The roots of the trust domain.
    pub roots: Vec<AuthorityCertificate>,
}

impl Generation {
    /// The one that counts; nothing if there is none.
    ///
    /// # Errors
    /// Something of it is missing or damaged, or the key is not the certificate's.
    pub fn current(output: &Path) -> Result<Option<Self>, Failure> {
        let name = match fs::read_link(output.join(CURRENT)) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::failed(format!("{}: {error}", output.join(CURRENT).display())));
            }
        };
        Self::read(output.join(name)).map(Some)
    }

    fn read(folder: PathBuf) -> Result<Self, Failure> {
        let damaged = |file: &str, what: String| {
            Failure::tampered(format!("{} is damaged: {what}", folder.join(file).display()))
        };
        let certificates = |file: &str| {
            let read = certificates_from_pem(&read_text(&folder.join(file))?);
            read.map_err(|error| damaged(file, error.to_string()))
        };
        let chain = certificates("svid.pem")?;
        let leaf = chain.first().ok_or_else(|| damaged("svid.pem", "it is empty".to_owned()))?;
        let holder = holder(leaf).map_err(|error| damaged("svid.pem", error.to_string()))?;
        let key = key_file::read(&read_text(&folder.join("svid.key"))?);
        let key = key.map_err(|error| damaged("svid.key", error))?;
        if *key.public_key() != holder.public_key {
            return Err(damaged("svid.key", "it is not the key of the certificate beside it".to_owned()));
        }
        let root = |der: &Vec<u8>| {
            AuthorityCertificate::from_der(der).map_err(|error| damaged("bundle.pem", error.to_string()))
        };
        let roots = certificates("bundle.pem")?.iter().map(root).collect::<Result<_, _>>()?;
        Ok(Self { folder, holder, key, roots })
    }

    /// Puts a certificate and its key in place, all files at once. The generation before stays; older ones go.
    ///
    /// # Errors
    /// The folder cannot be written; then the generation before still counts.
    pub fn put(config: &Config, received: &Received, key: &NodeKey) -> Result<Self, Failure> {
        let output = &config.output;
        let failed = |path: &Path, error: io::Error| {
            Failure::failed(format!("{} cannot be written: {error}", path.display()))
        };
        fs::create_dir_all(output).map_err(|error| failed(output, error))?;
        // Readers of the files must get through the folder above them.
        let folders = config.mode | (config.mode & 0o440) >> 2;
        permit(output, config, folders | 0o700).map_err(|error| failed(output, error))?;
        let name = Digest::of(received.chain.first().map(Vec::as_slice).unwrap_or_default()).to_string();
        let name = name.split_at(16).0;
        let (next, place) = (output.join(NEXT), output.join(name));
        for path in [&next, &place] {
            remove(path).map_err(|error| failed(path, error))?;
        }
        for (file, content) in files(received, key, &output.join(CURRENT))? {
            let path = next.join(file);
            write_private_file(&path, &content)?;
            permit(&path, config, config.mode).map_err(|error| failed(&path, error))?;
        }
        permit(&next, config, folders | 0o700).map_err(|error| failed(&next, error))?;
        sync(&next).map_err(|error| failed(&next, error))?;
        fs::rename(&next, &place).map_err(|error| failed(&place, error))?;
        let before = fs::read_link(output.join(CURRENT)).ok();
        symlink(name, &next).map_err(|error| failed(&next, error))?;
        fs::rename(&next, output.join(CURRENT)).map_err(|error| failed(&output.join(CURRENT), error))?;
        sync(output).map_err(|error| failed(output, error))?;
        let kept = [Some(PathBuf::from(name)), before, Some(CURRENT.into())].into_iter().flatten().collect();
        clear(output, &kept);
        Self::read(place)
    }
}

/// The files of a generation and what is in them.
fn files(
    received: &Received,
    key: &NodeKey,
    current: &Path,
) -> Result<[(&'static str, Vec<u8>); 8], Failure> {
    let pem = |ders: &[Vec<u8>]| -> Result<Vec<u8>, Failure> {
        let pem = ders.iter().map(|der| to_pem("CERTIFICATE", der)).collect::<Result<String, _>>()?;
        Ok(pem.into_bytes())
    };
    let [chain, key_name, roots, bundle, proof, entry, vkey, hint] = FILES;
    Ok([
        (chain, pem(&received.chain)?),
        (key_name, key_file::write(key).map_err(Failure::failed)?.into_bytes()),
        (roots, pem(&received.roots)?),
        (bundle, received.bundle.clone().into_bytes()),
        (proof, received.tlog_proof.clone().into_bytes()),
        (entry, received.entry.clone()),
        (vkey, format!("{}\n", received.log_key).into_bytes()),
        (hint, pkcs11(current).into_bytes()),
    ])
}

/// How tpm2-pkcs11 takes the same key.
fn pkcs11(current: &Path) -> String {
    let current = current.display();
    format!(
        "# The key of {current}/svid.pem for software that speaks PKCS#11, by tpm2-pkcs11 1.9 and tpm2_ptool.\n\
         # Once: a token below the same storage key, which the TPM makes anew when it is used.\n\
         tpm2_ptool init --transient-parent=tss2-engine-key\n\
         tpm2_ptool addtoken --pid=1 --label=undercroft --userpin=PIN --sopin=PIN\n\
         # After each renewal with another key:\n\
         tpm2_ptool link --label=undercroft --userpin=PIN --key-label=svid {current}/svid.key\n\
         # URI: pkcs11:token=undercroft;object=svid\n"
    )
}

fn permit(path: &Path, config: &Config, mode: u32) -> io::Result<()> {
    if config.group.is_some() {
        chown(path, None, config.group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes generations that are neither in place nor the one before. What we did not make stays.
fn clear(output: &Path, kept: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(output).into_iter().flatten().flatten() {
        let name = PathBuf::from(entry.file_name());
        let ours =
            name.to_str().is_some_and(|name| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        if ours
            && !kept.contains(&name)
            && let Err(error) = remove(&entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "an old generation cannot be removed");
        }
    }
}
