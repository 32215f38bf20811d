//! The requests of a vault, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64ct::{Base64UrlUnpadded as Base64, Encoding as _};
use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use futures::stream;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, Numbers, RsaBits, SignatureAlgorithm};

use super::{Corruption, Failure, HOST, State, Vault, Version};
use crate::software::SoftwareKey;

/// Entries on a page. The vault's pages are longer; whoever does not turn them is found out by these.
const PAGE: usize = 2;

const CHALLENGE: &str = "Bearer authorization=\"https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000\", resource=\"https://vault.azure.net\"";

/// An error as the vault tells it: its code and, where there is one, the code within.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    inner: Option<&'static str>,
    message: String,
    header: Option<(HeaderName, String)>,
}

type Answer = Result<Value, Refusal>;

fn refusal(
    status: u16,
    code: &'static str,
    inner: Option<&'static str>,
    message: impl Into<String>,
) -> Refusal {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Refusal { status, code, inner, message: message.into(), header: None }
}

fn bad(message: impl Into<String>) -> Refusal {
    refusal(400, "BadParameter", None, message)
}

fn missing(name: &str) -> Refusal {
    let message = format!("A key with (name/id) {name} was not found in this key vault.");
    refusal(404, "KeyNotFound", None, message)
}

fn internal(what: impl ToString) -> Refusal {
    refusal(500, "InternalServerError", None, what.to_string())
}

pub(super) fn router(vault: Arc<Vault>) -> Router {
    Router::new().fallback(move |request: Request| handle(vault.clone(), request))
}

