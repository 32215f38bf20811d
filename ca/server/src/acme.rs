//! Devices over HTTPS (`docs/acme.md`): ACME below `/acme`, the CA for attestation keys below `/attestation`. What is decided is
//! decided in `undercroft_ca`; here it travels.

mod doors;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use undercroft_attestors::tpm::exchange::MAX_MESSAGE;
use undercroft_ca::acme::{Acme, Answer, Asked, MAX_JWS, Problem, Type};
use undercroft_ca::activations::{Activations, Certified, NotActivated};
use undercroft_ca::certificate::to_pem;
use undercroft_ca::nodes::NodePolicy;
use undercroft_ca::policy::Refusal;
use undercroft_ca::service::{CertificateAuthority, Devices, IssuedCertificate, ServiceError};
use undercroft_cli::Failure;
use undercroft_cli::system::SystemEntropy;
use undercroft_upstream::ServerCertificates;
use undercroft_upstream::acceptor::accept_anybody;

use crate::config::AcmeSettings;
use doors::Doors;

/// The most connections at a time.
const CONNECTIONS: usize = 256;

/// What the handlers share.
struct Service {
    ca: Arc<CertificateAuthority>,
    devices: Arc<Devices>,
    acme: Acme,
    activations: Activations,
    tpms: Option<NodePolicy>,
}

/// Serves in a task of its own until the daemon stops.
pub(crate) async fn serve(
    settings: &AcmeSettings,
    ca: &Arc<CertificateAuthority>,
    certificates: Arc<ServerCertificates>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let address = settings.listen;
    let failed = |error: std::io::Error| Failure::unreachable(format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let connections = accept_anybody(listener, certificates, CONNECTIONS)
        .map_err(|error| Failure::failed(format!("TLS: {error}")))?;
    tracing::info!(%address, url = settings.url, "devices are served");
    let service = Arc::new(Service {
        ca: ca.clone(),
        devices: settings.devices.clone(),
        acme: Acme::new(&settings.url),
        activations: Activations::default(),
        tpms: settings.tpms.clone(),
    });
    let router = Router::new()
        .route("/acme/directory", get(directory))
        .route("/acme/new-nonce", get(new_nonce).head(new_nonce))
        .route("/acme/{*path}", post(acme))
        .route("/attestation/{step}", post(attestation))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_JWS.max(MAX_MESSAGE)))
        .with_state(service);
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    tokio::spawn(async move {
        let doors = Doors::new(connections, address);
        if let Err(error) = axum::serve(doors, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "devices are not served any more");
        }
    });
    Ok(())
}

async fn directory(State(service): State<Arc<Service>>) -> Response {
    json_answer(StatusCode::OK, "application/json", &service.acme.directory())
}

/// RFC 8555 section 7.2: 200 for HEAD, 204 for GET.
async fn new_nonce(State(service): State<Arc<Service>>, method: axum::http::Method) -> Response {
    let status = if method == axum::http::Method::HEAD { StatusCode::OK } else { StatusCode::NO_CONTENT };
    service.dressed(status.into_response())
}

