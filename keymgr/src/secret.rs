//! PINs and authorisation values: where they come from, and that they are shown nowhere.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{Device, Error, ErrorKind};

/// The longest PIN that is read; PKCS#11 tokens take 255 bytes at most in practice.
const MAX_SECRET: usize = 1024;

/// A PIN or authorisation value. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret that was just read.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for handing to a token and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where a secret is read from, at the moment it is needed. Never the command line, never a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that only its owner can read. One trailing newline is not part of the secret.
    File(PathBuf),
    /// A systemd credential of this name, in the directory that `CREDENTIALS_DIRECTORY` gives.
    Credential(String),
    /// The terminal, without echo.
    Prompt,
    /// An environment variable of this name. Child processes inherit it, and root and the same user can read it in
    /// /proc for as long as the program runs: [`Secrecy::Strict`] refuses it.
    Environment(String),
}

/// Whether secrets may come from where others can easily see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// Environment variables and static cloud credentials are taken.
    #[default]
    Lenient,
    /// They are refused.
    Strict,
}

impl SecretSource {
    /// Reads the secret. `subject` says for what, in prompts and errors.
    ///
    /// # Errors
    /// The source is missing or unreadable, others may read it, or it is empty or too long.
    pub fn read(&self, subject: &str) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => read_private_file(path),
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                let path = Path::new(&directory).join(name);
                read_file(&path, open(&path)?)
            }
            Self::Prompt => {
                let typed = rpassword::prompt_password(format!("PIN for {subject}: "))
                    .map_err(|error| SecretError::Prompt(subject.to_owned(), error))?;
                non_empty(typed, || subject.to_owned())
            }
            Self::Environment(name) => {
                let value = std::env::var(name).map_err(|_| SecretError::NotSet(name.clone()))?;
                non_empty(value, || format!("the environment variable {name}"))
            }
        }
    }
}

/// The PIN of a device, for as long as the device is open. It is read from its source whenever the token wants it, and
/// wiped right after; only what a person typed is held, since nobody is there to be asked again.
#[derive(Clone, Debug)]
pub struct Pin {
    source: SecretSource,
    /// `device `name``, in prompts and errors.
    subject: String,
    typed: Option<Secret>,
}

impl Pin {
    /// Reads the PIN of `device` once, so that what is wrong with its source is told now. Nothing if it needs none.
    ///
    /// # Errors
    /// `Denied`, with what [`SecretSource::read`] says.
    pub fn of(device: &Device) -> Result<Option<Self>, Error> {
        let Some(source) = device.pin.clone() else { return Ok(None) };
        let mut pin = Self { source, subject: format!("device `{}`", device.name), typed: None };
        let secret = pin.read()?;
        if pin.source == SecretSource::Prompt {
            pin.typed = Some(secret);
        }
        Ok(Some(pin))
    }

    /// The PIN, to be handed to the token and dropped.
    ///
    /// # Errors
    /// `Denied` if its source does not give it any more.
    pub fn read(&self) -> Result<Secret, Error> {
        match &self.typed {
            Some(typed) => Ok(typed.clone()),
            None => self
                .source
                .read(&self.subject)
                .map_err(|error| Error::with_source(ErrorKind::Denied, &*self.subject, error)),
        }
    }
}

fn read_private_file(path: &Path) -> Result<Secret, SecretError> {
    let file = open(path)?;
    // Of the file that is read, which may be another than the one that the path names by now.
    let metadata = file.metadata().map_err(|error| SecretError::Unreadable(path.to_owned(), error))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Permissions(path.to_owned(), mode));
    }
    read_file(path, file)
}

fn open(path: &Path) -> Result<fs::File, SecretError> {
    fs::File::open(path).map_err(|error| SecretError::Unreadable(path.to_owned(), error))
}

