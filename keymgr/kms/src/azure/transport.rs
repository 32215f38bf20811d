//! How the requests of Microsoft's library reach the vault.

use async_trait::async_trait;
use azure_core::error::{Error as AzureError, ErrorKind as AzureKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use undercroft_keymgr::{Error, ErrorKind};

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1024 * 1024;

/// Connections of a vault, or of those who give out tokens for it.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The vault's host name, and where it answers. None for tokens, which come from whom the credentials name.
    vault: Option<(String, Uri)>,
}

impl Transport {
    /// To a vault. Requests to other hosts are refused: they carry a token that is good for the vault.
    pub(super) fn to_vault(vault: &str, endpoint: Option<&str>) -> Result<Self, Error> {
        let at = endpoint.map_or_else(|| format!("https://{vault}"), str::to_owned);
        let at = at.parse::<Uri>().map_err(|error| {
            Error::with_source(ErrorKind::NotFound, format!("`{at}` is no address of a vault"), error)
        })?;
        Ok(Self { client: client()?, vault: Some((vault.to_owned(), at)) })
    }

    /// To whom gives out tokens: Entra ID, or the machine's metadata service, which answers in the clear.
    pub(super) fn to_authorities() -> Result<Self, Error> {
        Ok(Self { client: client()?, vault: None })
    }

    fn target(&self, request: &Request) -> Result<Uri, AzureError> {
        let url = request.url();
        let bad = |what: String| AzureError::with_message(AzureKind::Other, what);
        let Some((vault, at)) = &self.vault else {
            return url.as_str().parse().map_err(|error| bad(format!("{url}: {error}")));
        };
        if url.host_str() != Some(vault) {
            return Err(bad(format!(
                "the vault {vault} sends us to {url}, and nobody is followed elsewhere"
            )));
        }
        let path = request.path_and_query();
        let mut parts = at.clone().into_parts();
        parts.path_and_query =
            Some(path.parse().map_err(|error: hyper::http::uri::InvalidUri| bad(format!("{url}: {error}")))?);
        Uri::from_parts(parts).map_err(|error| bad(format!("{url}: {error}")))
    }
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, Error> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(aws_lc_rs::default_provider())
        .map_err(|error| {
            let message = "the system has no root certificates; install ca-certificates, or name a file of them in SSL_CERT_FILE";
            Error::with_source(ErrorKind::NotFound, message, error)
        })?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let other =
            |error: &dyn std::fmt::Display| AzureError::with_message(AzureKind::Other, error.to_string());
        let Body::Bytes(body) = request.body() else {
            return Err(other(&"a request that is a stream"));
        };
        let mut outgoing =
            hyper::Request::builder().method(request.method().as_str()).uri(self.target(request)?);
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        if let Some((vault, _)) = &self.vault {
            outgoing = outgoing.header(HOST, vault);
        }
        let outgoing = outgoing.body(Full::new(body.clone())).map_err(|error| other(&error))?;
        let answer = self.client.request(outgoing).await.map_err(|error| {
            // Only a connection that never was is sure to have carried nothing.
            let kind = if error.is_connect() { AzureKind::Connection } else { AzureKind::Io };
            AzureError::with_message(kind, told(&error))
        })?;
        let (parts, body) = answer.into_parts();
        let mut headers = Headers::new();
        for (name, value) in &parts.headers {
            if let Ok(value) = value.to_str() {
                headers
                    .insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| AzureError::with_message(AzureKind::Io, told(&*error)))?;
        Ok(AsyncRawResponse::from_bytes(parts.status.as_u16().into(), headers, body.to_bytes()))
    }
}

/// The whole of an error: hyper says little without what is behind it.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
