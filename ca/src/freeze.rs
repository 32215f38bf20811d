//! What is frozen now (`docs/freeze.md`): looked at before anything is decided, before a key signs, and before a
//! signature leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Body, Digest, Freezable, FreezeEvent, HexKeyId, Leaf};
use undercroft_log::store::StoreError;

use crate::policy::Refusal;

/// The rule that refuses what is frozen.
pub const RULE: &str = "frozen";

/// Something that is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// What.
    pub what: Freezable,
    /// By whom, as the log calls callers.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// SHA-256 of the entry that says so: the object of an approval to release it. Nothing as long as it is being written.
    pub entry: Option<Digest>,
}

impl Frozen {
    /// What an entry froze.
    ///
    /// # Errors
    /// It is no entry that froze anything.
    pub fn from_entry(entry: &[u8]) -> Result<Self, StoreError> {
        let damaged = |what: &dyn fmt::Display| StoreError::Damaged(format!("an entry that froze: {what}"));
        let leaf = Leaf::parse(entry).map_err(|error| damaged(&error))?;
        let (Body::Freeze(freeze), since) = (leaf.body, leaf.time) else {
            return Err(damaged(&"it is of another kind"));
        };
        let FreezeEvent::Frozen { reason } = freeze.event else {
            return Err(damaged(&"it releases something"));
        };
        Ok(Self { what: freeze.what, by: freeze.caller.id, since, reason, entry: Some(Digest::of(entry)) })
    }

    /// The refusal of what it concerns: who, when, why, and how it is undone.
    pub fn refusal(&self) -> Refusal {
        let (kind, name) = words(&self.what);
        let Self { by, since, reason, .. } = self;
        Refusal::new(
            RULE,
            format!(
                "the {kind} {name} was frozen by {by} at {since} ({reason}); `undercroft unfreeze {kind} {name}`, with the approval of the quorum, undoes it"
            ),
        )
    }
}

/// How a command line calls it: its kind and its name.
pub fn words(what: &Freezable) -> (&'static str, String) {
    match what {
        Freezable::Authority(key) => ("authority", key.0.to_string()),
        Freezable::Domain(name) => ("domain", name.clone()),
        Freezable::Caller(id) => ("caller", id.clone()),
    }
}

/// Everything that is frozen now.
#[derive(Debug, Default)]
pub struct Freezes(RwLock<BTreeMap<Freezable, Frozen>>);

impl Freezes {
    /// As the entries say that are stored.
    ///
    /// # Errors
    /// One of them froze nothing.
    pub fn from_entries(entries: &[Vec<u8>]) -> Result<Self, StoreError> {
        let freezes = Self::default();
        freezes.read_again(entries)?;
        Ok(freezes)
    }

    /// Forgets what is known, and believes the stored entries.
    pub(crate) fn read_again(&self, entries: &[Vec<u8>]) -> Result<(), StoreError> {
        let read = entries.iter().map(|entry| Frozen::from_entry(entry));
        let read = read.map(|frozen| frozen.map(|frozen| (frozen.what.clone(), frozen)));
        let read = read.collect::<Result<BTreeMap<_, _>, _>>()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// From now on it is frozen.
    pub(crate) fn add(&self, frozen: Frozen) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        list.insert(frozen.what.clone(), frozen);
    }

    /// All of them.
    pub fn list(&self) -> Vec<Frozen> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The freeze of one thing.
    pub fn of(&self, what: &Freezable) -> Option<Frozen> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(what).cloned()
    }

    /// Whether this key may sign a certificate of this domain for this caller.
    ///
    /// # Errors
    /// One of them is frozen.
    pub fn allow(&self, authority: KeyId, domain: &str, caller: &str) -> Result<(), Refusal> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if list.is_empty() {
            return Ok(());
        }
        let concerned = [
            Freezable::Authority(HexKeyId(authority)),
            Freezable::Domain(domain.to_owned()),
            Freezable::Caller(caller.to_owned()),
        ];
        match concerned.iter().find_map(|what| list.get(what)) {
            Some(frozen) => Err(frozen.refusal()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use undercroft_log::leaf::{Caller, Channel, Freeze};

    use super::*;

    fn frozen(what: Freezable) -> Frozen {
        let since = "2026-11-22T08:00:00Z".parse().unwrap();
        Frozen { what, by: "uid:7".into(), since, reason: "the token is gone".into(), entry: None }
    }

    #[test]
    fn what_is_frozen_is_refused_and_nothing_else() {
        let (key, other) = (KeyId::from([1; 32]), KeyId::from([2; 32]));
        let (alice, bob) = ("spiffe://control.example/a", "spiffe://control.example/b");
        for (what, refused) in [
            (Freezable::Authority(HexKeyId(key)), [true, true, false, true]),
            (Freezable::Domain("prod.example".into()), [true, false, true, true]),
            (Freezable::Caller(alice.into()), [true, true, true, false]),
        ] {
            let freezes = Freezes::default();
            freezes.add(frozen(what));
            let asked = [
                (key, "prod.example", alice),
                (key, "edge.example", alice),
                (other, "prod.example", alice),
                (key, "prod.example", bob),
            ];
            let told = asked.map(|(key, domain, caller)| freezes.allow(key, domain, caller).is_err());
            assert_eq!(told, refused);
            // Names are compared whole.
            assert_eq!(freezes.allow(other, "a.prod.example", "spiffe://control.example/a/b"), Ok(()));
        }
    }

    #[test]
    fn the_refusal_says_who_when_why_and_how_it_is_undone() {
        let refusal = frozen(Freezable::Domain("prod.example".into())).refusal();
        assert_eq!(refusal.rule, "frozen");
        for part in
            ["uid:7", "2026-11-22T08:00:00Z", "the token is gone", "undercroft unfreeze domain prod.example"]
        {
            assert!(refusal.reason.contains(part), "{refusal}");
        }
    }

    #[test]
    fn what_froze_nothing_is_no_freeze() {
        let entry = |kind: &str, body: &str| {
            format!(
                r#"{{"v":1,"origin":"ca.example/undercroft/control/1","index":7,"time":"2026-11-22T08:00:00Z","kind":"{kind}","body":{body}}}"#
            )
            .into_bytes()
        };
        let caller = Caller { id: "uid:7".into(), by: Channel::UnixSocket };
        let what = Freezable::Domain("prod.example".into());
        let event = FreezeEvent::Frozen { reason: "x".into() };
        let body =
            serde_json::to_string(&Freeze { what: what.clone(), event, caller: caller.clone() }).unwrap();
        let good = entry("freeze", &body);
        let freezes = Freezes::from_entries(std::slice::from_ref(&good)).unwrap();
        assert_eq!(freezes.of(&what).unwrap().entry, Some(Digest::of(&good)));
        let released = FreezeEvent::Unfrozen { freeze: Digest::of(b"x"), approval: 1, nonce: "00".into() };
        let released = serde_json::to_string(&Freeze { what, event: released, caller }).unwrap();
        for wrong in [
            entry("freeze", &released),
            entry("start", r#"{"version":"0","configuration":"00","development":true}"#),
            b"nothing".to_vec(),
        ] {
            assert!(matches!(Freezes::from_entries(&[wrong]), Err(StoreError::Damaged(_))));
        }
    }
}
