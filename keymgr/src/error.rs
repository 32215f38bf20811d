//! What can go wrong between us and a token.

use std::error::Error as StdError;
use std::fmt;

/// Who must act on a failure, and how. Six kinds, and every backend maps its vendor's codes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The key, token or device that was named is not there. The operator corrects the name.
    NotFound,
    /// A key of that name is there already; it was not touched. The operator picks another name.
    Exists,
    /// The token cannot do what was asked. The operator picks another algorithm or token.
    Unsupported,
    /// The token refused: wrong PIN, locked, or the key's attributes forbid the use. Trying again makes it worse.
    Denied,
    /// The token, its session or its queue is not available now. Trying again later may help.
    Unavailable,
    /// The token answered something that cannot be: its key changed, or its answer is malformed.
    Fault,
}

/// A failure of a key manager: what was done, on which device or key, and why it failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    undone: bool,
}

impl Error {
    /// A failure of `kind`. The message names the device or key, says what is wrong, and what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, undone: false }
    }

    /// The same, with the error that caused it.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()), undone: false }
    }

    /// The same, when it is certain that the token did nothing of what it was asked: it may be asked again.
    #[must_use]
    pub fn undone(self) -> Self {
        Self { undone: true, ..self }
    }

    /// Whether it is certain that the token did nothing.
    pub fn is_undone(&self) -> bool {
        self.undone
    }

    /// Who must act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// The message, and after a colon the message of what caused it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Display has already told it; handing it out again would print it twice.
        self.source.as_ref().and_then(|source| source.source())
    }
}
