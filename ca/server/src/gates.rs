//! Gates over HTTP (`docs/gate.md`): checkpoints are pushed to them as to witnesses, and words asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use undercroft_ca::gated::Gatekeepers;
use undercroft_keymgr::{Authorisation, Error, ErrorKind, Gate};
use undercroft_keys::{KeyId, PublicKey};
use undercroft_log::Receipt;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::authorise::{Application, RequestApplication, Word};
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::leaf::{Base64Bytes, Body, HexKeyId, Leaf, ToBeSigned};
use undercroft_log::store::LogReader;
use undercroft_log::stored::{consistency, inclusion};

use crate::config::GateAddress;
use crate::http::Http;

/// How often a gate is asked again within one application: each time it said which size it has accepted.
const ATTEMPTS: usize = 3;

/// How many accepted sizes are remembered of a gate; it remembers as many.
const SIZES: usize = 4096;

/// The gates of one authority, in the order in which its key was made with them.
pub(crate) struct Gates {
    gates: Vec<(GateAddress, Mutex<Accepted>)>,
    keys: Vec<PublicKey>,
    http: Http,
    log: Arc<dyn LogReader>,
}

/// The sizes of the log that a gate has accepted, as far as we know.
#[derive(Default)]
struct Accepted(BTreeSet<u64>);

/// Why a gate gave no word.
enum NoWord {
    /// It may later, or another gate may.
    Unavailable(String),
    /// It will not.
    Refused(String),
    /// It has seen another history of the log.
    Alarm(String),
}

impl Gates {
    pub(crate) fn new(addresses: Vec<GateAddress>, http: Http, log: Arc<dyn LogReader>) -> Self {
        let keys = addresses.iter().map(|address| address.key.clone()).collect();
        let gates = addresses.into_iter().map(|address| (address, Mutex::default())).collect();
        Self { gates, keys, http, log }
    }

    /// Shows a checkpoint to every gate. One that has seen another history of the log is an alarm; one that does not
    /// answer is asked again when it is needed.
    pub(crate) async fn show(&self, checkpoint: &SignedCheckpoint) -> Result<(), String> {
        for (address, accepted) in &self.gates {
            match self.push(address, &mut *accepted.lock().await, checkpoint).await {
                Ok(()) | Err(NoWord::Refused(_)) => {}
                Err(NoWord::Unavailable(why)) => {
                    tracing::warn!(gate = address.name, why, "a gate has not taken the log's head");
                }
                Err(NoWord::Alarm(why)) => return Err(format!("gate `{}`: {why}", address.name)),
            }
        }
        Ok(())
    }

    /// Has a gate accept a checkpoint, if it has not yet gone beyond it.
    async fn push(
        &self,
        address: &GateAddress,
        accepted: &mut Accepted,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), NoWord> {
        let size = checkpoint.checkpoint().size;
        // What the gate has accepted last, if that is more: an older head is then shown to be a beginning of it.
        let mut beyond = None;
        for _ in 0..ATTEMPTS {
            let old = beyond.unwrap_or(accepted.latest().min(size));
            let proof = consistency(&*self.log, old.min(size), old.max(size))
                .await
                .map_err(|error| NoWord::Unavailable(error.to_string()))?;
            let request = AddCheckpoint { old, proof, checkpoint: checkpoint.note().clone() };
            let (status, answer) = self
                .http
                .post(&address.url, "add-checkpoint", "text/plain; charset=utf-8", request.to_string())
                .await
                .map_err(NoWord::Unavailable)?;
            match status {
                StatusCode::OK => {
                    accepted.add(size);
                    return Ok(());
                }
                StatusCode::CONFLICT => {
                    let told = size_in(&answer)?;
                    *accepted = Accepted(BTreeSet::from([told]));
                    if told > size {
                        // It has gone beyond this one, or the log went back: it cannot have seen what we do not have.
                        match self.log.entries(told - 1..told).await {
                            // It is told of an older head only for what stands under it.
                            Ok(_) if !is_cosigned(checkpoint) => return Ok(()),
                            Ok(_) => beyond = Some(told),
                            Err(_) => {
                                return Err(NoWord::Alarm(format!(
                                    "it has seen {told} entries, and there are not as many: the log went back"
                                )));
                            }
                        };
                    }
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Err(NoWord::Alarm(format!(
                        "what it has seen is not consistent with {size} entries: the log has forked ({})",
                        answer.trim_end()
                    )));
                }
                other => {
                    return Err(NoWord::Unavailable(format!("it answered {other}: {}", answer.trim_end())));
                }
            }
        }
        Err(NoWord::Unavailable("it names another size each time".to_owned()))
    }

