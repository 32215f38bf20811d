//! One exchange with the daemon, from nothing to files in place.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use undercroft_attestors::exchange::{Challenge, read, transcript};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_cli::Failure;
use undercroft_log::Clock;
use undercroft_log::leaf::Digest;
use undercroft_proto::connect::{ConnectError, Server, connect_bound};
use undercroft_proto::identity::DomainAnchors;
use undercroft_proto::node::attest_response::Step;
use undercroft_proto::node::attestation_client::AttestationClient;
use undercroft_proto::node::{AttestRequest, AttestResponse, Issued};
use undercroft_tpm::{NodeKey, NodeTpm};

use crate::config::{Config, KeyChoice};
use crate::evidence::Evidence;
use crate::memory::Memory;
use crate::output::Generation;
use crate::received::{Expected, Received};

/// How long the daemon may take for a connection, and for each message: it gives us as much.
const PATIENCE: Duration = Duration::from_secs(30);

/// The metadata in which the daemon says which rule refused.
const RULE: &str = "undercroft-rule";

/// What came of an exchange.
#[derive(Debug)]
pub struct Attested {
    /// The certificate.
    pub received: Received,
    /// The files.
    pub generation: Generation,
    /// Whether a challenge was saved.
    pub at_once: bool,
}

/// An exchange failed.
#[derive(Debug)]
pub struct ExchangeError {
    /// The code of the refusal, if the daemon has refused by one.
    pub code: Option<String>,
    /// What to tell.
    pub failure: Failure,
}

impl From<Failure> for ExchangeError {
    fn from(failure: Failure) -> Self {
        Self { code: None, failure }
    }
}

impl From<undercroft_keymgr::Error> for ExchangeError {
    fn from(error: undercroft_keymgr::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Attests, and puts the certificate in place: with the endorsement key of the last time, or the first one; and with the next, if
/// policy refuses an endorsement key.
///
/// # Errors
/// Each step may fail; what was in place before then still is.
pub async fn attest(config: &Config, clock: &dyn Clock) -> Result<Attested, ExchangeError> {
    let before = Generation::current(&config.output).unwrap_or_else(|error| {
        tracing::warn!(%error, "the certificate that is there is damaged, and replaced");
        None
    });
    let mut memory = Memory::recall(&config.state);
    let mut tried = Vec::new();
    loop {
        let attempt =
            Attempt { config, clock, before: before.as_ref(), memory: memory.as_ref(), tried: &tried };
        let (mut error, endorsement) = match attempt.run().await {
            Ok(attested) => return Ok(attested),
            Err(failed) => failed,
        };
        let refused = error.code.is_some();
        if refused {
            Memory::forget(&config.state);
        }
        let mends = error.code.as_deref().is_some_and(|code| code.starts_with("ek-"));
        match endorsement {
            Some((endorsement, true)) if mends => {
                tracing::info!(
                    code = error.code.as_deref(),
                    "an endorsement key is refused; the next one is tried"
                );
                tried.push(endorsement);
                memory = None;
            }
            _ => {
                if !tried.is_empty() {
                    error.failure = error.failure.during("with the last of several endorsement keys");
                }
                return Err(error);
            }
        }
    }
}

struct Attempt<'a> {
    config: &'a Config,
    clock: &'a dyn Clock,
    before: Option<&'a Generation>,
    memory: Option<&'a Memory>,
    /// Endorsement keys that were refused, by SHA-256 of their public areas.
    tried: &'a [Digest],
}

/// Which endorsement key it was, and whether there is another one to try.
type Tried = Option<(Digest, bool)>;

impl Attempt<'_> {
    async fn run(self) -> Result<Attested, (ExchangeError, Tried)> {
        let (mut evidence, another) = block_in_place(|| self.evidence()).map_err(|error| (error, None))?;
        let endorsement = Digest::of(&evidence.endorsement().public);
        let done = self.exchange(&mut evidence, endorsement).await;
        done.map_err(|error| (error, Some((endorsement, another))))
    }

