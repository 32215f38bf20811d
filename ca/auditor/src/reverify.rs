//! Verdicts on nodes, judged again from what the log keeps of them.

use jiff::Timestamp;
use serde::Serialize;
use undercroft_ca::nodes::{Difference, reverify};
use undercroft_log::leaf::{BlobOf, Body, Leaf, Verdict, VerdictResult};
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::{Folder, FolderError};

use crate::parallel::each;

/// A verdict, and what comes out differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rejudged {
    /// Its entry.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
    /// What the entry says: `accepted` or `refused`.
    pub said: &'static str,
    /// Who it is, or the rule that was broken.
    pub of: String,
    /// What comes out differently; nothing if all is well.
    pub differences: Vec<Difference>,
}

/// Judges verdicts of a log of `size` entries again: those of `only`, or all if that is empty. `advance` is told how many
/// more entries have been gone through. The log must have been verified.
///
/// # Errors
/// A file cannot be read.
pub fn judge_again(
    folder: &Folder,
    size: u64,
    only: &[u64],
    advance: impl Fn(u64),
) -> Result<Vec<Rejudged>, FolderError> {
    let width = TILE_WIDTH as u64;
    let mut judged = Vec::new();
    for bundle in 0..size.div_ceil(width) {
        let entries = folder.bundle(bundle, size)?;
        let read = entries.len() as u64;
        let leaves =
            entries.iter().zip(bundle * width..).filter(|(_, index)| only.is_empty() || only.contains(index));
        let verdicts: Vec<_> = leaves
            .filter_map(|(entry, index)| {
                let leaf = Leaf::parse(entry).ok()?;
                let Body::Verdict(verdict) = leaf.body else { return None };
                Some((index, leaf.time, verdict))
            })
            .collect();
        judged.extend(each(&verdicts, |(index, at, verdict)| of_entry(folder, *index, *at, verdict)));
        advance(read);
    }
    Ok(judged)
}

fn of_entry(folder: &Folder, entry: u64, at: Timestamp, verdict: &Verdict) -> Rejudged {
    let (said, of) = match &verdict.result {
        VerdictResult::Accepted(accepted) => ("accepted", accepted.spiffe_id.clone()),
        VerdictResult::Refused(refused) => ("refused", refused.code.clone()),
    };
    let blob = |rule, of: &BlobOf| match folder.blob(of.sha256) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Difference { rule, what: format!("the blob {} is not there", of.sha256) }),
        Err(error) => Err(Difference { rule, what: error.to_string() }),
    };
    let blobs = (blob("evidence-blob", &verdict.evidence), blob("policy-blob", &verdict.policy));
    let differences = match blobs {
        (Ok(evidence), Ok(policy)) => reverify(verdict, at, &evidence, &policy),
        (evidence, policy) => evidence.err().into_iter().chain(policy.err()).collect(),
    };
    Rejudged { entry, at, said, of, differences }
}
