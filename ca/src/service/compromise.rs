//! Carrying out what the quorum has approved about a compromised authority. Each step may be repeated.

use undercroft_log::leaf::{Asked, Body, Caller, Draft, Freezable, Recovery, RecoveryWay, RefusedAction};
use undercroft_log::sequencer::Append;

use super::{Brought, CertificateAuthority, Domain, ServiceError};
use crate::approval::{Action, Approved, Roster, Statement, Wanted};
use crate::compromise::{CompromisePlan, Progress, RecoveryStep, Standing};
use crate::policy::Refusal;
use crate::store::Effect;
use crate::time::Lifetime;

impl CertificateAuthority {
    /// The statement that the quorum signs so that a plan is carried out.
    ///
    /// # Errors
    /// The plan is not about this installation, or nobody may approve it.
    pub fn recovery_statement(
        &self,
        plan: &str,
        requester: &str,
        wait: Lifetime,
    ) -> Result<Statement, ServiceError> {
        self.concerned(plan).map_err(ServiceError::Refused)?;
        let (wanted, roster) = self.recovery_wanted(plan).map_err(ServiceError::Refused)?;
        self.statement(wanted, roster, requester, wait)
    }

    /// Carries a plan out as far as the running daemon can, and says what is open. A plan that was recorded before goes on
    /// with the same approval.
    ///
    /// # Errors
    /// It is not approved, or not about this installation. The refusal is in the log.
    pub async fn recover_compromise(
        &self,
        caller: Caller,
        plan: &str,
        brought: &Brought,
        dry_run: bool,
    ) -> Result<Progress, ServiceError> {
        let (recorded, approved, parsed) = match self.recovery_is_approved(plan, brought).await? {
            Ok(approved) => approved,
            Err(refusal) => {
                let control = self.control.as_str();
                let asked = Asked::default();
                return Err(self.refuse(RefusedAction::Recover, control, caller, refusal, asked, None).await);
            }
        };
        let compromised = Freezable::Authority(parsed.compromised);
        if !dry_run {
            let reason = format!("compromised: {}", parsed.reason);
            self.freeze(caller, compromised.clone(), &reason).await?;
            if !recorded {
                self.record(plan, &approved).await?;
            }
        }
        let is_frozen = self.freezes.of(&compromised).is_some();
        let (_, domain) = self.concerned(plan).map_err(ServiceError::Refused)?;
        let (replace, retire) = standing(&parsed, domain)?;
        let done = |is: bool, otherwise: &str| match is {
            true => Standing::Done,
            false => Standing::Open(otherwise.to_owned()),
        };
        Ok(Progress {
            approved_by: approved.who().iter().cloned().collect(),
            steps: vec![
                (RecoveryStep::Freeze, done(is_frozen, "nothing was done: this is a dry run")),
                (RecoveryStep::Record, done(recorded || !dry_run, "nothing was done: this is a dry run")),
                (RecoveryStep::Replace, replace),
                (RecoveryStep::Retire, retire),
            ],
        })
    }

