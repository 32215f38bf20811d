//! Witnesses over HTTP (C2SP tlog-witness): the checkpoints of one log, pushed to all of them at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Mutex;
use undercroft_cli::Failure;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::cosigning::{Cosigner, NotCosigned};
use undercroft_log::note::Note;
use undercroft_log::store::LogReader;
use undercroft_log::stored::consistency;
use undercroft_log::witnesses::{Witness, WitnessPolicy};
use undercroft_proto::connect::crypto_provider;

/// How long a witness may take. A slow one holds up nothing if others make the quorum.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer: some signature lines.
const MAX_ANSWER: usize = 64 * 1024;

/// How often a witness is asked again within one round: each time it said which size it has seen.
const ATTEMPTS: usize = 3;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The witnesses of one log.
pub(crate) struct Witnesses {
    policy: Arc<WitnessPolicy>,
    client: HttpClient,
    /// What each witness of the policy has seen last of this log, as far as we know.
    seen: Vec<Mutex<u64>>,
}

/// Why a witness has not cosigned.
enum Refused {
    /// It may later.
    Now(String),
    /// It has seen another history of the log.
    ForGood(String),
}

impl Witnesses {
    /// The witnesses of a policy.
    pub(crate) fn new(policy: Arc<WitnessPolicy>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("TLS to witnesses: {error}"));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(crypto_provider().as_ref().clone())
            .map_err(failed)?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let seen = policy.witnesses().iter().map(|_| Mutex::new(0)).collect();
        Ok(Self { policy, client, seen })
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
            let (status, answer) = self.post(url, request.to_string()).await.map_err(Refused::Now)?;
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

    async fn post(&self, url: &str, body: String) -> Result<(StatusCode, String), String> {
        let request = Request::post(format!("{}/add-checkpoint", url.trim_end_matches('/')))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    }
}

#[async_trait]
impl Cosigner for Witnesses {
    async fn cosign(
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

/// The line of an answer that is this witness's, verified over the checkpoint.
fn line_of(witness: &Witness, signed: &SignedCheckpoint, answer: &str) -> Option<String> {
    answer.lines().map(|line| format!("{line}\n")).find(|line| {
        let note = signed.with_lines(std::slice::from_ref(line));
        Note::parse(note.note()).is_ok_and(|note| witness.key.verify(&note).is_ok())
    })
}
