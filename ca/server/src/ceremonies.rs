//! The transcripts of ceremonies that configuration names: their heads go into the control log, the roster that the newest
//! of them fixed is the one of this installation, and what their quorums have said of the roots of domains is taken from them.

use std::path::Path;

use jiff::Timestamp;
use undercroft_ca::approval::Roster;
use undercroft_ca::plan::Plan;
use undercroft_ca::service::KnownCeremony;
use undercroft_cli::Failure;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Digest, Leaf, TranscriptHead};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, TILE_WIDTH, leaf_hash};
use undercroft_log_files::Folder;

use crate::config::Config;

/// The ceremonies. Each transcript is whole, verified under the key that stands beside it,
/// and of the plan that configuration names.
///
/// # Errors
/// Status 5 where a transcript was changed; status 2 where it is of another plan, or where the persons in `[recovery]` are
/// not those of the newest ceremony that has a roster.
pub(crate) fn read(config: &Config) -> Result<Vec<KnownCeremony>, Failure> {
    let mut known = Vec::new();
    let mut newest: Option<(Timestamp, Roster, &Path)> = None;
    for ceremony in &config.ceremonies {
        let path = ceremony.transcript.as_path();
        let read = Transcript::read(path, ceremony.plan)
            .map_err(|failure| failure.during(format!("the transcript {}", path.display())))?;
        if let Some(roster) = read.roster
            && newest.as_ref().is_none_or(|(ended, _, _)| *ended < read.ended)
        {
            newest = Some((read.ended, roster, path));
        }
        known.push(read.known);
    }
    if let (Some(own), Some((_, fixed, path))) = (&config.recovery, &newest)
        && own.digest() != fixed.digest()
    {
        return Err(Failure::usage(format!(
            "[recovery] in the configuration is not the roster that the ceremony {} fixed ({}); write the same persons, keys and quorum, or have the roster changed in a ceremony",
            path.display(),
            fixed.changes(own).join("; ")
        )));
    }
    Ok(known)
}

struct Transcript {
    known: KnownCeremony,
    /// The roster of its plan.
    roster: Option<Roster>,
    /// When its last entry was written.
    ended: Timestamp,
}

impl Transcript {
    fn read(path: &Path, plan: Digest) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::tampered(what);
        let folder = Folder::new(path);
        let note = folder.checkpoint().map_err(|error| wrong(error.to_string()))?;
        let note = note.ok_or_else(|| Failure::usage("it has no checkpoint"))?;
        let key = undercroft_cli::read_text(&path.join("log.vkey"))?;
        let key: VerifierKey = key.trim_end().parse().map_err(|error| wrong(format!("its key: {error}")))?;
        let head = Checkpoint::open(&note, &key).map_err(|error| wrong(error.to_string()))?;
        let mut tree = GrowingTree::new();
        let (mut is_of_plan, mut ended) = (false, Timestamp::UNIX_EPOCH);
        let mut stated = Vec::new();
        for index in 0..head.size.div_ceil(TILE_WIDTH as u64) {
            for entry in folder.bundle(index, head.size).map_err(|error| wrong(error.to_string()))? {
                tree.push(leaf_hash(&entry));
                let leaf = Leaf::parse(&entry).map_err(|error| wrong(error.to_string()))?;
                ended = leaf.time;
                is_of_plan |= matches!(&leaf.body, Body::Ceremony(ceremony) if ceremony.plan == plan);
                if let Body::Approval(approval) = leaf.body
                    && approval.about.is_some()
                {
                    stated.push(approval);
                }
            }
        }
        if tree.root() != head.root {
            return Err(wrong("its entries are not those that its checkpoint covers".into()));
        }
        if !is_of_plan {
            return Err(Failure::usage(format!("it is of another plan than the one with digest {plan}")));
        }
        let text = folder.blob(plan).map_err(|error| wrong(error.to_string()))?;
        let text = text.ok_or_else(|| wrong(format!("the text of its plan, the blob {plan}, is missing")))?;
        let text = String::from_utf8(text).map_err(|error| wrong(error.to_string()))?;
        let parsed = Plan::parse("its plan", &text)?;
        let roster = parsed.terms().map(|terms| terms.roster.clone());
        let domains = parsed.roots().iter().flat_map(|root| root.domains().iter().cloned());
        let known = KnownCeremony {
            plan,
            transcript: TranscriptHead { verifier_key: key.to_string(), checkpoint: note },
            origin: key.name().to_string(),
            formal_for: domains.filter(|_| roster.is_some()).collect(),
            stated,
        };
        Ok(Self { known, roster, ended })
    }
}
