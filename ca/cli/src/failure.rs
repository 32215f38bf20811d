//! Exit status, and errors as people read them.

use std::fmt;
use std::process::ExitCode;

use undercroft_ca::certificate::CertificateError;
use undercroft_ca::csr::CsrError;
use undercroft_ca::exchange::{Refusal, SealError};
use undercroft_ca::ledger::LedgerError;
use undercroft_ca::noted_head::NotedHeadError;
use undercroft_ca::plan::PlanError;
use undercroft_ca::policy::PolicyError;
use undercroft_ca::service::StartError;
use undercroft_ca::strict_toml::TomlError;
use undercroft_keymgr::{DeviceError, Error as TokenError, ErrorKind, UriError};
use undercroft_log::sequencer::{AppendError, OpenError};
use undercroft_log::store::StoreError;

/// What a command answers to its shell. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It was done.
    Done = 0,
    /// It failed, and it is nobody's mistake in particular: a full disk, a bug.
    Failed = 1,
    /// The command line, a configuration, a plan or a PIN is wrong.
    Usage = 2,
    /// A token, peer or database is missing or cannot be reached.
    Unreachable = 3,
    /// Policy refuses it, or an approval is missing.
    Refused = 4,
    /// Verification failed: somebody changed something.
    Tampered = 5,
    /// It is too early.
    NotYet = 6,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

/// A failure: what went wrong and what to do next, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: ExitStatus,
    message: String,
}

impl Failure {
    /// A failure with a status of its own.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Nobody's mistake in particular.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Failed, message)
    }

    /// The command line, a configuration or a file that was given is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// Something cannot be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Unreachable, message)
    }

    /// Policy refuses it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Refused, message)
    }

    /// Verification failed.
    pub fn tampered(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Tampered, message)
    }

    /// The exit status.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The same failure, with what was being done in front.
    #[must_use]
    pub fn during(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let status = match error.kind() {
            // A wrong PIN is a mistake of whoever gave it, and so is asking a token for what it cannot do.
            ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Exists => ExitStatus::Usage,
            ErrorKind::NotFound | ErrorKind::Unavailable => ExitStatus::Unreachable,
            ErrorKind::Fault => ExitStatus::Failed,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Unavailable(_) => ExitStatus::Unreachable,
            StoreError::Damaged(_) => ExitStatus::Tampered,
        };
        Self::new(status, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => error.into(),
            OpenError::Tampered { .. } => Self::tampered(error.to_string()),
            OpenError::Unsigned { .. } => Self::unreachable(error.to_string()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(what) => Self::usage(what),
            StartError::Unstated(what) => Self::refused(what),
            StartError::Custody(poor) => Self::refused(poor.to_string()),
            StartError::Token(error) => error.into(),
            StartError::Store(error) => error.into(),
            StartError::Log(AppendError::Malformed(_)) => Self::failed(error.to_string()),
            StartError::Log(_) => Self::unreachable(error.to_string()),
            StartError::Bug(_) => Self::failed(error.to_string()),
        }
    }
}

/// Files that people wrote: what is wrong with them is theirs to mend.
macro_rules! usage {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::usage(error.to_string())
            }
        }
    )*};
}

usage!(TomlError, PlanError, PolicyError, CsrError, CertificateError, DeviceError, UriError);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::TooLarge(_)
            | Refusal::UnknownVersion { .. }
            | Refusal::UnknownMember(_)
            | Refusal::Malformed(_) => ExitStatus::Usage,
            Refusal::Truncated | Refusal::NotSigned(_) | Refusal::Altered(_) => ExitStatus::Tampered,
            Refusal::Expired { .. }
            | Refusal::ClockBeforeCreated { .. }
            | Refusal::OtherOrigin { .. }
            | Refusal::OtherPolicy { .. }
            | Refusal::OtherPlan { .. }
            | Refusal::Replayed(_)
            | Refusal::OtherRequest(_)
            | Refusal::OtherRoot(_)
            | Refusal::Rehearsal(_) => ExitStatus::Refused,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Token(error) => error.into(),
            LedgerError::Disagree(what) => Self::tampered(what),
            LedgerError::Store(error) => error.into(),
            LedgerError::Log(_) => Self::unreachable(error.to_string()),
            LedgerError::Leaf(_) => Self::failed(error.to_string()),
        }
    }
}

impl From<NotedHeadError> for Failure {
    fn from(error: NotedHeadError) -> Self {
        match error {
            NotedHeadError::Token(error) => error.into(),
            NotedHeadError::Disagree(what) => Self::tampered(what),
            NotedHeadError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_failures_have_the_status_of_who_must_act() {
        for (kind, status) in [
            (ErrorKind::Denied, ExitStatus::Usage),
            (ErrorKind::NotFound, ExitStatus::Unreachable),
            (ErrorKind::Unavailable, ExitStatus::Unreachable),
            (ErrorKind::Exists, ExitStatus::Usage),
            (ErrorKind::Unsupported, ExitStatus::Usage),
            (ErrorKind::Fault, ExitStatus::Failed),
        ] {
            assert_eq!(Failure::from(TokenError::new(kind, "x")).status(), status, "{kind:?}");
        }
    }
}
