//! `undercroft-audit reconcile`: certificates in files and folders, and what OCSP responders were asked for, each against
//! the log.

mod asked;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use undercroft_audit::{Fate, Register, Standing, audit};
use undercroft_ca::certificate::certificates_from_pem;
use undercroft_cli::{Failure, Terminal};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::{Folder, read_plain};

use crate::{no_audit, size, unread};

/// The most bytes of a file with certificates.
const MAX_FILE: u64 = 64 * 1024 * 1024;

pub(crate) fn reconcile(
    folder: &Folder,
    key: &VerifierKey,
    places: &[PathBuf],
    logs: &[PathBuf],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let progress = terminal.progress(2 * size(folder, key)?, "verify");
    let report = audit(folder, key, |entries| progress.advance(entries)).map_err(no_audit)?;
    drop(progress);
    if let Some(finding) = report.findings.first() {
        return Err(Failure::tampered(format!(
            "{}: {finding}; a log that is not whole reconciles nothing: see undercroft-audit verify",
            report.origin
        )));
    }
    let register = Register::read(folder, key).map_err(no_audit)?;
    let mut met = Vec::new();
    let files = list(places)?;
    let progress = terminal.progress(files.len() as u64, "reconcile");
    for file in files {
        for (number, der) in certificates(&file)?.iter().enumerate() {
            met.push(Met::Certificate { file: file.clone(), number, standing: register.look_up(der) });
        }
        progress.advance(1);
    }
    drop(progress);
    asked::read(&list(logs)?, &register, &mut met, terminal)?;
    let values: Vec<Value> = met.iter().map(Met::value).collect();
    terminal.result(&values, || met.iter().map(Met::line).collect())?;
    let alarms = |of: fn(&Met) -> bool| met.iter().filter(|met| met.is_an_alarm() && of(met)).count();
    let signed = alarms(|met| matches!(met, Met::Certificate { .. }));
    let asked = alarms(|met| !matches!(met, Met::Certificate { .. }));
    let advice = "its keys were used by somebody else, or this is not its newest export";
    match (signed, asked) {
        (0, 0) => Ok(()),
        (0, asked) => Err(Failure::tampered(format!(
            "{asked} requests are for certificates that the log {} does not hold: find them, since {advice}, or somebody asks for what there is not",
            key.name()
        ))),
        (signed, asked) => Err(Failure::tampered(format!(
            "{signed} of {} certificates were signed past the log {}, and {asked} more were asked for: {advice}",
            met.iter().filter(|met| matches!(met, Met::Certificate { .. })).count(),
            key.name()
        ))),
    }
}

/// Something that was met, and what the log says of it.
enum Met {
    /// A certificate.
    Certificate { file: PathBuf, number: usize, standing: Standing },
    /// A request for the status of one. `line` is 0 for a file that is one request.
    Asked { file: PathBuf, line: usize, serial: String, standing: Standing },
    /// A line or a file of requests that holds none.
    Unread { file: PathBuf, line: usize, why: String },
}

impl Met {
    fn is_an_alarm(&self) -> bool {
        match self {
            Self::Certificate { standing, .. } | Self::Asked { standing, .. } => standing.is_an_alarm(),
            Self::Unread { .. } => false,
        }
    }
}

/// Files, and those below folders. Links are not followed.
fn list(places: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    places.iter().try_for_each(|place| walk(place, &mut files))?;
    Ok(files)
}

/// Files below a folder, or the file itself. Links are not followed.
fn walk(place: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", place.display()));
    if !fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        files.push(place.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(place).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| walk(path, files))
}

/// The certificates in a file: PEM or DER. A file that holds none is passed over, since folders hold other things.
fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = read_plain(file, MAX_FILE).map_err(|error| unread(&error))?.unwrap_or_default();
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
            certificates_from_pem(text).map_err(|error| Failure::from(error).during(file.display()))
        }
        Ok(_) => Ok(Vec::new()),
        Err(_) => Ok(vec![bytes]),
    }
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Signed => "signed",
        Fate::Abandoned => "abandoned",
        Fate::Open => "open",
    }
}

impl Met {
    fn value(&self) -> Value {
        let (file, mut value) = match self {
            Self::Certificate { file, number, standing } => {
                let mut value = told(standing);
                value["certificate"] = json!(number);
                (file, value)
            }
            Self::Asked { file, line, serial, standing } => {
                let mut value = told(standing);
                (value["line"], value["serial"]) = (json!(line), json!(serial));
                (file, value)
            }
            Self::Unread { file, line, why } => {
                (file, json!({ "standing": "unread", "line": line, "why": why }))
            }
        };
        value["file"] = json!(file);
        value["alarm"] = json!(self.is_an_alarm());
        value
    }

    fn line(&self) -> String {
        match self {
            Self::Certificate { file, number, standing } => {
                let told = match standing {
                    Standing::Unlogged { key } => {
                        format!("ALARM: signed by the key {key} of this log, and not in it")
                    }
                    Standing::Logged { index, caller, fate: Fate::Abandoned } => {
                        format!(
                            "ALARM: entry {index}, for {caller}, was abandoned, and it is signed all the same"
                        )
                    }
                    Standing::Foreign => "not signed by a key of this log".to_owned(),
                    Standing::Logged { index, caller, fate } => logged(*index, caller, *fate),
                };
                format!("{} #{}: {told}\n", file.display(), number + 1)
            }
            Self::Asked { file, line, serial, standing } => {
                let told = match standing {
                    Standing::Unlogged { key } => {
                        format!("ALARM: asked for as issued by the key {key} of this log, and not in it")
                    }
                    Standing::Logged { index, caller, fate: Fate::Abandoned } => {
                        format!("ALARM: entry {index}, for {caller}, was abandoned, and somebody asks for it")
                    }
                    Standing::Foreign => "of no issuer of this log".to_owned(),
                    Standing::Logged { index, caller, fate } => logged(*index, caller, *fate),
                };
                format!("{}:{line}: serial {serial}: {told}\n", file.display())
            }
            Self::Unread { file, line, why } => format!("{}:{line}: not read: {why}\n", file.display()),
        }
    }
}

fn told(standing: &Standing) -> Value {
    match standing {
        Standing::Logged { index, caller, fate: became } => {
            json!({ "standing": "logged", "index": index, "caller": caller, "outcome": fate(*became) })
        }
        Standing::Unlogged { key } => json!({ "standing": "unlogged", "key-id": key.to_string() }),
        Standing::Foreign => json!({ "standing": "foreign" }),
    }
}

fn logged(index: u64, caller: &str, fate: Fate) -> String {
    match fate {
        Fate::Open => format!("entry {index}, for {caller}; its outcome was not in the log yet"),
        Fate::Signed | Fate::Abandoned => format!("entry {index}, for {caller}"),
    }
}
