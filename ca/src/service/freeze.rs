//! Freezing and releasing (`docs/freeze.md`). One person freezes; the quorum releases.

use undercroft_log::leaf::{Asked, Body, Caller, Draft, Freezable, Freeze, FreezeEvent, RefusedAction};
use undercroft_log::sequencer::Append;

use super::{CertificateAuthority, ServiceError, legible};
use crate::approval::{Action, Approved, Roster, Statement, Wanted};
use crate::freeze::{Frozen, words};
use crate::policy::Refusal;
use crate::store::Effect;
use crate::time::Lifetime;

/// The longest reason for a freeze, in characters.
const MAX_REASON: usize = 500;

/// The longest time that an approval may wait to be carried out.
const MAX_WAIT: Lifetime = Lifetime::days(7);

/// What came of a freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezing {
    /// The freeze that holds now.
    pub frozen: Frozen,
    /// Whether it held before.
    pub already: bool,
}

/// An approval that somebody brings.
#[derive(Clone, Debug)]
pub struct Brought {
    /// The statement, exactly as it was signed.
    pub statement: String,
    /// Armoured signatures over it.
    pub signatures: Vec<String>,
}

impl CertificateAuthority {
    /// What is frozen now.
    pub fn freezes(&self) -> Vec<Frozen> {
        self.freezes.list()
    }

    /// Who may approve, if anybody may.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Freezes something at once. What is frozen already stays as it is.
    ///
    /// From the first moment on nothing is issued for it, before the entry is durable; so none is signed afterwards.
    ///
    /// # Errors
    /// There is no reason, or the log does not take the entry: then it is not frozen, unless it was.
    pub async fn freeze(
        &self,
        caller: Caller,
        what: Freezable,
        reason: &str,
    ) -> Result<Freezing, ServiceError> {
        let reason = legible(reason.trim(), MAX_REASON);
        if reason.is_empty() {
            return Err(ServiceError::Refused(Refusal::new(
                "freeze-reason",
                "whoever is refused must be told why: give a reason",
            )));
        }
        let _alone = self.changing.lock().await;
        if let Some(frozen) = self.freezes.of(&what) {
            return Ok(Freezing { frozen, already: true });
        }
        let since = self.clock.now();
        let (by, entry) = (caller.id.clone(), None);
        self.freezes.add(Frozen { what: what.clone(), by, since, reason: reason.clone(), entry });
        let body = Freeze { what: what.clone(), event: FreezeEvent::Frozen { reason }, caller };
        let appended = self.append_freeze(body, vec![Effect::Frozen { what: what.clone() }]).await;
        // As the log says it: when it was stamped, and the digest that an approval is about.
        let read = self.read_freezes().await;
        appended?;
        read?;
        match self.freezes.of(&what) {
            Some(frozen) => Ok(Freezing { frozen, already: false }),
            None => Err(ServiceError::Internal(format!("the freeze of {what:?} was not stored"))),
        }
    }

    /// The statement that the quorum signs so that something is released.
    ///
    /// # Errors
    /// It is not frozen, nobody may approve, or the statement would wait too long. `requester` names a person who asks, and
    /// who then cannot approve.
    pub fn unfreeze_statement(
        &self,
        what: &Freezable,
        requester: &str,
        wait: Lifetime,
    ) -> Result<Statement, ServiceError> {
        let (wanted, roster) = self.wanted(what).map_err(ServiceError::Refused)?;
        self.statement(wanted, roster, requester, wait)
    }

    /// A statement for the quorum, with a new nonce.
    pub(super) fn statement(
        &self,
        wanted: Wanted<'_>,
        roster: &Roster,
        requester: &str,
        wait: Lifetime,
    ) -> Result<Statement, ServiceError> {
        let refused = |reason: String| Err(ServiceError::Refused(Refusal::new("approval", reason)));
        if requester.trim().is_empty() || requester.chars().any(char::is_control) {
            return refused(
                "the statement names who asks, so that whoever signs knows; give --requester".into(),
            );
        }
        if wait > MAX_WAIT {
            return refused(format!("an approval may wait for {MAX_WAIT} at most, not {wait}"));
        }
        let mut nonce = [0; 16];
        self.entropy.fill(&mut nonce).map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        let until = self.clock.now() + wait.0;
        let until = jiff::Timestamp::from_second(until.as_second()).unwrap_or(until);
        Ok(Statement::new(wanted, roster, requester.trim().to_owned(), until, nonce))
    }

