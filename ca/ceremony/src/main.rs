//! `undercroft-ceremony`: one plan in; certificates and a transcript out.
//!
//! It runs where there is no network, and links no code that could use one: TPMs are reached by their device or, for
//! simulators, by a Unix socket; PKCS#11 modules bring their own transport.

mod approvals;
mod before;
mod continued;
mod devices;
mod doing;
mod lint;
mod next;
mod open;
mod operator;
mod requests;
mod respond;
mod run;
mod show;
mod transcript;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use futures::executor::block_on;
use serde_json::json;
use undercroft_ca::approval::{Action, DeviationKind};
use undercroft_ca::plan::Plan;
use undercroft_cli::{
    Common, Environment, Failure, Meta, OutputFormat, Program, StrictArgs, Terminal, read_text,
};
use undercroft_keymgr::Backend;

use crate::approvals::Approvals;
use crate::continued::Continued;
use crate::operator::Operator;
use crate::run::Errand;

/// Makes roots and signs what they sign, offline, from one reviewed plan.
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
        /// The transcript of the ceremony before, to show what is new.
        #[arg(long)]
        previous: Option<PathBuf>,
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
    /// Rehearse the ceremony: the same code, prompts and transcript, on simulated tokens whose keys nobody trusts.
    Rehearse {
        #[command(flatten)]
        ceremony: CeremonyArgs,
    },
    /// Run the ceremony, or go on with one that was interrupted.
    Run {
        #[command(flatten)]
        ceremony: CeremonyArgs,
        /// The folder of the transcript of a rehearsal of the same plan.
        #[arg(long)]
        rehearsal: Option<PathBuf>,
        /// The folder of the transcript of a rehearsal of the next ceremony, where the plan asks for one.
        #[arg(long)]
        next: Option<PathBuf>,
        /// Do everything up to the making of the first key, and stop.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write down something in the transcript of a ceremony that was begun.
    Note {
        #[command(flatten)]
        ceremony: CeremonyArgs,
        /// What is to stand there.
        #[arg(long)]
        text: String,
    },
    /// Give a ceremony up that was begun: its keys are destroyed, its files removed, its transcript kept.
    Abort {
        #[command(flatten)]
        ceremony: CeremonyArgs,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Write a statement for the quorum to sign: about the plan, or about a deviation from it.
    Statement {
        #[command(subcommand)]
        about: StatementAbout,
    },
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Debug, Subcommand)]
enum RequestsCommand {
    /// Verify a request, and unpack it into the folder that `run` reads.
    Open(open::OpenArgs),
}

