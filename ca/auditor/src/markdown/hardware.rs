//! What a report says of the TPM beneath a log.

use undercroft_audit::{Covered, Epoch, Population};

use super::{ROWS, and_more, table};

/// The ledger: how many epochs are accounted for, and why the others are not. Nothing if there is none.
pub(super) fn ledger(epochs: &[Epoch]) -> String {
    if epochs.is_empty() {
        return String::new();
    }
    let mut text = "\n## Ledger of the TPM\n\nIn a complete epoch the TPM did what stands in the log, and nothing else. Of any other nobody can tell.\n\n".to_owned();
    let of = |covered: fn(&Covered) -> bool| {
        epochs.iter().filter(|epoch| covered(&epoch.covered)).count().to_string()
    };
    let rows = [
        ["complete".to_owned(), of(|covered| *covered == Covered::Complete)],
        ["uncovered".to_owned(), of(|covered| matches!(covered, Covered::Uncovered { .. }))],
        ["open".to_owned(), of(|covered| *covered == Covered::Open)],
    ];
    text += &table(["", "epochs"], rows.into_iter());
    let uncovered: Vec<_> = epochs
        .iter()
        .filter_map(|epoch| match &epoch.covered {
            Covered::Uncovered { reason, hidden } => {
                let hidden = hidden.map_or("no gate bounds it".to_owned(), |hidden| hidden.to_string());
                Some([epoch.epoch.to_string(), epoch.commands.to_string(), reason.clone(), hidden])
            }
            _ => None,
        })
        .collect();
    let count = uncovered.len();
    if count > 0 {
        text.push('\n');
        let head = ["uncovered epoch", "commands in the log", "why", "hidden signatures at most"];
        text += &table(head, uncovered.into_iter().take(ROWS));
        text += and_more(count).trim_start_matches(", ");
        text.push('\n');
    }
    text
}

/// Anchors: the newest ones. Nothing if there is none.
pub(super) fn anchors(population: &Population) -> String {
    let anchors = &population.anchors;
    if anchors.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## Anchors\n\n{} in all, the newest first.\n\n", anchors.len());
    let rows = anchors.iter().rev().take(ROWS).map(|anchor| {
        [
            format!("{:#x}", anchor.counter),
            anchor.value.to_string(),
            anchor.head.to_string(),
            anchor.time.to_string(),
            anchor.index.to_string(),
        ]
    });
    text += &table(["counter", "value", "entries that it covers", "at", "entry"], rows);
    text += and_more(anchors.len()).trim_start_matches(", ");
    text
}
