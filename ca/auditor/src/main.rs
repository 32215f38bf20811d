//! `undercroft-audit`: decides whether a log can be believed, on a laptop, without the CA.

mod met;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;
use undercroft_audit::{Covered, Epoch, NoAudit, ProveError, Report, audit, prove};
use undercroft_ca::certificate::certificates_from_pem;
use undercroft_ca::verify::standing;
use undercroft_cli::{Common, Failure, Meta, OutputFormat, Program, Terminal, read_text, write_file};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Kind;
use undercroft_log::note::VerifierKey;
use undercroft_log_files::{Folder, FolderError};

/// How many findings are printed for people.
const SHOWN: usize = 20;

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
    Verify(LogArgs),
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
    },
    /// Say of certificates that were met somewhere whether they stand in the log. Exits with 5 if one does not.
    Reconcile {
        #[command(flatten)]
        log: LogArgs,
        /// Files with certificates (PEM or DER), and folders of such files.
        #[arg(required = true)]
        certificates: Vec<PathBuf>,
    },
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// The folder with the log: the one that holds `checkpoint`.
    log: PathBuf,
    /// The key (vkey) that must have signed it, from somebody whom you trust.
    #[arg(long)]
    key: PathBuf,
}

impl LogArgs {
    fn open(&self) -> Result<(Folder, VerifierKey), Failure> {
        Ok((Folder::new(&self.log), read_key(&self.key)?))
    }
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
            Command::Verify(log) => verify(&log, terminal),
            Command::Show { log, indexes, kind } => {
                let (folder, key) = log.open()?;
                show::show(&folder, &key, &indexes, kind, terminal)
            }
            Command::Prove { log, index, out } => {
                let (folder, key) = log.open()?;
                let (entry, proof) = prove(&folder, &key, index).map_err(unproven)?;
                let (proof_path, entry_path) =
                    (out.join(format!("{index}.tlog-proof")), out.join(format!("{index}.entry")));
                write_file(&entry_path, &entry)?;
                write_file(&proof_path, proof.to_string().as_bytes())?;
                terminal.result(&json!({ "entry": entry_path, "proof": proof_path }), || {
                    format!("{} and {}\n", proof_path.display(), entry_path.display())
                })
            }
            Command::Certificate { certificate, entry, proof, key } => {
                verify_certificate(&certificate, &entry, &proof, &key, terminal)
            }
            Command::Reconcile { log, certificates } => {
                let (folder, key) = log.open()?;
                met::reconcile(&folder, &key, &certificates, terminal)
            }
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

fn verify(log: &LogArgs, terminal: &Terminal) -> Result<(), Failure> {
    let (folder, key) = log.open()?;
    let progress = terminal.progress(2 * size(&folder, &key)?, "verify");
    let report = audit(&folder, &key, |entries| progress.advance(entries)).map_err(no_audit)?;
    drop(progress);
    terminal.result(&report, || describe(&report))?;
    match report.findings.first() {
        None => Ok(()),
        Some(first) => Err(Failure::tampered(match report.findings.len() {
            1 => format!("{}: {first}", report.origin),
            more => format!("{}: {first}; and {} more findings", report.origin, more - 1),
        })),
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

fn describe(report: &Report) -> String {
    let count = |kind: Kind| report.kinds.get(&kind).copied().unwrap_or_default();
    let mut text = format!("{}: {} entries, root {}\n", report.origin, report.size, report.root);
    if let (Some(first), Some(last)) = (report.first, report.last) {
        text += &format!("  from {first} to {last}\n");
    }
    let intents = &report.intents;
    text += &format!(
        "  intents {} (signed {}, abandoned {}, open {}), outcomes {}, refusals {}\n",
        count(Kind::Intent),
        intents.signed,
        intents.abandoned,
        intents.open,
        count(Kind::Outcome),
        count(Kind::Refusal)
    );
    for key in &report.keys {
        text += &format!(
            "  key {} {}: custody {}\n",
            &key.key_id[..16.min(key.key_id.len())],
            key.purpose,
            key.grade
        );
    }
    text += &ledger(&report.ledger);
    for finding in report.findings.iter().take(SHOWN) {
        text += &format!("  BAD {finding}\n");
    }
    if report.findings.len() > SHOWN {
        text += &format!("  … and {} more\n", report.findings.len() - SHOWN);
    }
    if report.findings.is_empty() {
        text += "  Everything is as it must be.\n";
    }
    text
}

/// The ledger in a line, and each epoch that the log does not account for in one of its own.
fn ledger(epochs: &[Epoch]) -> String {
    if epochs.is_empty() {
        return String::new();
    }
    let of = |covered: fn(&Covered) -> bool| epochs.iter().filter(|epoch| covered(&epoch.covered)).count();
    let complete = of(|covered| *covered == Covered::Complete);
    let open = of(|covered| *covered == Covered::Open);
    let mut text = format!(
        "  ledger of the TPM: {} epochs (complete {complete}, uncovered {}, open {open})\n",
        epochs.len(),
        epochs.len() - complete - open
    );
    for epoch in epochs {
        if let Covered::Uncovered { reason, hidden } = &epoch.covered {
            let bound = match hidden {
                Some(0) => "; its gates allow no hidden signature".to_owned(),
                Some(hidden) => {
                    format!("; its gates allow {hidden} hidden signatures at most, over logged bytes")
                }
                None => "; no gate bounds what could be hidden".to_owned(),
            };
            text += &format!("    epoch {} uncovered: {reason}{bound}\n", epoch.epoch);
        }
    }
    text
}

fn verify_certificate(
    certificate: &Path,
    entry: &Path,
    proof: &Path,
    key: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let key = read_key(key)?;
    let ders = certificates_from_pem(&read_text(certificate)?)
        .map_err(|error| Failure::from(error).during(certificate.display()))?;
    let leaf = ders.first().ok_or_else(|| Failure::usage("no certificate"))?;
    let standing = standing(leaf, read_text(entry)?.as_bytes(), &read_text(proof)?, &key)
        .map_err(|error| Failure::tampered(format!("{}: {error}", certificate.display())))?;
    let value = json!({
        "log": key.name().to_string(),
        "index": standing.index,
        "size": standing.checkpoint.size,
        "caller": standing.intent.caller.id,
        "rule": standing.intent.rule,
    });
    terminal.result(&value, || {
        format!(
            "It stands in {} as entry {} of {}, asked for by {} and granted by `{}`.\n",
            key.name(),
            standing.index,
            standing.checkpoint.size,
            standing.intent.caller.id,
            standing.intent.rule
        )
    })
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
