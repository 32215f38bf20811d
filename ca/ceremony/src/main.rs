//! `undercroft-ceremony`: one plan in; certificates and a transcript out.
//!
//! It runs where there is no network, and links no code that could use one: TPMs are reached by their device or, for
//! simulators, by a Unix socket; PKCS#11 modules bring their own transport.

mod lint;
mod open;
mod requests;
mod respond;
mod run;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use undercroft_ca::plan::Plan;
use undercroft_cli::{
    Common, Environment, Failure, Meta, OutputFormat, Program, StrictArgs, Terminal, read_text,
};
use undercroft_keymgr::Backend;

/// Makes roots and signs intermediates, offline, from one reviewed plan.
#[derive(Debug, Parser)]
#[command(name = "undercroft-ceremony", version, about, arg_required_else_help = true)]
struct CeremonyProgram {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a plan and show what it will make. With an environment, lint everything with throwaway keys.
    Plan {
        /// The plan.
        plan: PathBuf,
        /// Where the devices are. Keys are made in them for lint, and forgotten.
        #[arg(long)]
        environment: Option<PathBuf>,
        #[command(flatten)]
        strict: StrictArgs,
        /// Show the plan's digest as a QR code, too.
        #[arg(long)]
        qr: bool,
        /// What somebody has read to you, words or hexadecimal: compare it with the plan's digest.
        #[arg(long)]
        heard: Option<String>,
    },
    /// Requests from across the air gap.
    #[command(subcommand)]
    Requests(RequestsCommand),
    /// Pack what a finished ceremony has made into one signed file that crosses the air gap back.
    Respond(respond::RespondArgs),
    /// Run the ceremony.
    Run {
        /// The plan.
        plan: PathBuf,
        /// Where the devices are and how they are unlocked.
        #[arg(long)]
        environment: PathBuf,
        #[command(flatten)]
        strict: StrictArgs,
        /// The folder of requests, `<request>.csr.pem` and `<request>.custody.json` for each intermediate.
        #[arg(long)]
        requests: PathBuf,
        /// The folder that certificates and CRLs are written to. Nothing in it is ever overwritten.
        #[arg(long)]
        out: PathBuf,
        /// The folder of the transcript; `transcript` in the output folder if absent.
        #[arg(long)]
        transcript: Option<PathBuf>,
        /// Do everything up to the making of the first key, and stop.
        #[arg(long)]
        dry_run: bool,
    },
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Debug, Subcommand)]
enum RequestsCommand {
    /// Verify a request, and unpack it into the folder that `run` reads.
    Open(open::OpenArgs),
}

impl Program for CeremonyProgram {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Plan { plan, environment, strict, qr, heard } => {
                let plan = read_plan(&plan)?;
                let environment = environment
                    .map(|path| Environment::read(&path, strict.secrecy(), backends()))
                    .transpose()?;
                show::show(&plan, environment.as_ref(), show::Aloud { qr, heard: heard.as_deref() }, terminal)
            }
            Command::Requests(RequestsCommand::Open(args)) => args.run(terminal),
            Command::Respond(args) => args.run(terminal),
            Command::Run { plan, environment, strict, requests, out, transcript, dry_run } => {
                let plan = read_plan(&plan)?;
                let environment = Environment::read(&environment, strict.secrecy(), backends())?;
                let transcript = transcript.unwrap_or_else(|| out.join("transcript"));
                let places = run::Places { requests, out, transcript };
                run::run(&plan, &environment, &places, dry_run, terminal)
            }
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

fn read_plan(path: &std::path::Path) -> Result<Plan, Failure> {
    Ok(Plan::parse(&path.display().to_string(), &read_text(path)?)?)
}

/// The backends that this program was built with.
fn backends() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "pkcs11")]
        Box::new(undercroft_pkcs11::Pkcs11Backend),
        #[cfg(feature = "tpm")]
        Box::new(undercroft_tpm::TpmBackend),
    ]
}

fn main() -> ExitCode {
    undercroft_cli::main::<CeremonyProgram>()
}
