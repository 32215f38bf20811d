//! The ceremony after this one: rehearsed from what this one has made, before this one may close.

use std::path::Path;

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::plan::Plan;
use undercroft_cli::{ExitStatus, Failure};
use undercroft_log::leaf::{CeremonyEvent, TranscriptHead};

use crate::continued::plan_of;
use crate::transcript::Read;

/// The head of a rehearsal whose plan takes over every root that this ceremony leaves behind.
///
/// # Errors
/// Status 6: none was given. Status 4: it is none, or a root is missing or another in its plan. Status 5: it was changed.
pub(crate) fn rehearsed(
    plan: &Plan,
    path: Option<&Path>,
    certificate: impl Fn(&str) -> Option<AuthorityCertificate>,
) -> Result<TranscriptHead, Failure> {
    let path = path.ok_or_else(|| {
        Failure::new(
            ExitStatus::NotYet,
            "every step is done, and the plan has the next ceremony rehearsed before this one closes: write its plan with the roots that were made, rehearse it, and run again with --next; or have a deviation `next-not-rehearsed` approved",
        )
    })?;
    let wrong = |what: String| Failure::refused(format!("the rehearsal {}: {what}", path.display()));
    let read = Read::folder(path, None)?;
    let next = plan_of(&read, path)?;
    if read.checkpoint.origin != *next.clone().rehearsed()?.origin() {
        return Err(wrong(format!("{} is no rehearsal", read.checkpoint.origin)));
    }
    if read.standing().ended != Some(CeremonyEvent::Closed) {
        return Err(wrong("it did not go through to its end; rehearse again".into()));
    }
    for root in plan.staying_roots() {
        let made = certificate(root.name())
            .ok_or_else(|| Failure::failed(format!("`{}` has no certificate; this is a bug", root.name())))?;
        if !next.takes_over(&made) {
            return Err(wrong(format!(
                "its plan has no [[existing-root]] with the certificate of `{}` that this ceremony leaves behind",
                root.name()
            )));
        }
    }
    Ok(read.head)
}
