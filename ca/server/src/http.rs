//! Short exchanges with witnesses and gates over HTTP.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use undercroft_cli::Failure;
use undercroft_proto::connect::crypto_provider;

/// How long an answer may take. Who is slow holds up nothing if others do instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer: some signature lines.
pub(crate) const MAX_ANSWER: usize = 64 * 1024;

/// A client for `http://` and `https://`, with the system's roots.
#[derive(Clone)]
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Http {
    /// A client.
    pub(crate) fn new() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("TLS: {error}"));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(crypto_provider().as_ref().clone())
            .map_err(failed)?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Posts `body` to `path` below `base`. Gives the status and the text of the answer, or why there is none.
    pub(crate) async fn post(
        &self,
        base: &str,
        path: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<(StatusCode, String), String> {
        let request = Request::post(format!("{}/{path}", base.trim_end_matches('/')))
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    }
}
