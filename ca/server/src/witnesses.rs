//! Witnesses over HTTP (C2SP tlog-witness): the checkpoints of one log, pushed to all of them at once.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::StatusCode;
use tokio::sync::Mutex;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::cosigning::{Cosigner, NotCosigned};
use undercroft_log::note::Note;
use undercroft_log::store::LogReader;
use undercroft_log::stored::consistency;
use undercroft_log::witnesses::{Witness, WitnessPolicy};

use crate::gates::Gates;
use crate::http::Http;

/// How often a witness is asked again within one round: each time it said which size it has seen.
const ATTEMPTS: usize = 3;

/// The witnesses of one log.
pub(crate) struct Witnesses {
    policy: Arc<WitnessPolicy>,
    http: Http,
    /// What each witness of the policy has seen last of this log, as far as we know.
    seen: Vec<Mutex<u64>>,
    gates: Vec<Arc<Gates>>,
}

/// Why a witness has not cosigned.
enum Refused {
    /// It may later.
    Now(String),
    /// It has seen another history of the log.
    ForGood(String),
}

impl Witnesses {
    /// The witnesses of a policy. Gates hear of each cosigned checkpoint, since they may release nothing without.
    pub(crate) fn new(policy: Arc<WitnessPolicy>, http: Http, gates: Vec<Arc<Gates>>) -> Self {
        let seen = policy.witnesses().iter().map(|_| Mutex::new(0)).collect();
        Self { policy, http, seen, gates }
    }

    async fn ask(
        &self,
        witness: &Witness,
        url: &str,
        seen: &Mutex<u64>,
        signed: &SignedCheckpoint,
        log: &dyn LogReader,
    ) -> Result<String, Refused> {
        let mut seen = seen.lock().await;
        let size = signed.checkpoint().size;
        for _ in 0..ATTEMPTS {
            let proof =
                consistency(log, *seen, size).await.map_err(|error| Refused::Now(error.to_string()))?;
            let request = AddCheckpoint { old: *seen, proof, checkpoint: signed.note().clone() };
            let (status, answer) = self
                .http
                .post(url, "add-checkpoint", "text/plain; charset=utf-8", request.to_string())
                .await
                .map_err(Refused::Now)?;
            match status {
                StatusCode::OK => {
                    let line = line_of(witness, signed, &answer).ok_or_else(|| {
                        Refused::Now("it answered with no cosignature of its key".to_owned())
                    })?;
                    *seen = size;
                    return Ok(line);
                }
                StatusCode::CONFLICT => {
                    let told = answer.trim_end().parse::<u64>();
                    let told = told.map_err(|_| Refused::Now("its 409 names no size".to_owned()))?;
                    if told > size {
                        return Err(Refused::ForGood(format!(
                            "it has seen {told} entries of {}, and there are {size}: the log went back",
                            signed.checkpoint().origin
                        )));
                    }
                    *seen = told;
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Err(Refused::ForGood(format!(
                        "what it has seen of {} is not consistent with its {size} entries: the log has forked ({})",
                        signed.checkpoint().origin,
                        answer.trim_end()
                    )));
                }
                other => return Err(Refused::Now(format!("it answered {other}: {}", answer.trim_end()))),
            }
        }
        Err(Refused::Now("it names another size each time".to_owned()))
    }
}

impl Witnesses {
    async fn ask_all(
        &self,
        checkpoint: &SignedCheckpoint,
        log: &dyn LogReader,
    ) -> Result<Vec<String>, NotCosigned> {
        let mut asked: FuturesUnordered<_> = self
            .policy
            .witnesses()
            .iter()
            .zip(&self.seen)
            .filter_map(|(witness, seen)| Some((witness, witness.url.as_deref()?, seen)))
            .map(async |(witness, url, seen)| (witness, self.ask(witness, url, seen, checkpoint, log).await))
            .collect();
        let (mut lines, mut cosigned, mut refused) =
            (Vec::new(), std::collections::BTreeSet::new(), Vec::new());
        while let Some((witness, answer)) = asked.next().await {
            match answer {
                Ok(line) => {
                    lines.push(line);
                    cosigned.insert(&*witness.name);
                }
                Err(Refused::ForGood(why)) => {
                    tracing::error!(witness = witness.name, why, "A WITNESS HAS SEEN ANOTHER HISTORY");
                    return Err(NotCosigned::Alarm(format!("witness `{}`: {why}", witness.name)));
                }
                Err(Refused::Now(why)) => {
                    tracing::warn!(witness = witness.name, why = ?why, "a witness has not cosigned");
                    refused.push(format!("`{}`: {why}", witness.name));
                }
            }
            if self.policy.is_met_by(&cosigned) {
                return Ok(lines);
            }
        }
        match self.policy.is_met_by(&cosigned) {
            true => Ok(lines),
            false => Err(NotCosigned::TooFew(refused.join("; "))),
        }
    }
}

#[async_trait]
impl Cosigner for Witnesses {
    async fn cosign(
        &self,
        checkpoint: &SignedCheckpoint,
        log: &dyn LogReader,
    ) -> Result<Vec<String>, NotCosigned> {
        let lines = self.ask_all(checkpoint, log).await?;
        for gates in self.gates.iter().cloned() {
            let cosigned = checkpoint.with_lines(&lines);
            // Nobody waits for it: a gate that missed one takes the next.
            tokio::spawn(async move {
                if let Err(what) = gates.show(&cosigned).await {
                    tracing::error!(what, "A GATE HAS SEEN ANOTHER HISTORY");
                }
            });
        }
        Ok(lines)
    }
}

/// The line of an answer that is this witness's, verified over the checkpoint.
fn line_of(witness: &Witness, signed: &SignedCheckpoint, answer: &str) -> Option<String> {
    answer.lines().map(|line| format!("{line}\n")).find(|line| {
        let note = signed.with_lines(std::slice::from_ref(line));
        Note::parse(note.note()).is_ok_and(|note| witness.key.verify(&note).is_ok())
    })
}