async fn handle(vault: Arc<Vault>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let has_token =
        token.is_some_and(|value| value.strip_prefix("Bearer ").is_some_and(|token| !token.is_empty()));
    let path: Vec<_> = parts.uri.path().trim_matches('/').split('/').map(str::to_owned).collect();
    let query: BTreeMap<String, String> = parts.uri.query().map(read_query).unwrap_or_default();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let call = Call { path, query, body: serde_json::from_slice(&body).unwrap_or_default() };
    let now = vault.lock().now;
    if !has_token {
        let mut unauthorized =
            refusal(401, "Unauthorized", None, "AKV10000: Request is missing a Bearer or PoP token.");
        unauthorized.header = Some((header::WWW_AUTHENTICATE, CHALLENGE.to_owned()));
        return tell(Err(unauthorized), now);
    }
    let method = call.method(&parts.method);
    let failure = {
        let mut state = vault.lock();
        *state.calls.entry(method.to_owned()).or_default() += 1;
        state.next_failure(method)
    };
    let answer = match failure {
        None => call.answer(method, &mut vault.lock()),
        Some(Failure::Throttled(seconds)) => {
            let mut throttled = refusal(
                429,
                "Throttled",
                None,
                "Request was not processed because too many requests were received.",
            );
            throttled.header = Some((header::RETRY_AFTER, seconds.to_string()));
            Err(throttled)
        }
        Some(Failure::Unavailable) => {
            Err(refusal(503, "ServiceUnavailable", None, "The service is unavailable."))
        }
        Some(Failure::Denied) => Err(refusal(
            403,
            "Forbidden",
            Some("ForbiddenByRbac"),
            format!(
                "Caller is not authorized to perform action on resource. Action: 'Microsoft.KeyVault/vaults/keys/{method}/action'"
            ),
        )),
        Some(Failure::Cut) => {
            let text = call.answer(method, &mut vault.lock()).unwrap_or_default().to_string();
            let half = text.as_bytes()[..text.len() / 2].to_vec();
            let parts = [Ok(half), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
            return Response::new(Body::from_stream(stream::iter(parts)));
        }
        Some(Failure::Silent) => std::future::pending().await,
    };
    tell(answer, now)
}

fn tell(answer: Answer, now: i64) -> Response {
    let (text, status, extra) = match answer {
        Ok(value) => (value.to_string(), StatusCode::OK, None),
        Err(refusal) => {
            let mut error = json!({"code": refusal.code, "message": refusal.message});
            if let Some(inner) = refusal.inner {
                error["innererror"] = json!({"code": inner});
            }
            (json!({"error": error}).to_string(), refusal.status, refusal.header)
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let date = Timestamp::from_second(now)
        .ok()
        .and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok());
    let date = date.map(|date| (header::DATE, date));
    for (name, value) in extra.into_iter().chain(date) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

fn read_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

struct Call {
    path: Vec<String>,
    query: BTreeMap<String, String>,
    body: Value,
}

impl Call {
    fn part(&self, at: usize) -> &str {
        self.path.get(at).map_or("", String::as_str)
    }

    fn method(&self, http: &Method) -> &'static str {
        match (http, self.part(0), self.part(2), self.path.len()) {
            (&Method::GET, "keys", _, 1) => "list",
            (&Method::GET, "keys", "versions", 3) => "versions",
            (&Method::GET, "keys", _, 2 | 3) => "get",
            (&Method::GET, "keys", _, 4) if self.part(3) == "attestation" => "attestation",
            (&Method::GET, "deletedkeys", _, 2) => "deleted",
            (&Method::POST, "keys", "create", 3) => "create",
            (&Method::POST, "keys", _, 4) if self.part(3) == "sign" => "sign",
            _ => "unknown",
        }
    }

    fn answer(&self, method: &str, state: &mut State) -> Answer {
        if !self.query.contains_key("api-version") {
            return Err(refusal(400, "BadParameter", None, "api-version must be specified"));
        }
        let name = self.part(1);
        match method {
            "create" => self.create(state),
            "sign" => self.sign(state),
            "list" => {
                let items = state.keys.iter().filter_map(|(name, versions)| {
                    versions.last().map(|version| item(format!("https://{HOST}/keys/{name}"), version))
                });
                Ok(self.page(items.collect()))
            }
            "versions" => {
                let versions = state.keys.get(name).map(Vec::as_slice).unwrap_or_default();
                let items = versions.iter().map(|version| item(kid(name, version), version)).collect();
                Ok(self.page(items))
            }
            // Attributes carry no attestation in a vault, only in a managed HSM.
            "get" | "attestation" => {
                let version = find(state, name, self.part(2))?;
                must_be_enabled("get", version)?;
                Ok(describe(name, version))
            }
            "deleted" => {
                let version = state
                    .deleted
                    .get(name)
                    .and_then(|versions| versions.last())
                    .ok_or_else(|| missing(name))?;
                let mut value = describe(name, version);
                value["recoveryId"] = json!(format!("https://{HOST}/deletedkeys/{name}"));
                value["deletedDate"] = json!(state.now);
                value["scheduledPurgeDate"] = json!(state.now + 90 * 86_400);
                Ok(value)
            }
            _ => Err(refusal(404, "NotFound", None, "no such method is simulated")),
        }
    }

    fn page(&self, all: Vec<Value>) -> Value {
        let total = all.len();
        let start: usize = self
            .query
            .get("$skiptoken")
            .or_else(|| self.query.get("%24skiptoken"))
            .and_then(|token| token.parse().ok())
            .unwrap_or_default();
        let page: Vec<_> = all.into_iter().skip(start).take(PAGE).collect();
        let next = (start + PAGE < total).then(|| {
            format!("https://{HOST}/{}?api-version=7.6&$skiptoken={}", self.path.join("/"), start + PAGE)
        });
        json!({"value": page, "nextLink": next})
    }

    fn create(&self, state: &mut State) -> Answer {
        let name = self.part(1);
        if name.is_empty()
            || name.len() > 127
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Err(bad(format!("The request URI contains an invalid name: {name}")));
        }
        if state.deleted.contains_key(name) {
            let message = format!(
                "Key {name} is currently in a deleted but recoverable state, and its name cannot be reused"
            );
            return Err(refusal(409, "Conflict", Some("ObjectIsDeletedButRecoverable"), message));
        }
        let hsm = self.body["kty"].as_str().is_some_and(|kty| kty.ends_with("-HSM"));
        let algorithm = match self.body["kty"].as_str() {
            Some("EC" | "EC-HSM") => match self.body["crv"].as_str() {
                Some("P-256") => KeyAlgorithm::EcdsaP256,
                Some("P-384") => KeyAlgorithm::EcdsaP384,
                other => return Err(bad(format!("the curve {other:?} is not simulated"))),
            },
            Some("RSA" | "RSA-HSM") => match self.body["key_size"].as_i64() {
                Some(2048) => KeyAlgorithm::RsaPss(RsaBits::B2048),
                Some(3072) => KeyAlgorithm::RsaPss(RsaBits::B3072),
                Some(4096) => KeyAlgorithm::RsaPss(RsaBits::B4096),
                other => return Err(bad(format!("RSA keys have no {other:?} bits"))),
            },
            other => return Err(bad(format!("Invalid key type {other:?}"))),
        };
        let mut version = Version::make(algorithm, hsm).map_err(internal)?;
        if let Some(ops) = self.body["key_ops"].as_array() {
            version.attributes.signs = ops.iter().any(|op| op == "sign");
        }
        if self.body["attributes"]["exportable"] == json!(true) {
            if self.body["release_policy"].is_null() {
                return Err(bad("exportable keys must have release policy"));
            }
            version.attributes.exportable = true;
        }
        let answer = describe(name, &version);
        state.keys.entry(name.to_owned()).or_default().push(version);
        Ok(answer)
    }

    fn sign(&self, state: &mut State) -> Answer {
        let (name, id) = (self.part(1), self.part(2));
        let now = state.now;
        let version = find(state, name, id)?;
        must_be_enabled("sign", version)?;
        if version.attributes.not_before.is_some_and(|begins| now < begins) {
            return Err(refusal(
                403,
                "Forbidden",
                Some("KeyNotYetValid"),
                "Operation sign is not allowed on a key that is not yet valid.",
            ));
        }
        if version.attributes.expires.is_some_and(|ends| now >= ends) {
            return Err(refusal(
                403,
                "Forbidden",
                Some("KeyExpired"),
                "Operation sign is not allowed on an expired key.",
            ));
        }
        if !version.attributes.signs {
            return Err(refusal(
                403,
                "Forbidden",
                Some("KeyOperationForbidden"),
                "Operation sign is not permitted on this key.",
            ));
        }
        let digest = self.body["value"]
            .as_str()
            .and_then(|text| Base64::decode_vec(text).ok())
            .ok_or_else(|| bad("value is no base64url"))?;
        let is_rsa = matches!(version.algorithm, KeyAlgorithm::RsaPss(_));
        let (scheme, length) = match (self.body["alg"].as_str(), version.algorithm) {
            (Some("ES256"), KeyAlgorithm::EcdsaP256) => (SignatureAlgorithm::EcdsaP256Sha256, 32),
            (Some("ES384"), KeyAlgorithm::EcdsaP384) => (SignatureAlgorithm::EcdsaP384Sha384, 48),
            (Some("PS256"), _) if is_rsa => (SignatureAlgorithm::RsaPssSha256, 32),
            (Some("RS256"), _) if is_rsa => (SignatureAlgorithm::RsaPkcs1Sha256, 32),
            (other, _) => return Err(bad(format!("Key and signing key type do not match: {other:?}"))),
        };
        if digest.len() != length {
            return Err(bad(format!(
                "Invalid length of 'value': {} bytes. Required length is {length} bytes.",
                digest.len()
            )));
        }
        let (key, algorithm, kid) = (version.key.clone(), version.algorithm, kid(name, version));
        state.signatures += 1;
        let key = match state.is_corrupt(Corruption::OtherKey) {
            true => Arc::new(SoftwareKey::generate(algorithm).map_err(internal)?),
            false => key,
        };
        let mut signature = key.sign_digest_by(scheme, &digest).map_err(internal)?;
        if !is_rsa {
            signature =
                raw(&signature, length).ok_or_else(|| internal("a signature that is no ECDSA-Sig-Value"))?;
        }
        if state.is_corrupt(Corruption::Signature)
            && let Some(last) = signature.last_mut()
        {
            *last ^= 1;
        }
        if state.is_corrupt(Corruption::Short) {
            signature.pop();
        }
        let kid = match state.is_corrupt(Corruption::Kid) {
            true => format!("https://{HOST}/keys/{name}/{}", "0".repeat(32)),
            false => kid,
        };
        Ok(json!({"kid": kid, "value": Base64::encode_string(&signature)}))
    }
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A signature as JWS carries it (RFC 7518 section 3.4).
fn raw(der: &[u8], length: usize) -> Option<Vec<u8>> {
    let signature = EcdsaSignature::from_der(der).ok()?;
    let mut raw = Vec::new();
    for number in [signature.r.as_bytes(), signature.s.as_bytes()] {
        raw.extend(vec![0; length.checked_sub(number.len())?]);
        raw.extend(number);
    }
    Some(raw)
}

fn find<'a>(state: &'a State, name: &str, id: &str) -> Result<&'a Version, Refusal> {
    let versions = state.keys.get(name).ok_or_else(|| missing(name))?;
    let version = match id {
        "" => versions.last(),
        id => versions.iter().find(|version| version.id == id),
    };
    version.ok_or_else(|| missing(&format!("{name}/{id}")))
}