    /// Whether a plan was recorded before, who has approved it, and what it says; or why it is refused.
    async fn recovery_is_approved(
        &self,
        plan: &str,
        brought: &Brought,
    ) -> Result<Result<(bool, Approved, CompromisePlan), Refusal>, ServiceError> {
        let refused = |error: String| Ok(Err(Refusal::new("approval", error)));
        let parsed = match self.concerned(plan) {
            Ok((parsed, _)) => parsed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (wanted, roster) = match self.recovery_wanted(plan) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let statement = match Statement::parse(&brought.statement) {
            Ok(statement) => statement,
            Err(error) => return refused(error.to_string()),
        };
        let nonce = match statement.nonce_bytes() {
            Ok(nonce) => nonce,
            Err(error) => return refused(error.to_string()),
        };
        let recorded = self.facts.approval_is_carried_out(nonce).await;
        let recorded = recorded.map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        // It was good when it was recorded, and what it allows may take longer than it was good for.
        let now = if recorded { statement.expires.min(self.clock.now()) } else { self.clock.now() };
        match roster.approve(wanted, &brought.statement, &brought.signatures, now) {
            Ok(approved) => Ok(Ok((recorded, approved, parsed))),
            Err(error) => refused(error.to_string()),
        }
    }

    async fn record(&self, plan: &str, approved: &Approved) -> Result<(), ServiceError> {
        let internal = |error: &dyn std::fmt::Display| ServiceError::Internal(error.to_string());
        let log = &self.domains[0].log;
        let draft = Draft::new(&Body::Approval(approved.entry())).map_err(|error| internal(&error))?;
        log.append_durable(Append::new(draft)).await?;
        let body = Recovery {
            way: RecoveryWay::Compromise,
            statement: plan.to_owned(),
            approvals: approved.signatures().to_vec(),
        };
        let draft = Draft::new(&Body::Recovery(body)).map_err(|error| internal(&error))?;
        let nonce = approved.statement().nonce_bytes().map_err(|error| internal(&error))?;
        let effects = vec![Effect::ApprovalCarriedOut { nonce }];
        log.append(Append { draft, effects, blobs: Vec::new() }).await?;
        Ok(())
    }

    /// A plan, and the domain that it concerns.
    fn concerned(&self, plan: &str) -> Result<(CompromisePlan, &Domain), Refusal> {
        let refused = |what: String| Refusal::new("recovery-plan", what);
        let plan = CompromisePlan::parse(plan).map_err(|error| refused(error.to_string()))?;
        let domain = self
            .domain(&plan.domain)
            .ok_or_else(|| refused(format!("it is about the domain `{}`, which is not ours", plan.domain)))?;
        let replacement = plan.replacement().map_err(|error| refused(error.to_string()))?;
        let is_ours = domain.bundle().roots().iter().any(|root| {
            let is_tainted = plan.tainted_roots.iter().any(|tainted| tainted.0 == root.public_key().id());
            !is_tainted && replacement.is_issued_by(root)
        });
        match is_ours {
            true => Ok((plan, domain)),
            false => Err(refused(format!(
                "its replacement is signed by none of the published roots of `{}` that are not tainted; publish the new root first",
                domain.name.as_str()
            ))),
        }
    }

    fn recovery_wanted(&self, plan: &str) -> Result<(Wanted<'_>, &Roster), Refusal> {
        let roster = self.roster.as_ref().ok_or_else(|| {
            Refusal::new(
                "approval",
                "the configuration has no [recovery] roster, so that nobody could approve it",
            )
        })?;
        let object = CompromisePlan::object(plan);
        Ok((Wanted { action: Action::Recover, object, origin: self.control_origin() }, roster))
    }
}

/// Whether the replacement is in service and the compromised authority is not.
fn standing(plan: &CompromisePlan, domain: &Domain) -> Result<(Standing, Standing), ServiceError> {
    let replacement = plan.replacement().map_err(|error| ServiceError::Internal(error.to_string()))?;
    let first = domain.authorities.first().map(|authority| authority.certificate().der());
    let replace = match domain.authorities.iter().any(|it| it.certificate().der() == replacement.der()) {
        true if first == Some(replacement.der()) => Standing::Done,
        true => Standing::Open(
            "the replacement is in the configuration; put it before the other authorities of its domain, and start the daemon again".into(),
        ),
        false => Standing::Open(
            "name the replacement in the configuration, before the other authorities of its domain, and start the daemon again".into(),
        ),
    };
    let compromised = plan.compromised.0;
    let is_there = domain.authorities.iter().any(|it| it.certificate().public_key().id() == compromised);
    let retire = match is_there {
        false => Standing::Done,
        true => Standing::Open(
            "when its certificates are revoked and replaced, take the compromised authority out of the configuration".into(),
        ),
    };
    Ok((replace, retire))
}
