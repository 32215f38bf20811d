//! Reference sets from what nodes have shown.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use undercroft_log::leaf::Digest;
use undercroft_tpm_wire::HashAlgorithm;

use super::claims::{Claims, name_of};
use super::policy::{Learnt, ReferenceEvent, ReferencePcr, ReferenceSet, ReferenceValue};

/// What nodes have shown so far: of each its newest evidence, since that is what it is.
#[derive(Debug, Default)]
pub struct Learning {
    nodes: BTreeMap<Digest, Shown>,
}

#[derive(Debug)]
struct Shown {
    at: Timestamp,
    values: Vec<Value>,
}

#[derive(Debug)]
struct Value {
    bank: HashAlgorithm,
    index: u8,
    value: Vec<u8>,
    events: Vec<ReferenceEvent>,
}

/// The values of a PCR, each with the nodes that have it.
type OfPcr<'a> = BTreeMap<&'a [u8], (BTreeSet<Digest>, &'a Value)>;

/// A value that too few nodes have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    /// The bank.
    pub bank: &'static str,
    /// The PCR.
    pub index: u8,
    /// Its value, hexadecimal.
    pub value: String,
    /// The nodes that have it: SHA-256 of their endorsement keys.
    pub nodes: Vec<Digest>,
    /// Whether no value of this PCR has enough nodes, so that the set does not speak of it.
    pub whole_pcr: bool,
}

impl Learning {
    /// Takes a node in.
    pub fn add(&mut self, at: Timestamp, claims: &Claims) {
        let node = claims.endorsement();
        if self.nodes.get(&node).is_some_and(|shown| shown.at > at) {
            return;
        }
        let values = claims.attested.pcrs().iter().map(|(bank, index, value)| {
            let log = claims.boot.as_ref().map(|boot| &boot.log);
            let log = log.filter(|log| log.values().bank() == *bank && log.values().get(*index).is_some());
            let events = log.into_iter().flat_map(|log| log.measured()).filter(|event| event.pcr == *index);
            let events = events
                .map(|event| ReferenceEvent { digest: hex::encode(&event.digest), of: event.component() });
            Value { bank: *bank, index: *index, value: value.clone(), events: events.collect() }
        });
        self.nodes.insert(node, Shown { at, values: values.collect() });
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// The set of values that at least `least` nodes have, and what was left out. `from` names where the evidence is from.
    pub fn finish(&self, from: &str, least: u64) -> (ReferenceSet, Vec<LeftOut>) {
        let mut known: BTreeMap<(&str, u8), OfPcr<'_>> = BTreeMap::new();
        for (node, shown) in &self.nodes {
            for value in &shown.values {
                let of_pcr = known.entry((name_of(value.bank), value.index)).or_default();
                let (nodes, _) = of_pcr.entry(&value.value).or_insert_with(|| (BTreeSet::new(), value));
                nodes.insert(*node);
            }
        }
        let (mut pcrs, mut left_out) = (Vec::new(), Vec::new());
        for ((bank, index), values) in known {
            let is_enough = |nodes: &BTreeSet<Digest>| nodes.len() as u64 >= least;
            let whole_pcr = !values.values().any(|(nodes, _)| is_enough(nodes));
            let mut taken = Vec::new();
            let mut of_bank = None;
            for (digest, (nodes, value)) in values {
                of_bank = Some(value.bank);
                let digest = hex::encode(digest);
                match is_enough(&nodes) {
                    true => taken.push(ReferenceValue {
                        digest,
                        nodes: Some(nodes.len() as u64),
                        events: value.events.clone(),
                    }),
                    false => left_out.push(LeftOut {
                        bank,
                        index,
                        value: digest,
                        nodes: nodes.into_iter().collect(),
                        whole_pcr,
                    }),
                }
            }
            if let (Some(bank), false) = (of_bank, taken.is_empty()) {
                pcrs.push(ReferencePcr { bank: bank.into(), index, value: taken });
            }
        }
        let at = self.nodes.values().map(|shown| shown.at).max().unwrap_or(Timestamp::UNIX_EPOCH);
        let learnt = Learnt { from: from.to_owned(), at, nodes: self.nodes() };
        (ReferenceSet { learnt: Some(learnt), pcr: pcrs }, left_out)
    }
}
