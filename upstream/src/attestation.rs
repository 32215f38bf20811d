//! The Attestation service: one exchange a stream (`docs/attestation.md`, "The exchange").

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use undercroft_ca::service::{AttestedNode, CertificateAuthority, ServiceError, TO_ANSWER};
use undercroft_proto::node::attest_response::Step;
use undercroft_proto::node::attestation_server::Attestation;
use undercroft_proto::node::{AttestRequest, AttestResponse, Issued};

use crate::acceptor::Peer;
use crate::issuance::to_its_end;
use crate::status::status;

/// Exchanges that may be under way at once: each holds a few hundred kilobytes at the most.
const UNDER_WAY: usize = 1024;

/// When to come back if there are as many.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Serves nodes.
#[derive(Clone)]
pub struct AttestationApi {
    ca: Arc<CertificateAuthority>,
    under_way: Arc<Semaphore>,
}

impl AttestationApi {
    /// Serves those of `ca`.
    pub fn new(ca: Arc<CertificateAuthority>) -> Self {
        Self { ca, under_way: Arc::new(Semaphore::new(UNDER_WAY)) }
    }
}

type Answers = mpsc::Sender<Result<AttestResponse, Status>>;

#[tonic::async_trait]
impl Attestation for AttestationApi {
    type AttestStream = ReceiverStream<Result<AttestResponse, Status>>;

    async fn attest(
        &self,
        request: Request<Streaming<AttestRequest>>,
    ) -> Result<Response<Self::AttestStream>, Status> {
        let binding = request.extensions().get::<Peer>().and_then(|peer| peer.binding);
        let binding = binding.ok_or_else(|| {
            Status::failed_precondition("nodes attest over TLS: an exchange is bound to its connection")
        })?;
        let permit = self.under_way.clone().try_acquire_owned();
        let permit = permit.map_err(|_| status(ServiceError::Busy { retry_after: RETRY_AFTER }))?;
        let (answers, told) = mpsc::channel(2);
        let (ca, messages) = (self.ca.clone(), request.into_inner());
        tokio::spawn(async move {
            let _permit = permit;
            let ended = match exchange(&ca, binding, messages, &answers).await {
                Ok(attested) => Ok(issued(&ca, attested)),
                Err(status) => Err(status),
            };
            // Whoever hung up needs no answer.
            let _ = answers.send(ended).await;
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// One exchange, to its end.
async fn exchange(
    ca: &Arc<CertificateAuthority>,
    binding: [u8; 32],
    mut messages: Streaming<AttestRequest>,
    answers: &Answers,
) -> Result<AttestedNode, Status> {
    let first = next(&mut messages).await?;
    if first.hello.is_empty() {
        return Err(Status::invalid_argument("the first message has no hello"));
    }
    if !first.answer.is_empty() {
        let (ca, hello) = (ca.clone(), first.hello.clone());
        let at_once = async move { ca.answer_at_once(&hello, &first.answer, binding).await };
        if let Some(attested) = to_its_end(at_once).await?.map_err(status)? {
            return Ok(attested);
        }
    }
    let (exchange, challenge) = ca.challenge(&first.hello, binding).await.map_err(status)?;
    let sent = answers.send(Ok(AttestResponse { step: Some(Step::Challenge(challenge)) })).await;
    let answer = match sent {
        Ok(()) => next(&mut messages).await,
        Err(_) => Err(Status::cancelled("the node went away")),
    };
    let ca = ca.clone();
    match answer {
        Ok(answer) => {
            let judged = async move { ca.answer(exchange, &answer.answer).await };
            to_its_end(judged).await?.map_err(status)
        }
        Err(why) => {
            // What ends without an answer is a refusal like any other.
            let told = to_its_end(async move { ca.unanswered(exchange).await }).await?;
            tracing::info!(%told, "a node did not answer");
            Err(why)
        }
    }
}

/// The next message of a node.
async fn next(messages: &mut Streaming<AttestRequest>) -> Result<AttestRequest, Status> {
    let late =
        |_| Status::deadline_exceeded(format!("no message came within {} seconds", TO_ANSWER.as_secs()));
    let message = timeout(TO_ANSWER, messages.message()).await.map_err(late)??;
    message.ok_or_else(|| Status::cancelled("the node ended the exchange before it was over"))
}

fn issued(ca: &CertificateAuthority, attested: AttestedNode) -> AttestResponse {
    let AttestedNode { issued, domain, spiffe_id, wanted } = attested;
    let domain = ca.domain(&domain);
    let issued = Issued {
        chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
        roots: issued.roots,
        tlog_proof: issued.receipt.proof().to_string(),
        entry: issued.receipt.leaf().to_vec(),
        log_key: domain.map(|domain| domain.log().key().to_string()).unwrap_or_default(),
        spiffe_id: spiffe_id.to_string(),
        spiffe_bundle: domain.map(|domain| domain.bundle().to_json().to_string()).unwrap_or_default(),
        wanted: wanted.to_json(),
    };
    AttestResponse { step: Some(Step::Issued(issued)) }
}
