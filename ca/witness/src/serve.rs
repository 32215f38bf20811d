//! The witness over HTTP. TLS is for a proxy in front: cosignatures need no secrecy, and a lie in transit does not verify.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use undercroft_attestors::tpm::exchange::{BEGIN, Begin, FINISH, Finish, Finished, MAX_MESSAGE};
use undercroft_cli::{Failure, ready};
use undercroft_log::add_checkpoint::{AddRefusal, MAX_REQUEST};

use crate::activation::{Activator, NotActivated};
use crate::witness::{Witness, WitnessError};

/// Serves a witness until it is told to stop.
///
/// # Errors
/// The socket breaks.
pub async fn serve(
    witness: Arc<Witness>,
    activator: Option<Arc<Activator>>,
    listener: TcpListener,
) -> Result<(), Failure> {
    let router = match activator {
        None => router(witness),
        Some(activator) => router(witness).merge(activating(activator)),
    };
    serve_until_stopped(router, listener).await
}

/// Says that we are ready, and serves until a signal comes.
pub(crate) async fn serve_until_stopped(router: Router, listener: TcpListener) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("serving: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // Who is told that we are ready may tell us to stop.
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "ready");
    ready(address);
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(failed)
}

/// The routes of C2SP tlog-witness: submission, and monitoring.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin}/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(witness)
}

/// The routes of an activator.
pub fn activating(activator: Arc<Activator>) -> Router {
    Router::new()
        .route(&format!("/{BEGIN}"), post(begin))
        .route(&format!("/{FINISH}"), post(finish))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
        .with_state(activator)
}

async fn begin(State(activator): State<Arc<Activator>>, Json(step): Json<Begin>) -> Response {
    answered(activator.begin(&step))
}

async fn finish(State(activator): State<Arc<Activator>>, Json(step): Json<Finish>) -> Response {
    let activation = activator.finish(&step).await;
    answered(activation.map(|activation| Finished { certificate: activation.certificate }))
}

fn answered<T: serde::Serialize>(step: Result<T, NotActivated>) -> Response {
    let error = match step {
        Ok(answer) => return Json(answer).into_response(),
        Err(error) => error,
    };
    let status = match &error {
        NotActivated::Malformed(_) => StatusCode::BAD_REQUEST,
        NotActivated::Busy | NotActivated::Broken(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    tracing::warn!(%error, %status, "no attestation key is certified");
    (status, format!("{error}\n")).into_response()
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, request: String) -> Response {
    match witness.add_checkpoint(&request).await {
        Ok(line) => line.into_response(),
        Err(error) => refused(error),
    }
}

/// How a checkpoint is refused.
pub(crate) fn refused(error: WitnessError) -> Response {
    match error {
        WitnessError::Refused(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            tracing::info!(%refusal, %status, "refused");
            match refusal {
                AddRefusal::Conflict { size } => conflict(size),
                refusal => (status, format!("{refusal}\n")).into_response(),
            }
        }
        WitnessError::Broken(failure) => broken(&failure),
    }
}

/// Another size was seen here than the log believes.
pub(crate) fn conflict(size: u64) -> Response {
    (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
}

/// Nothing that whoever asks could change.
pub(crate) fn broken(failure: &Failure) -> Response {
    tracing::error!(%failure, "cannot work");
    (StatusCode::SERVICE_UNAVAILABLE, "it cannot work now\n").into_response()
}

async fn checkpoint(State(witness): State<Arc<Witness>>, Path(origin): Path<String>) -> Response {
    match witness.cosigned(&origin).await {
        Ok(Some(note)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "nothing was cosigned of such a log\n").into_response(),
        Err(failure) => {
            tracing::error!(%failure, "cannot read the state");
            (StatusCode::SERVICE_UNAVAILABLE, "the witness cannot work now\n").into_response()
        }
    }
}
