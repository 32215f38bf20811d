//! What was frozen, by what word it was released, and whether anything was signed in between.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use undercroft_ca::approval::{Action, Statement};
use undercroft_ca::freeze::words;
use undercroft_log::leaf::{Approval, Digest, Freezable, Freeze, FreezeEvent, HexKeyId, Intent, Object};

use super::Reader;
use super::place::About;

/// What is known of freezes so far.
#[derive(Default)]
pub(super) struct Freezes {
    /// What is frozen, and by which entry.
    frozen: BTreeMap<Freezable, Digest>,
    /// Approvals, by their entries.
    approvals: HashMap<u64, Result<Approved, String>>,
    nonces: BTreeSet<String>,
    /// Intents of certificates for what was frozen when they were appended.
    suspects: HashMap<u64, String>,
}

struct Approved {
    statement: Statement,
    at: Timestamp,
}

impl Freezes {
    /// Remembers an intent for something that is frozen. It may stand in the log, and must not be signed.
    pub(super) fn intent(&mut self, index: u64, intent: &Intent) {
        if intent.object != Object::Certificate || self.frozen.is_empty() {
            return;
        }
        let concerned = [
            Freezable::Authority(HexKeyId(intent.key_id.0)),
            Freezable::Domain(intent.domain.clone()),
            Freezable::Caller(intent.caller.id.clone()),
        ];
        if let Some(what) = concerned.into_iter().find(|what| self.frozen.contains_key(what)) {
            let (kind, name) = words(&what);
            self.suspects.insert(index, format!("{kind} {name}"));
        }
    }

    /// What was frozen when this intent, which is signed now, was appended.
    pub(super) fn signed(&mut self, intent: u64) -> Option<String> {
        self.suspects.remove(&intent)
    }
}

impl Reader<'_> {
    pub(super) fn approval(&mut self, index: u64, at: Timestamp, approval: &Approval) {
        let judged = Statement::parse(&approval.statement).map_err(|error| error.to_string());
        let judged = judged.and_then(|statement| match &approval.by[..] {
            [] => Err("nobody has approved".to_owned()),
            by if by.contains(&statement.requester) => {
                Err(format!("{} has asked for it and approved it", statement.requester))
            }
            by if by.iter().collect::<BTreeSet<_>>().len() < by.len() => {
                Err("somebody counts twice".to_owned())
            }
            by if by.len() > approval.signatures.len() => {
                Err("it has fewer signatures than persons".to_owned())
            }
            _ => match &approval.about {
                Some(about) if Digest::of(about.as_bytes()) != statement.object => {
                    Err("the text with it is not what was approved".to_owned())
                }
                None if statement.action == Action::BundleRoots => {
                    Err("it is about the roots of a domain, and their statement does not stand with it"
                        .to_owned())
                }
                _ => Ok(Approved { statement, at }),
            },
        });
        // Those of a ceremony are judged with its roster (`crate::ceremony`), which says more.
        if let (Err(what), false) = (&judged, self.place.about == About::Ceremony) {
            self.find(index, "approval", what.clone());
        }
        self.freezes.approvals.insert(index, judged);
    }

    pub(super) fn freeze(&mut self, index: u64, digest: Digest, freeze: &Freeze) {
        let (kind, name) = words(&freeze.what);
        if self.place.about == About::Domain {
            self.find(index, "freeze", "freezes stand in the control log");
        }
        match &freeze.event {
            FreezeEvent::Frozen { .. } => {
                if self.freezes.frozen.insert(freeze.what.clone(), digest).is_some() && self.is_whole() {
                    self.find(index, "freeze", format!("the {kind} {name} is frozen already"));
                }
            }
            FreezeEvent::Unfrozen { freeze: of, approval, nonce } => {
                let frozen_by = self.freezes.frozen.remove(&freeze.what);
                if !self.is_whole() {
                    return;
                }
                match frozen_by {
                    Some(entry) if entry != *of => {
                        self.find(
                            index,
                            "freeze",
                            format!("the {kind} {name} was frozen by another entry than it says"),
                        );
                    }
                    None if self.place.first_epoch => {
                        self.find(index, "freeze", format!("the {kind} {name} is not frozen"));
                    }
                    Some(_) | None => {}
                }
                if let Err(what) = self.is_approved(*of, *approval, nonce) {
                    self.find(index, "freeze", format!("the {kind} {name} was released, and {what}"));
                }
                if !self.freezes.nonces.insert(nonce.clone()) {
                    self.find(index, "freeze", "the approval that it names was carried out before");
                }
            }
        }
    }

    /// Whether the entry at `approval` approves that this freeze is undone.
    fn is_approved(&self, freeze: Digest, approval: u64, nonce: &str) -> Result<(), String> {
        let approved = match self.freezes.approvals.get(&approval) {
            Some(Ok(approved)) => approved,
            Some(Err(_)) => return Err(format!("entry {approval} approves nothing")),
            None => return Err(format!("entry {approval} is no approval in front of it")),
        };
        let Statement { action, object, origin, expires, nonce: own, .. } = &approved.statement;
        match () {
            () if *action != Action::Unfreeze => Err(format!("entry {approval} approves `{action}`")),
            () if *object != freeze => {
                Err(format!("entry {approval} approves it for {object}, and not for {freeze}"))
            }
            () if origin != self.log_key.name().as_str() => Err(format!("entry {approval} is for {origin}")),
            () if own != nonce => Err(format!("entry {approval} has another nonce")),
            () if approved.at > *expires => Err(format!("entry {approval} was good until {expires}")),
            () => Ok(()),
        }
    }
}
