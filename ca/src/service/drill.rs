//! That a compromise was rehearsed: the one thing that a drill leaves in the installation.

use undercroft_log::leaf::{Body, Draft, Recovery, RecoveryWay};
use undercroft_log::sequencer::Append;

use super::{CertificateAuthority, ServiceError};
use crate::drill::Summary;
use crate::policy::Refusal;

/// The longest summary, in bytes.
const MAX_SUMMARY: usize = 32 * 1024;

impl CertificateAuthority {
    /// Takes note of a drill in the control log. Gives the index of the entry.
    ///
    /// # Errors
    /// It is no summary of a drill, or the log does not take it.
    pub async fn note_drill(&self, summary: &str) -> Result<u64, ServiceError> {
        let refused = |what: String| ServiceError::Refused(Refusal::new("drill-summary", what));
        if summary.len() > MAX_SUMMARY {
            return Err(refused(format!("a summary of {} bytes; {MAX_SUMMARY} are the most", summary.len())));
        }
        Summary::parse(summary).map_err(|error| refused(format!("it is no summary of a drill: {error}")))?;
        let body =
            Recovery { way: RecoveryWay::Drilled, statement: summary.to_owned(), approvals: Vec::new() };
        let draft =
            Draft::new(&Body::Recovery(body)).map_err(|error| ServiceError::Internal(error.to_string()))?;
        Ok(self.domains[0].log.append(Append::new(draft)).await?.index())
    }
}
