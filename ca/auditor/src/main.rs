//! `undercroft-audit`: decides whether a log can be believed, on a laptop, without the CA.

mod ceremony_command;
mod certificate;
mod custody;
mod fetch;
mod log;
mod markdown;
mod met;
mod mirror;
mod reverify_command;
mod show;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;
use undercroft_audit::{Known, MOST, NoAudit, ProveError, Scope, Seen, prove};
use undercroft_cli::{Common, Failure, Meta, OutputFormat, Program, Terminal, read_text, write_file};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Kind;
use undercroft_log::note::VerifierKey;
use undercroft_log::second_key::SecondKey;
use undercroft_log::witnesses::WitnessPolicy;
use undercroft_log_files::{Folder, FolderError};

use self::ceremony_command::{CeremonyArgs, ScriptArgs};
use self::custody::{Required, TrustArgs};
use self::log::{LogArgs, PerhapsLogArgs};

/// Verifies Undercroft's logs with nothing but their files and the key that must have signed them.
#[derive(Debug, Parser)]
#[command(name = "undercroft-audit", version, about, arg_required_else_help = true)]
struct AuditProgram {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a log: every byte, and that what the entries say holds together. Exits with 5 if anything is wrong.
    Verify {
        #[command(flatten)]
        log: LogArgs,
        /// The tree alone: every entry's hash, every tile, the checkpoint. Not what the entries say.
        #[arg(long)]
        tree: bool,
        #[command(flatten)]
        known: KnownArgs,
    },
    /// Report what stands in a log, counted, in Markdown: population, issuance, refusals, keys, policies, and a sample
    /// that you draw. Verifies the log as it reads, and reports nothing of one that does not verify (exits with 5).
    Report {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        known: KnownArgs,
        /// What the sample is drawn by: a text of yours, chosen after the log was exported.
        #[arg(long, requires = "sample")]
        seed: Option<String>,
        /// How many entries are drawn.
        #[arg(long, requires = "seed", value_parser = clap::value_parser!(u64).range(1..=MOST))]
        sample: Option<u64>,
    },
    /// Show entries, each with its certificate decoded, once it is proven to stand in the log.
    Show {
        #[command(flatten)]
        log: LogArgs,
        /// The indexes of entries; all if absent.
        indexes: Vec<u64>,
        /// Entries of one kind alone, such as refusal.
        #[arg(long, value_parser = kind)]
        kind: Option<Kind>,
    },
    /// Write the .tlog-proof of an entry, and the entry itself.
    Prove {
        #[command(flatten)]
        log: LogArgs,
        /// The index of the entry.
        index: u64,
        /// The folder: <INDEX>.tlog-proof and <INDEX>.entry are written to it.
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// Verify that a certificate stands in a log, by the files that came with it.
    Certificate {
        /// The certificate (PEM), its issuers behind it or not.
        certificate: PathBuf,
        /// The log entry that came with it.
        #[arg(long)]
        entry: PathBuf,
        /// The proof that came with it.
        #[arg(long)]
        proof: PathBuf,
        /// The key (vkey) of the log.
        #[arg(long)]
        key: PathBuf,
        /// The witnesses (C2SP tlog-policy) whose cosignatures the checkpoint in the proof needs.
        #[arg(long)]
        witness_policy: Option<PathBuf>,
    },
    /// Say of certificates that were met somewhere, or asked for, whether they stand in the log. Exits with 5 if one does
    /// not.
    Reconcile {
        #[command(flatten)]
        log: LogArgs,
        /// Files with certificates (PEM or DER), and folders of such files.
        #[arg(required_unless_present = "ocsp")]
        certificates: Vec<PathBuf>,
        /// Files of OCSP requests (RFC 6960), and folders of such files: one request in DER, or one in each line, as
        /// hexadecimal, base64 or the path of a GET. A serial number that the log does not know is an alarm.
        #[arg(long)]
        ocsp: Vec<PathBuf>,
    },
    /// Judge again where the CA's keys live, by whom you believe: every record in a log, or one custody file. Exits with 5
    /// if one is worth less than the log says, or than you require.
    Custody {
        #[command(flatten)]
        log: PerhapsLogArgs,
        #[command(flatten)]
        known: KnownArgs,
        /// A custody file (`undercroft keys attest`, `keys create`) in place of a log.
        #[arg(long, conflicts_with = "log", required_unless_present = "log")]
        file: Option<PathBuf>,
        /// With --file: the certificate (PEM) whose key it must be.
        #[arg(long, requires = "file")]
        certificate: Option<PathBuf>,
        /// With --file: the challenge that you gave, in hexadecimal.
        #[arg(long, requires = "file")]
        challenge: Option<String>,
        /// The least grade that satisfies you.
        #[arg(long, value_enum)]
        require: Option<Required>,
    },
    /// Judge every verdict on a node again, from the evidence and the policy that the log keeps, at the time of its entry.
    /// Exits with 5 if one does not come out as the entry says.
    Reverify {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        known: KnownArgs,
        /// The indexes of entries; all verdicts if absent.
        indexes: Vec<u64>,
    },
    /// Verify a ceremony offline, from its files alone: order, approvals, rehearsal, custody, every signed byte, outputs.
    /// Ends with a one-page verdict. Exits with 5 if anything is not as the plan says.
    Ceremony(CeremonyArgs),
    /// Write the script of a ceremony before it: a page to print, with a box to tick for each step.
    CeremonyScript(ScriptArgs),
    /// Copy a log from a web server to a folder, or bring the copy up to date. Exits with 5, and leaves the copy as it
    /// is, if the server's log is not its continuation.
    Mirror(log::MirrorArgs),
    #[command(flatten)]
    Meta(Meta),
}

/// What shows that a log was rewritten by whoever stole its key.
#[derive(Debug, clap::Args)]
struct KnownArgs {
    /// The witnesses (C2SP tlog-policy) whose cosignatures the checkpoint needs.
    #[arg(long)]
    witness_policy: Option<PathBuf>,
    /// The log's second key (vkey, ECDSA), if it has one: the checkpoint needs its line, too.
    #[arg(long)]
    second_key: Option<PathBuf>,
    /// A checkpoint of the log that was seen before: the file, a .tlog-proof that holds it, or the folder of an
    /// earlier export. The log must have grown from it. May be given several times.
    #[arg(long)]
    seen: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl KnownArgs {
    fn read(&self, key: &VerifierKey) -> Result<Known, Failure> {
        let seen = self.seen.iter().map(|path| {
            let file = if path.is_dir() { path.join("checkpoint") } else { path.clone() };
            let shown = file.display().to_string();
            Seen::read(shown.clone(), &read_text(&file)?, key).map_err(|error| {
                Failure::usage(format!("{shown}: {error}; --seen takes what the key of this log has signed"))
            })
        });
        let witnesses = self.witness_policy.as_deref().map(read_policy).transpose()?;
        let second_key = self.second_key.as_deref().map(read_second_key).transpose()?;
        Ok(Known { witnesses, second_key, seen: seen.collect::<Result<_, _>>()?, trust: self.trust.read()? })
    }
}

fn read_policy(path: &Path) -> Result<WitnessPolicy, Failure> {
    read_text(path)?.parse().map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn read_second_key(path: &Path) -> Result<SecondKey, Failure> {
    let key = read_text(path)?.trim_end().parse();
    key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    read_text(path)?
        .trim_end()
        .parse()
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn kind(text: &str) -> Result<Kind, String> {
    serde_json::from_value(json!(text)).map_err(|_| format!("`{text}` is no kind of entry"))
}

impl Program for AuditProgram {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Verify { log, tree, known } => {
                let (log, key) = log.open(terminal)?;
                let scope = if tree { Scope::Tree } else { Scope::Everything };
                verify::verify(log.folder(), &key, scope, &known.read(&key)?, terminal)
            }
            Command::Report { log, known, seed, sample } => {
                let (log, key) = log.open(terminal)?;
                let sample = seed.as_deref().zip(sample);
                markdown::report(log.folder(), &key, &known.read(&key)?, sample, terminal)
            }
            Command::Show { log, indexes, kind } => {
                let (log, key) = log.open(terminal)?;
                show::show(log.folder(), &key, &indexes, kind, terminal)
            }
            Command::Prove { log, index, out } => {
                let (log, key) = log.open(terminal)?;
                let (entry, proof) = prove(log.folder(), &key, index).map_err(unproven)?;
                let (proof_path, entry_path) =
                    (out.join(format!("{index}.tlog-proof")), out.join(format!("{index}.entry")));
                write_file(&entry_path, &entry)?;
                write_file(&proof_path, proof.to_string().as_bytes())?;
                terminal.result(&json!({ "entry": entry_path, "proof": proof_path }), || {
                    format!("{} and {}\n", proof_path.display(), entry_path.display())
                })
            }
            Command::Certificate { certificate, entry, proof, key, witness_policy } => {
                let policy = witness_policy.as_deref().map(read_policy).transpose()?;
                let files = certificate::Files { certificate, entry, proof };
                certificate::verify(&files, &read_key(&key)?, policy.as_ref(), terminal)
            }
            Command::Reconcile { log, certificates, ocsp } => {
                let (log, key) = log.open(terminal)?;
                met::reconcile(log.folder(), &key, &certificates, &ocsp, terminal)
            }
            Command::Custody { log, known, file, certificate, challenge, require } => {
                match (log.given(), file) {
                    (_, Some(file)) => {
                        let (certificate, challenge) = (certificate.as_deref(), challenge.as_deref());
                        let single = custody::Single { file: &file, certificate, challenge };
                        custody::of_file(&single, &known.trust.read()?, require, terminal)
                    }
                    (Some(log), None) => {
                        let (log, key) = log.open(terminal)?;
                        custody::of_log(log.folder(), &key, &known.read(&key)?, require, terminal)
                    }
                    (None, None) => {
                        Err(Failure::usage("give the folder or the URL of a log with --key, or --file"))
                    }
                }
            }
            Command::Reverify { log, known, indexes } => {
                let (log, key) = log.open(terminal)?;
                reverify_command::reverify(log.folder(), &key, &known.read(&key)?, &indexes, terminal)
            }
            Command::Ceremony(args) => args.run(terminal),
            Command::CeremonyScript(args) => args.run(terminal),
            Command::Mirror(args) => args.run(terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

/// How many entries the checkpoint of a log covers.
fn size(folder: &Folder, key: &VerifierKey) -> Result<u64, Failure> {
    let note = folder
        .checkpoint()
        .map_err(|error| unread(&error))?
        .ok_or_else(|| no_audit(NoAudit::NoCheckpoint(folder.path().display().to_string())))?;
    Ok(Checkpoint::open(&note, key).map_err(|error| no_audit(error.into()))?.size)
}

fn no_audit(error: NoAudit) -> Failure {
    match error {
        NoAudit::Folder(error) => unread(&error),
        NoAudit::NoCheckpoint(_) => Failure::usage(error.to_string()),
        NoAudit::Checkpoint(_) | NoAudit::TooFewFiles { .. } => Failure::tampered(error.to_string()),
    }
}

fn unproven(error: ProveError) -> Failure {
    match error {
        ProveError::Folder(error) => unread(&error),
        ProveError::NoCheckpoint | ProveError::Beyond { .. } => Failure::usage(error.to_string()),
        ProveError::Checkpoint(_) | ProveError::Node(_) | ProveError::Proof(_) => {
            Failure::tampered(error.to_string())
        }
    }
}

fn unread(error: &FolderError) -> Failure {
    match error {
        FolderError::Io { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::tampered(error.to_string()),
    }
}

fn main() -> ExitCode {
    undercroft_cli::main::<AuditProgram>()
}
