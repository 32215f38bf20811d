//! Tokens of tpm2-pkcs11: a second real PKCS#11 module, whose keys are in a TPM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use undercroft_keymgr::{Device, KeyUri, Pkcs11Uri, SecretSource};

use crate::programs::{SimError, run};
use crate::softhsm::write_private;
use crate::swtpm::Swtpm;

/// Where Debian puts the module.
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

const PIN: &str = "1234567";

/// A store of one token, whose TPM must run whenever it is used.
#[derive(Clone, Debug)]
pub struct Tpm2Pkcs11 {
    folder: PathBuf,
    tpm: Swtpm,
}

impl Tpm2Pkcs11 {
    /// Makes a token of that label in `folder`, with its keys in `tpm`, which runs.
    ///
    /// # Errors
    /// tpm2-pkcs11 or OpenSC is not installed, or one of them refuses.
    pub fn token(folder: &Path, tpm: &Swtpm, label: &str) -> Result<Self, SimError> {
        if !Path::new(MODULE).exists() {
            return Err(SimError::Missing {
                program: MODULE.to_owned(),
                package: "libtpm2-pkcs11-1",
                error: std::io::ErrorKind::NotFound.into(),
            });
        }
        fs::create_dir_all(folder).map_err(SimError::file(folder))?;
        let own = Self { folder: folder.to_owned(), tpm: tpm.clone() };
        let tool = |arguments: &[&str]| {
            let mut tool = Command::new("pkcs11-tool");
            tool.args(["--module", MODULE]).args(arguments).envs(own.variables());
            run(&mut tool, "opensc")
        };
        let so = ["--so-pin", "so-pin-of-a-simulator"];
        tool(&[&["--init-token", "--slot", "1", "--label", label], &so[..]].concat())?;
        let init = ["--init-pin", "--token-label", label, "--login", "--login-type", "so", "--pin", PIN];
        tool(&[&init[..], &so[..]].concat())?;
        write_private(&own.pin_file(), PIN)?;
        Ok(own)
    }

    /// The environment of a process that uses the token: the module reads nothing else.
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("TPM2_PKCS11_STORE", self.folder.display().to_string()),
            ("TPM2_PKCS11_TCTI", self.tpm.tcti()),
            ("TPM2_PKCS11_LOG_LEVEL", "0".to_owned()),
            ("TSS2_LOG", "all+NONE".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// How the token is found.
    pub fn device(&self, label: &str) -> Device {
        Self::in_folder(&self.folder, label)
    }

    /// The token that was made in `folder`, for a process that has the variables.
    pub fn in_folder(folder: &Path, label: &str) -> Device {
        Device {
            pin: Some(SecretSource::File(folder.join("pin"))),
            ..Device::new(
                label,
                KeyUri::Pkcs11(Pkcs11Uri {
                    token: Some(label.to_owned()),
                    module_path: Some(MODULE.into()),
                    ..Pkcs11Uri::default()
                }),
            )
        }
    }

    fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }
}
