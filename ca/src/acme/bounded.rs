//! Memory that cannot grow: what is full forgets the oldest.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

/// Things by their random names, so many at most, each for so long at most.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    things: HashMap<String, (u64, Timestamp, T)>,
    /// Names by when they were put, or used.
    order: BTreeMap<u64, String>,
    next: u64,
    most: usize,
    lifetime: Option<SignedDuration>,
}

impl<T> Bounded<T> {
    pub(super) fn new(most: usize, lifetime: Option<SignedDuration>) -> Self {
        Self { things: HashMap::new(), order: BTreeMap::new(), next: 0, most, lifetime }
    }

    pub(super) fn put(&mut self, name: String, thing: T, now: Timestamp) {
        while self.things.len() >= self.most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.things.remove(&oldest);
        }
        self.next += 1;
        self.order.insert(self.next, name.clone());
        if let Some((before, ..)) = self.things.insert(name, (self.next, now, thing)) {
            self.order.remove(&before);
        }
    }

    pub(super) fn get(&mut self, name: &str, now: Timestamp) -> Option<&mut T> {
        let lifetime = self.lifetime;
        let (_, since, thing) = self.things.get_mut(name)?;
        lifetime.is_none_or(|lifetime| now <= *since + lifetime).then_some(thing)
    }

    /// Gives it away, for good.
    pub(super) fn take(&mut self, name: &str, now: Timestamp) -> Option<T> {
        let (place, since, thing) = self.things.remove(name)?;
        self.order.remove(&place);
        self.lifetime.is_none_or(|lifetime| now <= since + lifetime).then_some(thing)
    }

    /// Gives it, and makes it the youngest.
    pub(super) fn used(&mut self, name: &str, now: Timestamp) -> Option<&T> {
        let (place, _, _) = self.things.get(name)?;
        self.order.remove(&place.clone());
        self.next += 1;
        self.order.insert(self.next, name.to_owned());
        let (place, since, thing) = self.things.get_mut(name)?;
        (*place, *since) = (self.next, now);
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_forgets_the_oldest_and_nothing_lives_too_long() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let mut bounded = Bounded::new(3, Some(SignedDuration::from_secs(60)));
        for name in ["a", "b", "c"] {
            bounded.put(name.to_owned(), name, now);
        }
        assert_eq!(bounded.used("a", now), Some(&"a"));
        bounded.put("d".to_owned(), "d", now);
        assert_eq!(bounded.get("b", now), None, "the oldest, since `a` was used");
        assert_eq!(bounded.take("a", now), Some("a"));
        assert_eq!(bounded.take("a", now), None);
        assert!(bounded.get("c", now + SignedDuration::from_secs(60)).is_some());
        assert_eq!(bounded.get("c", now + SignedDuration::from_secs(61)), None);
        for n in 0..100 {
            bounded.put(format!("{n}"), "x", now);
        }
        assert_eq!((bounded.things.len(), bounded.order.len()), (3, 3));
    }
}
