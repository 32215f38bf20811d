//! `hsm-sim`: simulated devices in a folder, started and stopped by one command each.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hsm_sim::installation::Installation;
use hsm_sim::programs::SimError;

/// Simulated key hardware for demos and tests. Its keys are in software: never for production.
#[derive(Debug, Parser)]
#[command(name = "hsm-sim", version, about, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make devices that are not there yet, and start those that run.
    Up {
        /// The folder that everything is kept in.
        folder: PathBuf,
        /// A SoftHSM token of this label; may be repeated.
        #[arg(long)]
        softhsm: Vec<String>,
        /// A swtpm TPM of this name, with EK certificates from its own manufacturer CA; may be repeated.
        #[arg(long)]
        tpm: Vec<String>,
    },
    /// Stop what runs.
    Down {
        /// The folder that was given to `up`.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Program::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told that standard error is closed.
            let _ = writeln!(io::stderr(), "hsm-sim: {error}");
            ExitCode::from(match error {
                SimError::Missing { .. } | SimError::NotReady(_) => 3,
                SimError::Failed { .. } | SimError::File { .. } => 1,
            })
        }
    }
}

fn run(command: Command) -> Result<(), SimError> {
    match command {
        Command::Up { folder, softhsm, tpm } => {
            Installation::in_folder(&folder)?.up(&softhsm, &tpm, |device| {
                let _ = writeln!(io::stdout(), "  {:12} {}", device.name, device.uri);
            })
        }
        Command::Down { folder } => Installation::in_folder(&folder)?.down(),
    }
}
