//! Audits of logs.
//!
//! [`audit`] takes a folder with a log (an export, a mirror, a transcript of a ceremony) and the key that must have
//! signed it, and trusts neither the files nor the CA that wrote them. It goes through the log twice: [`structure`]
//! asks whether every byte is what the checkpoint covers, and which are not; [`meaning`] asks whether what the entries
//! say holds together.

pub mod ceremony;
mod known;
mod leftovers;
mod meaning;
mod ocsp;
mod parallel;
mod population;
mod proof;
mod reconcile;
mod report;
mod reverify;
mod sample;
mod structure;

use undercroft_log::checkpoint::{Checkpoint, CheckpointError};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::{Folder, FolderError};

pub use known::{Known, NotSeen, Seen};
pub use meaning::ledger::{Covered, Epoch};
pub use ocsp::{AskedFor, NoRequest, read_line};
pub use population::{
    AlertSeen, AnchorSeen, BundleSeen, CeremonySeen, ContinuedLog, DecidedBy, PolicySeen, Population,
    RecoverySeen, StartSeen,
};
pub use proof::{ProveError, prove};
pub use reconcile::{Fate, Register, Standing};
pub use report::{Finding, Intents, KeySeen, Report, Scope};
pub use reverify::{Rejudged, judge_again};
pub use sample::{Drawn, MOST, Sample};

/// Audits the log in `folder`. `advance` is told how many more entries have been gone through; there are twice as
/// many to go through as the log has.
///
/// # Errors
/// There is no log that could be audited. Whatever is wrong with one that can be is in the report.
pub fn audit(folder: &Folder, key: &VerifierKey, advance: impl FnMut(u64)) -> Result<Report, NoAudit> {
    audit_as(folder, key, Scope::Everything, &Known::default(), advance)
}

/// Audits as much of a log as `scope` says, and compares it with what is known besides. For [`Scope::Tree`] there are
/// as many entries to go through as the log has.
///
/// # Errors
/// As [`audit`].
pub fn audit_as(
    folder: &Folder,
    key: &VerifierKey,
    scope: Scope,
    known: &Known,
    advance: impl FnMut(u64),
) -> Result<Report, NoAudit> {
    go_through(folder, key, scope, known, None, advance)
}

/// Audits a log as [`audit_as`] does, and counts what stands in it. A sample of `sample.1` entries is drawn by the seed
/// `sample.0`. What is counted means nothing if there is a finding.
///
/// # Errors
/// As [`audit`].
pub fn take_stock(
    folder: &Folder,
    key: &VerifierKey,
    known: &Known,
    sample: Option<(&str, u64)>,
    advance: impl FnMut(u64),
) -> Result<(Report, Population), NoAudit> {
    let size = match folder.checkpoint()? {
        Some(note) => Checkpoint::open(&note, key)?.size,
        None => 0,
    };
    let mut population = Population::with(sample.map(|(seed, count)| Sample::draw(seed, count, size)));
    let report = go_through(folder, key, Scope::Everything, known, Some(&mut population), advance)?;
    Ok((report, population))
}

fn go_through(
    folder: &Folder,
    key: &VerifierKey,
    scope: Scope,
    known: &Known,
    population: Option<&mut Population>,
    mut advance: impl FnMut(u64),
) -> Result<Report, NoAudit> {
    let note =
        folder.checkpoint()?.ok_or_else(|| NoAudit::NoCheckpoint(folder.path().display().to_string()))?;
    let checkpoint = Checkpoint::open(&note, key)?;
    let files = leftovers::files(folder.path())?;
    // Whoever has the log's key can sign any size; what is gone through is bounded by what there is.
    if checkpoint.size.div_ceil(TILE_WIDTH as u64) > files.len() as u64 {
        return Err(NoAudit::TooFewFiles { size: checkpoint.size, files: files.len() });
    }
    let structure = structure::check(folder, &checkpoint, &known.sizes(), &mut advance)?;
    let everything = scope == Scope::Everything;
    let mut report = match scope {
        Scope::Tree => Report::of_tree(key, &checkpoint),
        Scope::Everything => {
            meaning::check(folder, key, &checkpoint, &structure.bad, &known.trust, population, &mut advance)?
        }
    };
    let (witnesses, too_few) = known.cosigned(&note);
    report.witnesses = witnesses;
    let of_log = too_few
        .into_iter()
        .chain(known.signed_twice(&note))
        .chain(known.compare(checkpoint.size, &structure.roots));
    report.findings.splice(0..0, of_log.chain(structure.findings));
    report.findings.extend(leftovers::check(folder, &files, key, &checkpoint, everything)?);
    Ok(report)
}

/// Why there is nothing to audit.
#[derive(Debug, thiserror::Error)]
pub enum NoAudit {
    /// A file cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No log.
    #[error("{0} holds no checkpoint, so it is no log")]
    NoCheckpoint(String),
    /// A checkpoint that the key has not signed.
    #[error("the checkpoint: {0} (checkpoint)")]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint that covers more than the folder could hold.
    #[error(
        "the checkpoint covers {size} entries, and the {files} files in the folder cannot hold as many (missing)"
    )]
    TooFewFiles {
        /// What the checkpoint covers.
        size: u64,
        /// How many files there are.
        files: usize,
    },
}