    fn evidence(&self) -> Result<(Evidence, bool), ExchangeError> {
        let mut tpm = NodeTpm::open(self.config.tcti.as_deref())?;
        let digest = |public: &[u8]| Digest::of(public);
        let mut endorsements = tpm.endorsements()?;
        endorsements.retain(|key| !self.tried.contains(&digest(&key.public)));
        let last =
            |memory: &Memory| endorsements.iter().position(|key| digest(&key.public) == memory.endorsement);
        let chosen = self.memory.and_then(last).unwrap_or(0);
        if endorsements.is_empty() {
            return Err(Failure::failed("the TPM has other endorsement keys than a moment ago").into());
        }
        let endorsement = endorsements.swap_remove(chosen);
        let key = self.key(&mut tpm)?;
        let evidence = Evidence::new(tpm, endorsement, key, self.config.event_log.clone());
        Ok((evidence, !endorsements.is_empty()))
    }

    fn key(&self, tpm: &mut NodeTpm) -> Result<NodeKey, ExchangeError> {
        match (self.config.key, self.before) {
            // A TPM that was cleared since does not load it.
            (KeyChoice::Keep, Some(before)) if tpm.sign(&before.key, b"still there?").is_ok() => {
                Ok(before.key.clone())
            }
            _ => Ok(tpm.create_key()?),
        }
    }

    async fn exchange(
        &self,
        evidence: &mut Evidence,
        endorsement: Digest,
    ) -> Result<Attested, ExchangeError> {
        let late = |_| Failure::unreachable(format!("the daemon at {} takes too long", self.config.server));
        let connecting = connect_bound(self.server());
        let (channel, exported) = timeout(PATIENCE, connecting).await.map_err(late)?.map_err(unreached)?;
        let hello = encode(&block_in_place(|| evidence.hello(&self.config.domain))?)?;
        let at_once = self.memory.filter(|memory| memory.endorsement == endorsement);
        let answer = match at_once {
            None => Vec::new(),
            Some(memory) => {
                let transcript = transcript(&hello, None, &exported);
                encode(&block_in_place(|| evidence.answer(&memory.wanted, &transcript, None))?)?
            }
        };
        let (messages, sent) = mpsc::channel(2);
        let gone = |_| Failure::unreachable("the connection to the daemon broke");
        messages.send(AttestRequest { hello: hello.clone(), answer }).await.map_err(gone)?;
        let mut client = AttestationClient::new(channel);
        let asked = client.attest(ReceiverStream::new(sent));
        let mut answers = timeout(PATIENCE, asked).await.map_err(late)?.map_err(refused)?.into_inner();
        let (issued, at_once) = match next(&mut answers).await? {
            Step::Issued(issued) => (issued, true),
            Step::Challenge(challenge) => {
                let answer = self.answer(evidence, &hello, &challenge, &exported)?;
                messages.send(AttestRequest { hello: Vec::new(), answer }).await.map_err(gone)?;
                match next(&mut answers).await? {
                    Step::Issued(issued) => (issued, false),
                    Step::Challenge(_) => {
                        return Err(Failure::tampered("the daemon challenges twice in one exchange").into());
                    }
                }
            }
        };
        self.take(issued, evidence.key(), endorsement, at_once)
    }

    fn answer(
        &self,
        evidence: &mut Evidence,
        hello: &[u8],
        message: &[u8],
        exported: &[u8; 32],
    ) -> Result<Vec<u8>, ExchangeError> {
        let challenge: Challenge =
            read(message).map_err(|error| Failure::tampered(format!("the daemon's challenge: {error}")))?;
        let now = self.clock.now();
        if challenge.until < now {
            return Err(Failure::tampered(format!(
                "the daemon's challenge was good until {}, and it is {now} here: one of the clocks is wrong, or it is an old one",
                challenge.until
            ))
            .into());
        }
        let transcript = transcript(hello, Some(message), exported);
        let answer = block_in_place(|| {
            let secret = evidence.opened(&challenge.tpm)?;
            evidence.answer(&challenge.tpm.wanted, &transcript, Some(&secret))
        })?;
        encode(&answer)
    }

