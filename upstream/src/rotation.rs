//! Rotations between the wire and the CA.

use tonic::Status;
use undercroft_ca::rotation::Schedule;
use undercroft_ca::service::{Advance, RotateError, RotationOrder, RotationStatus};
use undercroft_proto::v1;

use crate::status::status;

/// What is to be rotated.
pub(crate) fn order(message: &v1::PlanRotationRequest) -> Result<RotationOrder, Status> {
    Ok(RotationOrder {
        schedule: match message.schedule.as_str() {
            "planned" => Schedule::Planned,
            "accelerated" => Schedule::Accelerated,
            "emergency" => Schedule::Emergency,
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{other}` is no schedule; there are planned, accelerated and emergency"
                )));
            }
        },
        replace: message.replace.iter().map(|pair| (pair.old.clone(), pair.new.clone())).collect(),
        new_root: (!message.new_root.is_empty()).then(|| message.new_root.clone()),
    })
}

/// What a rotation is given on its way.
pub(crate) fn advance(message: v1::AdvanceRotationRequest) -> Advance {
    Advance {
        cross: message.cross_certificates,
        approval: (!message.statement.is_empty()).then_some((message.statement, message.signatures)),
        dry_run: message.dry_run,
    }
}

/// A rotation, as it is told.
pub(crate) fn told(standing: &RotationStatus) -> v1::Rotation {
    let rotation = &standing.rotation;
    let phase = |phase: Option<undercroft_ca::rotation::Phase>| phase.map(|phase| phase.to_string());
    v1::Rotation {
        domain: rotation.domain().to_owned(),
        number: rotation.number(),
        schedule: rotation.schedule().to_string(),
        phase: phase(rotation.phase()).unwrap_or_default(),
        next: phase(rotation.next().map(|step| step.phase)).unwrap_or_default(),
        planned: rotation.planned().to_string(),
        replace: rotation
            .authorities()
            .iter()
            .map(|pair| v1::Replacement { old: pair.old.clone(), new: pair.new.clone() })
            .collect(),
        old_root: rotation.roots().map(|roots| roots.old.subject().to_string()).unwrap_or_default(),
        new_root: rotation.roots().map(|roots| roots.new.subject().to_string()).unwrap_or_default(),
        calendar: standing
            .calendar
            .iter()
            .map(|span| v1::RotationSpan {
                phase: span.phase.to_string(),
                from: span.from.to_string(),
                until: span.until.map(|until| until.to_string()).unwrap_or_default(),
                begun: span.begun,
            })
            .collect(),
        blockers: standing
            .blockers
            .iter()
            .map(|blocker| v1::RotationBlocker {
                rule: blocker.rule.to_owned(),
                text: blocker.text.clone(),
                until: blocker.until.map(|until| until.to_string()).unwrap_or_default(),
            })
            .collect(),
        consumers: standing
            .consumers
            .iter()
            .map(|consumer| v1::RotationConsumer {
                id: consumer.id.clone(),
                holds: consumer.holds.unwrap_or_default(),
                spire_server: consumer.is_spire_server,
            })
            .collect(),
        bundle_sequence: standing.bundle.sequence(),
        to_approve: standing.to_approve.map(|object| object.to_string()).unwrap_or_default(),
        statement: String::new(),
        advanced: false,
        now: standing.now.to_string(),
        abandoned: rotation.is_abandoned(),
    }
}

/// Why it did not go on. [`RotateError::NotYet`] is no failure of the call, and is told in its answer.
pub(crate) fn failed(error: RotateError) -> Status {
    match error {
        RotateError::Wrong(what) => Status::failed_precondition(what),
        RotateError::NotYet(_) => Status::aborted(error.to_string()),
        RotateError::Unapproved(what) => Status::permission_denied(what),
        RotateError::TooLate(error) => Status::permission_denied(error.to_string()),
        RotateError::Log(error) => status(error.into()),
        RotateError::Store(_) | RotateError::Entropy(_) => Status::unavailable(error.to_string()),
        RotateError::Bug(_) => {
            tracing::error!(%error, "a bug");
            Status::internal(error.to_string())
        }
    }
}
