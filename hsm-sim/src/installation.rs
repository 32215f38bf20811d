//! A folder of simulated devices that several programs use: for the demo and for end-to-end tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use undercroft_keymgr::{Device, SecretSource};

use crate::programs::SimError;
use crate::softhsm::SoftHsm;
use crate::swtpm::{Manufacture, Swtpm};

/// Devices in a folder: SoftHSM tokens in `softhsm/`, TPMs in `tpm-<name>/`, and two files for whoever uses them.
#[derive(Clone, Debug)]
pub struct Installation {
    folder: PathBuf,
}

impl Installation {
    /// The installation in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn in_folder(folder: &Path) -> Result<Self, SimError> {
        fs::create_dir_all(folder).map_err(SimError::file(folder))?;
        Ok(Self { folder: folder.canonicalize().map_err(SimError::file(folder))? })
    }

    /// Makes the devices that are not there yet and starts the TPMs. `made` is told each device.
    ///
    /// # Errors
    /// A program is not installed or fails.
    pub fn up(
        &self,
        tokens: &[String],
        tpms: &[String],
        mut made: impl FnMut(&Device),
    ) -> Result<(), SimError> {
        let softhsm = SoftHsm::in_folder(&self.folder.join("softhsm"))?;
        let mut devices = Vec::new();
        for name in tokens {
            let device = match softhsm.existing(name)? {
                Some(device) => device,
                None => softhsm.token(name, &random_pin()?)?,
            };
            made(&device);
            devices.push(device);
        }
        for name in tpms {
            let folder = self.folder.join(format!("tpm-{name}"));
            let tpm = match folder.join("state").exists() {
                true => Swtpm::in_folder(&folder),
                false => Swtpm::manufacture(&folder, Manufacture::WithEndorsement)?,
            };
            if !is_running(&tpm.pid_file()) {
                tpm.start_in_background()?;
            }
            let device = tpm.device(name);
            made(&device);
            devices.push(device);
        }
        let tables: String = devices.iter().map(table).collect();
        let environment =
            format!("# Simulated devices. Their keys are in software.\ndevelopment = true\n{tables}");
        let path = self.devices();
        fs::write(&path, environment).map_err(SimError::file(&path))?;
        let exports = format!("SOFTHSM2_CONF={}\nTSS2_LOG=all+NONE\n", softhsm.configuration().display());
        let path = self.folder.join("env");
        fs::write(&path, exports).map_err(SimError::file(&path))
    }

    /// Stops what runs. What it holds stays, for the next `up`.
    ///
    /// # Errors
    /// A TPM does not stop within five seconds.
    pub fn down(&self) -> Result<(), SimError> {
        let entries = fs::read_dir(&self.folder).map_err(SimError::file(&self.folder))?;
        for entry in entries.flatten() {
            let pid_file = entry.path().join("swtpm.pid");
            if let Some(pid) = running(&pid_file) {
                // It may stop by itself in between.
                let _ = kill_process(pid, Signal::TERM);
                for _ in 0..100 {
                    if !is_running(&pid_file) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                if is_running(&pid_file) {
                    return Err(SimError::NotReady(format!(
                        "the TPM {} does not stop",
                        entry.path().display()
                    )));
                }
            }
            // Left behind by a TPM that was killed.
            let _ = fs::remove_file(&pid_file);
        }
        Ok(())
    }

    /// The file with a `[[device]]` table for each device, which can serve as the environment of a ceremony.
    pub fn devices(&self) -> PathBuf {
        self.folder.join("devices.toml")
    }

    /// The environment variables that programs need to use the devices.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.join("env")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

fn table(device: &Device) -> String {
    let pin = match &device.pin {
        Some(SecretSource::File(path)) => format!("pin-file = {:?}\n", path.display().to_string()),
        _ => String::new(),
    };
    format!("\n[[device]]\nname = {:?}\nuri = {:?}\n{pin}", device.name, device.uri.to_string())
}

fn random_pin() -> Result<String, SimError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| SimError::NotReady(format!("no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}

fn is_running(pid_file: &Path) -> bool {
    running(pid_file).is_some()
}

/// The swtpm that left this file, if it still runs. A pid may have been given to another program since, and one that
/// was killed may wait for init to notice, which takes long in some containers.
fn running(pid_file: &Path) -> Option<Pid> {
    let pid = Pid::from_raw(fs::read_to_string(pid_file).ok()?.trim().parse().ok()?)?;
    // "pid (name) state …", proc_pid_stat(5).
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, status) = status.split_once(' ')?;
    let state = status.strip_prefix("(swtpm) ")?;
    (!state.starts_with(['Z', 'X'])).then_some(pid)
}
