//! What an audit finds.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Grade, Kind};
use undercroft_log::note::VerifierKey;

/// How far an audit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The tree alone: every entry's hash, every tile, the checkpoint.
    Tree,
    /// The tree, and what the entries say.
    Everything,
}

use crate::meaning::ledger::Epoch;

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The log.
    pub origin: String,
    /// How far the audit went. For the tree alone, what entries say is left empty below.
    pub scope: Scope,
    /// How many entries its checkpoint covers.
    pub size: u64,
    /// The root over them, base64.
    pub root: String,
    /// The witnesses of the policy that have cosigned the checkpoint, and the times that they vouch for.
    pub witnesses: BTreeMap<String, Timestamp>,
    /// When the first entry was stamped, as it says.
    pub first: Option<Timestamp>,
    /// When the last entry was stamped, as it says.
    pub last: Option<Timestamp>,
    /// Entries by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// What became of the intents.
    pub intents: Intents,
    /// Keys that the log speaks of.
    pub keys: Vec<KeySeen>,
    /// The epochs of the ledger of its TPM, if it has one.
    pub ledger: Vec<Epoch>,
    /// Everything that is wrong; nothing if the log is as it must be.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of a tree, before anything was found.
    pub(crate) fn of_tree(key: &VerifierKey, checkpoint: &Checkpoint) -> Self {
        Self {
            origin: key.name().to_string(),
            scope: Scope::Tree,
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            witnesses: BTreeMap::new(),
            first: None,
            last: None,
            kinds: BTreeMap::new(),
            intents: Intents::default(),
            keys: Vec::new(),
            ledger: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// What became of intents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Intents {
    /// Signed, by the very key that the intent names.
    pub signed: u64,
    /// Given up. Each counts as issued all the same.
    pub abandoned: u64,
    /// Without an outcome yet. Each counts as issued all the same.
    pub open: u64,
}

/// A key, and what is known of where it lives, judged again from the evidence in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeySeen {
    /// What it is for.
    pub purpose: String,
    /// SHA-256 of its SubjectPublicKeyInfo, hexadecimal.
    pub key_id: String,
    /// The grade of its custody.
    pub grade: Grade,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The entry that is concerned, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// The name of the rule that is broken, which never changes its meaning.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    pub(crate) fn of_entry(entry: u64, rule: &'static str, what: impl Into<String>) -> Self {
        Self { entry: Some(entry), rule, what: what.into() }
    }

    pub(crate) fn of_log(rule: &'static str, what: impl Into<String>) -> Self {
        Self { entry: None, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "entry {entry}: {} ({})", self.what, self.rule),
            None => write!(f, "{} ({})", self.what, self.rule),
        }
    }
}
