//! CRLs, certificates of authorities and OCSP over HTTP, for anybody, at the paths of the URLs that certificates name.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding as _};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use undercroft_ca::revocation::ocsp::{MOST_REQUEST, ResponseStatus, unsigned};
use undercroft_ca::service::{CertificateAuthority, OCSP_RESPONSE, OcspAnswer, Served};

/// How often what is due is made.
const TICK: Duration = Duration::from_secs(1);

/// How long a CRL may be kept by caches: a revocation is met no later than that. Those who verify keep it until nextUpdate
/// if they like.
const CRL_FRESH: Duration = Duration::from_secs(60);

/// How long an authority's certificate may be kept.
const CERTIFICATE_FRESH: Duration = Duration::from_secs(24 * 3600);

/// Makes CRLs and OCSP responses when they are due, until the daemon stops. On a thread of its own: a CRL of a million entries
/// takes a second of computing, and nobody else waits for that.
pub(crate) async fn keep(ca: Arc<CertificateAuthority>, mut stopping: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Handle::current();
    let published = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            loop {
                for failed in ca.publish().await {
                    tracing::error!(%failed, "revocations are not published; they are tried again in half a minute");
                }
                tokio::select! {
                    () = tokio::time::sleep(TICK) => {}
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
        });
    });
    if let Err(error) = published.await {
        tracing::error!(%error, "revocations are not published any more");
    }
}

/// Answers what is ours, and lets others answer the rest.
pub(crate) async fn answer(
    State(ca): State<Arc<CertificateAuthority>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    if let Some(served) = ca.served(&path) {
        return match *request.method() {
            Method::GET | Method::HEAD => give(&served, ca.now(), request.headers()),
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    let Some((own, rest)) = ca.ocsp_at(&path) else { return next.run(request).await };
    let headers = request.headers().clone();
    let question = match (request.method().clone(), rest) {
        (Method::POST, "") => match to_bytes(request.into_body(), MOST_REQUEST).await {
            Ok(question) => Some(question.to_vec()),
            Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        },
        (Method::GET | Method::HEAD, rest) if rest.len() <= 2 * MOST_REQUEST => decode(rest),
        (Method::GET | Method::HEAD, _) => return StatusCode::URI_TOO_LONG.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let answer = match question {
        Some(question) => ca.answer_ocsp(&own, &question).map_err(|error| error.to_string()),
        None => unsigned(ResponseStatus::MalformedRequest)
            .map(OcspAnswer::Refused)
            .map_err(|error| error.to_string()),
    };
    match answer {
        Ok(OcspAnswer::Signed(served)) => give(&served, ca.now(), &headers),
        // It is not signed and may be wrong in a moment.
        Ok(OcspAnswer::Refused(body)) => {
            let headers = [(header::CONTENT_TYPE, OCSP_RESPONSE), (header::CACHE_CONTROL, "no-store")];
            (headers, body).into_response()
        }
        Err(error) => {
            tracing::error!(error, "an OCSP request cannot be answered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The request in the path of a GET (RFC 6960 appendix A.1): base64, then percent-encoded. Some clients leave the padding
/// out or use the alphabet for URLs.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    [Base64::decode_vec, Base64Unpadded::decode_vec, Base64Url::decode_vec, Base64UrlUnpadded::decode_vec]
        .into_iter()
        .find_map(|decode| decode(&text).ok())
        .filter(|request| !request.is_empty())
}

/// What is served, with what caches must know (RFC 5019 section 6, RFC 9111).
fn give(served: &Served, now: Timestamp, asked: &HeaderMap) -> Response {
    let left = served.next_update.duration_since(now).as_secs().max(0).unsigned_abs();
    let life = served.next_update.duration_since(served.this_update).as_secs().max(0).unsigned_abs();
    let (fresh, more) = match served.content_type {
        // RFC 5019 section 6.2: no transformation, and nothing stale.
        OCSP_RESPONSE => (left, ", no-transform, must-revalidate"),
        "application/pkix-cert" => (left.min(CERTIFICATE_FRESH.as_secs()), ""),
        _ => (left.min(CRL_FRESH.as_secs()).min(life / 2), ", must-revalidate"),
    };
    let tag = format!("\"{}\"", served.digest);
    let until = now + Duration::from_secs(fresh);
    let headers = [
        (header::CONTENT_TYPE, served.content_type.to_owned()),
        (header::CACHE_CONTROL, format!("public, max-age={fresh}{more}")),
        (header::ETAG, tag.clone()),
        (header::LAST_MODIFIED, http_date(served.this_update)),
        (header::EXPIRES, http_date(if more.contains("no-transform") { served.next_update } else { until })),
    ];
    // RFC 9110 section 13.1.2; the entity tag decides alone where there is one.
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    match known.is_some_and(|known| known == "*" || known.split(',').any(|known| known.trim() == tag)) {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, Body::from(Bytes::copy_from_slice(&served.body))).into_response(),
    }
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7).
fn http_date(time: Timestamp) -> String {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}
