//! What AWS says when something fails, sorted by who must act.

use std::error::Error as StdError;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use undercroft_keymgr::{Error, ErrorKind};

use crate::calls::Failed;

use super::credentials::Refused;

/// What was being done when it failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The key or device.
    pub(super) subject: String,
    /// The operation, as permissions call it after `kms:`.
    pub(super) operation: &'static str,
}

/// Sorts a failure, and says whether it is certain that nothing was done.
pub(super) fn sort<E>(failure: &Failure, error: SdkError<E>) -> Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let Failure { subject, operation } = failure;
    if let Some(found) = cause::<CredentialsError>(&error) {
        return Failed::Finally(of_credentials(subject, found));
    }
    let code = match &error {
        SdkError::ServiceError(service) => service.err().code().unwrap_or_default().to_owned(),
        SdkError::DispatchFailure(_)
            if cause::<io::Error>(&error).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) =>
        {
            let refused =
                format!("{subject}: nobody answers where AWS KMS should be; is its endpoint right?");
            return Failed::NotDone(Error::with_source(ErrorKind::Unavailable, refused, told(&error)));
        }
        SdkError::ConstructionFailure(_) => {
            let message = format!("{subject}: the request {operation} could not be made");
            return Failed::Finally(Error::with_source(ErrorKind::Fault, message, told(&error)));
        }
        _ => {
            let message =
                format!("{subject}: AWS KMS cannot be reached, or its answer to {operation} not be read");
            return Failed::Finally(Error::with_source(ErrorKind::Unavailable, message, told(&error)));
        }
    };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let said = match &error {
        SdkError::ServiceError(service) => service.err().message().unwrap_or(&code).to_owned(),
        _ => code.clone(),
    };
    let (kind, message) = match code.as_str() {
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            let message = format!("{subject}: AWS throttles {operation}; ask for a higher request quota");
            return Failed::NotDone(Error::with_source(ErrorKind::Unavailable, message, said));
        }
        "AccessDeniedException" | "AccessDenied" | "NotAuthorizedException" => (
            ErrorKind::Denied,
            format!(
                "{subject}: AWS denies {operation}; the role of this machine needs the permission kms:{operation}"
            ),
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException" => {
            (ErrorKind::Denied, format!("{subject}: AWS does not take the credentials that were found here"))
        }
        "NotFoundException" => (ErrorKind::NotFound, format!("{subject} is not in AWS KMS")),
        "AlreadyExistsException" => (ErrorKind::Exists, format!("{subject} exists already")),
        "DisabledException" => {
            (ErrorKind::Denied, format!("{subject} is disabled; `aws kms enable-key` makes it sign again"))
        }
        "KMSInvalidStateException" => {
            (ErrorKind::Denied, format!("{subject} is in a state that does not allow {operation}"))
        }
        "LimitExceededException" => (
            ErrorKind::Denied,
            format!("{subject}: the account's quota is used up; ask AWS for a higher one"),
        ),
        "UnsupportedOperationException" | "InvalidKeyUsageException" | "ValidationException" => {
            (ErrorKind::Unsupported, format!("{subject}: AWS KMS cannot do {operation} with it"))
        }
        // Whether it was done is not known.
        "KMSInternalException" | "DependencyTimeoutException" | "KeyUnavailableException" => {
            (ErrorKind::Unavailable, format!("{subject}: AWS KMS failed at {operation}"))
        }
        _ if status >= 500 => (ErrorKind::Unavailable, format!("{subject}: AWS KMS failed at {operation}")),
        other => (ErrorKind::Fault, format!("{subject}: AWS KMS answered {operation} with `{other}`")),
    };
    Failed::Finally(Error::with_source(kind, message, said))
}

fn of_credentials(subject: &str, error: &CredentialsError) -> Error {
    if let Some(refused) = cause::<Refused>(error) {
        return Error::new(ErrorKind::Denied, format!("{subject}: {refused}"));
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Error::new(
            ErrorKind::Denied,
            format!(
                "{subject}: no AWS credentials here: none in the environment, a profile, a web identity, a container or an instance; give this machine or workload a role"
            ),
        ),
        CredentialsError::InvalidConfiguration(_) => Error::with_source(
            ErrorKind::Denied,
            format!("{subject}: what says where AWS credentials are cannot be read"),
            told(error),
        ),
        _ => Error::with_source(
            ErrorKind::Unavailable,
            format!("{subject}: who gives this machine its AWS credentials does not answer"),
            told(error),
        ),
    }
}

/// The first cause of that type.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with all its causes, in words.
fn told(error: impl StdError) -> String {
    DisplayErrorContext(error).to_string()
}