fn must_be_enabled(operation: &str, version: &Version) -> Result<(), Refusal> {
    match version.attributes.enabled {
        true => Ok(()),
        false => {
            let message = format!("Operation {operation} is not allowed on a disabled key.");
            Err(refusal(403, "Forbidden", Some("KeyDisabled"), message))
        }
    }
}

fn kid(name: &str, version: &Version) -> String {
    format!("https://{HOST}/keys/{name}/{}", version.id)
}

fn item(kid: String, version: &Version) -> Value {
    json!({"kid": kid, "attributes": attributes(version)})
}

fn attributes(version: &Version) -> Value {
    let has = version.attributes;
    let mut value = json!({
        "enabled": has.enabled,
        "created": 1_767_225_600,
        "updated": 1_767_225_600,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
        "exportable": has.exportable,
        "hsmPlatform": if version.hsm { "2" } else { "0" },
    });
    for (name, time) in [("nbf", has.not_before), ("exp", has.expires)] {
        if let Some(time) = time {
            value[name] = json!(time);
        }
    }
    value
}

fn describe(name: &str, version: &Version) -> Value {
    let ops = if version.attributes.signs { json!(["sign", "verify"]) } else { json!(["verify"]) };
    let mut key = json!({"kid": kid(name, version), "key_ops": ops});
    match version.key.public_key().numbers() {
        Numbers::Ec { x, y } => {
            key["kty"] = json!(if version.hsm { "EC-HSM" } else { "EC" });
            key["crv"] = json!(if x.len() == 32 { "P-256" } else { "P-384" });
            key["x"] = json!(Base64::encode_string(x));
            key["y"] = json!(Base64::encode_string(y));
        }
        Numbers::Rsa { n, e } => {
            key["kty"] = json!(if version.hsm { "RSA-HSM" } else { "RSA" });
            key["n"] = json!(Base64::encode_string(n));
            key["e"] = json!(Base64::encode_string(e));
        }
        Numbers::Ed25519 { .. } => {}
    }
    let mut value = json!({"key": key, "attributes": attributes(version)});
    if version.attributes.exportable {
        value["release_policy"] = json!({"contentType": "application/json; charset=utf-8", "data": "e30"});
    }
    value
}
