//! Witnesses over HTTP (C2SP tlog-witness): the checkpoints of one log, pushed to all of them at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::StatusCode;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::timeout;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::cosigning::{Cosigner, NotCosigned, Wait};
use undercroft_log::note::Note;
use undercroft_log::sequencer::Watch;
use undercroft_log::store::LogReader;
use undercroft_log::stored::consistency;
use undercroft_log::witnesses::{Witness, WitnessPolicy};

use crate::gates::Gates;
use crate::http::{Http, PATIENCE};

/// How often a witness is asked again within one round: each time it said which size it has seen.
const ATTEMPTS: usize = 3;

/// How many rounds a witness may be behind: the one that it works on, and one that waits for that. It is left out of
/// more, so that one that never answers costs nothing.
const ROUNDS: usize = 2;

/// How often witnesses that were away are asked again while nothing is appended.
const AGAIN: Duration = Duration::from_secs(15);

/// Has witnesses that were away asked again, until the log has stopped.
pub(crate) async fn keep_asking<E>(log: Watch<E>) {
    while !log.has_stopped() {
        log.ask_witnesses_again();
        tokio::time::sleep(AGAIN).await;
    }
}

/// The size of a log that a witness, or a gate, has seen: it names it when it is shown something that continues another
/// (C2SP tlog-witness, add-checkpoint, status 409). One that has seen nothing of the log takes the checkpoint.
pub(crate) async fn size_seen(http: &Http, url: &str, checkpoint: &str) -> Result<u64, String> {
    let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: checkpoint.into() };
    let answered = http.post(url, "add-checkpoint", "text/plain; charset=utf-8", request.to_string());
    match answered.await? {
        (StatusCode::OK, _) => Ok(0),
        (StatusCode::CONFLICT, told) => {
            told.trim_end().parse().map_err(|_| "its 409 names no size".to_owned())
        }
        (other, answer) => Err(format!("it answered {other}: {}", answer.trim_end())),
    }
}

/// The witnesses of one log.
pub(crate) struct Witnesses {
    policy: Arc<WitnessPolicy>,
    contacts: Vec<Arc<Contact>>,
    gates: Vec<Arc<Gates>>,
    /// What a witness said that has seen another history.
    alarm: watch::Sender<Option<String>>,
}

/// A witness of the policy that can be reached.
struct Contact {
    witness: Witness,
    url: String,
    http: Http,
    /// Locked while it is asked.
    known: Mutex<Known>,
    turns: Arc<Semaphore>,
}

/// What is known of what a witness has seen of this log, as sizes.
#[derive(Default)]
struct Known {
    /// What it has seen last, as far as it has told.
    seen: u64,
    /// The largest that it was ever shown, answered or not. Nothing smaller is shown to it again: it would say that the
    /// log went back.
    shown: u64,
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
        let contact = |witness: &Witness| {
            let url = witness.url.clone()?;
            let (known, turns) = (Mutex::default(), Arc::new(Semaphore::new(ROUNDS)));
            Some(Arc::new(Contact { witness: witness.clone(), url, http: http.clone(), known, turns }))
        };
        let contacts = policy.witnesses().iter().filter_map(contact).collect();
        Self { policy, contacts, gates, alarm: watch::Sender::new(None) }
    }
}

