//! What stands in a log, counted: what a compliance auditor hands on.
//!
//! The size of a log is its population: there is nothing besides that could have been left out of a count.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use undercroft_log::leaf::{AlertEvent, Body, CeremonyEvent, Digest, Leaf, OutcomeResult, RecoveryWay};
use undercroft_log::tree::Hash;

use crate::sample::Sample;

/// What stands in a log.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Population {
    /// Intents by the profile that shaped them. Each counts as issued, whatever became of it.
    pub profiles: BTreeMap<String, u64>,
    /// Intents by who asked.
    pub callers: BTreeMap<String, u64>,
    /// Intents by the rule that granted them.
    pub rules: BTreeMap<String, u64>,
    /// Intents by the key that was to sign, hexadecimal.
    pub uses: BTreeMap<String, u64>,
    /// Refusals by the rule that refused.
    pub refusals: BTreeMap<String, u64>,
    /// Policies that came into force, in order.
    pub policies: Vec<PolicySeen>,
    /// Policies that intents and refusals were decided by.
    pub decided_by: BTreeMap<String, DecidedBy>,
    /// Bundles as they were published, in order.
    pub bundles: Vec<BundleSeen>,
    /// Ceremonies that were opened, closed or adopted, in order.
    pub ceremonies: Vec<CeremonySeen>,
    /// Starts of the daemon, in order.
    pub starts: Vec<StartSeen>,
    /// Alerts that were raised or ended, in order.
    pub alerts: Vec<AlertSeen>,
    /// Anchors of the log in a counter of its TPM, in order.
    pub anchors: Vec<AnchorSeen>,
    /// Recoveries of lost entries, in order.
    pub recoveries: Vec<RecoverySeen>,
    /// The log that this one continues.
    pub continues: Option<ContinuedLog>,
    /// Intents that have no outcome.
    pub open: BTreeSet<u64>,
    /// Intents that were given up.
    pub abandoned: BTreeSet<u64>,
    /// The sample, in the order in which it was drawn.
    pub sample: Option<Sample>,
    /// Where the entries of the sample are in it.
    #[serde(skip)]
    drawn: BTreeMap<u64, usize>,
}

/// A policy that came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicySeen {
    /// The entry.
    pub index: u64,
    /// From when on.
    pub from: Timestamp,
    /// Until when; nothing if it still was at the end of the log.
    pub until: Option<Timestamp>,
    /// SHA-256 of its text.
    pub sha256: Digest,
}

/// A policy that decisions name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecidedBy {
    /// The first decision.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many there were.
    pub decisions: u64,
}

/// A bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BundleSeen {
    /// The entry.
    pub index: u64,
    /// When it was published.
    pub time: Timestamp,
    /// The trust domain.
    pub domain: String,
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of each root certificate.
    pub roots: Vec<Digest>,
}

/// Something that happened in or to a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CeremonySeen {
    /// The entry.
    pub index: u64,
    /// When.
    pub time: Timestamp,
    /// What happened.
    pub event: CeremonyEvent,
    /// SHA-256 of the plan.
    pub plan: Digest,
    /// In words.
    pub text: String,
}

/// A start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StartSeen {
    /// The entry.
    pub index: u64,
    /// When.
    pub time: Timestamp,
    /// The version of the program.
    pub version: String,
    /// SHA-256 of its configuration.
    pub configuration: Digest,
    /// Whether keys in software were accepted.
    pub development: bool,
}

/// An alert that was raised or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AlertSeen {
    /// The entry.
    pub index: u64,
    /// When.
    pub time: Timestamp,
    /// What happened.
    pub event: AlertEvent,
    /// The rule that raised it.
    pub rule: String,
    /// In words.
    pub text: String,
}

/// An anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AnchorSeen {
    /// The entry.
    pub index: u64,
    /// When it was logged.
    pub time: Timestamp,
    /// The NV index of the counter.
    pub counter: u32,
    /// The value that the TPM attests to.
    pub value: u64,
    /// How many entries the head has that it attests to.
    pub head: u64,
}

