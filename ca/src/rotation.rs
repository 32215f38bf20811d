//! Rotation of roots and intermediates: a state machine that knows no clock and no store (`docs/rotation.md`).
//!
//! What is published, who signs and what goes with a chain follow from the phase. The phases stand in tables
//! ([`Step`]), and [`Rotation::advance`] goes from one to the next when the [`Facts`] allow it.

mod blocker;
mod certificates;
mod schedule;

use jiff::Timestamp;
use undercroft_log::leaf::{
    Base64Bytes, Caller, Digest, EnteredPhase, Replacement, RotatedRoots, Rotation as Entry, RotationEvent,
};
pub use undercroft_log::leaf::{RotationPhase as Phase, RotationSchedule as Schedule};

pub use blocker::{Blocker, Consumer, Facts, Live};
pub use certificates::Roots;
pub use schedule::{Step, steps};

use crate::bundle::Bundle;
use crate::certificate::AuthorityCertificate;
use crate::time::Lifetime;

/// The rotation of a root, or of an intermediate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    domain: String,
    number: u64,
    schedule: Schedule,
    planned: Timestamp,
    phases: Vec<EnteredPhase>,
    abandoned: bool,
    authorities: Vec<Replacement>,
    roots: Option<Roots>,
}

/// Why a rotation cannot be abandoned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "rotation {number} of `{domain}` is in the phase `{phase}`: the new authorities sign, and what they have signed needs their root; the way back is another rotation, `undercroft rotate plan` when this one is over"
)]
pub struct TooLate {
    number: u64,
    domain: String,
    phase: Phase,
}

/// What cannot be rotated so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RotationError(pub String);

/// A phase on the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// When it began, or may begin at the earliest.
    pub from: Timestamp,
    /// When it ended, or may end at the earliest; none for the last.
    pub until: Option<Timestamp>,
    /// Whether it has begun.
    pub begun: bool,
}

impl Rotation {
    /// Plans a rotation. Authorities that are replaced are named with their keys.
    ///
    /// # Errors
    /// No authority is replaced, or one twice, or one by itself.
    pub fn plan(
        domain: String,
        number: u64,
        schedule: Schedule,
        authorities: Vec<Replacement>,
        roots: Option<Roots>,
        now: Timestamp,
    ) -> Result<Self, RotationError> {
        if authorities.is_empty() {
            return Err(RotationError("no authority is replaced; name one with --replace old=new".into()));
        }
        let all = || authorities.iter().flat_map(|pair| [&pair.old, &pair.new]);
        if let Some(twice) = all().find(|name| all().filter(|other| other == name).count() > 1) {
            return Err(RotationError(format!("the authority `{twice}` is named twice")));
        }
        Ok(Self {
            domain,
            number,
            schedule,
            planned: now,
            phases: Vec::new(),
            abandoned: false,
            authorities,
            roots,
        })
    }

    /// The same rotation by another schedule: one that is under way may be hastened. If the other schedule does not have
    /// the phase that it is in, it goes on from there to the next that it has.
    #[must_use]
    pub fn by(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// The same rotation with the new root, and each root, certified by the other.
    ///
    /// # Errors
    /// See [`Roots::with_cross`]; or it is a rotation of an intermediate.
    pub fn with_cross(
        self,
        cross: Vec<AuthorityCertificate>,
        below: u8,
        now: Timestamp,
    ) -> Result<Self, RotationError> {
        if cross.is_empty() {
            return Ok(self);
        }
        let mut roots = self
            .roots
            .ok_or_else(|| RotationError("an intermediate's rotation needs no cross-certificates".into()))?;
        for cross in cross {
            roots = roots.with_cross(cross, below, now)?;
        }
        Ok(Self { roots: Some(roots), ..self })
    }

    /// Reads what stands in the log.
    ///
    /// # Errors
    /// A certificate in it is none.
    pub fn read(entry: &Entry) -> Result<Self, RotationError> {
        let certificate = |der: &Base64Bytes| {
            AuthorityCertificate::from_der(&der.0).map_err(|error| RotationError(error.to_string()))
        };
        let roots = match &entry.roots {
            None => None,
            Some(roots) => Some(Roots {
                old: certificate(&roots.old)?,
                new: certificate(&roots.new)?,
                new_by_old: roots.new_by_old.as_ref().map(certificate).transpose()?,
                old_by_new: roots.old_by_new.as_ref().map(certificate).transpose()?,
            }),
        };
        Ok(Self {
            domain: entry.domain.clone(),
            number: entry.number,
            schedule: entry.schedule,
            planned: entry.planned,
            phases: entry.phases.clone(),
            abandoned: entry.event == RotationEvent::Abandoned,
            authorities: entry.authorities.clone(),
            roots,
        })
    }

    /// What stands in the log.
    pub fn entry(
        &self,
        event: RotationEvent,
        caller: Caller,
        blockers: &[Blocker],
        approval: Option<Digest>,
    ) -> Entry {
        let der = |certificate: &AuthorityCertificate| Base64Bytes(certificate.der().to_vec());
        Entry {
            event,
            domain: self.domain.clone(),
            number: self.number,
            schedule: self.schedule,
            planned: self.planned,
            phases: self.phases.clone(),
            authorities: self.authorities.clone(),
            roots: self.roots.as_ref().map(|roots| RotatedRoots {
                old: der(&roots.old),
                new: der(&roots.new),
                new_by_old: roots.new_by_old.as_ref().map(der),
                old_by_new: roots.old_by_new.as_ref().map(der),
            }),
            caller,
            blockers: blockers.iter().map(Blocker::entry).collect(),
            approval,
        }
    }

    /// The trust domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The how-manieth of its domain it is, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its schedule.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// When it was first planned.
    pub fn planned(&self) -> Timestamp {
        self.planned
    }

    /// The authorities that are replaced.
    pub fn authorities(&self) -> &[Replacement] {
        &self.authorities
    }

    /// The roots; none if an intermediate alone is rotated.
    pub fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// The phase that it is in, or was in when it was abandoned; none if it has not begun.
    pub fn phase(&self) -> Option<Phase> {
        self.phases.last().map(|entered| entered.phase)
    }

    /// Since when it is in its phase, or is planned.
    pub fn since(&self) -> Timestamp {
        self.phases.last().map_or(self.planned, |entered| entered.since)
    }

    /// Whether it has begun and is not over.
    pub fn is_under_way(&self) -> bool {
        !self.is_over() && self.phase().is_some()
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        self.abandoned || self.has_retired()
    }

    /// Whether what it replaces has retired.
    pub fn has_retired(&self) -> bool {
        self.phase() == Some(Phase::Retire)
    }

    /// Whether it was given up.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Its phases in order.
    pub fn steps(&self) -> &'static [Step] {
        steps(self.roots.is_some(), self.schedule)
    }

