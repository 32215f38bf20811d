//! Approvals: what persons have signed with keys that they already have (SSHSIG, `ssh-keygen -Y sign`), FIDO keys
//! included.

use std::collections::BTreeSet;

use serde::Deserialize;
use ssh_key::public::KeyData;
use ssh_key::{PublicKey as SshPublicKey, SshSig};
use undercroft_log::leaf::Digest;

pub use deviation::{Deviation, DeviationError, DeviationKind};
pub use statement::{Action, Approved, Statement, Wanted};

mod deviation;
mod sshsig;
mod statement;

/// What every approval is signed for (`ssh-keygen -Y sign -n`): no signature that was made for something else counts.
pub const NAMESPACE: &str = "undercroft-approval-v1";

/// A roster as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RosterConfig {
    /// How many persons must have signed.
    pub quorum: usize,
    /// The persons.
    #[serde(rename = "person")]
    pub persons: Vec<PersonConfig>,
}

/// A person.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PersonConfig {
    /// The person's name.
    pub name: String,
    /// Public keys as OpenSSH writes them: `ssh-ed25519 AAAA…`.
    pub keys: Vec<String>,
}

/// Who may approve, and how many must.
#[derive(Clone, Debug)]
pub struct Roster {
    quorum: usize,
    persons: Vec<(String, Vec<KeyData>)>,
}

/// What cannot be a roster, or an approval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The roster contradicts itself.
    #[error("the roster: {0}")]
    Roster(String),
    /// No armoured SSHSIG.
    #[error("approval {number} is no SSHSIG: {what}; make it with `ssh-keygen -Y sign -n {NAMESPACE}`")]
    Malformed {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// A signature that counts for nothing.
    #[error("approval {number} {what}")]
    Refused {
        /// Which, from 1.
        number: usize,
        /// Why.
        what: String,
    },
    /// A statement that is not about what is wanted.
    #[error("the statement: {0}")]
    Statement(String),
    /// The one who asked has approved.
    #[error("{0} asked for it and cannot approve it; have somebody else sign")]
    Requester(String),
    /// Too few persons.
    #[error("{} of the {needed} persons that are needed have approved ({}); one person counts once", who.len(), who.join(", "))]
    TooFew {
        /// Who has.
        who: Vec<String>,
        /// How many must.
        needed: usize,
    },
}

impl Roster {
    /// Validates a roster.
    ///
    /// # Errors
    /// A key cannot be read, is too weak or is two persons', or fewer persons are on it than are needed.
    pub fn new(config: RosterConfig) -> Result<Self, ApprovalError> {
        let wrong = |what: String| Err(ApprovalError::Roster(what));
        if config.quorum == 0 || config.quorum > config.persons.len() {
            return wrong(format!("quorum {} of {} persons", config.quorum, config.persons.len()));
        }
        let mut persons: Vec<(String, Vec<KeyData>)> = Vec::new();
        for PersonConfig { name, keys } in config.persons {
            let mut own = Vec::new();
            for text in keys {
                let key = SshPublicKey::from_openssh(&text)
                    .map_err(|error| ApprovalError::Roster(format!("a key of {name}: {error}")))?;
                let key = key.key_data().clone();
                if let Some(why) = sshsig::unfit(&key) {
                    return wrong(format!("a key of {name} is {why}"));
                }
                if own.contains(&key) || persons.iter().any(|(_, keys)| keys.contains(&key)) {
                    return wrong(format!("a key of {name} stands twice"));
                }
                own.push(key);
            }
            if persons.iter().any(|(other, _)| *other == name) {
                return wrong(format!("{name} stands twice"));
            }
            persons.push((name, own));
        }
        Ok(Self { quorum: config.quorum, persons })
    }

    /// Verifies armoured signatures over `message`, and that enough persons made them. Gives their names.
    ///
    /// # Errors
    /// See [`ApprovalError`]. One bad signature refuses all: somebody should know why it is there.
    pub fn verify(&self, message: &[u8], approvals: &[String]) -> Result<Vec<String>, ApprovalError> {
        let who = self.signers(message, approvals)?;
        self.are_enough(&who)?;
        Ok(who.into_iter().collect())
    }

    /// SHA-256 over the quorum and each person with their keys, a line each, in the order of their names and keys: one
    /// roster has one digest, however it is written.
    pub fn digest(&self) -> Digest {
        let mut lines = vec![format!("quorum {}", self.quorum)];
        let mut keys: Vec<_> =
            self.persons.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key))).collect();
        keys.sort();
        // A key that was read can be written.
        lines.extend(keys.into_iter().map(|(name, key)| {
            format!("{name} {}", SshPublicKey::from(key.clone()).to_openssh().unwrap_or_default())
        }));
        Digest::of((lines.join("\n") + "\n").as_bytes())
    }

    /// What is otherwise in `new`, in words; nothing where both have one digest.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.quorum != new.quorum {
            changes.push(format!("quorum {} instead of {}", new.quorum, self.quorum));
        }
        let keys = |roster: &Self, name: &str| {
            let person = roster.persons.iter().find(|(other, _)| other == name);
            person.map(|(_, keys)| keys.iter().cloned().collect::<BTreeSet<_>>())
        };
        let names: BTreeSet<&str> = self.names().chain(new.names()).collect();
        changes.extend(names.into_iter().filter_map(|name| match (keys(self, name), keys(new, name)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(_), Some(_)) => Some(format!("{name} has other keys")),
            (None, _) => Some(format!("{name} comes")),
            (_, None) => Some(format!("{name} goes")),
        }));
        changes
    }

    /// The persons' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.persons.iter().map(|(name, _)| name.as_str())
    }

    /// How many persons must approve.
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// Who has signed `message`. One bad signature refuses all: somebody should know why it is there.
    fn signers(&self, message: &[u8], approvals: &[String]) -> Result<BTreeSet<String>, ApprovalError> {
        let mut who = BTreeSet::new();
        for (number, armoured) in (1..).zip(approvals) {
            let signature =
                sshsig::parse(armoured).map_err(|what| ApprovalError::Malformed { number, what })?;
            let refused = |what: &str| ApprovalError::Refused { number, what: what.to_owned() };
            if signature.namespace() != NAMESPACE {
                return Err(refused("was signed for something else: another namespace"));
            }
            let person = self.persons.iter().find(|(_, keys)| keys.contains(signature.public_key()));
            let (name, _) = person.ok_or_else(|| refused("is of a key that nobody on the roster has"))?;
            let signed = SshSig::signed_data(NAMESPACE, signature.hash_alg(), message)
                .map_err(|error| refused(&error.to_string()))?;
            sshsig::verify(&signature, &signed).map_err(|why| refused(&why.to_string()))?;
            who.insert(name.clone());
        }
        Ok(who)
    }

    fn are_enough(&self, who: &BTreeSet<String>) -> Result<(), ApprovalError> {
        match who.len() >= self.quorum {
            true => Ok(()),
            false => Err(ApprovalError::TooFew { who: who.iter().cloned().collect(), needed: self.quorum }),
        }
    }
}

#[cfg(test)]
mod tests;
