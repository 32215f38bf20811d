//! Rotations as the operator drives them: what is decided in [`crate::rotation`], logged before it takes effect.

mod abandon;

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use undercroft_log::leaf::{
    Alert, AlertEvent, Body, Caller, Digest, Draft, HexKeyId, Replacement, RotationEvent,
};
use undercroft_log::sequencer::{Append, AppendError, Assurance};
use undercroft_log::store::StoreError;

use super::{CertificateAuthority, Domain};
use crate::approval::{Action, ApprovalError, Approved, Statement, Wanted};
use crate::authority::Authority;
use crate::bundle::Bundle;
use crate::certificate::{AuthorityCertificate, CertificateError};
use crate::profile::{Kind, Profile};
use crate::rotation::{
    Blocker, Consumer, Facts as World, Live, Roots, Rotation, RotationError, Schedule, Span, TooLate,
};
use crate::serial::NoEntropy;
use crate::store::Effect;
use crate::time::Lifetime;

/// What is to be rotated.
#[derive(Clone, Debug)]
pub struct RotationOrder {
    /// By which schedule.
    pub schedule: Schedule,
    /// Names of authorities, old and new.
    pub replace: Vec<(String, String)>,
    /// The new root, DER; none to rotate intermediates alone.
    pub new_root: Option<Vec<u8>>,
}

/// What a rotation is given on its way to the next phase.
#[derive(Clone, Debug, Default)]
pub struct Advance {
    /// Cross-certificates, DER.
    pub cross: Vec<Vec<u8>>,
    /// The statement that was signed, and the signatures.
    pub approval: Option<(String, Vec<String>)>,
    /// Decide everything, and log and change nothing.
    pub dry_run: bool,
}

/// A rotation as it stands.
#[derive(Clone, Debug)]
pub struct RotationStatus {
    /// The rotation.
    pub rotation: Rotation,
    /// What keeps it from its next phase.
    pub blockers: Vec<Blocker>,
    /// Its phases on the calendar.
    pub calendar: Vec<Span>,
    /// The published bundle.
    pub bundle: Arc<Bundle>,
    /// Those who are known to take it.
    pub consumers: Vec<Consumer>,
    /// SHA-256 of the bundle's entry that the quorum must approve before the next phase, if it changes the set of roots.
    pub to_approve: Option<Digest>,
    /// The time by the CA's clock.
    pub now: Timestamp,
}

/// Why a rotation did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// It is too early. The refusal is in the log.
    #[error("it is too early: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotYet(Vec<Blocker>),
    /// It cannot be undone any more. The refusal is in the log.
    #[error("{0}")]
    TooLate(TooLate),
    /// The quorum has not approved it.
    #[error("{0}")]
    Unapproved(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A bug.
    #[error("{0}; this is a bug")]
    Bug(String),
}

impl From<TooLate> for RotateError {
    fn from(error: TooLate) -> Self {
        Self::TooLate(error)
    }
}