impl Contact {
    async fn ask(&self, signed: &SignedCheckpoint, log: &dyn LogReader) -> Result<String, Refused> {
        let known = timeout(PATIENCE, self.known.lock()).await;
        let mut known = known.map_err(|_| Refused::Now("it takes too long".to_owned()))?;
        let size = signed.checkpoint().size;
        if size < known.shown {
            return Err(Refused::Now("it has been shown a newer checkpoint since".to_owned()));
        }
        known.shown = size;
        for _ in 0..ATTEMPTS {
            let proof =
                consistency(log, known.seen, size).await.map_err(|error| Refused::Now(error.to_string()))?;
            let request = AddCheckpoint { old: known.seen, proof, checkpoint: signed.note().clone() };
            let (status, answer) = self
                .http
                .post(&self.url, "add-checkpoint", "text/plain; charset=utf-8", request.to_string())
                .await
                .map_err(Refused::Now)?;
            match status {
                StatusCode::OK => {
                    let line = line_of(&self.witness, signed, &answer).ok_or_else(|| {
                        Refused::Now("it answered with no cosignature of its key".to_owned())
                    })?;
                    known.seen = size;
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
                    known.seen = told;
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

#[async_trait]
impl Cosigner for Witnesses {
    async fn cosign(
        &self,
        checkpoint: &SignedCheckpoint,
        log: Arc<dyn LogReader>,
        wait: Wait,
    ) -> Result<Vec<String>, NotCosigned> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let (mut lines, mut cosigned, mut refused) = (Vec::new(), BTreeSet::new(), Vec::new());
        for contact in &self.contacts {
            let Ok(turn) = contact.turns.clone().try_acquire_owned() else {
                refused.push(format!("`{}`: it is rounds behind", contact.witness.name));
                continue;
            };
            let (contact, signed, log) = (contact.clone(), checkpoint.clone(), log.clone());
            let (tell, alarm) = (tell.clone(), self.alarm.clone());
            // On a task of its own: what it answers counts even if enough others were faster.
            tokio::spawn(async move {
                let answer = contact.ask(&signed, &*log).await;
                drop(turn);
                let name = &contact.witness.name;
                match &answer {
                    Ok(_) => {}
                    Err(Refused::ForGood(why)) => {
                        tracing::error!(witness = name, why, "A WITNESS HAS SEEN ANOTHER HISTORY");
                        alarm.send_replace(Some(format!("witness `{name}`: {why}")));
                    }
                    Err(Refused::Now(why)) => {
                        tracing::warn!(witness = name, why = ?why, "a witness has not cosigned");
                    }
                }
                // Nobody listens any more if the round is over.
                let _ = tell.send((contact.clone(), answer));
            });
        }
        drop(tell);
        while let Some((contact, answer)) = told.recv().await {
            let name = &contact.witness.name;
            match answer {
                Ok(line) => {
                    lines.push(line);
                    cosigned.insert(name.clone());
                }
                Err(Refused::ForGood(why)) => {
                    return Err(NotCosigned::Alarm(format!("witness `{name}`: {why}")));
                }
                Err(Refused::Now(why)) => refused.push(format!("`{name}`: {why}")),
            }
            if wait == Wait::ForEnough && self.is_met_by(&cosigned) {
                break;
            }
        }
        match self.is_met_by(&cosigned) {
            true => {
                self.tell_gates(checkpoint.with_lines(&lines));
                Ok(lines)
            }
            false => Err(NotCosigned::TooFew(refused.join("; "))),
        }
    }

    async fn alarm(&self) -> String {
        let mut alarm = self.alarm.subscribe();
        match alarm.wait_for(Option::is_some).await.map(|what| what.clone()) {
            Ok(Some(what)) => what,
            // It lives as long as we do.
            _ => std::future::pending().await,
        }
    }
}

impl Witnesses {
    /// Nobody waits for it: a gate that missed a cosigned checkpoint takes the next.
    fn tell_gates(&self, cosigned: SignedCheckpoint) {
        for gates in &self.gates {
            let (gates, cosigned, alarm) = (gates.clone(), cosigned.clone(), self.alarm.clone());
            tokio::spawn(async move {
                if let Err(what) = gates.show(&cosigned).await {
                    tracing::error!(what, "A GATE HAS SEEN ANOTHER HISTORY");
                    alarm.send_replace(Some(what));
                }
            });
        }
    }

    fn is_met_by(&self, cosigned: &BTreeSet<String>) -> bool {
        self.policy.is_met_by(&cosigned.iter().map(String::as_str).collect())
    }
}

/// The line of an answer that is this witness's, verified over the checkpoint.
fn line_of(witness: &Witness, signed: &SignedCheckpoint, answer: &str) -> Option<String> {
    answer.lines().map(|line| format!("{line}\n")).find(|line| {
        let note = signed.with_lines(std::slice::from_ref(line));
        Note::parse(note.note()).is_ok_and(|note| witness.key.verify(&note).is_ok())
    })
}

#[cfg(test)]
mod tests;
