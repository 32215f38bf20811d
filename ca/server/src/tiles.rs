//! The logs over HTTP, as C2SP tlog-tiles wants them: `<domain>/checkpoint`, `<domain>/tile/…`, and our
//! `<domain>/blobs/<sha256>`. For anybody: a log is read without asking who reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use undercroft_ca::service::CertificateAuthority;
use undercroft_log::leaf::Digest;
use undercroft_log::store::{LogReader, StoreError};
use undercroft_log::stored;
use undercroft_log::tile::TilePath;

/// What never changes may be kept for ever.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A checkpoint is old as soon as there is another.
const FRESH: &str = "public, max-age=2";

/// The logs that are served.
pub(crate) struct Logs {
    ca: Arc<CertificateAuthority>,
    readers: BTreeMap<String, Arc<dyn LogReader>>,
}

impl Logs {
    /// Serves the logs of `ca`. `readers` are those by the domains' names.
    pub(crate) fn new(ca: Arc<CertificateAuthority>, readers: Vec<(String, Arc<dyn LogReader>)>) -> Self {
        Self { ca, readers: readers.into_iter().collect() }
    }

    async fn read(&self, domain: &str, path: &str) -> Result<Option<Response>, StoreError> {
        let (Some(log), Some(served)) = (self.readers.get(domain), self.ca.domain(domain)) else {
            return Ok(None);
        };
        let Some(head) = served.log().checkpoint() else { return Ok(None) };
        if path == "checkpoint" {
            let text = "text/plain; charset=utf-8";
            return Ok(Some(answer(text, FRESH, head.note().as_bytes().to_vec())));
        }
        let bytes = if let Ok(tile) = path.parse::<TilePath>() {
            stored::tile(&**log, tile, head.checkpoint().size).await?
        } else if let Some(digest) = path.strip_prefix("blobs/").and_then(digest) {
            log.blob(digest).await?
        } else {
            None
        };
        Ok(bytes.map(|bytes| answer("application/octet-stream", IMMUTABLE, bytes)))
    }
}

/// The routes.
pub(crate) fn router(logs: Logs) -> Router {
    Router::new().route("/{domain}/{*path}", get(read)).with_state(Arc::new(logs))
}

async fn read(State(logs): State<Arc<Logs>>, Path((domain, path)): Path<(String, String)>) -> Response {
    match logs.read(&domain, &path).await {
        Ok(Some(response)) => response,
        Ok(None) => (StatusCode::NOT_FOUND, "no log has that\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "a log cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "the log cannot be read now\n").into_response()
        }
    }
}

fn answer(content: &'static str, cache: &'static str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, content), (header::CACHE_CONTROL, cache)], bytes).into_response()
}

/// SHA-256 in lower-case hexadecimal.
fn digest(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    (Digest(bytes).to_string() == text).then_some(Digest(bytes))
}
