//! Verdicts on nodes: each certificate that rests on evidence rests on one that was taken, once, as the same node.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use undercroft_ca::nodes::FORMAT;
use undercroft_log::leaf::{Accepted, Digest, Intent, Verdict, VerdictResult};
use undercroft_log_files::FolderError;

use super::Reader;

/// How long a verdict is good: an intent follows at once.
const GOOD: i64 = 60;

/// What is known of verdicts so far.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Evidence that was taken, and not used yet.
    taken: HashMap<Digest, Taken>,
    transcripts: HashSet<Digest>,
    /// Whose TPM an endorsement key is in, and the other way round.
    nodes: HashMap<Digest, String>,
    tpms: HashMap<String, Digest>,
}

struct Taken {
    spiffe_id: String,
    endorsement: Digest,
    transcript: Digest,
    at: Timestamp,
}

impl Verdicts {
    /// A TPM is nobody's node any more.
    pub(super) fn released(&mut self, endorsement: Digest) {
        if let Some(id) = self.nodes.remove(&endorsement) {
            self.tpms.remove(&id);
        }
    }

    /// Takes a verdict in, and says what is wrong with it.
    fn accepted(&mut self, at: Timestamp, verdict: &Verdict, accepted: &Accepted) -> Option<String> {
        let Accepted { spiffe_id, transcript, .. } = accepted;
        let Some(endorsement) = verdict.endorsement else {
            return Some("it takes a node whose endorsement key no maker vouches for".to_owned());
        };
        let taken = Taken { spiffe_id: spiffe_id.clone(), endorsement, transcript: *transcript, at };
        self.taken.insert(verdict.evidence.sha256, taken);
        None
    }

    /// Takes an intent in that rests on evidence, and says what is wrong with it. What a verdict takes may still be refused
    /// (the TPM is another node's, or somebody was faster), so that certificates are what counts.
    fn used(&mut self, at: Timestamp, intent: &Intent) -> Option<String> {
        let mut named = intent.evidence.iter().filter(|evidence| evidence.format == FORMAT);
        let (Some(evidence), None) = (named.next(), named.next()) else {
            return Some("it does not name the evidence of one exchange".to_owned());
        };
        let Some(taken) = self.taken.remove(&evidence.sha256) else {
            return Some(
                "no verdict in front of it takes its evidence, or another intent has used it".to_owned(),
            );
        };
        let Taken { spiffe_id, endorsement, transcript, at: judged } = taken;
        if spiffe_id != intent.caller.id {
            return Some(format!("its evidence is {spiffe_id}'s"));
        }
        if at.as_second() - judged.as_second() > GOOD {
            return Some(format!("its evidence was judged at {judged}"));
        }
        if !self.transcripts.insert(transcript) {
            return Some(format!("the exchange {transcript} has led to a certificate before"));
        }
        let known = self.nodes.entry(endorsement).or_insert_with(|| spiffe_id.clone());
        if *known != spiffe_id {
            return Some(format!("its TPM {endorsement} is {known}'s"));
        }
        let known = *self.tpms.entry(spiffe_id).or_insert(endorsement);
        (known != endorsement).then(|| format!("another TPM is {}", intent.caller.id))
    }
}

impl Reader<'_> {
    pub(super) fn verdict(
        &mut self,
        index: u64,
        at: Timestamp,
        verdict: &Verdict,
    ) -> Result<(), FolderError> {
        for blob in [&verdict.evidence, &verdict.policy] {
            self.blob(index, blob.sha256, blob.length)?;
        }
        let VerdictResult::Accepted(accepted) = &verdict.result else { return Ok(()) };
        self.belongs(index, &verdict.domain);
        let wrong = self.verdicts.accepted(at, verdict, accepted);
        if let Some(wrong) = wrong.filter(|_| self.place.first_epoch) {
            self.find(index, "verdict", wrong);
        }
        Ok(())
    }

    /// Evidence is good for one certificate, of the node that it is of.
    pub(super) fn rests_on_evidence(&mut self, index: u64, at: Timestamp, intent: &Intent) {
        let wrong = self.verdicts.used(at, intent);
        // What looks back is silent where bytes have been changed.
        if let Some(wrong) = wrong.filter(|_| self.is_whole() && self.place.first_epoch) {
            self.find(index, "verdict", wrong);
        }
    }
}