async fn acme(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // To its end, even if the client hangs up: an order that is being judged is judged.
    let task = tokio::spawn(async move {
        let answered = match is_jose(&headers) {
            Ok(()) => service.answer(&path, &body).await,
            Err(problem) => Err(problem),
        };
        let response = match answered {
            Ok(Told::Answer(answer)) => told(answer),
            Ok(Told::Chain(pem)) => {
                ([(header::CONTENT_TYPE, "application/pem-certificate-chain")], pem).into_response()
            }
            Err(problem) => refusal(&problem),
        };
        service.dressed(response)
    });
    task.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

enum Told {
    Answer(Answer),
    Chain(String),
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Service {
    async fn answer(&self, path: &str, body: &[u8]) -> Result<Told, Problem> {
        let now = self.ca.now();
        let asked = self.acme.authenticate(&format!("/acme/{path}"), body, now)?;
        let segments: Vec<_> = path.split('/').collect();
        Ok(match segments[..] {
            ["new-account"] => self.acme.new_account(&asked, now)?.into(),
            ["new-order"] => self.acme.new_order(&asked, now, &SystemEntropy)?.into(),
            ["account", id] => self.acme.account(id, &asked, false)?.into(),
            ["account", id, "orders"] => self.acme.account(id, &asked, true)?.into(),
            ["order", id] => self.acme.order(id, &asked, now)?.into(),
            ["authorization", id] => self.acme.authorization(id, &asked, now)?.into(),
            ["challenge", id] => self.challenge(id, &asked).await?.into(),
            ["order", id, "finalize"] => self.finalize(id, &asked).await?.into(),
            ["certificate", id] => Told::Chain(self.acme.certificate(id, &asked, now)?),
            _ => return Err(Problem::new(Type::Malformed, "there is nothing at this address")),
        })
    }

    async fn challenge(&self, id: &str, asked: &Asked) -> Result<Answer, Problem> {
        self.has_room()?;
        let claim = match self.acme.challenge(id, asked, self.ca.now())? {
            Ok(claim) => claim,
            Err(answer) => return Ok(answer),
        };
        let judged = self.ca.attest_device(&self.devices, &claim).await;
        // What we could not judge is no word about the device, and is told as ours.
        let ours = judged.as_ref().err().filter(|problem| is_ours(problem)).cloned();
        let answer = self.acme.judged(&claim, judged, self.ca.now())?;
        ours.map_or(Ok(answer), Err)
    }

    async fn finalize(&self, id: &str, asked: &Asked) -> Result<Answer, Problem> {
        self.has_room()?;
        let wanted = match self.acme.finalize(id, asked, self.ca.now()) {
            Ok(wanted) => wanted,
            Err(problem) => return Err(self.ca.refuse_request(&self.devices, problem).await),
        };
        let issued = self.ca.issue_to_device(&self.devices, &wanted).await;
        let chain = issued.and_then(|issued| pem(&issued));
        self.acme.issued(&wanted, chain, self.ca.now())
    }

    /// Whoever could be refused without an entry in the log is not looked at.
    fn has_room(&self) -> Result<(), Problem> {
        match self.devices.has_room(self.ca.now()) {
            true => Ok(()),
            false => Err(Problem::new(Type::RateLimited, "too much was refused; come back in a minute")),
        }
    }

    /// With the headers that each answer of ACME has (sections 6.5 and 7.1).
    fn dressed(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(nonce) = self.acme.nonce(self.ca.now(), &SystemEntropy)
            && let Ok(nonce) = HeaderValue::from_str(&nonce)
        {
            headers.insert(HeaderName::from_static("replay-nonce"), nonce);
        }
        link(headers, &self.acme.index(), "index");
        response
    }

    async fn activate(&self, step: &str, message: &[u8]) -> Result<Value, Response> {
        let tpms = self.tpms.as_ref().ok_or_else(|| StatusCode::NOT_FOUND.into_response())?.tpm();
        if !self.devices.has_room(self.ca.now()) {
            return Err(turned_away(
                StatusCode::TOO_MANY_REQUESTS,
                None,
                "too much was refused; come back in a minute",
            ));
        }
        let now = self.ca.now();
        let done = match step {
            "begin" => self.activations.begin(message, tpms, now, &SystemEntropy).map(|begun| json!(begun)),
            "finish" => match self.activations.finish(message, tpms, now) {
                Ok(bound) => return self.certified(&bound).await,
                Err(error) => Err(error),
            },
            _ => return Err(StatusCode::NOT_FOUND.into_response()),
        };
        match done {
            Ok(begun) => Ok(begun),
            Err(NotActivated::Refused(refusal)) => Err(self.refuse(refusal).await),
            Err(error) => {
                let status = match &error {
                    NotActivated::Malformed(_) => StatusCode::BAD_REQUEST,
                    NotActivated::Busy => StatusCode::TOO_MANY_REQUESTS,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Err(turned_away(status, None, &error.to_string()))
            }
        }
    }

    async fn certified(&self, bound: &undercroft_attestors::tpm::node::Bound<'_>) -> Result<Value, Response> {
        let (issued, identifier) =
            self.ca.certify_attestation_key(&self.devices, bound).await.map_err(|error| failed(&error))?;
        let chain = issued.chain.iter().map(|der| Base64::encode_string(der)).collect();
        Ok(json!(Certified { chain, identifier, intent: issued.receipt.index() }))
    }

    async fn refuse(&self, refusal: Refusal) -> Response {
        // A session that nobody has begun is no judgement of anything.
        if refusal.rule == "session-unknown" {
            return turned_away(StatusCode::FORBIDDEN, Some(refusal.rule), &refusal.reason);
        }
        failed(&self.ca.refuse_activation(&self.devices, refusal).await)
    }
}

async fn attestation(State(service): State<Arc<Service>>, Path(step): Path<String>, body: Bytes) -> Response {
    let task = tokio::spawn(async move {
        match service.activate(&step, &body).await {
            Ok(value) => json_answer(StatusCode::OK, "application/json", &value),
            Err(response) => response,
        }
    });
    task.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn is_ours(problem: &Problem) -> bool {
    matches!(problem.kind, Type::ServerInternal | Type::RateLimited)
}

fn failed(error: &ServiceError) -> Response {
    match error {
        ServiceError::Refused(refusal) => {
            turned_away(StatusCode::FORBIDDEN, Some(refusal.rule), &refusal.reason)
        }
        ServiceError::Busy { .. } => turned_away(StatusCode::TOO_MANY_REQUESTS, None, &error.to_string()),
        ServiceError::Unavailable(_) | ServiceError::Internal(_) => {
            tracing::error!(%error, "an attestation key is not certified");
            let what = "nothing can be certified now; try again later";
            turned_away(StatusCode::SERVICE_UNAVAILABLE, None, what)
        }
    }
}

/// A problem document of the attestation CA.
fn turned_away(status: StatusCode, code: Option<&str>, detail: &str) -> Response {
    let document = json!({ "detail": detail, "status": status.as_u16(), "code": code });
    json_answer(status, "application/problem+json", &document)
}

/// RFC 8555 section 6.2.
fn is_jose(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(b"application/jose+json") => Ok(()),
        _ => Err(Problem::new(Type::Malformed, "the Content-Type is not application/jose+json")),
    }
}

fn pem(issued: &IssuedCertificate) -> Result<String, Problem> {
    let blocks = issued.chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|error| Problem::new(Type::ServerInternal, error.to_string()))?;
    Ok(blocks.concat())
}

fn told(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = json_answer(status, "application/json", &answer.body);
    let location = answer.location.and_then(|location| HeaderValue::from_str(&location).ok());
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if let Some(up) = &answer.up {
        link(response.headers_mut(), up, "up");
    }
    response
}

fn refusal(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = json_answer(status, "application/problem+json", &problem.document());
    if problem.kind == Type::RateLimited {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

fn link(headers: &mut HeaderMap, url: &str, relation: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("<{url}>;rel=\"{relation}\"")) {
        headers.append(header::LINK, value);
    }
}

fn json_answer(status: StatusCode, content: &'static str, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, content)], value.to_string()).into_response()
}
