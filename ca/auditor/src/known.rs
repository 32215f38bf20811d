//! What an auditor knows besides the log and its key.
//!
//! Whoever has stolen the key of a log can sign another one: shorter, or rewritten, and sound in itself. Only what the
//! thief does not have shows that: cosignatures of witnesses, and checkpoints that somebody kept, be it an auditor or
//! the owner of a certificate, whose `.tlog-proof` holds one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use undercroft_attestors::trust::Trust;
use undercroft_log::checkpoint::{Checkpoint, CheckpointError};
use undercroft_log::note::{Note, VerifierKey};
use undercroft_log::proof::{TlogProof, TlogProofError};
use undercroft_log::second_key::SecondKey;
use undercroft_log::tree::Hash;
use undercroft_log::witnesses::WitnessPolicy;

use crate::report::Finding;

/// What an auditor knows besides the log and its key.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Whose cosignatures the checkpoint needs.
    pub witnesses: Option<WitnessPolicy>,
    /// The log's second key, whose line the checkpoint needs, too.
    pub second_key: Option<SecondKey>,
    /// Checkpoints of the log that were seen before, or elsewhere.
    pub seen: Vec<Seen>,
    /// Who is believed about TPMs. Nobody, unless the auditor says so: then nothing is proven, and nothing is held
    /// against an entry that says that its key is.
    pub trust: Trust,
}

/// A checkpoint that the log's key has signed, and where the auditor has it from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    from: String,
    checkpoint: Checkpoint,
}

impl Seen {
    /// Reads a checkpoint, or a `.tlog-proof` for the checkpoint in it.
    ///
    /// # Errors
    /// It is neither, or the key has not signed it.
    pub fn read(from: impl Into<String>, text: &str, key: &VerifierKey) -> Result<Self, NotSeen> {
        let checkpoint = match text.starts_with("c2sp.org/tlog-proof@") {
            true => Checkpoint::open(&text.parse::<TlogProof>()?.checkpoint, key)?,
            false => Checkpoint::open(text, key)?,
        };
        Ok(Self { from: from.into(), checkpoint })
    }

    /// How many entries it covers.
    pub(crate) fn size(&self) -> u64 {
        self.checkpoint.size
    }
}

/// Why something is no checkpoint that a log could be compared with.
#[derive(Debug, thiserror::Error)]
pub enum NotSeen {
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A proof.
    #[error(transparent)]
    Proof(#[from] TlogProofError),
}

impl Known {
    /// Who has cosigned a checkpoint, and when; a finding if they are too few.
    pub(crate) fn cosigned(&self, note: &str) -> (BTreeMap<String, Timestamp>, Option<Finding>) {
        let Some(policy) = &self.witnesses else { return Default::default() };
        match policy.cosigned(note) {
            Ok(cosigned) => {
                (cosigned.into_iter().map(|(name, time)| (name.to_owned(), time)).collect(), None)
            }
            Err(error) => (BTreeMap::new(), Some(Finding::of_log("witnesses", error.to_string()))),
        }
    }

    /// A finding if the log has a second key, and it has not signed the checkpoint.
    pub(crate) fn signed_twice(&self, note: &str) -> Option<Finding> {
        let signed = self.second_key.as_ref()?.verify(&Note::parse(note).ok()?);
        signed.err().map(|error| {
            Finding::of_log("second-key", format!("{error}: whoever signed it had the log's key alone"))
        })
    }

    /// Sizes at which the log had roots that are known.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<_> = self.seen.iter().map(Seen::size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Whether the log is the continuation of everything that was seen of it. `roots` are those that it has now at the
    /// sizes that were seen.
    pub(crate) fn compare(&self, size: u64, roots: &BTreeMap<u64, Hash>) -> Vec<Finding> {
        let judge = |seen: &Seen| {
            let Checkpoint { size: then, root, .. } = &seen.checkpoint;
            match roots.get(then) {
                None if *then > size => Some(Finding::of_log(
                    "rollback",
                    format!(
                        "the log had {then} entries when the checkpoint of {} was signed, and has {size} now",
                        seen.from
                    ),
                )),
                Some(now) if now != root => Some(Finding::of_log(
                    "fork",
                    format!(
                        "its first {then} entries have the root {now}, and the checkpoint of {} says {root}: its key has signed two histories; keep both",
                        seen.from
                    ),
                )),
                _ => None,
            }
        };
        self.seen.iter().filter_map(judge).collect()
    }
}