/// What every command on a ceremony wants to know.
#[derive(Debug, Args)]
struct CeremonyArgs {
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
    /// The folder of statements and signatures; `approvals` in the output folder if absent.
    #[arg(long)]
    approvals: Option<PathBuf>,
    /// The folder of the transcript of the ceremony before, where the plan names one.
    #[arg(long)]
    previous: Option<PathBuf>,
    /// Ask before each step, even where standard input is no terminal.
    #[arg(long)]
    ask: bool,
    /// A step that people have done; may be given again for others. Nothing is asked then.
    #[arg(long, value_name = "STEP")]
    done: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum StatementAbout {
    /// That the plan may be carried out.
    Plan {
        #[command(flatten)]
        args: StatementArgs,
    },
    /// That the roster of the plan takes the place of that of the ceremony before, whose persons sign.
    Roster {
        #[command(flatten)]
        args: StatementArgs,
        /// The folder of the transcript of the ceremony before.
        #[arg(long)]
        previous: PathBuf,
    },
    /// That the plan or its rules may be left.
    Deviation {
        #[command(flatten)]
        args: StatementArgs,
        /// What is left.
        #[arg(long)]
        kind: DeviationKind,
        /// What was expected, what happened, and what was decided.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct StatementArgs {
    /// The plan.
    plan: PathBuf,
    /// The folder of statements and signatures.
    #[arg(long)]
    approvals: PathBuf,
    /// For how many days it is good.
    #[arg(long, default_value_t = 30)]
    days: u16,
    /// For the rehearsal instead of the ceremony.
    #[arg(long)]
    rehearsal: bool,
}

impl Program for CeremonyProgram {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Plan { plan, environment, strict, previous, qr, heard } => {
                let plan = read_plan(&plan)?;
                let environment = environment
                    .map(|path| Environment::read(&path, strict.secrecy(), backends()))
                    .transpose()?;
                let aloud = show::Aloud { qr, heard: heard.as_deref() };
                show::show(&plan, environment.as_ref(), previous.as_deref(), aloud, terminal)
            }
            Command::Requests(RequestsCommand::Open(args)) => args.run(terminal),
            Command::Respond(args) => args.run(terminal),
            Command::Rehearse { ceremony } => {
                let plan = read_plan(&ceremony.plan)?.rehearsed()?;
                ceremony.carry_out(&plan, Beside::default(), &Errand::GoOn, terminal)
            }
            Command::Run { ceremony, rehearsal, next, dry_run } => {
                let errand = if dry_run { Errand::DryRun } else { Errand::GoOn };
                let plan = read_plan(&ceremony.plan)?;
                ceremony.carry_out(&plan, Beside { rehearsal, next }, &errand, terminal)
            }
            Command::Note { ceremony, text } => {
                let plan = read_plan(&ceremony.plan)?;
                ceremony.carry_out(&plan, Beside::default(), &Errand::Note(text), terminal)
            }
            Command::Abort { ceremony, reason } => {
                let plan = read_plan(&ceremony.plan)?;
                ceremony.carry_out(&plan, Beside::default(), &Errand::Abort(reason), terminal)
            }
            Command::Statement { about } => about.write(terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

/// The transcripts of rehearsals that stand beside a run.
#[derive(Debug, Default)]
struct Beside {
    rehearsal: Option<PathBuf>,
    next: Option<PathBuf>,
}

impl CeremonyArgs {
    fn carry_out(
        self,
        plan: &Plan,
        beside: Beside,
        errand: &Errand,
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let environment = Environment::read(&self.environment, self.strict.secrecy(), backends())?;
        let places = run::Places {
            requests: self.requests,
            transcript: self.transcript.unwrap_or_else(|| self.out.join("transcript")),
            approvals: Approvals::in_folder(self.approvals.unwrap_or_else(|| self.out.join("approvals"))),
            out: self.out,
            rehearsal: beside.rehearsal,
            next: beside.next,
            previous: self.previous,
        };
        let operator = Operator::new(self.ask, self.done);
        run::run(plan, &environment, &places, &operator, errand, terminal)
    }
}

impl StatementAbout {
    fn write(self, terminal: &Terminal) -> Result<(), Failure> {
        let (Self::Plan { args } | Self::Roster { args, .. } | Self::Deviation { args, .. }) = &self;
        let plan = read_plan(&args.plan)?;
        let plan = if args.rehearsal { plan.rehearsed()? } else { plan };
        let approvals = Approvals::in_folder(args.approvals.clone());
        let statement = match &self {
            Self::Plan { args } => {
                approvals.ask(&plan, "plan", Action::CeremonyPlan, plan.digest(), args.days)?
            }
            Self::Roster { args, previous } => {
                let before = block_on(Continued::read(&plan, Some(previous), None))?;
                let before = before.as_ref().and_then(|before| before.plan.terms());
                let before = before.ok_or_else(|| {
                    Failure::usage(
                        "the plan continues no ceremony that had a roster; there is nothing to change",
                    )
                })?;
                approvals.ask_for_roster(&plan, &before.roster, args.days)?
            }
            Self::Deviation { args, kind, reason } => {
                approvals.ask_to_deviate(&plan, *kind, reason, args.days)?
            }
        };
        terminal.result(&json!({ "statement": statement, "digest": plan.digest().to_string() }), || {
            format!(
                "{}\nSign it with: ssh-keygen -Y sign -f KEY -n {} {}\nand keep the signature beside it, as <statement>.<person>.sig\n",
                statement.display(),
                undercroft_ca::approval::NAMESPACE,
                statement.display()
            )
        })
    }
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
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
