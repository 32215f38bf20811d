//! `undercroft-audit reverify`: every verdict on a node, judged again at the time of its entry.

use serde_json::json;
use undercroft_audit::{Known, Scope, audit_as, judge_again};
use undercroft_cli::{Failure, Terminal};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::verify::sound;
use crate::{no_audit, size, unread};

/// How many verdicts that differ are printed for people.
const SHOWN: usize = 20;

pub(crate) fn reverify(
    folder: &Folder,
    key: &VerifierKey,
    known: &Known,
    only: &[u64],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let entries = size(folder, key)?;
    if let Some(beyond) = only.iter().find(|index| **index >= entries) {
        return Err(Failure::usage(format!(
            "there is no entry {beyond}: the checkpoint covers {entries} entries, from 0"
        )));
    }
    // What is not what the checkpoint covers is nobody's verdict.
    let progress = terminal.progress(2 * entries, "reverify");
    let report =
        audit_as(folder, key, Scope::Tree, known, |read| progress.advance(read)).map_err(no_audit)?;
    sound(&report)?;
    let judged =
        judge_again(folder, entries, only, |read| progress.advance(read)).map_err(|error| unread(&error))?;
    drop(progress);
    if let Some(index) = only.iter().find(|index| !judged.iter().any(|one| one.entry == **index)) {
        return Err(Failure::usage(format!(
            "entry {index} is no verdict; see `undercroft-audit show --kind verdict`"
        )));
    }
    let wrong: Vec<_> = judged.iter().filter(|one| !one.differences.is_empty()).collect();
    let value =
        json!({ "log": report.origin, "verdicts": judged.len(), "differing": wrong.len(), "judged": judged });
    terminal.result(&value, || {
        let mut text =
            format!("{}: {} verdicts judged again, {} differ\n", report.origin, judged.len(), wrong.len());
        for one in wrong.iter().take(SHOWN) {
            for difference in &one.differences {
                text += &format!("  BAD entry {}: {} ({})\n", one.entry, difference.what, difference.rule);
            }
        }
        if wrong.len() > SHOWN {
            text += &format!("  … and {} more\n", wrong.len() - SHOWN);
        }
        text
    })?;
    match wrong.first().and_then(|one| Some((one.entry, one.differences.first()?))) {
        None => Ok(()),
        Some((entry, difference)) => Err(Failure::tampered(format!(
            "{}: entry {entry}: {} ({}); {} of {} verdicts do not come out again",
            report.origin,
            difference.what,
            difference.rule,
            wrong.len(),
            judged.len()
        ))),
    }
}
