//! Rotations: do they go on as their schedules say, and did the quorum approve what was published?

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use undercroft_ca::approval::{Action, Statement};
use undercroft_ca::bundle::Bundle as Published;
use undercroft_ca::names::parse_trust_domain;
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::rotation::Rotation;
use undercroft_ca::time::Lifetime;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Approval, Body, Bundle, Digest, Draft, Rotation as Entry, RotationEvent};

/// What entries have said of bundles and rotations so far.
#[derive(Default)]
pub(super) struct Rotations {
    /// What statements about bundles that stand in the log are about.
    approved: HashSet<Digest>,
    /// What the quorum of a ceremony has said of the roots of domains: of each the statement that counts.
    stated: BTreeMap<String, RootsStatement>,
    published: BTreeMap<String, Bundle>,
    newest: BTreeMap<String, Rotation>,
    /// When the certificate ends that a key has issued and that ends last.
    ends: HashMap<KeyId, Timestamp>,
    /// Keys that are not to sign certificates any more.
    retired: HashSet<KeyId>,
}

impl Rotations {
    /// A certificate of a key. Gives what is wrong with that.
    pub(super) fn certificate(&mut self, key: KeyId, not_after: Timestamp) -> Option<String> {
        let ends = self.ends.entry(key).or_insert(not_after);
        *ends = (*ends).max(not_after);
        self.retired.contains(&key).then(|| format!("the key {key} has retired in a rotation"))
    }

    /// The signatures are for whoever has the roster; here it counts what they are about.
    pub(super) fn approval(&mut self, approval: &Approval) {
        if let Ok(statement) = Statement::parse(&approval.statement)
            && statement.action == Action::Bundle
        {
            self.approved.insert(statement.object);
        }
        if let Some(Ok(stated)) = approval.about.as_deref().map(RootsStatement::parse)
            && self.stated.get(&stated.domain).is_none_or(|before| before.number < stated.number)
        {
            self.stated.insert(stated.domain.clone(), stated);
        }
    }

    /// A root comes into a bundle, and leaves it, by an approved statement. The first bundle is that of the ceremony: where its
    /// quorum has stated which roots that may hold, it holds no other.
    pub(super) fn bundle(&mut self, bundle: &Bundle) -> Option<String> {
        let Some(before) = self.published.insert(bundle.domain.clone(), bundle.clone()) else {
            let stated = self.stated.get(&bundle.domain)?;
            let is_stated = |root: Digest| stated.roots.iter().any(|it| it.sha256 == root);
            let other = bundle.roots.iter().map(|root| Digest::of(&root.0)).find(|root| !is_stated(*root))?;
            return Some(format!(
                "it has the root {other}, which statement number {} about `{}` does not name",
                stated.number, bundle.domain
            ));
        };
        let changed = bundle.roots.iter().any(|root| !before.roots.contains(root))
            || before.roots.iter().any(|root| !bundle.roots.contains(root));
        let draft = Draft::new(&Body::Bundle(bundle.clone())).ok()?;
        let is_approved = self.approved.contains(&Digest::of(draft.body().as_bytes()));
        (changed && !is_approved).then(|| {
            format!("it changes the roots of `{}`, and no approval of it stands in front", bundle.domain)
        })
    }

    /// A rotation that was planned or has gone on. Gives what is wrong with it.
    pub(super) fn rotation(&mut self, at: Timestamp, first_epoch: bool, entry: &Entry) -> Option<String> {
        let rotation = match Rotation::read(entry) {
            Ok(rotation) => rotation,
            Err(error) => return Some(error.to_string()),
        };
        let before = self.newest.get(&entry.domain);
        let wrong = match entry.event {
            // The rotation is as it was, or has cross-certificates that were not kept.
            RotationEvent::Refused => return None,
            RotationEvent::Planned => planned(before, &rotation, first_epoch),
            RotationEvent::Advanced => match before {
                None if !first_epoch => None,
                None => Some("it goes on, and was never planned".to_owned()),
                Some(before) => self.advanced(before, &rotation, at),
            },
            RotationEvent::Abandoned => match before {
                None if !first_epoch => None,
                None => Some("it is abandoned, and was never planned".to_owned()),
                Some(before) => self.abandoned(before, &rotation),
            },
        };
        if rotation.has_retired() {
            self.retired.extend(rotation.authorities().iter().map(|pair| pair.old_key.0));
        }
        self.newest.insert(entry.domain.clone(), rotation);
        wrong
    }