    async fn ask(
        &self,
        (address, accepted): &(GateAddress, Mutex<Accepted>),
        receipt: &Receipt,
        tbs: &[u8],
        nonce: &[u8],
    ) -> Result<Word, NoWord> {
        let unavailable = |error: &dyn std::fmt::Display| NoWord::Unavailable(error.to_string());
        for _ in 0..ATTEMPTS {
            let own = receipt.checkpoint().checkpoint().size;
            let size = {
                let mut accepted = accepted.lock().await;
                if !accepted.covers(receipt.index()) || is_cosigned(receipt.checkpoint()) {
                    self.push(address, &mut accepted, receipt.checkpoint()).await?;
                }
                if accepted.0.contains(&own) { own } else { accepted.latest() }
            };
            let path = match size == own {
                true => receipt.proof().path,
                false => {
                    inclusion(&*self.log, receipt.index(), size).await.map_err(|error| unavailable(&error))?
                }
            };
            let application = application(receipt, tbs, size, &path, nonce).map_err(NoWord::Unavailable)?;
            let (status, answer) = post(&self.http, address, "authorise", &application).await?;
            match status {
                StatusCode::OK => return serde_json::from_str(&answer).map_err(|error| unavailable(&error)),
                StatusCode::CONFLICT => {
                    *accepted.lock().await = Accepted(BTreeSet::from([size_in(&answer)?]));
                }
                other => return Err(no_word(other, &answer)),
            }
        }
        Err(NoWord::Unavailable("it names another size each time".to_owned()))
    }
}

async fn post(
    http: &Http,
    address: &GateAddress,
    path: &str,
    body: &impl Serialize,
) -> Result<(StatusCode, String), NoWord> {
    let body = serde_json::to_string(body).map_err(|error| NoWord::Unavailable(error.to_string()))?;
    http.post(&address.url, path, "application/json", body).await.map_err(NoWord::Unavailable)
}

fn no_word(status: StatusCode, answer: &str) -> NoWord {
    match status {
        StatusCode::FORBIDDEN => NoWord::Refused(answer.trim_end().to_owned()),
        other => NoWord::Unavailable(format!("it answered {other}: {}", answer.trim_end())),
    }
}

fn size_in(answer: &str) -> Result<u64, NoWord> {
    answer.trim_end().parse().map_err(|_| NoWord::Unavailable("its 409 names no size".to_owned()))
}

fn application(
    receipt: &Receipt,
    tbs: &[u8],
    size: u64,
    path: &[undercroft_log::tree::Hash],
    nonce: &[u8],
) -> Result<Application, String> {
    let leaf = Leaf::parse(receipt.leaf()).map_err(|error| error.to_string())?;
    let is_blob = matches!(&leaf.body, Body::Intent(intent) if matches!(intent.tbs, ToBeSigned::Blob { .. }));
    Ok(Application {
        origin: leaf.origin.to_string(),
        index: receipt.index(),
        size,
        proof: path.iter().map(ToString::to_string).collect(),
        leaf: Base64Bytes(receipt.leaf().to_vec()),
        tbs: is_blob.then(|| Base64Bytes(tbs.to_vec())),
        nonce: Base64Bytes(nonce.to_vec()),
    })
}

/// Whether a checkpoint carries more than the log's own line.
fn is_cosigned(checkpoint: &SignedCheckpoint) -> bool {
    checkpoint.note().rsplit("\n\n").next().is_some_and(|lines| lines.lines().count() > 1)
}

impl Accepted {
    fn latest(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    fn covers(&self, index: u64) -> bool {
        self.latest() > index
    }

    fn add(&mut self, size: u64) {
        self.0.insert(size);
        while self.0.len() > SIZES {
            self.0.pop_first();
        }
    }
}

#[async_trait]
impl Gatekeepers for Gates {
    fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Asks one gate after the other. One that refuses has the last word: the others are for when it is away, and not
    /// for looking for the most lenient.
    async fn authorise(&self, receipt: &Receipt, tbs: &[u8], nonce: &[u8]) -> Result<Authorisation, Error> {
        let mut away = Vec::new();
        for gate in &self.gates {
            let address = &gate.0;
            match self.ask(gate, receipt, tbs, nonce).await {
                Ok(word) => return Ok(authorisation(address, word)),
                Err(NoWord::Refused(why)) => return Err(refused(address, &why)),
                Err(NoWord::Alarm(why)) => {
                    tracing::error!(gate = address.name, why, "A GATE HAS SEEN ANOTHER HISTORY");
                    return Err(refused(address, &why));
                }
                Err(NoWord::Unavailable(why)) => away.push(format!("`{}`: {why}", address.name)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("no gate gives its word: {}", away.join("; "))))
    }
}

/// Gates that are asked for the one certificate request of a key.
pub(crate) struct ForRequest {
    pub(crate) gates: Vec<GateAddress>,
    pub(crate) http: Http,
    pub(crate) key: KeyId,
}

#[async_trait]
impl Gate for ForRequest {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        let application =
            RequestApplication { key_id: HexKeyId(self.key), nonce: Base64Bytes(nonce.to_vec()) };
        let mut away = Vec::new();
        for address in &self.gates {
            let answered = post(&self.http, address, "authorise-request", &application).await;
            let word = answered.and_then(|(status, answer)| match status {
                StatusCode::OK => {
                    serde_json::from_str(&answer).map_err(|error| NoWord::Unavailable(error.to_string()))
                }
                other => Err(no_word(other, &answer)),
            });
            match word {
                Ok(word) => return Ok(authorisation(address, word)),
                Err(NoWord::Refused(why) | NoWord::Alarm(why)) => return Err(refused(address, &why)),
                Err(NoWord::Unavailable(why)) => away.push(format!("`{}`: {why}", address.name)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("no gate gives its word: {}", away.join("; "))))
    }
}

fn authorisation(address: &GateAddress, word: Word) -> Authorisation {
    Authorisation { gate: address.key.id(), expiration: word.expiration, signature: word.signature.0 }
}

fn refused(address: &GateAddress, why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("the gate `{}` gives no word: {why}", address.name))
}
