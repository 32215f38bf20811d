//! `undercroft-audit reconcile`: certificates in files and folders, each against the log.

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
    let mut files = Vec::new();
    for place in places {
        list(place, &mut files)?;
    }
    let progress = terminal.progress(files.len() as u64, "reconcile");
    let mut met = Vec::new();
    for file in files {
        for (number, der) in certificates(&file)?.iter().enumerate() {
            met.push((file.clone(), number, register.look_up(der)));
        }
        progress.advance(1);
    }
    drop(progress);
    let values: Vec<Value> =
        met.iter().map(|(file, number, standing)| value(file, *number, standing)).collect();
    terminal.result(&values, || {
        met.iter().map(|(file, number, standing)| line(file, *number, standing)).collect()
    })?;
    let alarms = met.iter().filter(|(_, _, standing)| standing.is_an_alarm()).count();
    match alarms {
        0 => Ok(()),
        _ => Err(Failure::tampered(format!(
            "{alarms} of {} certificates were signed past the log {}: its keys were used by somebody else, or this is not its newest export",
            met.len(),
            key.name()
        ))),
    }
}

/// Files below a folder, or the file itself. Links are not followed.
fn list(place: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", place.display()));
    if !fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        files.push(place.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(place).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| list(path, files))
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

fn value(file: &Path, number: usize, standing: &Standing) -> Value {
    let mut value = match standing {
        Standing::Logged { index, caller, fate: became } => {
            json!({ "standing": "logged", "index": index, "caller": caller, "outcome": fate(*became) })
        }
        Standing::Unlogged { key } => json!({ "standing": "unlogged", "key-id": key.to_string() }),
        Standing::Foreign => json!({ "standing": "foreign" }),
    };
    value["file"] = json!(file);
    value["certificate"] = json!(number);
    value["alarm"] = json!(standing.is_an_alarm());
    value
}

fn line(file: &Path, number: usize, standing: &Standing) -> String {
    let told = match standing {
        Standing::Logged { index, caller, fate: Fate::Signed } => format!("entry {index}, for {caller}"),
        Standing::Logged { index, caller, fate: Fate::Open } => {
            format!("entry {index}, for {caller}; its outcome was not in the log yet")
        }
        Standing::Logged { index, caller, fate: Fate::Abandoned } => {
            format!("ALARM: entry {index}, for {caller}, was abandoned, and it is signed all the same")
        }
        Standing::Unlogged { key } => format!("ALARM: signed by the key {key} of this log, and not in it"),
        Standing::Foreign => "not signed by a key of this log".to_owned(),
    };
    format!("{} #{}: {told}\n", file.display(), number + 1)
}