impl From<RotationError> for RotateError {
    fn from(error: RotationError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<CertificateError> for RotateError {
    fn from(error: CertificateError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<ApprovalError> for RotateError {
    fn from(error: ApprovalError) -> Self {
        Self::Unapproved(error.to_string())
    }
}

/// What the world is like, owned.
struct Known {
    leaf_lifetime: Lifetime,
    bundle: Arc<Bundle>,
    consumers: Vec<Consumer>,
    authorities: Vec<(String, AuthorityCertificate)>,
    last_of_old: Option<Live>,
    new_has_issued: bool,
}

impl Known {
    fn facts(&self) -> World<'_> {
        World {
            leaf_lifetime: self.leaf_lifetime,
            refresh_hint: self.bundle.refresh_hint(),
            bundle: self.bundle.sequence(),
            consumers: &self.consumers,
            authorities: &self.authorities,
            last_of_old: self.last_of_old.as_ref(),
            new_has_issued: self.new_has_issued,
        }
    }
}

impl CertificateAuthority {
    /// Plans the rotation of a root or of intermediates. One that has not begun is replaced; one that has may be given
    /// another schedule, and is otherwise to be finished first.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub async fn plan_rotation(
        &self,
        caller: Caller,
        domain: &str,
        order: RotationOrder,
        dry_run: bool,
    ) -> Result<RotationStatus, RotateError> {
        let domain = self.rotated(domain)?;
        let _turn = domain.rotating.lock().await;
        let now = whole_second(self.clock.now());
        let rotation = self.planned(domain, order, now)?;
        let status = self.status_of(domain, rotation.clone(), now).await?;
        if !dry_run {
            let entry = rotation.entry(RotationEvent::Planned, caller, &[], None);
            domain.log_rotation(Body::Rotation(entry.clone()), vec![Effect::Rotation(entry)]).await?;
            domain.set_rotation(rotation);
        }
        Ok(status)
    }

    /// The newest rotation of a domain; nothing if there was none.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub async fn rotation_status(&self, domain: &str) -> Result<Option<RotationStatus>, RotateError> {
        let domain = self.rotated(domain)?;
        let now = whole_second(self.clock.now());
        match domain.rotations().newest() {
            None => Ok(None),
            Some(rotation) => Ok(Some(self.status_of(domain, rotation.clone(), now).await?)),
        }
    }

    /// The statement that the quorum signs so that the rotation of a domain may enter its next phase; nothing if that
    /// changes no root.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub async fn rotation_statement(
        &self,
        domain: &str,
        requester: &str,
        lifetime: Lifetime,
    ) -> Result<Option<String>, RotateError> {
        let status = self.rotation_status(domain).await?;
        let Some(object) = status.as_ref().and_then(|status| status.to_approve) else { return Ok(None) };
        self.bundle_statement(self.rotated(domain)?, object, requester, lifetime).map(Some)
    }

    /// A statement about the entry of a bundle.
    fn bundle_statement(
        &self,
        domain: &Domain,
        object: Digest,
        requester: &str,
        lifetime: Lifetime,
    ) -> Result<String, RotateError> {
        let roster = self.roster.as_ref().ok_or_else(no_roster)?;
        let mut nonce = [0; 16];
        self.entropy.fill(&mut nonce)?;
        let now = whole_second(self.clock.now());
        let expires = now.checked_add(lifetime.0).map_err(|error| RotateError::Wrong(error.to_string()))?;
        let wanted = Wanted { action: Action::Bundle, object, origin: domain.log.key().name().as_str() };
        let statement = Statement::new(wanted, roster, requester.to_owned(), expires, nonce);
        Ok(statement.text()?)
    }

    /// Has the rotation of a domain enter its next phase.
    ///
    /// What changes the published roots is approved, logged and published first, and then the phase begins: its waits
    /// count from a moment when everybody could have had the bundle.
    ///
    /// # Errors
    /// See [`RotateError`]. That it was too early is in the log.
    pub async fn advance_rotation(
        &self,
        caller: Caller,
        domain: &str,
        given: Advance,
    ) -> Result<RotationStatus, RotateError> {
        let domain = self.rotated(domain)?;
        let _turn = domain.rotating.lock().await;
        self.publish_what_is_logged(domain, given.dry_run).await?;
        let now = whole_second(self.clock.now());
        let rotation = domain.rotation_to_go_on()?;
        let cross = given.cross.iter().map(|der| AuthorityCertificate::from_der(der));
        let rotation = rotation.with_cross(cross.collect::<Result<_, _>>()?, domain.longest_path(), now)?;
        let known = self.known(domain, &rotation).await?;
        let gone_on = match rotation.advance(&known.facts(), now) {
            Ok(gone_on) => gone_on,
            Err(blockers) => {
                if !given.dry_run {
                    let entry = rotation.entry(RotationEvent::Refused, caller, &blockers, None);
                    domain.log_rotation(Body::Rotation(entry), Vec::new()).await?;
                }
                return Err(RotateError::NotYet(blockers));
            }
        };
        let phase = gone_on.phase().ok_or_else(|| RotateError::Bug("a phase that is none".into()))?;
        let bundle = gone_on.bundle(phase, &known.bundle);
        let approved = match &bundle {
            Some(bundle) if !bundle.has_roots_of(&known.bundle) => {
                Some(self.approved(domain, bundle, given.approval.as_ref(), now)?)
            }
            _ => None,
        };
        if given.dry_run {
            return self.status_of(domain, gone_on, now).await;
        }
        if let Some(bundle) = bundle {
            self.publish_approved(domain, bundle, approved.as_ref()).await?;
        }
        // Witnesses may have taken their time.
        let now = whole_second(self.clock.now());
        let begun = gone_on.begun_at(now);
        let approval = approved.map(|approved| Digest::of(approved.text().as_bytes()));
        let entry = begun.entry(RotationEvent::Advanced, caller, &[], approval);
        domain.log_rotation(Body::Rotation(entry.clone()), vec![Effect::Rotation(entry)]).await?;
        domain.set_rotation(begun.clone());
        self.status_of(domain, begun, now).await
    }

