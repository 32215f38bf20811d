//! Persons who approve things: SSH keys as OpenSSH makes them, and signatures as `ssh-keygen -Y sign` does.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::programs::{SimError, run};

/// Persons with a key each, in a folder that goes with this value.
#[derive(Debug)]
pub struct Persons {
    folder: TempDir,
    names: Vec<String>,
}

impl Persons {
    /// Makes an Ed25519 key for each.
    ///
    /// # Errors
    /// OpenSSH is missing.
    pub fn new(names: &[&str]) -> Result<Self, SimError> {
        let folder = TempDir::new().map_err(SimError::file("a temporary folder"))?;
        for name in names {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
            run(&mut command, "openssh-client")?;
        }
        Ok(Self { folder, names: names.iter().map(|name| (*name).to_owned()).collect() })
    }

    /// Each with the public key: `ssh-ed25519 AAAA…`.
    ///
    /// # Errors
    /// A file is gone.
    pub fn keys(&self) -> Result<Vec<(String, String)>, SimError> {
        let key = |name: &String| {
            let text = read(self.folder.path().join(format!("{name}.pub")))?;
            Ok((name.clone(), text.trim_end().to_owned()))
        };
        self.names.iter().map(key).collect()
    }

    /// The signature of a person over a text: SSHSIG, armoured.
    ///
    /// # Errors
    /// OpenSSH refuses.
    pub fn sign(&self, name: &str, namespace: &str, text: &str) -> Result<String, SimError> {
        let message = self.folder.path().join(format!("{name}.message"));
        let signature = self.folder.path().join(format!("{name}.message.sig"));
        fs::write(&message, text).map_err(SimError::file(&message))?;
        // It would ask whether to write over it.
        let _ = fs::remove_file(&signature);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(self.folder.path().join(name));
        run(command.arg(&message), "openssh-client")?;
        read(signature)
    }
}

fn read(path: PathBuf) -> Result<String, SimError> {
    fs::read_to_string(&path).map_err(SimError::file(path))
}
