//! What stands in the way of the next phase, and until when.

use std::fmt;

use jiff::Timestamp;
use undercroft_log::leaf::{RotationBlocker, RotationPhase as Phase};

use super::{Rotation, Step};
use crate::certificate::AuthorityCertificate;
use crate::time::Lifetime;

/// What is known of the world when a rotation is to go on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The longest lifetime that policy grants in the domain.
    pub leaf_lifetime: Lifetime,
    /// The refresh hint of the published bundle.
    pub refresh_hint: Lifetime,
    /// The sequence number of the published bundle.
    pub bundle: u64,
    /// Those who are known to take the domain's bundles.
    pub consumers: &'a [Consumer],
    /// The authorities that are configured, by name.
    pub authorities: &'a [(String, AuthorityCertificate)],
    /// The certificate under the old authorities that ends last, if one is alive.
    pub last_of_old: Option<&'a Live>,
    /// Whether one of the new authorities has issued something.
    pub new_has_issued: bool,
}

/// A certificate that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its SPIFFE ID, or its subject.
    pub name: String,
    /// When it ends; it is good until the end of that second (RFC 5280 section 4.1.2.5).
    pub not_after: Timestamp,
}

/// Somebody who takes the bundles of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its SPIFFE ID.
    pub id: String,
    /// The bundle that it was last given; none if it was given none that we remember.
    pub holds: Option<u64>,
    /// Whether it has a CA of the domain: a SPIRE server.
    pub is_spire_server: bool,
    /// Until when it is waited for; none if configuration names it, so that it is always waited for.
    pub until: Option<Timestamp>,
}

/// Something that a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The rule: `pre-publication`, `distribution-lag`, `settling`, `consumer`, `spire-server`, `longest-live`,
    /// `cross-certificate`, `authority`, `unused` or `not-valid-yet`; of what is to be given up, `switched`.
    pub rule: &'static str,
    /// What is missing, and the way out.
    pub text: String,
    /// From when on it blocks no longer, if time alone does it.
    pub until: Option<Timestamp>,
}

impl Blocker {
    fn new(rule: &'static str, text: String) -> Self {
        Self { rule, text, until: None }
    }

    fn until(self, time: Timestamp) -> Self {
        Self { until: Some(time), ..self }
    }

    /// As it stands in the log.
    pub fn entry(&self) -> RotationBlocker {
        RotationBlocker { rule: self.rule.to_owned(), text: self.text.clone(), until: self.until }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)?;
        match self.until {
            Some(until) => write!(f, "; until {until}"),
            None => Ok(()),
        }
    }
}

