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
        if !self.transcripts.insert(*transcript) {
            return Some(format!("the exchange {transcript} was judged before"));
        }
        let taken = Taken { spiffe_id: spiffe_id.clone(), at };
        self.taken.insert(verdict.evidence.sha256, taken);
        let known = self.nodes.entry(endorsement).or_insert_with(|| spiffe_id.clone());
        if known != spiffe_id {
            return Some(format!("it takes the TPM {endorsement} as {spiffe_id}, and it is {known}'s"));
        }
        let known = self.tpms.entry(spiffe_id.clone()).or_insert(endorsement);
        (*known != endorsement).then(|| format!("it takes another TPM as {spiffe_id}"))
    }

    /// Takes an intent in that rests on evidence, and says what is wrong with it.
    fn used(&mut self, at: Timestamp, intent: &Intent) -> Option<String> {
        let mut named = intent.evidence.iter().filter(|evidence| evidence.format == FORMAT);
        let (Some(evidence), None) = (named.next(), named.next()) else {
            return Some("it does not name the evidence of one exchange".to_owned());
        };
        match self.taken.remove(&evidence.sha256) {
            None => {
                Some("no verdict in front of it takes its evidence, or another intent has used it".to_owned())
            }
            Some(taken) if taken.spiffe_id != intent.caller.id => {
                Some(format!("its evidence is {}'s", taken.spiffe_id))
            }
            Some(taken) if at.as_second() - taken.at.as_second() > GOOD => {
                Some(format!("its evidence was judged at {}", taken.at))
            }
            Some(_) => None,
        }
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
