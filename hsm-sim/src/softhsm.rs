//! SoftHSM tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use undercroft_keymgr::{Device, KeyUri, Pkcs11Uri, SecretSource};

use crate::programs::{SimError, run};

/// Where Debian puts the module.
const MODULES: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

/// The module's file.
///
/// # Errors
/// SoftHSM is not installed.
pub fn module() -> Result<PathBuf, SimError> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| SimError::Missing {
        program: MODULES[0].to_owned(),
        package: "softhsm2",
        error: std::io::ErrorKind::NotFound.into(),
    })
}

/// A folder of SoftHSM tokens with its own configuration.
#[derive(Clone, Debug)]
pub struct SoftHsm {
    folder: PathBuf,
}

impl SoftHsm {
    /// Sets `folder` up to hold tokens; what is there stays.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn in_folder(folder: &Path) -> Result<Self, SimError> {
        let tokens = folder.join("tokens");
        fs::create_dir_all(&tokens).map_err(SimError::file(&tokens))?;
        let folder = folder.canonicalize().map_err(SimError::file(folder))?;
        let own = Self { folder };
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            own.folder.join("tokens").display()
        );
        fs::write(own.configuration(), text).map_err(SimError::file(own.configuration()))?;
        Ok(own)
    }

    /// The file that `SOFTHSM2_CONF` must name for a process that uses these tokens.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    /// Makes a token and a PIN file for it, and says how it is found.
    ///
    /// A process that has loaded SoftHSM before this does not see the token.
    ///
    /// # Errors
    /// SoftHSM is not installed or refuses.
    pub fn token(&self, label: &str, pin: &str) -> Result<Device, SimError> {
        run(
            Command::new("softhsm2-util").env("SOFTHSM2_CONF", self.configuration()).args([
                "--init-token",
                "--free",
                "--label",
                label,
                "--so-pin",
                "so-pin-of-a-simulator",
                "--pin",
                pin,
            ]),
            "softhsm2",
        )?;
        write_private(&self.pin_file(label), pin)?;
        self.device(label)
    }

    /// The token of that label, if it was made earlier.
    ///
    /// # Errors
    /// SoftHSM is not installed.
    pub fn existing(&self, label: &str) -> Result<Option<Device>, SimError> {
        self.pin_file(label).exists().then(|| self.device(label)).transpose()
    }

    /// Copies a token with all its keys into one of another label and serial, as a vendor's tool makes a replica of an
    /// HSM. SoftHSM has no such tool; its tokens are folders, in which label and serial have a fixed width.
    ///
    /// A process that has loaded SoftHSM before this does not see the copy.
    ///
    /// # Errors
    /// There is no such token, or a file cannot be read or written.
    pub fn replica(&self, label: &str, copy: &str) -> Result<Device, SimError> {
        let tokens = self.folder.join("tokens");
        let (wanted, name) = (format!("{label:<32}"), format!("{copy:<32}"));
        for entry in fs::read_dir(&tokens).map_err(SimError::file(&tokens))?.flatten() {
            let about = entry.path().join("token.object");
            let mut bytes = fs::read(&about).map_err(SimError::file(&about))?;
            let Some(at) = find(&bytes, wanted.as_bytes()) else { continue };
            bytes[at..at + 32].copy_from_slice(name.as_bytes());
            // The serial is the attribute after it: three numbers of eight bytes, then 16 hexadecimal digits.
            let mut serial = [0; 8];
            getrandom::fill(&mut serial)
                .map_err(|error| SimError::NotReady(format!("no random bytes: {error}")))?;
            bytes[at + 56..at + 72].copy_from_slice(hex::encode(serial).as_bytes());
            let folder = tokens.join(format!("replica-{}", hex::encode(serial)));
            fs::create_dir(&folder).map_err(SimError::file(&folder))?;
            for file in fs::read_dir(entry.path()).map_err(SimError::file(entry.path()))?.flatten() {
                let target = folder.join(file.file_name());
                fs::copy(file.path(), &target).map_err(SimError::file(&target))?;
            }
            let about = folder.join("token.object");
            fs::write(&about, bytes).map_err(SimError::file(&about))?;
            let (from, to) = (self.pin_file(label), self.pin_file(copy));
            fs::copy(&from, &to).map_err(SimError::file(&from))?;
            return self.device(copy);
        }
        Err(SimError::NotReady(format!("there is no SoftHSM token `{label}` in {}", tokens.display())))
    }

    fn device(&self, label: &str) -> Result<Device, SimError> {
        Ok(Device {
            pin: Some(SecretSource::File(self.pin_file(label))),
            ..Device::new(
                label,
                KeyUri::Pkcs11(Pkcs11Uri {
                    token: Some(label.to_owned()),
                    module_path: Some(module()?),
                    ..Pkcs11Uri::default()
                }),
            )
        })
    }

    fn pin_file(&self, label: &str) -> PathBuf {
        self.folder.join(format!("{label}.pin"))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Makes one token for a test that loads SoftHSM into its own process. Call it before anything else does.
///
/// The token stands under `target/softhsm`, which `.cargo/config.toml` names in `SOFTHSM2_CONF`.
///
/// # Errors
/// Not run by cargo, or as [`SoftHsm::token`].
pub fn token_for_this_process(label: &str) -> Result<Device, SimError> {
    let configuration = std::env::var_os("SOFTHSM2_CONF")
        .map(PathBuf::from)
        .ok_or_else(|| SimError::NotReady("SOFTHSM2_CONF is not set; run the tests by cargo".into()))?;
    let folder = configuration.parent().unwrap_or(Path::new("."));
    let mut suffix = [0; 4];
    getrandom::fill(&mut suffix).map_err(|error| SimError::NotReady(format!("no random bytes: {error}")))?;
    let label = format!("{label}-{}", hex::encode(suffix));
    SoftHsm::in_folder(folder)?.token(&label, "1234")
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), SimError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(SimError::file(path))
}
