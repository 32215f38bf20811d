//! `undercroft attest learn`: a reference set from a fleet.

use std::path::PathBuf;

use serde_json::json;
use undercroft_ca::nodes::Learning;
use undercroft_cli::{Failure, Terminal, write_file};
use undercroft_log::leaf::VerdictResult;

use super::evidence::EvidenceArgs;

/// Arguments of `attest learn`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct LearnArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// The name of the set, as rules will call it.
    name: String,
    /// Nodes with this selector alone. May be given several times: all must hold.
    #[arg(long)]
    select: Vec<String>,
    /// How many nodes must stand behind a value.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_nodes: u64,
    /// Learn from nodes, too, whose evidence was genuine and whom no rule took.
    #[arg(long)]
    refused: bool,
    /// Where to write the set, TOML; to the terminal if absent.
    #[arg(long)]
    to: Option<PathBuf>,
}

impl LearnArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let mut log = self.evidence.read(terminal)?;
        let verdicts = log.verdicts.clone();
        let progress = terminal.progress(verdicts.len() as u64, "learn");
        let mut learning = Learning::default();
        for judged in &verdicts {
            progress.advance(1);
            if !self.refused && matches!(judged.verdict.result, VerdictResult::Refused(_)) {
                continue;
            }
            let claims = match log.again(judged)? {
                Ok(taken) => taken.claims,
                // What is not proven is learnt from by nobody.
                Err(refused) => match refused.claims.filter(|_| self.refused) {
                    Some(claims) => *claims,
                    None => continue,
                },
            };
            let selectors = claims.selectors();
            if self.select.iter().all(|wanted| selectors.contains(wanted)) {
                learning.add(judged.at, &claims);
            }
        }
        drop(progress);
        let (set, left_out) = learning.finish(&log.origin, self.min_nodes);
        if set.pcr.is_empty() {
            return Err(Failure::usage(format!(
                "{}: {} nodes have shown what was asked for, and no value of a PCR is that of {} of them; see --min-nodes, --select and --refused",
                log.origin,
                learning.nodes(),
                self.min_nodes
            )));
        }
        let text = set.to_toml().map_err(Failure::failed)?;
        if let Some(path) = &self.to {
            write_file(path, text.as_bytes())?;
        }
        let value = json!({
            "log": log.origin, "name": self.name, "nodes": learning.nodes(), "set": set, "left-out": left_out,
        });
        terminal.result(&value, || {
            let mut words =
                format!("# {}: what {} nodes of {} have shown\n", self.name, learning.nodes(), log.origin);
            for pcr in &set.pcr {
                let nodes: Vec<_> =
                    pcr.value.iter().filter_map(|value| value.nodes).map(|nodes| nodes.to_string()).collect();
                words += &format!(
                    "# PCR {}: {} values, of {} nodes\n",
                    pcr.index,
                    pcr.value.len(),
                    nodes.join(", ")
                );
            }
            for out in &left_out {
                let nodes: Vec<_> = out.nodes.iter().map(ToString::to_string).collect();
                let whole = if out.whole_pcr { "; no rule will look at this PCR by the set" } else { "" };
                words += &format!(
                    "# left out: PCR {} = {} of {}{whole}\n",
                    out.index,
                    out.value,
                    nodes.join(", ")
                );
            }
            match &self.to {
                Some(path) => {
                    let (name, path) = (&self.name, path.display());
                    words += &format!("# [[reference]]\n# name = {name:?}\n# file = \"{path}\"\n");
                }
                None => words += &text,
            }
            words
        })
    }
}
