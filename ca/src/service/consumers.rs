//! Who was given which bundle of a domain last.
//!
//! Kept in memory: what a restart forgets is known again when a consumer polls. Those that configuration names are waited
//! for until then; of the others, the waits of the phases take care.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::names::SpiffeId;
use crate::rotation::Consumer;

/// The most that are remembered besides those that configuration names. Each has a certificate of ours.
const MOST: usize = 16 * 1024;

/// The consumers of one domain's bundles.
pub(super) struct Consumers {
    configured: Vec<String>,
    given: Mutex<BTreeMap<String, Given>>,
}

#[derive(Clone, Copy)]
struct Given {
    sequence: u64,
    until: Timestamp,
    is_spire_server: bool,
}

impl Consumers {
    pub(super) fn of(configured: Vec<SpiffeId>) -> Self {
        let configured = configured.iter().map(ToString::to_string).collect();
        Self { configured, given: Mutex::default() }
    }

    /// Notes that somebody was given a bundle. It is waited for until `until`, when what it holds of us ends.
    pub(super) fn given(
        &self,
        id: String,
        sequence: u64,
        until: Timestamp,
        is_spire_server: bool,
        now: Timestamp,
    ) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= MOST && !given.contains_key(&id) {
            given.retain(|_, other| other.until > now);
            if given.len() >= MOST && !self.configured.contains(&id) {
                return;
            }
        }
        let mut entry = Given { sequence, until, is_spire_server };
        if let Some(before) = given.get(&id).filter(|before| before.until > now) {
            entry.until = entry.until.max(before.until);
            entry.is_spire_server |= before.is_spire_server;
            // Two answers may be told in another order than they were made.
            entry.sequence = entry.sequence.max(before.sequence);
        }
        given.insert(id, entry);
    }

    /// All that are to be waited for at `now`.
    pub(super) fn list(&self, now: Timestamp) -> Vec<Consumer> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = self.configured.iter().map(|id| {
            let known = given.get(id);
            Consumer {
                id: id.clone(),
                holds: known.map(|known| known.sequence),
                is_spire_server: known.is_some_and(|known| known.is_spire_server),
                until: None,
            }
        });
        let others = given.iter().filter(|(id, known)| known.until > now && !self.configured.contains(id));
        let others = others.map(|(id, known)| Consumer {
            id: id.clone(),
            holds: Some(known.sequence),
            is_spire_server: known.is_spire_server,
            until: Some(known.until),
        });
        configured.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::now;
    use crate::names::parse_spiffe_id;
    use crate::time::Lifetime;

    const SERVER: &str = "spiffe://control.example/server/prod";
    const OTHER: &str = "spiffe://control.example/operator/alice";

    #[test]
    fn who_is_configured_is_always_waited_for_and_others_until_their_certificates_end() {
        let consumers = Consumers::of(vec![parse_spiffe_id(SERVER).unwrap()]);
        let hour = |hours| now() + Lifetime::hours(hours).0;
        let told = |at| -> Vec<_> {
            let all = consumers.list(at).into_iter();
            all.map(|consumer| (consumer.id, consumer.holds, consumer.is_spire_server, consumer.until))
                .collect()
        };
        let nothing = (SERVER.to_owned(), None, false, None);
        assert_eq!(told(now()), std::slice::from_ref(&nothing));

        consumers.given(OTHER.into(), 3, hour(2), false, now());
        let other = (OTHER.to_owned(), Some(3), false, Some(hour(2)));
        assert_eq!(told(now()), [nothing.clone(), other]);
        // An older answer that is told later takes nothing back; nor does a shorter certificate, or a plain poll.
        consumers.given(OTHER.into(), 4, hour(1), true, now());
        consumers.given(OTHER.into(), 3, hour(1), false, now());
        let other = (OTHER.to_owned(), Some(4), true, Some(hour(2)));
        assert_eq!(told(hour(1)), [nothing.clone(), other]);
        assert_eq!(told(hour(2)), [nothing]);
        // Who comes again after its end begins anew.
        consumers.given(OTHER.into(), 2, hour(4), false, hour(3));
        assert_eq!(told(hour(3))[1], (OTHER.to_owned(), Some(2), false, Some(hour(4))));

        consumers.given(SERVER.into(), 5, hour(1), true, now());
        assert_eq!(told(hour(9))[0], (SERVER.to_owned(), Some(5), true, None));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let consumers = Consumers::of(vec![parse_spiffe_id(SERVER).unwrap()]);
        let hour = |hours| now() + Lifetime::hours(hours).0;
        for number in 0..MOST {
            consumers.given(format!("spiffe://control.example/n/{number}"), 1, hour(1), false, now());
        }
        consumers.given(OTHER.into(), 1, hour(9), false, now());
        assert_eq!(consumers.list(now()).len(), MOST + 1, "the configured one, and no more");
        consumers.given(SERVER.into(), 7, hour(1), false, now());
        assert_eq!(consumers.list(now())[0].holds, Some(7), "the configured one always");
        // Those that have ended make room.
        consumers.given(OTHER.into(), 1, hour(9), false, hour(1));
        let left = consumers.list(hour(1));
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
