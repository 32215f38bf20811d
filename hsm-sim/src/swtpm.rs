//! swtpm TPMs.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use undercroft_keymgr::{Device, KeyUri, TpmUri};

use crate::programs::{SimError, run};

/// Unix socket paths have 108 bytes; swtpm adds `.ctrl` to ours.
const MAX_SOCKET: usize = 100;

/// How a TPM is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manufacture {
    /// With nothing but seeds: enough for keys, and fast.
    Bare,
    /// With EK certificates from a manufacturer CA of its own, as a real TPM is delivered.
    WithEndorsement,
}

/// The state of a swtpm TPM in a folder.
#[derive(Clone, Debug)]
pub struct Swtpm {
    folder: PathBuf,
}

impl Swtpm {
    /// Makes a TPM in `folder`, which must not hold one yet.
    ///
    /// # Errors
    /// swtpm is not installed or fails, or the folder's path is too long for a Unix socket.
    pub fn manufacture(folder: &Path, how: Manufacture) -> Result<Self, SimError> {
        let state = folder.join("state");
        fs::create_dir_all(&state).map_err(SimError::file(&state))?;
        let own = Self { folder: folder.canonicalize().map_err(SimError::file(folder))? };
        if own.socket().as_os_str().len() > MAX_SOCKET {
            return Err(SimError::NotReady(format!(
                "{} is too long for a Unix socket; use a shorter folder",
                own.socket().display()
            )));
        }
        let mut setup = Command::new("swtpm_setup");
        setup.args(["--tpm2", "--tpmstate"]).arg(own.folder.join("state"));
        setup.arg("--logfile").arg(own.folder.join("setup.log"));
        if how == Manufacture::WithEndorsement {
            own.configure_manufacturer(&mut setup)?;
        }
        run(&mut setup, "swtpm-tools")?;
        Ok(own)
    }

    /// A manufacturer CA that lives in the TPM's folder instead of the machine's state.
    fn configure_manufacturer(&self, setup: &mut Command) -> Result<(), SimError> {
        let ca = self.folder.join("manufacturer");
        fs::create_dir_all(&ca).map_err(SimError::file(&ca))?;
        let files = [
            (
                "localca.conf",
                format!(
                    "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuercert.pem\ncertserial = {0}/certserial\n",
                    ca.display()
                ),
            ),
            ("localca.options", "--tpm-manufacturer IBM\n--tpm-model swtpm-libtpms\n--tpm-version 2\n--platform-manufacturer Undercroft\n--platform-version 1\n--platform-model simulator\n".to_owned()),
            (
                "setup.conf",
                format!(
                    "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {0}/localca.conf\ncreate_certs_tool_options = {0}/localca.options\n",
                    ca.display()
                ),
            ),
        ];
        for (name, text) in files {
            fs::write(ca.join(name), text).map_err(SimError::file(ca.join(name)))?;
        }
        setup.arg("--config").arg(ca.join("setup.conf")).args(["--create-ek-cert", "--create-platform-cert"]);
        Ok(())
    }

    /// The TPM in `folder`, made earlier.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The certificates of the manufacturer of a TPM that was made with an endorsement: its root, which is an anchor, and
    /// the intermediate below it.
    pub fn manufacturer(&self) -> [PathBuf; 2] {
        let folder = self.folder.join("manufacturer");
        [folder.join("swtpm-localca-rootca-cert.pem"), folder.join("issuercert.pem")]
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// How the TSS reaches the TPM when it runs.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket().display())
    }

    /// How the TPM is found when it runs.
    pub fn device(&self, name: &str) -> Device {
        Device::new(name, KeyUri::Tpm(TpmUri { handle: None, tcti: Some(self.tcti()) }))
    }

    /// Starts the TPM as a child of this process. It stops when the value is dropped.
    ///
    /// # Errors
    /// swtpm is not installed or does not come up within ten seconds.
    pub fn start(&self) -> Result<RunningSwtpm, SimError> {
        let log = fs::File::create(self.folder.join("swtpm.log"))
            .map_err(SimError::file(self.folder.join("swtpm.log")))?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| SimError::Missing { program: "swtpm".into(), package: "swtpm", error })?;
        let mut running = RunningSwtpm { child };
        self.wait_until_ready(&mut running)?;
        Ok(running)
    }

    /// Starts the TPM in the background, to be stopped by its process id in `swtpm.pid`.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn start_in_background(&self) -> Result<(), SimError> {
        let mut command = self.command();
        command.arg("--daemon").arg("--pid").arg(format!("file={}", self.pid_file().display()));
        run(&mut command, "swtpm").map(|_| ())
    }

    /// Where a TPM in the background leaves its process id.
    pub fn pid_file(&self) -> PathBuf {
        self.folder.join("swtpm.pid")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.join("state").display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", self.socket().display()))
            // libtss2-tcti-swtpm looks for the control channel beside the server's socket.
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}.ctrl", self.socket().display()));
        command
    }

    fn wait_until_ready(&self, running: &mut RunningSwtpm) -> Result<(), SimError> {
        let control = self.folder.join("sock.ctrl");
        for _ in 0..200 {
            if UnixStream::connect(&control).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(SimError::NotReady(format!("swtpm stopped at once with {status}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(SimError::NotReady("swtpm did not open its socket within ten seconds".into()))
    }
}

/// A TPM that runs until this value is dropped.
#[derive(Debug)]
pub struct RunningSwtpm {
    child: Child,
}

impl Drop for RunningSwtpm {
    fn drop(&mut self) {
        // It may have stopped by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