    fn advanced(&self, before: &Rotation, rotation: &Rotation, at: Timestamp) -> Option<String> {
        let wrong = |what: String| Some(what);
        if rotation.number() != before.number() || !before.is_of_the_same(rotation) {
            return wrong("it is another rotation than the one that was planned".into());
        }
        let next = before.next().map(|step| step.phase);
        if next.is_none() || rotation.phase() != next {
            return wrong(format!("it enters {:?}, and the schedule has {next:?} next", rotation.phase()));
        }
        if rotation.since() > at || rotation.since() < before.since() {
            return wrong(format!("it says that it is so since {}", rotation.since()));
        }
        let published = self.published.get(rotation.domain());
        if let (Some(entry), Ok(domain)) = (published, parse_trust_domain(rotation.domain()))
            && let Ok(published) = Published::read(domain, entry)
            && let Some(phase) = rotation.phase()
        {
            if rotation.bundle(phase, &published).is_some() {
                return wrong(format!("the published bundle is not that of the phase {phase}"));
            }
            let lag = before.steps().iter().find(|step| Some(step.phase) == before.phase());
            let lag = lag.map(|step| step.least(Lifetime::seconds(0), published.refresh_hint()));
            if lag.is_some_and(|lag| {
                before.since().checked_add(lag.0).is_ok_and(|over| over > rotation.since())
            }) {
                return wrong("it went on before whoever polls at the refresh hint had the bundle".into());
            }
        }
        let alive = rotation.authorities().iter().filter_map(|pair| self.ends.get(&pair.old_key.0)).max();
        if rotation.has_retired()
            && let Some(ends) = alive.filter(|ends| **ends >= rotation.since())
        {
            return wrong(format!("a certificate under what it retires lives until {ends}"));
        }
        None
    }

    /// Only what has not switched can be given up, and then nobody is told of its new root any more.
    fn abandoned(&self, before: &Rotation, rotation: &Rotation) -> Option<String> {
        let wrong = |what: String| Some(what);
        if rotation.number() != before.number() || !before.is_of_the_same(rotation) {
            return wrong("it is another rotation than the one that was planned".into());
        }
        if before.is_over() || before.phase() != rotation.phase() {
            return wrong(format!(
                "it is abandoned in {:?}, and was in {:?}",
                rotation.phase(),
                before.phase()
            ));
        }
        if let Err(error) = rotation.abandoned() {
            return wrong(format!("it was abandoned, but {error}"));
        }
        let published = self.published.get(rotation.domain());
        if let (Some(entry), Ok(domain)) = (published, parse_trust_domain(rotation.domain()))
            && let Ok(published) = Published::read(domain, entry)
            && rotation.bundle_without(&published).is_some()
        {
            return wrong("it was abandoned, and its new root is published still".into());
        }
        None
    }
}

fn planned(before: Option<&Rotation>, rotation: &Rotation, first_epoch: bool) -> Option<String> {
    let expected = match before {
        None if !first_epoch => return None,
        None => 1,
        Some(before) if before.is_over() => before.number() + 1,
        Some(before) => before.number(),
    };
    if rotation.number() != expected {
        return Some(format!("it is rotation {}, and {expected} comes next", rotation.number()));
    }
    let begun = before.filter(|before| before.is_under_way()).map(Rotation::phase);
    match begun.unwrap_or_default() == rotation.phase() {
        true => None,
        false => Some(format!("it is planned in the phase {:?}", rotation.phase())),
    }
}