    /// A bundle may have become durable and not been witnessed, when nobody answered: then it is in the store and was not
    /// published. Whatever is witnessed after it makes up for that.
    async fn publish_what_is_logged(&self, domain: &Domain, dry_run: bool) -> Result<(), RotateError> {
        let published = domain.bundle();
        let Some(stored) = self.facts.bundle(domain.name.as_str()).await? else { return Ok(()) };
        if stored.sequence == published.sequence() {
            return Ok(());
        }
        if dry_run {
            return Err(RotateError::Wrong(format!(
                "bundle {} is in the log and was never published, since too few witnesses answered; advance without --dry-run",
                stored.sequence
            )));
        }
        let text = format!("bundle {} waited for witnesses, and is published now", stored.sequence);
        let alert = Alert { event: AlertEvent::Ended, rule: "bundle-unwitnessed".to_owned(), text };
        domain.log_witnessed(Body::Alert(alert), Vec::new()).await?;
        domain.set_bundle(Bundle::read(domain.name.clone(), &stored)?);
        Ok(())
    }

    fn rotated(&self, name: &str) -> Result<&Domain, RotateError> {
        self.domain(name)
            .ok_or_else(|| RotateError::Wrong(format!("no domain `{name}`; see `undercroft domain list`")))
    }

    /// The rotation that an order makes of what there is.
    fn planned(
        &self,
        domain: &Domain,
        order: RotationOrder,
        now: Timestamp,
    ) -> Result<Rotation, RotateError> {
        let rotations = domain.rotations();
        let mut authorities = Vec::new();
        let mut old_roots: Vec<&AuthorityCertificate> = Vec::new();
        for (old, new) in order.replace {
            let authority = domain.named(&old)?;
            for name in [&old, &new] {
                if rotations.has_retired(name) {
                    return Err(RotateError::Wrong(format!("the authority `{name}` has retired")));
                }
            }
            if !old_roots.contains(&authority.root()) {
                old_roots.push(authority.root());
            }
            authorities.push(Replacement {
                old,
                old_key: HexKeyId(authority.certificate().public_key().id()),
                new,
            });
        }
        let roots = match (order.new_root, &old_roots[..]) {
            (None, _) => None,
            (Some(der), [old]) => {
                let new = AuthorityCertificate::from_der(&der)?;
                self.is_nobody_elses(domain, old, &new)?;
                let left = domain.authorities.iter().find(|authority| {
                    authority.root() == *old
                        && !rotations.has_retired(authority.name())
                        && !authorities.iter().any(|pair| pair.old == authority.name())
                });
                if let Some(left) = left {
                    return Err(RotateError::Wrong(format!(
                        "the authority `{}` is below the old root, too, and is not replaced; add --replace {}=…",
                        left.name(),
                        left.name()
                    )));
                }
                Some(Roots::new((*old).clone(), new)?)
            }
            (Some(_), _) => {
                return Err(RotateError::Wrong(
                    "the authorities that are replaced are below different roots; rotate one root at a time"
                        .into(),
                ));
            }
        };
        if let Some(roots) = &roots
            && !domain.bundle().roots().contains(&roots.old)
        {
            return Err(RotateError::Wrong(format!("the root {} is not published", roots.old.subject())));
        }
        let name = domain.name.as_str().to_owned();
        let newest = rotations.newest();
        let number = match newest {
            None => 1,
            Some(newest) if newest.is_over() => newest.number() + 1,
            Some(newest) => newest.number(),
        };
        let rotation = Rotation::plan(name, number, order.schedule, authorities, roots, now)?;
        match newest.filter(|newest| newest.is_under_way()) {
            None => Ok(rotation),
            Some(under_way) if under_way.is_of_the_same(&rotation) => {
                Ok(under_way.clone().by(order.schedule))
            }
            Some(under_way) => Err(RotateError::Wrong(format!(
                "rotation {} of `{}` is under way; finish it first, or hasten it with the same certificates and another --schedule",
                under_way.number(),
                domain.name.as_str()
            ))),
        }
    }