    /// The phase that comes next; none if it is over.
    pub fn next(&self) -> Option<&'static Step> {
        self.next_of(self.steps())
    }

    /// Which authority signs where configuration or policy names `name`.
    pub fn signer<'a>(&'a self, name: &'a str) -> &'a str {
        if self.abandoned {
            return name;
        }
        let has_switched = self.phase() >= Some(Phase::Switch);
        let other = self.authorities.iter().find_map(|pair| match has_switched {
            true if pair.old == name => Some(&*pair.new),
            // A new one that is named by mistake, or comes first in the configuration, waits for its turn.
            false if pair.new == name => Some(&*pair.old),
            _ => None,
        });
        other.unwrap_or(name)
    }

    /// What goes with a chain that ends below `root`, so that whoever has only the other root can verify it.
    pub fn beside(&self, root: &AuthorityCertificate, now: Timestamp) -> Option<&AuthorityCertificate> {
        let roots = self.roots.as_ref()?;
        if self.abandoned || !matches!(self.phase(), Some(Phase::CrossSign | Phase::Switch | Phase::Drain)) {
            return None;
        }
        let cross = match root {
            root if *root == roots.new => roots.new_by_old.as_ref(),
            root if *root == roots.old => roots.old_by_new.as_ref(),
            _ => None,
        };
        cross.filter(|cross| cross.validity().contains(now))
    }

    /// The bundle of `phase`, made from the published one; none if that is it already.
    pub fn bundle(&self, phase: Phase, published: &Bundle) -> Option<Bundle> {
        let roots = self.roots.as_ref()?;
        let others = published.roots().iter().filter(|root| **root != roots.old && **root != roots.new);
        let mut wanted: Vec<_> = others.cloned().collect();
        let mut tainted: Vec<_> = wanted
            .iter()
            .filter(|root| published.is_tainted(root))
            .map(|root| Digest::of(root.der()))
            .collect();
        if phase != Phase::Retire {
            wanted.push(roots.old.clone());
        }
        if phase == Phase::Drain {
            tainted.push(Digest::of(roots.old.der()));
        }
        wanted.push(roots.new.clone());
        let is_it = published.roots().len() == wanted.len()
            && wanted.iter().all(|root| {
                published.roots().contains(root)
                    && published.is_tainted(root) == tainted.contains(&Digest::of(root.der()))
            });
        (!is_it).then(|| published.next(wanted, tainted, published.refresh_hint()))
    }

    /// The bundle in which its new root does not stand, made from the published one; none if that is it already.
    pub fn bundle_without(&self, published: &Bundle) -> Option<Bundle> {
        let new = &self.roots.as_ref().filter(|_| self.phase().is_some())?.new;
        let left = published.roots().iter().filter(|root| *root != new);
        let left: Vec<_> = left.cloned().collect();
        let tainted = left.iter().filter(|root| published.is_tainted(root));
        let tainted = tainted.map(|root| Digest::of(root.der())).collect();
        (left.len() < published.roots().len())
            .then(|| published.next(left, tainted, published.refresh_hint()))
    }

    /// The same rotation, given up.
    ///
    /// # Errors
    /// The new authorities sign: what they have signed needs their root.
    pub fn abandoned(&self) -> Result<Self, TooLate> {
        match self.phase() {
            Some(phase) if phase >= Phase::Switch => {
                Err(TooLate { number: self.number, domain: self.domain.clone(), phase })
            }
            _ => Ok(Self { abandoned: true, ..self.clone() }),
        }
    }

    /// What keeps it from its next phase; nothing if it may go on, or is over.
    pub fn blockers(&self, facts: &Facts<'_>, now: Timestamp) -> Vec<Blocker> {
        self.blockers_of(self.steps(), facts, now)
    }

    /// Goes on to the next phase.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn advance(&self, facts: &Facts<'_>, now: Timestamp) -> Result<Self, Vec<Blocker>> {
        self.advance_by(self.steps(), facts, now)
    }

    /// The same rotation, its newest phase begun at `now`: what it published may have taken its time.
    #[must_use]
    pub fn begun_at(mut self, now: Timestamp) -> Self {
        if let Some(entered) = self.phases.last_mut() {
            entered.since = now;
        }
        self
    }

    /// Whether another plan is about the same authorities and roots.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        let pair =
            |rotation: &Self| rotation.roots.as_ref().map(|roots| (roots.old.clone(), roots.new.clone()));
        self.domain == other.domain && self.authorities == other.authorities && pair(self) == pair(other)
    }

    /// The phases on the calendar: those behind as they were, those ahead as early as they can be.
    pub fn calendar(&self, facts: &Facts<'_>, now: Timestamp) -> Vec<Span> {
        let mut spans: Vec<_> = self
            .phases
            .iter()
            .zip(self.phases.iter().skip(1).map(|next| Some(next.since)).chain([None]))
            .map(|(entered, until)| Span { phase: entered.phase, from: entered.since, until, begun: true })
            .collect();
        let dates = self.blockers(facts, now).into_iter().filter_map(|blocker| blocker.until);
        let mut earliest = dates.fold(now, Timestamp::max);
        let ahead = self.steps().iter().filter(|step| !self.abandoned && Some(step.phase) > self.phase());
        for step in ahead {
            if let Some(last) = spans.last_mut().filter(|span| span.until.is_none()) {
                last.until = Some(earliest);
            }
            spans.push(Span { phase: step.phase, from: earliest, until: None, begun: false });
            let mut least = step.least(facts.leaf_lifetime, facts.refresh_hint);
            if step.ended {
                // What was issued last before the switch.
                let switched = spans.iter().find(|span| span.phase == Phase::Switch).map(|span| span.from);
                let last = switched.and_then(|from| from.checked_add(facts.leaf_lifetime.0).ok());
                let rest = last.map_or(0, |last| last.as_second() - earliest.as_second());
                least = least.max(Lifetime::seconds(u64::try_from(rest).unwrap_or(0)));
            }
            earliest = earliest.checked_add(least.0).unwrap_or(Timestamp::MAX);
        }
        spans
    }

    fn next_of<'a>(&self, steps: &'a [Step]) -> Option<&'a Step> {
        steps.iter().find(|step| !self.abandoned && Some(step.phase) > self.phase())
    }

    fn blockers_of(&self, steps: &[Step], facts: &Facts<'_>, now: Timestamp) -> Vec<Blocker> {
        let current = steps.iter().find(|step| Some(step.phase) == self.phase());
        self.next_of(steps).map(|next| blocker::blockers(self, current, next, facts, now)).unwrap_or_default()
    }

    fn advance_by(&self, steps: &[Step], facts: &Facts<'_>, now: Timestamp) -> Result<Self, Vec<Blocker>> {
        let blockers = self.blockers_of(steps, facts, now);
        if !blockers.is_empty() {
            return Err(blockers);
        }
        let mut gone_on = self.clone();
        let next = self.next_of(steps);
        gone_on.phases.extend(next.map(|step| EnteredPhase { phase: step.phase, since: now }));
        Ok(gone_on)
    }
}

/// All rotations of a domain, the newest last. What one of them has retired stays retired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotations(pub Vec<Rotation>);

impl Rotations {
    /// The newest.
    pub fn newest(&self) -> Option<&Rotation> {
        self.0.last()
    }

    /// Which authority signs where configuration or policy names `name`.
    pub fn signer<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.iter().fold(name, |name, rotation| rotation.signer(name))
    }

    /// What goes with a chain that ends below `root`.
    pub fn beside(&self, root: &AuthorityCertificate, now: Timestamp) -> Option<&AuthorityCertificate> {
        self.newest()?.beside(root, now)
    }

    /// With `rotation` in the place of the one of its number, or behind all.
    #[must_use]
    pub fn with(&self, rotation: Rotation) -> Self {
        let mut all: Vec<_> = self.0.iter().filter(|other| other.number < rotation.number).cloned().collect();
        all.push(rotation);
        Self(all)
    }

    /// Whether an authority has been replaced for good.
    pub fn has_retired(&self, name: &str) -> bool {
        let over = self.0.iter().filter(|rotation| rotation.has_retired());
        over.flat_map(Rotation::authorities).any(|pair| pair.old == name)
    }
}

#[cfg(test)]
mod tests;
