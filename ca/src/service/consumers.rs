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