    /// A root of two domains lets either speak for the other, unless they shared one and are kept apart by constraints.
    fn is_nobody_elses(
        &self,
        domain: &Domain,
        old: &AuthorityCertificate,
        new: &AuthorityCertificate,
    ) -> Result<(), RotateError> {
        for other in self.domains.iter().filter(|other| other.name != domain.name) {
            let (bundle, rotations) = (other.bundle(), other.rotations());
            let rotated = rotations.newest().and_then(Rotation::roots).map(|roots| &roots.new);
            let mut roots = bundle.roots().iter().chain(rotated);
            let has = |wanted: &AuthorityCertificate| {
                bundle.roots().iter().any(|root| root.public_key() == wanted.public_key())
            };
            if roots.any(|root| root.public_key() == new.public_key()) && !has(old) {
                return Err(RotateError::Wrong(format!(
                    "the new root is one of `{}`, which does not share the old one: each domain would speak for the other",
                    other.name.as_str()
                )));
            }
        }
        Ok(())
    }

    async fn status_of(
        &self,
        domain: &Domain,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<RotationStatus, RotateError> {
        let known = self.known(domain, &rotation).await?;
        let facts = known.facts();
        let next = rotation.next().and_then(|next| rotation.bundle(next.phase, &known.bundle));
        let to_approve = next.filter(|next| !next.has_roots_of(&known.bundle));
        Ok(RotationStatus {
            blockers: rotation.blockers(&facts, now),
            calendar: rotation.calendar(&facts, now),
            to_approve: to_approve.map(|next| object(&next)).transpose()?,
            rotation,
            consumers: known.consumers.clone(),
            bundle: known.bundle,
            now,
        })
    }

    async fn known(&self, domain: &Domain, rotation: &Rotation) -> Result<Known, RotateError> {
        let old: Vec<_> = rotation.authorities().iter().map(|pair| pair.old_key.0).collect();
        let new = rotation.authorities().iter().filter_map(|pair| domain.named(&pair.new).ok());
        let new: Vec<_> = new.map(|authority| authority.certificate().public_key().id()).collect();
        let authorities = domain.authorities.iter();
        let last_of_old = self.facts.ends_last(&old).await?;
        Ok(Known {
            leaf_lifetime: self.leaf_lifetime(domain),
            bundle: domain.bundle(),
            consumers: domain.consumers.list(self.clock.now()),
            authorities: authorities
                .map(|authority| (authority.name().to_owned(), authority.certificate().clone()))
                .collect(),
            last_of_old: last_of_old.map(|fact| Live { name: fact.name, not_after: fact.not_after }),
            new_has_issued: self.facts.ends_last(&new).await?.is_some(),
        })
    }

    /// The longest lifetime of what is issued in a domain, the daemon's own certificates and callers' among them.
    fn leaf_lifetime(&self, domain: &Domain) -> Lifetime {
        let callers = (domain.name == self.control).then(|| self.caller_profile.max_lifetime());
        let server = Profile::standard(Kind::Server).lifetime();
        self.policy.longest_lifetime(&domain.name).into_iter().chain(callers).fold(server, Lifetime::max)
    }

    /// That the quorum has approved a bundle, exactly as it will stand in the log.
    fn approved(
        &self,
        domain: &Domain,
        bundle: &Bundle,
        given: Option<&(String, Vec<String>)>,
        now: Timestamp,
    ) -> Result<Approved, RotateError> {
        let roster = self.roster.as_ref().ok_or_else(no_roster)?;
        let object = object(bundle)?;
        let (text, signatures) = given.ok_or_else(|| {
            RotateError::Unapproved(format!(
                "this changes the roots of `{}`, which {} of {} must approve; have `undercroft rotate status` or `undercroft rotate abandon` write what they sign, and give it with --statement and --approval",
                domain.name.as_str(),
                roster.quorum(),
                roster.names().collect::<Vec<_>>().join(", ")
            ))
        })?;
        let origin = domain.log.key().name().as_str();
        Ok(roster.approve(Wanted { action: Action::Bundle, object, origin }, text, signatures, now)?)
    }
}

impl Domain {
    fn named(&self, name: &str) -> Result<&Authority, RotateError> {
        self.authorities.iter().find(|authority| authority.name() == name).ok_or_else(|| {
            let known: Vec<_> = self.authorities.iter().map(Authority::name).collect();
            RotateError::Wrong(format!(
                "`{}` has no authority `{name}`; it has {}",
                self.name.as_str(),
                known.join(", ")
            ))
        })
    }

