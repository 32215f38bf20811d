//! Files from a web server: the one place of this program that reaches a network. It trusts nothing that comes: how
//! long an answer may be and may take is for whoever asks to say, and nobody is sent elsewhere.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use undercroft_cli::Failure;

/// How often something is asked for that does not come.
const ATTEMPTS: u32 = 4;

/// How long the second attempt waits; each one after it twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// A server, and a path on it below which a log lies.
pub(crate) struct Server {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: String,
    time_limit: Duration,
}

/// Why an attempt failed.
enum Failed {
    /// It may go better the next time.
    Now(String),
    /// It will not.
    Always(Failure),
}

impl Server {
    /// The server that `url` names. Nothing is asked of it yet. `https://` is trusted by the system's roots.
    pub(crate) fn new(url: &str, time_limit: Duration) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::usage(format!("{url}: {what}"));
        let uri: Uri = url.parse().map_err(|error| unusable(&format!("{error}")))?;
        if uri.query().is_some() || url.contains('#') {
            return Err(unusable("the URL of a log is what `/checkpoint` comes behind: no `?` and no `#`"));
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(unusable("write http://HOST/PATH or https://HOST/PATH, without a user"));
        }
        let tls = |error: &dyn std::fmt::Display| Failure::failed(format!("TLS: {error}"));
        let provider = aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        // Roots are read where they count alone: a machine without any can still read `http://`.
        let builder = match uri.scheme_str() {
            Some("https") => {
                builder.with_provider_and_native_roots(provider).map_err(|error| tls(&error))?.https_only()
            }
            Some("http") => {
                let config = ClientConfig::builder_with_provider(provider.into())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| tls(&error))?;
                let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
                builder.with_tls_config(config).https_or_http()
            }
            _ => return Err(unusable("only http:// and https:// are read")),
        };
        let client = Client::builder(TokioExecutor::new()).build(builder.enable_http1().build());
        Ok(Self { client, base: url.trim_end_matches('/').to_owned(), time_limit })
    }

    /// The URL of a file.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// A file of at most `limit` bytes; nothing if the server says that there is none.
    pub(crate) async fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let attempted = tokio::time::timeout(self.time_limit, self.attempt(path, limit)).await;
            let late = || Failed::Now(format!("no whole answer within {} s", self.time_limit.as_secs_f32()));
            match attempted.unwrap_or_else(|_| Err(late())) {
                Ok(found) => return Ok(found),
                Err(Failed::Always(failure)) => return Err(failure),
                Err(Failed::Now(why)) if attempt == ATTEMPTS => {
                    let url = self.url(path);
                    return Err(Failure::unreachable(format!(
                        "{url}: {why}, {ATTEMPTS} times; try again later"
                    )));
                }
                Err(Failed::Now(_)) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Ok(None)
    }

    async fn attempt(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Failed> {
        let url = self.url(path);
        let request = Request::get(&url).body(Empty::new());
        let request = request.map_err(|error| Failed::Always(Failure::usage(format!("{url}: {error}"))))?;
        let response = self.client.request(request).await.map_err(|error| Failed::Now(told(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failed::Now(format!("the server answers {status}")));
            }
            status if status.is_redirection() => {
                return Err(Failed::Always(Failure::unreachable(format!(
                    "{url}: the server answers {status}, and nobody is followed elsewhere: give the URL where the log is"
                ))));
            }
            status => {
                return Err(Failed::Always(Failure::unreachable(format!(
                    "{url}: the server answers {status}"
                ))));
            }
        }
        match Limited::new(response.into_body(), limit).collect().await {
            Ok(body) => Ok(Some(body.to_bytes().to_vec())),
            Err(error) if error.is::<LengthLimitError>() => Err(Failed::Always(Failure::tampered(format!(
                "{url} has more than {limit} bytes, and a log has nothing there that is as long"
            )))),
            Err(error) => Err(Failed::Now(told(&*error))),
        }
    }
}

/// An error with what lies beneath it, which alone says why nobody answered.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
