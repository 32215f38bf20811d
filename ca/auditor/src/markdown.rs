//! `undercroft-audit report`: what stands in a log, as a compliance auditor hands it on.

mod hardware;

use std::collections::BTreeMap;

use serde_json::json;
use undercroft_audit::{Known, Population, Report, take_stock};
use undercroft_cli::{Failure, Terminal};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::{no_audit, size};

/// How many rows a table of callers, open intents or abandoned ones has. With `--output json` there are all.
const ROWS: usize = 50;

pub(crate) fn report(
    folder: &Folder,
    key: &VerifierKey,
    known: &Known,
    sample: Option<(&str, u64)>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let progress = terminal.progress(2 * size(folder, key)?, "report");
    let taken = take_stock(folder, key, known, sample, |entries| progress.advance(entries));
    drop(progress);
    let (report, population) = taken.map_err(no_audit)?;
    if let Some(finding) = report.findings.first() {
        return Err(Failure::tampered(format!(
            "{}: {finding}; nothing is reported of a log that does not verify: see undercroft-audit verify",
            report.origin
        )));
    }
    let value = json!({
        "log": &report,
        "population": &population,
        "retention": { "minimum-index": 0, "oldest": report.first, "newest": report.last },
        "compared-with": { "witness-policy": known.witnesses.is_some(), "checkpoints-seen": known.seen.len() },
    });
    terminal.result(&value, || write(&report, &population, known))
}

fn write(report: &Report, population: &Population, known: &Known) -> String {
    let mut text = head(report, known);
    text += "\n## Population\n\nThe size of the log is its population: every entry was read, and its hash leads to the root above.\n\n";
    let kinds = report.kinds.iter().map(|(kind, count)| [kind.to_string(), count.to_string()]);
    text += &table(["kind", "entries"], kinds);
    let intents = &report.intents;
    text += &format!(
        "\n{} intents count as issued: {} signed by the key that they name, {} abandoned, {} open.\n",
        population.intents(),
        intents.signed,
        intents.abandoned,
        intents.open
    );
    for (name, indexes) in [("Open", &population.open), ("Abandoned", &population.abandoned)] {
        if !indexes.is_empty() {
            let shown: Vec<_> = indexes.iter().take(ROWS).map(u64::to_string).collect();
            text += &format!("\n{name} intents: {}{}\n", shown.join(", "), and_more(indexes.len()));
        }
    }
    text += "\n## Issuance\n\n";
    for (what, counts) in
        [("profile", &population.profiles), ("rule", &population.rules), ("caller", &population.callers)]
    {
        text += &counted(what, "intents", counts);
    }
    text += "## Refusals\n\n";
    text += &counted("rule", "refusals", &population.refusals);
    text += "## Keys and custody\n\nGrades are judged again from the evidence in the log.\n\n";
    let keys = report.keys.iter().map(|key| {
        let uses = population.uses.get(&key.key_id).copied().unwrap_or_default();
        [key.key_id.clone(), key.purpose.clone(), key.grade.to_string(), uses.to_string()]
    });
    text += &table(["key id", "purpose", "custody", "intents"], keys);
    text += &policies(population);
    text += &hardware::ledger(&report.ledger);
    text += &hardware::anchors(population);
    text += &events(population);
    text += &sample(population);
    text
}

fn head(report: &Report, known: &Known) -> String {
    let mut text = format!(
        "# Audit report: {}\n\nVerified as it was read: every byte, and what the entries say of each other.\n\n",
        cell(&report.origin)
    );
    let time = |time: Option<jiff::Timestamp>| time.map_or("none".to_owned(), |time| time.to_string());
    let rows = [
        ["entries".to_owned(), report.size.to_string()],
        ["root".to_owned(), report.root.clone()],
        ["period".to_owned(), format!("{} to {}", time(report.first), time(report.last))],
        ["retention".to_owned(), format!("minimum index 0, oldest entry of {}", time(report.first))],
    ];
    text += &table(["", ""], rows.into_iter());
    text += "\nThe checkpoint is signed by the log's key";
    match known.witnesses {
        Some(_) => {
            text += ", and cosigned as the policy demands:\n\n";
            let rows = report.witnesses.iter().map(|(name, time)| [name.clone(), time.to_string()]);
            text += &table(["witness", "at"], rows);
        }
        None => text += ". Cosignatures were not asked for (--witness-policy).\n",
    }
    text += &match known.seen.len() {
        0 => "\nIt was compared with no checkpoint that was seen before (--seen).\n".to_owned(),
        seen => format!("\nIt has grown from {seen} checkpoints that were seen before.\n"),
    };
    text
}

