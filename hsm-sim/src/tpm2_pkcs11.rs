//! Tokens of tpm2-pkcs11: a second real PKCS#11 module, whose keys are in a TPM.
//!
//! It leaves its objects in the TPM's few slots, so that a resource manager stands in between, as on real machines the
//! kernel's: tpm2-abrmd, on a message bus of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use undercroft_keymgr::{Device, KeyUri, Pkcs11Uri, SecretSource};

use crate::programs::{SimError, run};
use crate::softhsm::write_private;
use crate::swtpm::Swtpm;

/// Where Debian puts the module.
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

/// A TPM behind tpm2-abrmd.
const MANAGED: &str = "tabrmd:bus_type=session";

const PIN: &str = "1234567";

/// A store of one token, and the resource manager that runs for it. It stops when this is dropped.
#[derive(Debug)]
pub struct Tpm2Pkcs11 {
    folder: PathBuf,
    manager: ResourceManager,
}

/// tpm2-abrmd in front of a TPM, so that several programs use it at once. It stops when this is dropped.
#[derive(Debug)]
pub struct ResourceManager {
    folder: PathBuf,
    running: Vec<Child>,
}

impl Tpm2Pkcs11 {
    /// Makes a token of that label in `folder`, with its keys in `tpm`, which runs.
    ///
    /// # Errors
    /// tpm2-pkcs11, OpenSC, D-Bus or tpm2-abrmd is not installed, or one of them refuses.
    pub fn token(folder: &Path, tpm: &Swtpm, label: &str) -> Result<Self, SimError> {
        if !Path::new(MODULE).exists() {
            return Err(SimError::Missing {
                program: MODULE.to_owned(),
                package: "libtpm2-pkcs11-1",
                error: std::io::ErrorKind::NotFound.into(),
            });
        }
        let own = Self { folder: folder.to_owned(), manager: ResourceManager::start(folder, tpm)? };
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
            ("TPM2_PKCS11_TCTI", MANAGED.to_owned()),
            ("TPM2_PKCS11_LOG_LEVEL", "0".to_owned()),
            ("TSS2_LOG", "all+NONE".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .chain(self.manager.variables())
        .collect()
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

impl ResourceManager {
    /// Starts it for a TPM that runs, with a message bus of its own in `folder`, and waits until the TPM answers through it.
    ///
    /// # Errors
    /// D-Bus or tpm2-abrmd is not installed, or does not come up.
    pub fn start(folder: &Path, tpm: &Swtpm) -> Result<Self, SimError> {
        fs::create_dir_all(folder).map_err(SimError::file(folder))?;
        let mut own = Self { folder: folder.to_owned(), running: Vec::new() };
        own.manage(tpm)?;
        Ok(own)
    }

    /// How the TSS reaches the TPM through it, by [`ResourceManager::variables`].
    pub fn tcti(&self) -> &'static str {
        MANAGED
    }

    /// The environment of a process that uses the TPM through it.
    pub fn variables(&self) -> Vec<(String, String)> {
        [("TPM2TOOLS_TCTI", MANAGED.to_owned()), ("DBUS_SESSION_BUS_ADDRESS", self.bus())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    fn bus(&self) -> String {
        format!("unix:path={}", self.folder.join("bus").display())
    }

    /// Starts the message bus and the resource manager, and waits until the TPM answers through them.
    fn manage(&mut self, tpm: &Swtpm) -> Result<(), SimError> {
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--address"]).arg(self.bus());
        self.spawn(bus, "dbus-daemon")?;
        self.until(|own| own.folder.join("bus").exists(), "the message bus")?;
        let mut manager = Command::new("tpm2-abrmd");
        manager.args(["--session", "--allow-root", "--tcti", &tpm.tcti()]).envs(self.variables());
        self.spawn(manager, "tpm2-abrmd")?;
        let answers = |own: &Self| {
            let mut tool = Command::new("tpm2_getrandom");
            run(tool.args(["--hex", "1"]).envs(own.variables()), "tpm2-tools").is_ok()
        };
        self.until(answers, "tpm2-abrmd")
    }

    fn spawn(&mut self, mut command: Command, package: &'static str) -> Result<(), SimError> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| SimError::Missing { program, package, error })?;
        self.running.push(child);
        Ok(())
    }

    fn until(&self, ready: impl Fn(&Self) -> bool, what: &str) -> Result<(), SimError> {
        for _ in 0..200 {
            if ready(self) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(SimError::NotReady(format!("{what} did not come up within ten seconds")))
    }
}

impl Drop for ResourceManager {
    fn drop(&mut self) {
        for child in self.running.iter_mut().rev() {
            // It may have stopped by itself; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
