//! What Google's interface answers when it refuses, sorted by who must act.

use google_cloud_gax::error::rpc::Code;
use google_cloud_kms_v1::Error as GoogleError;
use undercroft_keymgr::{Error, ErrorKind};

use crate::calls::Failed;

/// What was being done, for messages: and what one must be allowed to do for it.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    /// With which key or ring.
    pub(super) what: String,
    /// The permission, and a predefined role that has it.
    pub(super) needs: (&'static str, &'static str),
    /// Whether doing it twice is the same as doing it once.
    pub(super) repeatable: bool,
}

impl Doing {
    pub(super) fn failed(&self, error: GoogleError) -> Failed {
        let (kind, why) = self.sort(&error);
        let message = match why {
            Some(why) => format!("{}; {why}", self.what),
            None => self.what.clone(),
        };
        let not_done = self.was_not_done(&error);
        let error = Error::with_source(kind, message, error);
        match kind == ErrorKind::Unavailable && (not_done || self.repeatable) {
            true => Failed::NotDone(error),
            false => Failed::Finally(error),
        }
    }

    /// Nothing was sent, or what was sent was turned away at the door.
    fn was_not_done(&self, error: &GoogleError) -> bool {
        error.is_transient_and_before_rpc()
            || error.status().is_some_and(|status| status.code == Code::ResourceExhausted)
            || error.http_status_code() == Some(429)
    }

    fn sort(&self, error: &GoogleError) -> (ErrorKind, Option<String>) {
        if error.is_authentication() && !error.is_transient_and_before_rpc() {
            return (ErrorKind::Denied, Some(NO_CREDENTIALS.into()));
        }
        let Some(status) = error.status() else {
            return match error.http_status_code() {
                Some(401) => (ErrorKind::Denied, Some(NO_CREDENTIALS.into())),
                Some(403) => (ErrorKind::Denied, Some(self.not_allowed())),
                Some(404) => (ErrorKind::NotFound, None),
                Some(429 | 500..) => (ErrorKind::Unavailable, None),
                Some(_) => (ErrorKind::Fault, None),
                None if error.is_deserialization() || error.is_serialization() || error.is_binding() => {
                    (ErrorKind::Fault, None)
                }
                // The network: no connection, or none any more.
                None => (ErrorKind::Unavailable, None),
            };
        };
        match status.code {
            Code::PermissionDenied => (ErrorKind::Denied, Some(self.not_allowed())),
            Code::Unauthenticated => (ErrorKind::Denied, Some(NO_CREDENTIALS.into())),
            Code::NotFound => (ErrorKind::NotFound, None),
            Code::AlreadyExists => {
                (ErrorKind::Exists, Some("it was not touched; choose another name".into()))
            }
            Code::FailedPrecondition => (ErrorKind::Denied, None),
            Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => (ErrorKind::Unsupported, None),
            Code::ResourceExhausted
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal => (ErrorKind::Unavailable, None),
            _ => (ErrorKind::Fault, None),
        }
    }

    fn not_allowed(&self) -> String {
        let (permission, role) = self.needs;
        format!("it needs the permission {permission} on the key ring, which the role {role} has")
    }
}

const NO_CREDENTIALS: &str = "there are no credentials that Google takes: give this machine a service account, or its workload an identity, or name a credentials file in GOOGLE_APPLICATION_CREDENTIALS";
