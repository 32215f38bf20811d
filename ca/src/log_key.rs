//! The keys and names of logs.

use async_trait::async_trait;
use undercroft_keymgr::Key;
use undercroft_log::checkpoint::{CheckpointSigner, SigningError};
use undercroft_log::note::{KeyName, NoteError, VerifierKey};
use undercroft_log::second_key::SecondKey;

use crate::names::TrustDomain;

/// The key of one log: signs its checkpoints under the log's origin.
#[derive(Clone, Debug)]
pub struct LogKey {
    verifier: VerifierKey,
    key: Key,
    second: Option<(SecondKey, Key)>,
}

impl LogKey {
    /// Binds a key to a log.
    ///
    /// # Errors
    /// The key is not Ed25519.
    pub fn new(origin: KeyName, key: Key) -> Result<Self, NoteError> {
        let verifier = VerifierKey::new(origin, key.signer.public_key().clone())?;
        Ok(Self { verifier, key, second: None })
    }

    /// With a second key, whose line stands under each checkpoint, too.
    ///
    /// # Errors
    /// The second key is not ECDSA on P-256.
    pub fn with_second(self, key: Key) -> Result<Self, NoteError> {
        let second = SecondKey::new(self.verifier.name().clone(), key.signer.public_key().clone())?;
        Ok(Self { second: Some((second, key)), ..self })
    }

    /// The same keys for the log with another origin.
    ///
    /// # Errors
    /// As [`LogKey::new`], which has succeeded with them.
    pub fn under(&self, origin: KeyName) -> Result<Self, NoteError> {
        let moved = Self::new(origin, self.key.clone())?;
        match &self.second {
            Some((_, key)) => moved.with_second(key.clone()),
            None => Ok(moved),
        }
    }

    /// The key that verifies its signatures.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The second key, if there is one.
    pub fn second(&self) -> Option<&SecondKey> {
        self.second.as_ref().map(|(second, _)| second)
    }

    /// The keys in their tokens, the log's own first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.key).chain(self.second.iter().map(|(_, key)| key))
    }

    /// The key in its token.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

#[async_trait]
impl CheckpointSigner for LogKey {
    fn key(&self) -> &VerifierKey {
        &self.verifier
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.key.signer.sign(message).await.map_err(|error| SigningError(error.to_string()))
    }

    async fn second_line(&self, text: &str) -> Result<Option<String>, SigningError> {
        let Some((second, key)) = &self.second else { return Ok(None) };
        let failed = |why: String| SigningError(format!("the second key: {why}"));
        let signature = key.signer.sign(text.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        second.line(text, &signature).map(Some).map_err(|error| failed(error.to_string()))
    }
}

/// What stands after the operator's name in the origin of a log.
pub const ORIGIN_PART: &str = "undercroft";

/// The origin's name for the control log, which no trust domain's log can have.
pub const CONTROL: &str = "control";

/// What stands before a ceremony's name in the origin of its transcript.
pub const CEREMONY: &str = "ceremony";

/// What stands before its name in the origin of the transcript of a rehearsal.
pub const REHEARSAL: &str = "rehearsal";

/// What a log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOf<'a> {
    /// The installation: policy, enrolments, ceremonies, and the control domain's certificates.
    Control,
    /// A trust domain other than the control domain.
    Domain(&'a TrustDomain),
    /// The ceremony of that name: its transcript.
    Ceremony(&'a str),
    /// The rehearsal of the ceremony of that name.
    Rehearsal(&'a str),
}

/// The origin of a log: `<operator>/undercroft/<domain or "control">/<epoch>`, or
/// `<operator>/undercroft/ceremony/<name>/1`, or the same with `rehearsal`, so that no two logs have one.
///
/// # Errors
/// The operator's name, or the ceremony's, cannot stand in an origin; or a domain is called `control`.
pub fn origin(operator: &str, log: LogOf<'_>, epoch: u32) -> Result<KeyName, OriginError> {
    let ceremony = match log {
        LogOf::Ceremony(name) | LogOf::Rehearsal(name) => Some(name),
        LogOf::Control | LogOf::Domain(_) => None,
    };
    for part in [Some(operator), ceremony] {
        if part.is_some_and(|part| part.is_empty() || part.contains('/')) {
            return Err(OriginError::Part(part.unwrap_or_default().to_owned()));
        }
    }
    let origin = match log {
        LogOf::Control => format!("{operator}/{ORIGIN_PART}/{CONTROL}/{epoch}"),
        LogOf::Domain(domain) if domain.as_str() == CONTROL => return Err(OriginError::Control),
        LogOf::Domain(domain) => format!("{operator}/{ORIGIN_PART}/{}/{epoch}", domain.as_str()),
        LogOf::Ceremony(name) => format!("{operator}/{ORIGIN_PART}/{CEREMONY}/{name}/{epoch}"),
        LogOf::Rehearsal(name) => format!("{operator}/{ORIGIN_PART}/{REHEARSAL}/{name}/{epoch}"),
    };
    Ok(origin.parse()?)
}

/// Why a log can have no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// A part of it.
    #[error("`{0}` cannot be a part of a log's origin: it must not be empty or hold a `/`")]
    Part(String),
    /// A name that is taken.
    #[error("a trust domain called `{CONTROL}` cannot have a log: the control log is called so")]
    Control,
    /// All of it.
    #[error(transparent)]
    Name(#[from] NoteError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::parse_trust_domain;

    #[test]
    fn no_two_logs_have_one_origin() {
        let domain = |name| parse_trust_domain(name).unwrap();
        let name = |log: LogOf<'_>| origin("ca.example", log, 1).unwrap().to_string();
        assert_eq!(name(LogOf::Control), "ca.example/undercroft/control/1");
        assert_eq!(name(LogOf::Domain(&domain("prod.example"))), "ca.example/undercroft/prod.example/1");
        assert_eq!(name(LogOf::Ceremony("control")), "ca.example/undercroft/ceremony/control/1");
        let ceremony = domain("ceremony");
        assert_eq!(name(LogOf::Domain(&ceremony)), "ca.example/undercroft/ceremony/1");
        assert_eq!(
            origin("ca.example", LogOf::Domain(&domain("control")), 1).unwrap_err(),
            OriginError::Control
        );
    }

    #[test]
    fn parts_that_would_read_as_other_logs_are_refused() {
        for (operator, log) in [
            ("", LogOf::Control),
            ("ca.example/undercroft", LogOf::Control),
            ("ca example", LogOf::Control),
            ("ca.example", LogOf::Ceremony("")),
            ("ca.example", LogOf::Ceremony("a/b")),
            ("ca.example", LogOf::Ceremony("a+b")),
        ] {
            assert!(origin(operator, log, 1).is_err(), "{operator} {log:?}");
        }
    }
}
