//! `undercroft attest`: what nodes have shown, learnt from, tried with another policy, and explained.

mod evidence;
mod explain;
mod learn;
mod simulate;

use undercroft_cli::{Failure, Terminal};

/// Commands about the evidence of nodes. They read an export of a domain's log (`undercroft log export`).
#[derive(Debug, clap::Subcommand)]
pub(super) enum AttestCommand {
    /// Propose a set of reference values from what nodes have shown.
    Learn(learn::LearnArgs),
    /// Say in words why a node was taken or refused, what to do, and what changed since it was taken before.
    Explain(explain::ExplainArgs),
    /// Judge all evidence of a log by another policy, each as of its time, before that policy is enabled.
    Simulate(simulate::SimulateArgs),
}

impl AttestCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::Learn(args) => args.run(terminal),
            Self::Explain(args) => args.run(terminal),
            Self::Simulate(args) => args.run(terminal),
        }
    }
}
