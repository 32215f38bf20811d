//! `undercroft attest simulate`: a policy, tried on the past.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use undercroft_ca::nodes::judge;
use undercroft_cli::{Failure, Terminal};

use super::evidence::{EvidenceArgs, read_policy};

/// How many changes are printed for people.
const SHOWN: usize = 40;

/// Arguments of `attest simulate`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct SimulateArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// The policy to try. The files that it names are read from its folder.
    #[arg(long)]
    policy: PathBuf,
    /// Exit with 4 if a node that was taken would be refused, or the other way round.
    #[arg(long)]
    fail_on_change: bool,
}

/// A verdict that would be another.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Change {
    entry: u64,
    at: Timestamp,
    node: Option<String>,
    before: String,
    now: String,
    reason: Option<String>,
}

impl SimulateArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let policy = read_policy(&self.policy)?;
        let log = self.evidence.read(terminal)?;
        let progress = terminal.progress(log.verdicts.len() as u64, "simulate");
        let (mut changes, mut turned) = (Vec::new(), 0_usize);
        let mut table = BTreeMap::<(String, String), u64>::new();
        for judged in &log.verdicts {
            let (word, of) = judged.said();
            let again = judge(&log.evidence(judged)?, &policy, judged.at);
            let (now, who, reason) = match &again {
                Ok(taken) => ("accepted", taken.admitted.spiffe_id.to_string(), None),
                Err(refused) => ("refused", refused.code.to_owned(), Some(refused.reason.clone())),
            };
            // Nodes that are taken are counted as one; refusals by their codes.
            let shown = |word: &str, of: &str| match word {
                "accepted" => word.to_owned(),
                _ => format!("{word}: {of}"),
            };
            *table.entry((shown(word, of), shown(now, &who))).or_default() += 1;
            turned += usize::from(word != now);
            if (word, of) != (now, who.as_str()) {
                changes.push(Change {
                    entry: judged.entry,
                    at: judged.at,
                    node: judged.verdict.endorsement.map(|endorsement| endorsement.to_string()),
                    before: format!("{word} {of}"),
                    now: format!("{now} {who}"),
                    reason,
                });
            }
            progress.advance(1);
        }
        drop(progress);
        let counts: Vec<_> = table
            .iter()
            .map(|((before, now), count)| json!({ "before": before, "now": now, "verdicts": count }))
            .collect();
        let value = json!({
            "log": log.origin, "policy": policy.digest().to_string(), "verdicts": log.verdicts.len(),
            "turned": turned, "counts": counts, "changes": changes,
        });
        terminal.result(&value, || {
            let mut text =
                format!("{} verdicts of {}; {turned} would turn round\n", log.verdicts.len(), log.origin);
            for ((before, now), count) in &table {
                text += &format!("  {count:>7}  {before} -> {now}\n");
            }
            for change in changes.iter().take(SHOWN) {
                text +=
                    &format!("  entry {} {}: {} -> {}\n", change.entry, change.at, change.before, change.now);
                if let Some(reason) = &change.reason {
                    text += &format!("    {reason}\n");
                }
            }
            if changes.len() > SHOWN {
                text += &format!("  … and {} more; --output json has all\n", changes.len() - SHOWN);
            }
            text
        })?;
        match self.fail_on_change && turned > 0 {
            true => Err(Failure::refused(format!("{turned} verdicts would turn round"))),
            false => Ok(()),
        }
    }
}
