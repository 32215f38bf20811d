//! `undercroft-audit ceremony` and `ceremony-script`: a ceremony from its files, for people, programs and paper.

use std::path::{Path, PathBuf};

use serde_json::json;
use undercroft_audit::ceremony::{Given, NoVerdict, Wanted, page, verify};
use undercroft_ca::plan::Plan;
use undercroft_cli::{Failure, Terminal, read_text, write_file};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::{KnownArgs, read_key, unread};

/// `undercroft-audit ceremony`.
#[derive(Debug, clap::Args)]
pub(crate) struct CeremonyArgs {
    /// The folder with the transcript: the one that holds `checkpoint`.
    transcript: PathBuf,
    /// The plan that was reviewed.
    #[arg(long)]
    plan: PathBuf,
    /// The key (vkey, or a file that holds it) that must have signed the transcript, from somebody whom you trust.
    #[arg(long)]
    key: String,
    /// The folder that the ceremony wrote its certificates and CRLs to.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The folder that it read requests, answers and evidence from.
    #[arg(long)]
    requests: Option<PathBuf>,
    /// The folder with the transcript of the ceremony before.
    #[arg(long, requires = "previous_key")]
    previous: Option<PathBuf>,
    /// Its key (vkey, or a file that holds it).
    #[arg(long, requires = "previous")]
    previous_key: Option<String>,
    /// The folder with the transcript of the rehearsal.
    #[arg(long, requires = "rehearsal_key")]
    rehearsal: Option<PathBuf>,
    /// Its key (vkey, or a file that holds it).
    #[arg(long, requires = "rehearsal")]
    rehearsal_key: Option<String>,
    /// The folder with the transcript of the rehearsal of the next ceremony.
    #[arg(long, requires = "next_key")]
    next: Option<PathBuf>,
    /// Its key (vkey, or a file that holds it).
    #[arg(long, requires = "next")]
    next_key: Option<String>,
    /// Write the report, too: one HTML file that prints to A4.
    #[arg(long)]
    report: Option<PathBuf>,
    /// The transcript is that of a rehearsal, and that is what you want to know of it.
    #[arg(long, conflicts_with = "development")]
    rehearsal_only: bool,
    /// It is a trial: a plan without terms, or keys in software, are good enough.
    #[arg(long)]
    development: bool,
    #[command(flatten)]
    known: KnownArgs,
}

/// `undercroft-audit ceremony-script`.
#[derive(Debug, clap::Args)]
pub(crate) struct ScriptArgs {
    /// The plan.
    plan: PathBuf,
    /// The file that is written: HTML that prints to A4.
    #[arg(long)]
    out: PathBuf,
    /// The script of its rehearsal: REHEARSAL stands on every page.
    #[arg(long)]
    rehearsal: bool,
}

impl CeremonyArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let plan = read_plan(&self.plan)?;
        let key = key_or_file(&self.key)?;
        let transcript = Folder::new(&self.transcript);
        let rehearsal = other(self.rehearsal.as_deref(), self.rehearsal_key.as_deref())?;
        let previous = other(self.previous.as_deref(), self.previous_key.as_deref())?;
        let next = other(self.next.as_deref(), self.next_key.as_deref())?;
        let wanted = match (self.rehearsal_only, self.development) {
            (true, _) => Wanted::Rehearsal,
            (_, true) => Wanted::Development,
            _ => Wanted::Ceremony,
        };
        let verified = verify(&Given {
            transcript: &transcript,
            key: &key,
            plan: &plan,
            outputs: self.out.as_deref(),
            requests: self.requests.as_deref(),
            rehearsal: rehearsal.as_ref().map(|(folder, key)| (folder, key)),
            previous: previous.as_ref().map(|(folder, key)| (folder, key)),
            next: next.as_ref().map(|(folder, key)| (folder, key)),
            known: &self.known.read(&key)?,
            wanted,
        })
        .map_err(|error| match error {
            NoVerdict::Folder(error) => unread(&error),
            NoVerdict::Plan(error) => error.into(),
        })?;
        if let Some(report) = &self.report {
            write_file(report, page::report(&plan, &verified).as_bytes())?;
        }
        let verdict = &verified.verdict;
        terminal.result(verdict, || verdict.text())?;
        match (verdict.passed, verdict.findings().next()) {
            (true, _) => Ok(()),
            (false, Some(first)) => {
                Err(Failure::tampered(format!("{}: {first}; {}", verdict.origin, verdict.conclusion())))
            }
            (false, None) => Err(Failure::tampered(format!("{}: {}", verdict.origin, verdict.conclusion()))),
        }
    }
}

impl ScriptArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let plan = read_plan(&self.plan)?;
        let plan = if self.rehearsal { plan.rehearsed()? } else { plan };
        write_file(&self.out, page::script(&plan).as_bytes())?;
        let steps = plan.steps().len();
        let value = json!({ "script": self.out, "plan": plan.digest().to_string(), "steps": steps });
        terminal.result(&value, || {
            format!("{}: {steps} steps of the plan {}\n", self.out.display(), plan.digest())
        })
    }
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    Ok(Plan::parse(&path.display().to_string(), &read_text(path)?)?)
}

/// A vkey, or a file with one. No file of anybody's is called like a vkey, which has two `+` in it.
fn key_or_file(text: &str) -> Result<VerifierKey, Failure> {
    match text.trim().parse() {
        Ok(key) => Ok(key),
        Err(_) => read_key(Path::new(text)),
    }
}

fn other(folder: Option<&Path>, key: Option<&str>) -> Result<Option<(Folder, VerifierKey)>, Failure> {
    match folder.zip(key) {
        Some((folder, key)) => Ok(Some((Folder::new(folder), key_or_file(key)?))),
        None => Ok(None),
    }
}
