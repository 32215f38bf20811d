//! `undercroft-audit verify`: what was found, for people and for programs.

use undercroft_audit::{Covered, Epoch, Known, Report, Scope, audit_as};
use undercroft_cli::{Failure, Terminal};
use undercroft_log::leaf::Kind;
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::{no_audit, size};

/// How many findings are printed for people.
const SHOWN: usize = 20;

pub(crate) fn verify(
    folder: &Folder,
    key: &VerifierKey,
    scope: Scope,
    known: &Known,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let passes = if scope == Scope::Tree { 1 } else { 2 };
    let progress = terminal.progress(passes * size(folder, key)?, "verify");
    let report =
        audit_as(folder, key, scope, known, |entries| progress.advance(entries)).map_err(no_audit)?;
    drop(progress);
    terminal.result(&report, || describe(&report, known))?;
    sound(&report)
}

/// A failure if there is a finding.
pub(crate) fn sound(report: &Report) -> Result<(), Failure> {
    match report.findings.first() {
        None => Ok(()),
        Some(first) => Err(Failure::tampered(match report.findings.len() {
            1 => format!("{}: {first}", report.origin),
            more => format!("{}: {first}; and {} more findings", report.origin, more - 1),
        })),
    }
}

fn describe(report: &Report, known: &Known) -> String {
    let mut text = format!("{}: {} entries, root {}\n", report.origin, report.size, report.root);
    if let (Some(first), Some(last)) = (report.first, report.last) {
        text += &format!("  from {first} to {last}\n");
    }
    for (name, time) in &report.witnesses {
        text += &format!("  cosigned by {name} at {time}\n");
    }
    if report.scope == Scope::Everything {
        text += &said(report);
    }
    text += &ledger(&report.ledger);
    for finding in report.findings.iter().take(SHOWN) {
        text += &format!("  BAD {finding}\n");
    }
    if report.findings.len() > SHOWN {
        text += &format!("  … and {} more\n", report.findings.len() - SHOWN);
    }
    if report.findings.is_empty() {
        text += match report.scope {
            Scope::Everything => "  Everything is as it must be.\n",
            Scope::Tree => {
                "  Every byte is what the checkpoint covers. What the entries say was not looked at.\n"
            }
        };
        if known.witnesses.is_none() && known.seen.is_empty() {
            text += "  Compared with nothing: whoever has the log's key could have signed another history. See --seen and --witness-policy.\n";
        }
    }
    text
}

/// What the entries say.
fn said(report: &Report) -> String {
    let count = |kind: Kind| report.kinds.get(&kind).copied().unwrap_or_default();
    let intents = &report.intents;
    let mut text = format!(
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