    fn take(
        &self,
        issued: Issued,
        key: &NodeKey,
        endorsement: Digest,
        at_once: bool,
    ) -> Result<Attested, ExchangeError> {
        let roots = self.roots();
        let expected = Expected {
            domain: &self.config.domain,
            key: key.public_key(),
            roots: &roots,
            log_key: self.config.log_key.as_ref(),
        };
        let received = Received::verify(issued, &expected, self.clock.now())?;
        let generation = Generation::put(self.config, &received, key)?;
        let memory = Memory { endorsement, wanted: received.wanted.clone() };
        if let Err(error) = memory.keep(&self.config.state) {
            tracing::warn!(%error, "what the daemon wants next time is not remembered");
        }
        Ok(Attested { received, generation, at_once })
    }

    /// The roots of the node's trust domain: those that it was given, and those that came with the certificate before, which
    /// was verified under roots that were known then. So roots are rotated without anybody touching the node.
    fn roots(&self) -> Vec<AuthorityCertificate> {
        let mut roots = self.config.roots.clone();
        for root in self.before.iter().flat_map(|before| &before.roots) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        roots
    }

    fn server(&self) -> Server {
        let spiffe_id = self.config.server_id.clone();
        let domain =
            spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let roots = self.config.server_roots.clone().unwrap_or_else(|| self.roots());
        let roots = roots.iter().map(|root| CertificateDer::from(root.der().to_vec())).collect();
        let anchors = DomainAnchors::new(domain, roots, Vec::new());
        Server { address: self.config.server.clone(), spiffe_id, anchors }
    }
}

async fn next(answers: &mut Streaming<AttestResponse>) -> Result<Step, ExchangeError> {
    let late = |_| Failure::unreachable("the daemon takes too long to answer");
    let answer = timeout(PATIENCE, answers.message()).await.map_err(late)?.map_err(refused)?;
    let step = answer.and_then(|answer| answer.step);
    Ok(step.ok_or_else(|| Failure::unreachable("the daemon ended the exchange without a word"))?)
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, ExchangeError> {
    serde_json::to_vec(message).map_err(|error| Failure::failed(error.to_string()).into())
}

/// What the daemon answered instead of going on.
fn refused(status: Status) -> ExchangeError {
    let message = status.message();
    if let Some(source) = std::error::Error::source(&status) {
        return Failure::unreachable(format!("the connection to the daemon broke ({source})")).into();
    }
    let code = status.metadata().get(RULE).and_then(|rule| rule.to_str().ok()).map(str::to_owned);
    let failure = match (status.code(), &code) {
        (Code::PermissionDenied | Code::InvalidArgument | Code::Unauthenticated, Some(code))
            if !message.contains(code.as_str()) =>
        {
            Failure::refused(format!("the daemon refuses this node ({code}): {message}"))
        }
        (Code::PermissionDenied | Code::InvalidArgument | Code::Unauthenticated, _) => {
            Failure::refused(format!("the daemon refuses this node: {message}"))
        }
        (Code::FailedPrecondition | Code::NotFound | Code::Unimplemented, _) => {
            Failure::usage(format!("the daemon takes no nodes: {message}"))
        }
        (Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled, _) => {
            Failure::unreachable(format!("the daemon cannot do it now: {message}"))
        }
        (other, _) => Failure::failed(format!("the daemon answered {other:?}: {message}")),
    };
    ExchangeError { code, failure }
}

fn unreached(error: ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable { .. } => Failure::unreachable(error.to_string()),
        ConnectError::TurnedAway { .. } => Failure::refused(error.to_string()),
        ConnectError::Unbound { .. } => Failure::failed(error.to_string()),
        ConnectError::Address(_) | ConnectError::Tls(_) => Failure::usage(error.to_string()),
    }
}