    /// The rotation that is planned or under way.
    fn rotation_to_go_on(&self) -> Result<Rotation, RotateError> {
        let rotation = self.rotations().newest().filter(|rotation| !rotation.is_over()).cloned();
        rotation.ok_or_else(|| {
            RotateError::Wrong(format!(
                "no rotation of `{}` is planned; see `undercroft rotate plan`",
                self.name.as_str()
            ))
        })
    }

    /// The longest path length of its authorities.
    fn longest_path(&self) -> u8 {
        let lengths = self.authorities.iter().map(|authority| authority.certificate().path_length());
        lengths.map(|length| length.unwrap_or(u8::MAX)).max().unwrap_or(0)
    }

    fn set_rotation(&self, rotation: Rotation) {
        let mut rotations = self.rotations.write().unwrap_or_else(PoisonError::into_inner);
        *rotations = Arc::new(rotations.with(rotation));
    }

    fn set_bundle(&self, bundle: Bundle) {
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bundle);
    }

    /// Makes an entry durable, and what it effects.
    async fn log_rotation(&self, body: Body, effects: Vec<Effect>) -> Result<(), RotateError> {
        self.log.append_durable(append(&body, effects)?).await?;
        Ok(())
    }

    /// The same, and waits for witnesses, where there are any.
    async fn log_witnessed(&self, body: Body, effects: Vec<Effect>) -> Result<(), RotateError> {
        self.log.append_assured(append(&body, effects)?, Assurance::Witnessed).await?;
        Ok(())
    }
}

fn append(body: &Body, effects: Vec<Effect>) -> Result<Append<Effect>, RotateError> {
    let draft = Draft::new(body).map_err(|error| RotateError::Bug(error.to_string()))?;
    Ok(Append { draft, effects, blobs: Vec::new() })
}

/// What the quorum approves: SHA-256 of the body of the bundle's entry. Its sequence number is in it, so that one approval
/// publishes one bundle.
fn object(bundle: &Bundle) -> Result<Digest, RotateError> {
    let draft =
        Draft::new(&Body::Bundle(bundle.entry())).map_err(|error| RotateError::Bug(error.to_string()))?;
    Ok(Digest::of(draft.body().as_bytes()))
}

fn no_roster() -> RotateError {
    RotateError::Unapproved(
        "the roots of a domain change by the word of a quorum, and there is none; add [recovery] with its persons to the configuration".into(),
    )
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
