//! What was enclosed for whom, between the two steps of an activation. A session is good for one try, right or wrong, and
//! until it expires; there are few at a time.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use undercroft_attestors::tpm::activation::Statement;
use undercroft_attestors::tpm::evidence::EndorsementText;
use undercroft_cli::{Failure, read_text, write_private_file};

use super::NotActivated;
use crate::sync_folder;

/// How long a TPM may take: some make their endorsement key anew, which takes a slow one half a minute.
const OVER_HTTP: SignedDuration = SignedDuration::from_secs(120);
/// How long people may take who carry files.
const BY_FILES: SignedDuration = SignedDuration::from_hours(24);
/// The most sessions at a time.
const MOST: usize = 64;

/// What was enclosed.
pub struct Session {
    /// What is signed if it comes back.
    pub statement: Statement,
    /// The secret.
    pub secret: [u8; 32],
    /// The endorsement key that it was enclosed for.
    pub endorsement: EndorsementText,
    /// When it expires.
    pub until: Timestamp,
}

/// By what a session is known: 16 random bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// The name of new random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(hex::encode(random))
    }
}

/// It becomes the name of a file, so that nothing else than our own names may come in.
impl FromStr for SessionId {
    type Err = NotActivated;

    fn from_str(text: &str) -> Result<Self, NotActivated> {
        let ours = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if ours { Ok(Self(text.to_owned())) } else { Err(NotActivated::Session) }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where sessions are.
pub enum Sessions {
    /// In memory: a witness that starts again has forgotten them, and whoever was in between begins again. Strangers reach
    /// these, and so they leave nothing on the disk.
    InMemory(Mutex<HashMap<SessionId, Session>>),
    /// In a folder, for steps that are commands. Its files are readable by their owner alone: whoever reads a secret there can
    /// have any attestation key certified beside that endorsement key.
    InFolder(PathBuf),
}

impl Sessions {
    /// Those of a program that serves.
    pub fn in_memory() -> Self {
        Self::InMemory(Mutex::default())
    }

    /// Those of commands, below the folder of the witness's state.
    pub fn in_state(state: &Path) -> Self {
        Self::InFolder(state.join("activations"))
    }

    /// How long a session may take.
    pub(super) fn lifetime(&self) -> SignedDuration {
        match self {
            Self::InMemory(_) => OVER_HTTP,
            Self::InFolder(_) => BY_FILES,
        }
    }

    /// Keeps a session, and forgets those that have expired.
    pub(super) fn keep(&self, id: &SessionId, session: Session, now: Timestamp) -> Result<(), NotActivated> {
        match self {
            Self::InMemory(sessions) => {
                let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
                sessions.retain(|_, session| session.until > now);
                if sessions.len() >= MOST {
                    return Err(NotActivated::Busy);
                }
                sessions.insert(id.clone(), session);
                Ok(())
            }
            Self::InFolder(folder) => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.map_err(|error| broken(folder, &error))?;
                if forget_expired(folder, now)? >= MOST {
                    return Err(NotActivated::Busy);
                }
                let text = serde_json::to_vec(&Kept::from(session))
                    .map_err(|error| NotActivated::Broken(error.to_string()))?;
                write_private_file(&path(folder, id), &text)?;
                sync_folder(folder)?;
                Ok(())
            }
        }
    }

    /// Takes a session. It is gone then, on the disk too, before anything is done with it.
    pub(super) fn take(&self, id: &SessionId, now: Timestamp) -> Result<Session, NotActivated> {
        let session = match self {
            Self::InMemory(sessions) => {
                let session = sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                session.ok_or(NotActivated::Session)?
            }
            Self::InFolder(folder) => {
                let path = path(folder, id);
                let session = read(&path)?;
                // Of two programs that have read it, one removes it and goes on.
                remove(&path)?;
                sync_folder(folder)?;
                session
            }
        };
        if session.until > now { Ok(session) } else { Err(NotActivated::Session) }
    }

    /// A session, which stays what it is.
    pub(super) fn look_at(&self, id: &SessionId, now: Timestamp) -> Result<Session, NotActivated> {
        match self {
            Self::InMemory(_) => Err(NotActivated::Session),
            Self::InFolder(folder) => {
                let session = read(&path(folder, id))?;
                if session.until > now { Ok(session) } else { Err(NotActivated::Session) }
            }
        }
    }
}

fn path(folder: &Path, id: &SessionId) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// How many there are that have not expired. What is no session of ours is left alone and counted.
fn forget_expired(folder: &Path, now: Timestamp) -> Result<usize, NotActivated> {
    let mut alive = 0;
    for entry in fs::read_dir(folder).map_err(|error| broken(folder, &error))? {
        let path = entry.map_err(|error| broken(folder, &error))?.path();
        match read(&path) {
            Ok(session) if session.until <= now => match remove(&path) {
                Ok(()) | Err(NotActivated::Session) => {}
                Err(error) => return Err(error),
            },
            // Somebody else has taken it meanwhile.
            Err(NotActivated::Session) => {}
            Ok(_) | Err(_) => alive += 1,
        }
    }
    Ok(alive)
}

fn remove(path: &Path) -> Result<(), NotActivated> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(NotActivated::Session),
        Err(error) => Err(broken(path, &error)),
    }
}

fn read(path: &Path) -> Result<Session, NotActivated> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(NotActivated::Session),
        Err(error) => return Err(broken(path, &error)),
    }
    let text = read_text(path)?;
    let kept: Kept = serde_json::from_str(&text).map_err(|error| broken(path, &error))?;
    kept.read().ok_or_else(|| broken(path, &"it is no session of ours"))
}

fn broken(path: &Path, what: &dyn fmt::Display) -> NotActivated {
    NotActivated::Broken(format!("{}: {what}", path.display()))
}

impl From<Failure> for NotActivated {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.to_string())
    }
}

/// A session as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    statement: String,
    secret: String,
    endorsement: EndorsementText,
    until: Timestamp,
}

impl From<Session> for Kept {
    fn from(session: Session) -> Self {
        Self {
            statement: session.statement.to_string(),
            secret: hex::encode(session.secret),
            endorsement: session.endorsement,
            until: session.until,
        }
    }
}

impl Kept {
    fn read(self) -> Option<Session> {
        let mut secret = [0; 32];
        hex::decode_to_slice(&self.secret, &mut secret).ok()?;
        let statement = Statement::parse(&self.statement).ok()?;
        Some(Session { statement, secret, endorsement: self.endorsement, until: self.until })
    }
}
