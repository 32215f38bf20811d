//! What a vault answers when it refuses, sorted by who must act.

use azure_core::error::{Error as AzureError, ErrorKind as AzureKind};
use azure_core::http::RawResponse;
use serde_json::Value;
use undercroft_keymgr::{Error, ErrorKind};

use crate::calls::Failed;

/// What was being done, for messages: and which role one must have for it.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    /// With which key or vault.
    pub(super) what: String,
    /// The action of the vault's data plane, and a role that has it.
    pub(super) needs: (&'static str, &'static str),
    /// Whether doing it twice is the same as doing it once.
    pub(super) repeatable: bool,
}

impl Doing {
    pub(super) fn failed(&self, error: AzureError) -> Failed {
        let (kind, why) = self.sort(&error);
        let message = match why {
            Some(why) => format!("{}; {why}", self.what),
            None => self.what.clone(),
        };
        let not_done = was_not_done(&error);
        let error = Error::with_source(kind, message, Said::of(&error));
        match kind == ErrorKind::Unavailable && (not_done || self.repeatable) {
            true => Failed::NotDone(error),
            false => Failed::Finally(error),
        }
    }

    fn sort(&self, error: &AzureError) -> (ErrorKind, Option<String>) {
        let AzureKind::HttpResponse { status, .. } = error.kind() else {
            return match error.kind() {
                AzureKind::Connection | AzureKind::Io if of_credentials(error) => {
                    (ErrorKind::Unavailable, Some(NO_CREDENTIALS.into()))
                }
                AzureKind::Connection | AzureKind::Io => (ErrorKind::Unavailable, None),
                AzureKind::Credential => (ErrorKind::Denied, Some(NO_CREDENTIALS.into())),
                _ => (ErrorKind::Fault, None),
            };
        };
        match u16::from(*status) {
            401 => (ErrorKind::Denied, Some(NO_CREDENTIALS.into())),
            403 if inner_code(error)
                .as_deref()
                .is_none_or(|code| code.starts_with("Forbidden") || code == "AccessDenied") =>
            {
                let (action, role) = self.needs;
                (
                    ErrorKind::Denied,
                    Some(format!("it needs {action} on the vault, which the role \"{role}\" has")),
                )
            }
            403 => (ErrorKind::Denied, None),
            404 => (ErrorKind::NotFound, None),
            409 => (ErrorKind::Exists, Some("it was not touched; choose another name".into())),
            400 | 405 | 415 | 501 => (ErrorKind::Unsupported, None),
            408 | 429 | 500.. => (ErrorKind::Unavailable, None),
            _ => (ErrorKind::Fault, None),
        }
    }
}

/// Nothing was sent, or what was sent was turned away at the door.
fn was_not_done(error: &AzureError) -> bool {
    match error.kind() {
        AzureKind::Connection => true,
        AzureKind::HttpResponse { status, .. } => u16::from(*status) == 429,
        _ => false,
    }
}

fn of_credentials(error: &AzureError) -> bool {
    error.to_string().contains("Credential")
}

/// The code within the error's code, such as `KeyDisabled`.
fn inner_code(error: &AzureError) -> Option<String> {
    let value = body(error)?;
    value["error"]["innererror"]["code"].as_str().map(str::to_owned)
}

fn body(error: &AzureError) -> Option<Value> {
    let AzureKind::HttpResponse { raw_response: Some(response), .. } = error.kind() else { return None };
    let response: &RawResponse = response;
    serde_json::from_slice(response.body().as_ref()).ok()
}

/// What the vault said, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl Said {
    fn of(error: &AzureError) -> Self {
        let said = body(error).and_then(|value| {
            let message = value["error"]["message"].as_str()?.to_owned();
            let code = value["error"]["innererror"]["code"].as_str().or(value["error"]["code"].as_str())?;
            Some(format!("{message} ({code})"))
        });
        Self(said.unwrap_or_else(|| error.to_string()))
    }
}

const NO_CREDENTIALS: &str = "there are no credentials that Azure takes: give this machine a managed identity, or its workload an identity";
