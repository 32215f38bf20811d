//! `undercroft attest explain`: one node's last verdict, in words.

use serde_json::json;
use undercroft_ca::nodes::Explanation;
use undercroft_cli::{Failure, Terminal};
use undercroft_log::leaf::VerdictResult;

use super::evidence::{EvidenceArgs, Judged, Verdicts};

/// Arguments of `attest explain`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct ExplainArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// Its SPIFFE ID, eight digits or more of the hash of its endorsement key, or the index of a verdict.
    node: String,
}

impl ExplainArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let mut log = self.evidence.read(terminal)?;
        let judged = self.find(&log)?;
        let before = log.verdicts.iter().rev().find(|other| {
            let accepted = matches!(other.verdict.result, VerdictResult::Accepted(_));
            other.entry < judged.entry
                && accepted
                && judged.verdict.endorsement.is_some()
                && other.verdict.endorsement == judged.verdict.endorsement
        });
        let before = match before.cloned() {
            Some(before) => log.again(&before)?.ok().map(|taken| (before.at, taken.claims)),
            None => None,
        };
        let again = log.again(&judged)?;
        let explained = Explanation::of(&again, before.as_ref().map(|(at, claims)| (*at, claims)));
        let (word, of) = judged.said();
        let value = json!({
            "log": log.origin, "entry": judged.entry, "at": judged.at, "said": word, "explanation": explained,
        });
        terminal.result(&value, || {
            let mut text =
                format!("entry {} of {} at {}: {word} {of}\n", judged.entry, log.origin, judged.at);
            text += &words(&explained);
            text
        })
    }

    /// The newest verdict that is meant.
    fn find(&self, log: &Verdicts) -> Result<Judged, Failure> {
        let node = self.node.as_str();
        let is = |judged: &&Judged| {
            let of_key = node.len() >= 8
                && judged
                    .verdict
                    .endorsement
                    .is_some_and(|endorsement| endorsement.to_string().starts_with(node));
            of_key || judged.said() == ("accepted", node)
        };
        let by_index = node.parse::<u64>().ok().filter(|_| node.len() < 8);
        let found = match by_index {
            Some(index) => log.verdicts.iter().find(|judged: &&Judged| judged.entry == index),
            None => {
                let named = log.verdicts.iter().rev().find(is);
                // A SPIFFE ID stands for its TPM, whose newest verdict may be a refusal.
                let endorsement = named.and_then(|judged| judged.verdict.endorsement);
                let of_tpm =
                    |judged: &&Judged| endorsement.is_some() && judged.verdict.endorsement == endorsement;
                log.verdicts.iter().rev().find(of_tpm).or(named)
            }
        };
        found.cloned().ok_or_else(|| {
            Failure::usage(format!(
                "{}: no verdict is about `{node}`; give a SPIFFE ID, eight digits or more of the hash of an endorsement key, or the index of a verdict",
                log.origin
            ))
        })
    }
}

fn words(explained: &Explanation) -> String {
    let mut text = String::new();
    for stage in &explained.in_order {
        text += &format!("  in order: {stage}\n");
    }
    if let (Some(id), Some(rule)) = (&explained.spiffe_id, &explained.rule) {
        text += &format!("  rule `{rule}` takes it as {id}\n");
    }
    if let (Some(code), Some(reason)) = (explained.code, &explained.reason) {
        text += &format!("  not in order: {reason} ({code})\n");
    }
    if let Some(way_out) = explained.way_out {
        text += &format!("  what to do: {way_out}\n");
    }
    if let (Some(at), Some(resets)) = (explained.compared_with, explained.resets) {
        text += &format!("  since it was taken at {at}: {resets} resets of the TPM\n");
        if explained.changes.is_empty() {
            text += "  the event log is the same\n";
        }
    }
    for change in &explained.changes {
        text += &format!("  changed: {change}\n");
    }
    text
}