fn read_file(path: &Path, mut file: fs::File) -> Result<Secret, SecretError> {
    let unreadable = |error| SecretError::Unreadable(path.to_owned(), error);
    // Of a fixed size: one that grows leaves pieces of the secret in memory that it gave back.
    let mut bytes = Zeroizing::new([0; MAX_SECRET + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]).map_err(unreadable)? {
            0 => break,
            read => length += read,
        }
    }
    if length > MAX_SECRET {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    let text = std::str::from_utf8(&bytes[..length])
        .map_err(|error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
    let secret = text.strip_suffix('\n').unwrap_or(text);
    non_empty(secret.to_owned(), || path.display().to_string())
}

fn non_empty(value: String, origin: impl FnOnce() -> String) -> Result<Secret, SecretError> {
    if value.is_empty() { Err(SecretError::Empty(origin())) } else { Ok(Secret::new(value)) }
}

/// Why a secret could not be read. No variant ever holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the PIN file {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// Others than the owner may read the file.
    #[error("the PIN file {0} may be read by others (mode {1:03o}); run chmod 600 on it")]
    Permissions(PathBuf, u32),
    /// Nothing in it.
    #[error("the PIN from {0} is empty")]
    Empty(String),
    /// Too much in it.
    #[error("the PIN file {0} holds more than {MAX_SECRET} bytes; it should hold the PIN alone")]
    TooLong(PathBuf),
    /// Not run by systemd with that credential.
    #[error("no credential `{0}`: CREDENTIALS_DIRECTORY is not set; add LoadCredential={0}:… to the unit")]
    NoCredentials(String),
    /// The environment variable is not there, or is not text.
    #[error("the environment variable {0}, which should hold the PIN, is not set to any text")]
    NotSet(String),
    /// The terminal did not give one.
    #[error("cannot ask for the PIN of {0}: {1}; give it by `pin-file` where there is no terminal")]
    Prompt(String, std::io::Error),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, SecretSource::File(path))
    }

    #[test]
    fn a_private_file_gives_its_secret_without_the_newline() {
        let (_directory, source) = file(b"1234 \n", 0o600);
        assert_eq!(source.read("token").unwrap().expose(), "1234 ");
    }

    #[test]
    fn open_empty_missing_and_long_files_are_refused() {
        for mode in [0o604, 0o640, 0o622] {
            let (_directory, source) = file(b"1234", mode);
            let refusal = source.read("token").unwrap_err().to_string();
            assert!(refusal.contains(&format!("{mode:03o}")) && refusal.contains("chmod"), "{refusal}");
        }
        let (_directory, source) = file(b"\n", 0o600);
        assert!(matches!(source.read("token"), Err(SecretError::Empty(_))));
        let (_directory, source) = file(&[b'x'; 1025], 0o600);
        assert!(matches!(source.read("token"), Err(SecretError::TooLong(_))));
        let source = SecretSource::File("/nonexistent/pin".into());
        assert!(matches!(source.read("token"), Err(SecretError::Unreadable(..))));
        let source = SecretSource::Credential("hsm".into());
        assert!(matches!(source.read("token"), Err(SecretError::NoCredentials(_))));
        let source = SecretSource::Environment("UNDERCROFT_NO_SUCH_PIN".into());
        let refusal = source.read("token").unwrap_err().to_string();
        assert!(refusal.contains("UNDERCROFT_NO_SUCH_PIN"), "{refusal}");
    }

    #[test]
    fn a_variable_gives_its_text() {
        // One that cargo sets for every test.
        let source = SecretSource::Environment("CARGO_PKG_NAME".into());
        assert_eq!(source.read("token").unwrap().expose(), "undercroft-keymgr");
    }

    #[test]
    fn a_pin_is_read_anew_each_time_and_what_is_wrong_is_told_at_once() {
        let (directory, source) = file(b"1234", 0o600);
        let device = |pin| Device {
            name: "prod".into(),
            uri: "pkcs11:token=prod".parse().unwrap(),
            pin,
            sessions: None,
            attestation: None,
        };
        let pin = Pin::of(&device(Some(source.clone()))).unwrap().unwrap();
        fs::write(directory.path().join("pin"), "5678").unwrap();
        assert_eq!(pin.read().unwrap().expose(), "5678");
        fs::remove_file(directory.path().join("pin")).unwrap();
        assert_eq!(pin.read().unwrap_err().kind(), ErrorKind::Denied);
        let refusal = Pin::of(&device(Some(source))).unwrap_err().to_string();
        assert!(refusal.contains("`prod`") && refusal.contains("cannot read"), "{refusal}");
        assert!(Pin::of(&device(None)).unwrap().is_none());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("1234".into())), "Secret(redacted)");
    }
}
