//! `undercroft keys reconcile`: what a provider of keys has logged of their use, against the intents of a log.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use undercroft_ca::provider_log::cloudtrail::CloudTrail;
use undercroft_ca::provider_log::{Comparison, KeyComparison, Signed, Uses};
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};
use undercroft_log_files::{Folder, FolderError, read_plain};

/// The most bytes of a file of the provider's.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Arguments of `keys reconcile`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct ReconcileArgs {
    /// The folder with an export of the log: the one that holds `checkpoint`.
    log: PathBuf,
    /// The key (vkey) that must have signed the log.
    #[arg(long)]
    key: PathBuf,
    /// Log files of CloudTrail, not compressed, and folders of such files.
    #[arg(required = true)]
    cloudtrail: Vec<PathBuf>,
    /// How many seconds the clocks of the CA and of the provider may be apart.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    allowance: u32,
}

impl ReconcileArgs {
    pub(in crate::commands) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let key: VerifierKey = read_text(&self.key)?
            .trim_end()
            .parse()
            .map_err(|error| Failure::usage(format!("{}: {error}", self.key.display())))?;
        let uses = uses(&Folder::new(&self.log), &key, terminal)?;
        let mut trail = CloudTrail::default();
        for file in files(&self.cloudtrail)? {
            let bytes = read_plain(&file, MAX_FILE).map_err(|error| unread(&error))?.unwrap_or_default();
            trail.read(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        }
        let trail = trail.finish();
        let comparison = uses.compare(&trail, SignedDuration::from_secs(self.allowance.into()));
        if comparison.keys.is_empty() {
            return Err(Failure::usage(format!(
                "the log {} knows no key of AWS KMS, so that there is nothing to compare",
                key.name()
            )));
        }
        terminal.result(&comparison, || told(&comparison))?;
        match comparison.alarms() {
            0 => Ok(()),
            alarms => Err(Failure::tampered(format!(
                "{alarms} uses of keys are not what the log {} says: somebody else may use them (`undercroft keys show` names who may), or the export or CloudTrail's files are not whole",
                key.name()
            ))),
        }
    }
}

/// What the log says of its keys, if every entry is under its signed head.
fn uses(folder: &Folder, key: &VerifierKey, terminal: &Terminal) -> Result<Uses, Failure> {
    let note = folder.checkpoint().map_err(|error| unread(&error))?;
    let note = note.ok_or_else(|| {
        Failure::usage(format!("{} holds no checkpoint; export the log first", folder.path().display()))
    })?;
    let head = Checkpoint::open(&note, key)
        .map_err(|error| Failure::tampered(format!("{}: {error}", folder.path().display())))?;
    let (mut uses, mut tree) = (Uses::default(), GrowingTree::new());
    let progress = terminal.progress(head.size, "read");
    for bundle in 0..head.size.div_ceil(TILE_WIDTH as u64) {
        for entry in folder.bundle(bundle, head.size).map_err(|error| unread(&error))? {
            tree.push(leaf_hash(&entry));
            let leaf = Leaf::parse(&entry).map_err(|error| {
                Failure::tampered(format!("{}: entry {}: {error}", head.origin, tree.size() - 1))
            })?;
            // `folder.blob` gives what has the digest that the entry names, or nothing.
            let blob = match &leaf.body {
                Body::Key(_) => leaf.body.blob().map(|(sha256, _)| folder.blob(sha256)).transpose(),
                _ => Ok(None),
            };
            uses.enter(&leaf, blob.map_err(|error| unread(&error))?.flatten().as_deref());
            progress.advance(1);
        }
    }
    if (tree.size(), tree.root()) != (head.size, head.root) {
        return Err(Failure::tampered(format!(
            "{}: the entries are not those under the signed head: see undercroft-audit verify",
            head.origin
        )));
    }
    Ok(uses)
}

/// Files, and those in folders. Links are not followed.
fn files(places: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    places.iter().try_for_each(|place| walk(place, &mut files))?;
    Ok(files)
}

fn walk(place: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", place.display()));
    if !std::fs::symlink_metadata(place).map_err(failed)?.is_dir() {
        files.push(place.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(place).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| walk(path, files))
}

fn told(comparison: &Comparison) -> String {
    let mut text: String = comparison.keys.iter().map(of_key).collect();
    for signed in &comparison.unattributed {
        text.push_str(&format!("by a key that CloudTrail does not name: {}\n", event(signed)));
    }
    if comparison.of_other_keys > 0 {
        text.push_str(&format!(
            "{} signatures by keys that are none of this log's\n",
            comparison.of_other_keys
        ));
    }
    if comparison.refused > 0 {
        text.push_str(&format!("{} calls that AWS refused\n", comparison.refused));
    }
    text
}

fn of_key(found: &KeyComparison) -> String {
    let KeyComparison { key, arns, signed, accounted, request, unaccounted, unseen } = found;
    let mut text = format!("{key} ({}): {signed} signatures, {accounted} with an intent\n", arns.join(", "));
    if let Some(signed) = request {
        text.push_str(&format!(
            "  older than what the log knows of the key, so its CSR: {}\n",
            event(signed)
        ));
    }
    for signed in unaccounted {
        text.push_str(&format!("  WITHOUT AN INTENT: {}\n", event(signed)));
    }
    for intent in unseen {
        text.push_str(&format!("  NOT IN CLOUDTRAIL: the signature of the intent {intent}\n"));
    }
    text
}

fn event(signed: &Signed) -> String {
    format!("{} at {} by {}", signed.event, signed.time, signed.by)
}

fn unread(error: &FolderError) -> Failure {
    match error {
        FolderError::Io { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::tampered(error.to_string()),
    }
}
