//! The gate over HTTP. TLS is for a proxy in front: its words need no secrecy, and none is good for anything but what it
//! was asked for.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use undercroft_cli::Failure;
use undercroft_log::add_checkpoint::MAX_REQUEST;
use undercroft_log::authorise::{Application, MAX_APPLICATION, RequestApplication, Word};

use super::{Gate, GateError};
use crate::activation::Activator;
use crate::serve::{activating, broken, conflict, refused, serve_until_stopped};

/// The most bytes of a request that holds a key's id and a nonce.
const MAX_SMALL: usize = 1024;

/// Serves a gate until it is told to stop.
///
/// # Errors
/// The socket breaks.
pub async fn serve(
    gate: Arc<Gate>,
    activator: Option<Arc<Activator>>,
    listener: TcpListener,
) -> Result<(), Failure> {
    let router = match activator {
        None => router(gate),
        Some(activator) => router(gate).merge(activating(activator)),
    };
    serve_until_stopped(router, listener).await
}

/// The routes: checkpoints, words, and what was kept.
pub fn router(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint).layer(DefaultBodyLimit::max(MAX_REQUEST)))
        .route("/authorise", post(authorise).layer(DefaultBodyLimit::max(MAX_APPLICATION)))
        .route("/authorise-request", post(authorise_request).layer(DefaultBodyLimit::max(MAX_SMALL)))
        .route("/{origin}/leaf/{index}", get(leaf))
        .route("/blob/{sha256}", get(blob))
        .with_state(gate)
}

async fn add_checkpoint(State(gate): State<Arc<Gate>>, request: String) -> Response {
    match gate.add_checkpoint(&request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refused(error),
    }
}

async fn authorise(State(gate): State<Arc<Gate>>, Json(application): Json<Application>) -> Response {
    answer(gate.authorise(&application).await)
}

async fn authorise_request(
    State(gate): State<Arc<Gate>>,
    Json(application): Json<RequestApplication>,
) -> Response {
    answer(gate.authorise_request(&application).await)
}

fn answer(word: Result<Word, GateError>) -> Response {
    let error = match word {
        Ok(word) => return Json(word).into_response(),
        Err(error) => error,
    };
    let status = match &error {
        GateError::Malformed(_) => StatusCode::BAD_REQUEST,
        GateError::Unknown(_) => StatusCode::NOT_FOUND,
        GateError::Refused(_) => StatusCode::FORBIDDEN,
        GateError::Conflict { size } => return conflict(*size),
        GateError::Broken(failure) => return broken(failure),
    };
    tracing::warn!(%error, %status, "no word was given");
    (status, format!("{error}\n")).into_response()
}

async fn leaf(State(gate): State<Arc<Gate>>, Path((origin, index)): Path<(String, u64)>) -> Response {
    match gate.leaf(&origin, index).await {
        Ok(Some(leaf)) => ([(header::CONTENT_TYPE, "application/json")], leaf).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such entry was kept\n").into_response(),
        Err(failure) => broken(&failure),
    }
}

async fn blob(State(gate): State<Arc<Gate>>, Path(digest): Path<String>) -> Response {
    match gate.blob(&digest).await {
        Ok(Some(bytes)) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such bytes were kept\n").into_response(),
        Err(failure) => broken(&failure),
    }
}