    /// Releases what is frozen, by the quorum's word. Gives who has approved.
    ///
    /// # Errors
    /// It is not frozen, or what was brought approves something else or not enough. The refusal is in the log.
    pub async fn unfreeze(
        &self,
        caller: Caller,
        what: Freezable,
        brought: &Brought,
        dry_run: bool,
    ) -> Result<Vec<String>, ServiceError> {
        let _alone = self.changing.lock().await;
        let approved = match self.unfreeze_is_approved(&what, brought) {
            Ok(approved) => approved,
            Err(refusal) => return Err(self.refuse_unfreeze(caller, refusal).await),
        };
        let who: Vec<_> = approved.who().iter().cloned().collect();
        let nonce =
            approved.statement().nonce_bytes().map_err(|error| ServiceError::Internal(error.to_string()))?;
        let was_used = self.facts.approval_is_carried_out(nonce).await;
        if was_used.map_err(|error| ServiceError::Unavailable(error.to_string()))? {
            let refusal = Refusal::new(
                "approval",
                "this statement was carried out before, and one approval is good once; have a new one signed",
            );
            return Err(self.refuse_unfreeze(caller, refusal).await);
        }
        if dry_run {
            return Ok(who);
        }
        // The approval stands in front of what it allows. If nothing follows it, it is still good.
        let draft = Draft::new(&Body::Approval(approved.entry()))
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        let approval = self.domains[0].log.append_durable(Append::new(draft)).await?.index;
        let event = FreezeEvent::Unfrozen {
            freeze: approved.statement().object,
            approval,
            nonce: approved.statement().nonce.clone(),
        };
        let effects = vec![Effect::Unfrozen { what: what.clone() }, Effect::ApprovalCarriedOut { nonce }];
        self.append_freeze(Freeze { what, event, caller }, effects).await?;
        self.read_freezes().await?;
        Ok(who)
    }

    fn unfreeze_is_approved(&self, what: &Freezable, brought: &Brought) -> Result<Approved, Refusal> {
        let (wanted, roster) = self.wanted(what)?;
        roster
            .approve(wanted, &brought.statement, &brought.signatures, self.clock.now())
            .map_err(|error| Refusal::new("approval", error.to_string()))
    }

    /// What must be approved so that something is released, and by whom.
    fn wanted(&self, what: &Freezable) -> Result<(Wanted<'_>, &Roster), Refusal> {
        let (kind, name) = words(what);
        let frozen = self.freezes.of(what);
        let frozen =
            frozen.ok_or_else(|| Refusal::new("not-frozen", format!("the {kind} {name} is not frozen")))?;
        let object = frozen.entry.ok_or_else(|| {
            Refusal::new("not-frozen", format!("the {kind} {name} is only just being frozen"))
        })?;
        let roster = self.roster.as_ref().ok_or_else(|| {
            Refusal::new(
                "approval",
                "the configuration has no [recovery] roster, so that nobody could approve it; a roster that is added shows in the log's next start",
            )
        })?;
        Ok((Wanted { action: Action::Unfreeze, object, origin: self.control_origin() }, roster))
    }

    /// The origin of the control log.
    pub(super) fn control_origin(&self) -> &str {
        self.domains[0].log.key().name().as_str()
    }

    async fn refuse_unfreeze(&self, caller: Caller, refusal: Refusal) -> ServiceError {
        let control = self.control.as_str();
        self.refuse(RefusedAction::Unfreeze, control, caller, refusal, Asked::default(), None).await
    }

    async fn append_freeze(&self, body: Freeze, effects: Vec<Effect>) -> Result<(), ServiceError> {
        let draft =
            Draft::new(&Body::Freeze(body)).map_err(|error| ServiceError::Internal(error.to_string()))?;
        self.domains[0].log.append_end(Append { draft, effects, blobs: Vec::new() }).await?;
        Ok(())
    }

    /// Believes what is stored. If nobody can tell, what is known stays as it is, which refuses more and not less.
    async fn read_freezes(&self) -> Result<(), ServiceError> {
        let read = match self.facts.freezes().await {
            Ok(entries) => self.freezes.read_again(&entries),
            Err(error) => Err(error),
        };
        read.map_err(|error| ServiceError::Unavailable(error.to_string()))
    }
}
