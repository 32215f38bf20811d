//! Errors as gRPC tells them.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use undercroft_ca::policy::Refusal;
use undercroft_ca::service::ServiceError;

/// The metadata that holds the name of the rule that refused.
const RULE: &str = "undercroft-rule";

/// The metadata that says when to come back, in milliseconds.
const RETRY_AFTER: &str = "retry-after-ms";

/// SPIRE takes PERMISSION_DENIED as final, INVALID_ARGUMENT as a fault of its CSR, and UNAVAILABLE as passing.
pub(crate) fn status(error: ServiceError) -> Status {
    match error {
        ServiceError::Refused(refusal) => refused(&refusal),
        ServiceError::Busy { retry_after } => {
            let mut status = Status::resource_exhausted(error.to_string());
            status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from(retry_after.as_millis() as u64));
            status
        }
        ServiceError::Unavailable(_) => {
            tracing::error!(%error, "a request could not be served");
            Status::unavailable(error.to_string())
        }
        ServiceError::Internal(_) => {
            tracing::error!(%error, "a bug, or a profile that lint refuses");
            Status::internal(error.to_string())
        }
    }
}

/// A refusal: by policy, or of the request itself.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    tracing::info!(rule = refusal.rule, reason = ?refusal.reason, "refused");
    let code = match refusal.rule {
        "csr-malformed" | "csr-signature" | "csr-key" | "csr-algorithm" | "id-malformed" | "id-missing"
        | "id-several" | "id-contradiction" => Code::InvalidArgument,
        _ => Code::PermissionDenied,
    };
    let mut status = Status::new(code, refusal.to_string());
    status.metadata_mut().insert(RULE, MetadataValue::from_static(refusal.rule));
    status
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn codes_are_those_that_peers_treat_rightly() {
        let code = |error| status(error).code();
        let refused = |rule| ServiceError::Refused(Refusal::new(rule, "because"));
        assert_eq!(code(refused("csr-signature")), Code::InvalidArgument);
        assert_eq!(code(refused("caller-unknown")), Code::PermissionDenied);
        assert_eq!(code(refused("lifetime-over-cap")), Code::PermissionDenied);
        assert_eq!(code(ServiceError::Unavailable("token".into())), Code::Unavailable);
        assert_eq!(code(ServiceError::Internal("bug".into())), Code::Internal);
        let busy = status(ServiceError::Busy { retry_after: Duration::from_millis(200) });
        assert_eq!(busy.code(), Code::ResourceExhausted);
        assert_eq!(busy.metadata().get(RETRY_AFTER).unwrap(), "200");
        let status = status(refused("no-rule"));
        assert_eq!(status.metadata().get(RULE).unwrap(), "no-rule");
    }
}