/// What keeps `rotation` from entering `next`. `current` is the phase that it is in; none before the first.
pub(super) fn blockers(
    rotation: &Rotation,
    current: Option<&Step>,
    next: &Step,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Vec<Blocker> {
    let mut found = Vec::new();
    if let Some(step) = current {
        found.extend(of_time(rotation, step, facts, now));
        if step.taken {
            found.extend(of_consumers(rotation, facts, now));
        }
        if step.used && !facts.new_has_issued {
            found.push(Blocker::new(
                "unused",
                format!(
                    "{} has issued nothing yet, so that nobody knows whether it can; have a certificate issued",
                    names(rotation.authorities.iter().map(|pair| &*pair.new))
                ),
            ));
        }
        if step.ended
            && let Some(live) = facts.last_of_old.filter(|live| live.not_after >= now)
        {
            let text = format!(
                "the certificate of {} under {} is alive",
                live.name,
                names(rotation.authorities.iter().map(|pair| &*pair.old))
            );
            let after = live.not_after.checked_add(Lifetime::seconds(1).0).unwrap_or(live.not_after);
            found.push(Blocker::new("longest-live", text).until(after));
        }
    }
    match next.phase {
        Phase::PrePublish => found.extend(of_new_root(rotation, now)),
        Phase::CrossSign => found.extend(of_cross_certificates(rotation, now)),
        Phase::Switch => found.extend(of_authorities(rotation, facts, now)),
        Phase::Drain | Phase::Retire => {}
    }
    found
}

fn of_time(rotation: &Rotation, step: &Step, facts: &Facts<'_>, now: Timestamp) -> Vec<Blocker> {
    let since = rotation.since();
    let leaves = step.of_leaves(facts.leaf_lifetime);
    let hints = step.of_hints(facts.refresh_hint);
    let is_publication = step.phase == Phase::PrePublish;
    let waits = [
        (
            if is_publication { "pre-publication" } else { "settling" },
            leaves,
            format!(
                "`{}` lasts {} leaf lifetime(s) of {} at least, so that whoever learns of roots with a certificate has learnt of these",
                step.phase, step.leaf_lifetimes, facts.leaf_lifetime
            ),
        ),
        (
            "distribution-lag",
            hints,
            format!(
                "`{}` lasts {} refresh hint(s) of {} at least, so that whoever polls has bundle {}",
                step.phase, step.refresh_hints, facts.refresh_hint, facts.bundle
            ),
        ),
    ];
    let over = |wait: Lifetime| since.checked_add(wait.0).unwrap_or(Timestamp::MAX);
    waits
        .into_iter()
        .filter(|(_, wait, _)| over(*wait) > now)
        .map(|(rule, wait, text)| Blocker::new(rule, text).until(over(wait)))
        .collect()
}

fn of_consumers(rotation: &Rotation, facts: &Facts<'_>, now: Timestamp) -> Vec<Blocker> {
    if rotation.roots.is_none() {
        return Vec::new();
    }
    let lag = facts.consumers.iter().filter(|consumer| consumer.holds.is_none_or(|held| held < facts.bundle));
    lag.filter(|consumer| consumer.until.is_none_or(|until| until > now))
        .map(|consumer| {
            let holds = match consumer.holds {
                Some(held) => format!("was last given bundle {held}"),
                None => "was given no bundle since the daemon started".to_owned(),
            };
            let (rule, what) = match consumer.is_spire_server {
                true => ("spire-server", "the SPIRE server"),
                false => ("consumer", "the consumer"),
            };
            let blocker = Blocker::new(
                rule,
                format!("{what} {} {holds} and not {}; have it fetch the bundle", consumer.id, facts.bundle),
            );
            match consumer.until {
                Some(until) => blocker.until(until),
                None => blocker,
            }
        })
        .collect()
}

fn of_new_root(rotation: &Rotation, now: Timestamp) -> Option<Blocker> {
    let begins = rotation.roots.as_ref()?.new.validity().not_before();
    (begins > now)
        .then(|| Blocker::new("not-valid-yet", format!("the new root begins on {begins}")).until(begins))
}

fn of_cross_certificates(rotation: &Rotation, now: Timestamp) -> Vec<Blocker> {
    let Some(roots) = &rotation.roots else { return Vec::new() };
    let directions = [("new root by the old", &roots.new_by_old), ("old root by the new", &roots.old_by_new)];
    directions
        .into_iter()
        .filter_map(|(which, certificate)| match certificate {
            None => Some(Blocker::new(
                "cross-certificate",
                format!(
                    "the cross-certificate of the {which} is missing; have a ceremony make it and give it with --cross"
                ),
            )),
            Some(cross) if cross.validity().not_before() > now => {
                let begins = cross.validity().not_before();
                let text = format!("the cross-certificate of the {which} begins on {begins}");
                Some(Blocker::new("not-valid-yet", text).until(begins))
            }
            Some(_) => None,
        })
        .collect()
}

fn of_authorities(rotation: &Rotation, facts: &Facts<'_>, now: Timestamp) -> Vec<Blocker> {
    rotation
        .authorities
        .iter()
        .filter_map(|pair| {
            let found = facts.authorities.iter().find(|(name, _)| *name == pair.new);
            let Some((_, certificate)) = found else {
                return Some(Blocker::new(
                    "authority",
                    format!(
                        "there is no authority `{}`; add it to the configuration and start again",
                        pair.new
                    ),
                ));
            };
            if let Some(roots) = &rotation.roots
                && !certificate.is_issued_by(&roots.new)
            {
                return Some(Blocker::new(
                    "authority",
                    format!("the authority `{}` is not signed by the new root", pair.new),
                ));
            }
            let begins = certificate.validity().not_before();
            (begins > now).then(|| {
                Blocker::new("not-valid-yet", format!("the authority `{}` begins on {begins}", pair.new))
                    .until(begins)
            })
        })
        .collect()
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