/// Entries were lost, and the log went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecoverySeen {
    /// The entry.
    pub index: u64,
    /// When.
    pub time: Timestamp,
    /// How it went on.
    pub way: RecoveryWay,
    /// SHA-256 of the statement that people signed.
    pub statement: Digest,
    /// How many signatures stand with it. They are not verified here.
    pub approvals: u64,
}

/// The log that a log continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContinuedLog {
    /// Its key (vkey).
    pub key: String,
    /// Its last checkpoint that is known.
    pub checkpoint: String,
}

impl Population {
    /// An empty one, which will note the entries of a sample.
    pub(crate) fn with(sample: Option<Sample>) -> Self {
        let drawn = sample.iter().flat_map(|sample| sample.entries.iter().enumerate());
        Self { drawn: drawn.map(|(at, entry)| (entry.index, at)).collect(), sample, ..Self::default() }
    }

    /// Counts an entry that is sound.
    pub(crate) fn enter(&mut self, index: u64, hash: Hash, leaf: &Leaf) {
        let time = leaf.time;
        if let (Some(sample), Some(at)) = (&mut self.sample, self.drawn.get(&index)) {
            sample.entries[*at].found(leaf.body.kind(), hash);
        }
        match &leaf.body {
            Body::Intent(intent) => {
                count(&mut self.profiles, &intent.profile);
                count(&mut self.callers, &intent.caller.id);
                count(&mut self.rules, &intent.rule);
                count(&mut self.uses, &intent.key_id.0.to_string());
                self.decided(intent.policy, time);
            }
            Body::Outcome(outcome) => {
                if let OutcomeResult::Abandoned(_) = outcome.result {
                    self.abandoned.insert(outcome.intent);
                }
            }
            Body::Refusal(refusal) => {
                count(&mut self.refusals, &refusal.rule);
                self.decided(refusal.policy, time);
            }
            Body::Policy(policy) => {
                if let Some(last) = self.policies.last_mut() {
                    last.until = Some(time);
                }
                self.policies.push(PolicySeen { index, from: time, until: None, sha256: policy.sha256 });
            }
            Body::Bundle(bundle) => self.bundles.push(BundleSeen {
                index,
                time,
                domain: bundle.domain.clone(),
                sequence: bundle.sequence,
                roots: bundle.roots.iter().map(|root| Digest::of(&root.0)).collect(),
            }),
            Body::Ceremony(ceremony) if ceremony.event != CeremonyEvent::Step => {
                let (plan, text) = (ceremony.plan, ceremony.text.clone());
                self.ceremonies.push(CeremonySeen { index, time, event: ceremony.event, plan, text });
            }
            Body::Start(start) => self.starts.push(StartSeen {
                index,
                time,
                version: start.version.clone(),
                configuration: start.configuration,
                development: start.development,
            }),
            Body::Alert(alert) => {
                let (rule, text) = (alert.rule.clone(), alert.text.clone());
                self.alerts.push(AlertSeen { index, time, event: alert.event, rule, text });
            }
            Body::Anchor(anchor) => self.anchors.push(AnchorSeen {
                index,
                time,
                counter: anchor.index,
                value: anchor.value,
                head: anchor.head.size,
            }),
            Body::Recovery(recovery) => self.recoveries.push(RecoverySeen {
                index,
                time,
                way: recovery.way,
                statement: Digest::of(recovery.statement.as_bytes()),
                approvals: recovery.approvals.len() as u64,
            }),
            Body::Epoch(epoch) => {
                let (key, checkpoint) = (epoch.previous.clone(), epoch.checkpoint.clone());
                self.continues.get_or_insert(ContinuedLog { key, checkpoint });
            }
            _ => {}
        }
    }

    fn decided(&mut self, policy: Digest, time: Timestamp) {
        let new = DecidedBy { first: time, last: time, decisions: 0 };
        let by = self.decided_by.entry(policy.to_string()).or_insert(new);
        by.last = time;
        by.decisions += 1;
    }

    /// How many certificates and CRLs the log says were asked for and granted.
    pub fn intents(&self) -> u64 {
        self.profiles.values().sum()
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}
