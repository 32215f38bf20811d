//! The verdicts of an exported log, with what they were judged by.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::Timestamp;
use undercroft_ca::nodes::{Appraised, NodePolicy, Refused, judge};
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{BlobOf, Body, Digest, Leaf, Verdict, VerdictResult};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};
use undercroft_log_files::{Folder, FolderError};

/// Where the evidence is.
#[derive(Debug, clap::Args)]
pub(super) struct EvidenceArgs {
    /// The folder with an export of the domain's log (`undercroft log export`).
    #[arg(long)]
    from: PathBuf,
    /// The key (vkey) that must have signed it.
    #[arg(long)]
    log_key: PathBuf,
    /// Evidence from this time on alone (RFC 3339).
    #[arg(long)]
    since: Option<Timestamp>,
}

/// A log whose entries are those of its signed checkpoint.
pub(super) struct Verdicts {
    /// The origin of the log.
    pub(super) origin: String,
    /// In the order of the log.
    pub(super) verdicts: Vec<Judged>,
    folder: Folder,
    policies: HashMap<Digest, Rc<NodePolicy>>,
}

/// A verdict.
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) entry: u64,
    pub(super) at: Timestamp,
    pub(super) verdict: Verdict,
}

impl EvidenceArgs {
    pub(super) fn read(&self, terminal: &Terminal) -> Result<Verdicts, Failure> {
        let text = read_text(&self.log_key)?;
        let key: VerifierKey = text
            .trim_end()
            .parse()
            .map_err(|error| Failure::usage(format!("{}: {error}", self.log_key.display())))?;
        let folder = Folder::new(&self.from);
        let note = folder.checkpoint().map_err(told)?.ok_or_else(|| {
            Failure::usage(format!(
                "{}: there is no checkpoint; it is no export of a log",
                self.from.display()
            ))
        })?;
        let tampered = |what: String| Failure::tampered(format!("{}: {what}", self.from.display()));
        let checkpoint = Checkpoint::open(&note, &key).map_err(|error| tampered(error.to_string()))?;
        let progress = terminal.progress(checkpoint.size, "read");
        let (mut tree, mut verdicts) = (GrowingTree::new(), Vec::new());
        for bundle in 0..checkpoint.size.div_ceil(TILE_WIDTH as u64) {
            let entries = folder.bundle(bundle, checkpoint.size).map_err(told)?;
            for entry in &entries {
                let index = tree.size();
                tree.push(leaf_hash(entry));
                let Ok(Leaf { time, body: Body::Verdict(verdict), .. }) = Leaf::parse(entry) else {
                    continue;
                };
                if self.since.is_none_or(|since| time >= since) {
                    verdicts.push(Judged { entry: index, at: time, verdict });
                }
            }
            progress.advance(entries.len() as u64);
        }
        if tree.root() != checkpoint.root {
            return Err(tampered("its entries are not those of its checkpoint".to_owned()));
        }
        let origin = key.name().to_string();
        Ok(Verdicts { origin, verdicts, folder, policies: HashMap::new() })
    }
}

impl Verdicts {
    fn blob(&self, entry: u64, of: &BlobOf) -> Result<Vec<u8>, Failure> {
        let blob = self.folder.blob(of.sha256).map_err(told)?;
        blob.ok_or_else(|| {
            Failure::usage(format!("entry {entry}: the blob {} is missing; export the log again", of.sha256))
        })
    }

    /// The evidence of a verdict.
    pub(super) fn evidence(&self, judged: &Judged) -> Result<Vec<u8>, Failure> {
        self.blob(judged.entry, &judged.verdict.evidence)
    }

    /// Judges it again by the policy of then.
    pub(super) fn again(&mut self, judged: &Judged) -> Result<Result<Appraised, Refused>, Failure> {
        let digest = judged.verdict.policy.sha256;
        let policy = match self.policies.get(&digest) {
            Some(policy) => Rc::clone(policy),
            None => {
                let bundle = self.blob(judged.entry, &judged.verdict.policy)?;
                let policy = NodePolicy::from_bundle(&bundle).map_err(|error| {
                    Failure::tampered(format!("entry {}: its policy {digest}: {error}", judged.entry))
                })?;
                let policy = Rc::new(policy);
                self.policies.insert(digest, Rc::clone(&policy));
                policy
            }
        };
        Ok(judge(&self.evidence(judged)?, &policy, judged.at))
    }
}

impl Judged {
    /// What the entry says, in a word, and who or why.
    pub(super) fn said(&self) -> (&'static str, &str) {
        match &self.verdict.result {
            VerdictResult::Accepted(accepted) => ("accepted", &accepted.spiffe_id),
            VerdictResult::Refused(refused) => ("refused", &refused.code),
        }
    }
}

/// Reads a policy with the files beside it.
pub(super) fn read_policy(path: &Path) -> Result<NodePolicy, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = read_text(path)?;
    let file = |name: &str| std::fs::read(folder.join(name)).map_err(|error| error.to_string());
    NodePolicy::parse(&path.display().to_string(), &text, file)
        .map_err(|error| Failure::usage(error.to_string()))
}

fn told(error: FolderError) -> Failure {
    match error {
        FolderError::Io { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::tampered(error.to_string()),
    }
}