fn policies(population: &Population) -> String {
    let mut text = "\n## Policies\n\n".to_owned();
    if !population.policies.is_empty() {
        let rows = population.policies.iter().map(|policy| {
            let until = policy.until.map_or("the end".to_owned(), |until| until.to_string());
            [policy.sha256.to_string(), policy.from.to_string(), until, policy.index.to_string()]
        });
        text += &table(["in force (SHA-256)", "from", "until", "entry"], rows);
        text.push('\n');
    }
    let rows = population.decided_by.iter().map(|(policy, by)| {
        [policy.clone(), by.first.to_string(), by.last.to_string(), by.decisions.to_string()]
    });
    text + &table(["decided by (SHA-256)", "first", "last", "decisions"], rows)
}

fn events(population: &Population) -> String {
    let mut text = "\n## Bundles\n\n".to_owned();
    let bundles = population.bundles.iter().map(|bundle| {
        let roots: Vec<_> = bundle.roots.iter().map(ToString::to_string).collect();
        [bundle.domain.clone(), bundle.sequence.to_string(), bundle.time.to_string(), roots.join(" ")]
    });
    text += &table(["domain", "number", "published", "roots (SHA-256)"], bundles);
    text += "\n## Ceremonies\n\n";
    let ceremonies = population.ceremonies.iter().map(|ceremony| {
        let event = json!(ceremony.event).as_str().unwrap_or_default().to_owned();
        [event, ceremony.time.to_string(), ceremony.plan.to_string(), ceremony.text.clone()]
    });
    text += &table(["event", "at", "plan (SHA-256)", ""], ceremonies);
    text += "\n## Starts\n\n";
    let starts = population.starts.iter().map(|start| {
        let development = if start.development { "yes" } else { "no" };
        [
            start.time.to_string(),
            start.version.clone(),
            start.configuration.to_string(),
            development.to_owned(),
        ]
    });
    text += &table(["at", "version", "configuration (SHA-256)", "development mode"], starts);
    text += "\n## Alerts\n\n";
    let alerts = population.alerts.iter().map(|alert| {
        let event = json!(alert.event).as_str().unwrap_or_default().to_owned();
        [event, alert.time.to_string(), alert.index.to_string(), alert.rule.clone(), alert.text.clone()]
    });
    text += &table(["event", "at", "entry", "rule", ""], alerts);
    text + &recoveries(population)
}

/// What was lost and how the log went on; nothing in logs that lost nothing and continue no other.
fn recoveries(population: &Population) -> String {
    let mut text = String::new();
    if !population.recoveries.is_empty() {
        text += "\n## Recoveries\n\nSignatures under the statements are not verified here.\n\n";
        let rows = population.recoveries.iter().map(|recovery| {
            let way = json!(recovery.way).as_str().unwrap_or_default().to_owned();
            let (statement, approvals) = (recovery.statement.to_string(), recovery.approvals.to_string());
            [way, recovery.time.to_string(), recovery.index.to_string(), statement, approvals]
        });
        text += &table(["way", "at", "entry", "statement (SHA-256)", "signatures"], rows);
    }
    if let Some(continued) = &population.continues {
        let size = continued.checkpoint.lines().nth(1).unwrap_or_default();
        text += &format!(
            "\n## The log before\n\nThis log continues the one of the key {}, from its checkpoint over {} entries.\n",
            cell(&continued.key),
            cell(size)
        );
    }
    text
}

fn sample(population: &Population) -> String {
    let Some(sample) = &population.sample else { return String::new() };
    let mut text = format!(
        "\n## Sample\n\nDrawn by the seed \"{}\": entry SHA-256(seed ‖ i) mod size, for i from 0 on.\n\n",
        cell(&sample.seed)
    );
    let rows = sample.entries.iter().map(|entry| {
        let kind = entry.kind.map(|kind| kind.to_string()).unwrap_or_default();
        [entry.index.to_string(), kind, entry.hash.clone()]
    });
    text += &table(["entry", "kind", "leaf hash"], rows);
    text
}

/// A table of counts, the largest first.
fn counted(what: &str, of: &str, counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows = sorted.iter().take(ROWS).map(|(name, count)| [(*name).clone(), count.to_string()]);
    let text = table([what, of], rows);
    match counts.len() {
        ..=ROWS => format!("{text}\n"),
        more => format!("{text}\n{}\n", and_more(more).trim_start_matches(", ")),
    }
}

fn and_more(count: usize) -> String {
    if count > ROWS { format!(", and {} more (--output json has all)", count - ROWS) } else { String::new() }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(N));
    let before = text.len();
    for row in rows {
        text += &format!("| {} |\n", row.map(|value| cell(&value)).join(" | "));
    }
    if text.len() == before { "None.\n".to_owned() } else { text }
}

/// Text that strangers may have written, so that it is nothing but text in Markdown, and stays in its cell.
fn cell(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "\\`*_[]<>|#&!".contains(c) {
            escaped.push('\\');
        }
        escaped.push(if c.is_control() { ' ' } else { c });
    }
    escaped
}
