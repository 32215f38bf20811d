//! The requests of Cloud KMS, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use base64ct::{Base64, Encoding as _};
use crc::{CRC_32_ISCSI, Crc};
use futures::executor::block_on;
use futures::stream;
use serde_json::{Value, json};
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, RsaBits};

use super::attestation::Module;
use super::{Cloud, Corruption, CryptoKey, Failure, KEY_RING, State, Version, VersionState};

/// CRC-32C (RFC 3720 appendix B.4), which every field that matters has beside it.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The most bytes that are signed without being hashed first, as Cloud KMS documents.
const MAX_DATA: usize = 64 * 1024;

/// Entries on a page. The cloud's pages are longer; whoever does not turn them is found out by these.
const PAGE: usize = 2;

const SIGN: i64 = 5;
const SOFTWARE: i64 = 1;
const HSM: i64 = 2;

/// `CryptoKeyVersionAlgorithm`: its number and name, the keys that it is of, and the digest that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Algorithm {
    number: i64,
    name: &'static str,
    pub(super) key: KeyAlgorithm,
    digest: Option<(&'static str, usize)>,
}

const SHA256: Option<(&str, usize)> = Some(("sha256", 32));
const SHA384: Option<(&str, usize)> = Some(("sha384", 48));

const ALGORITHMS: [Algorithm; 9] = [
    algorithm(2, "RSA_SIGN_PSS_2048_SHA256", KeyAlgorithm::RsaPss(RsaBits::B2048), SHA256),
    algorithm(3, "RSA_SIGN_PSS_3072_SHA256", KeyAlgorithm::RsaPss(RsaBits::B3072), SHA256),
    algorithm(4, "RSA_SIGN_PSS_4096_SHA256", KeyAlgorithm::RsaPss(RsaBits::B4096), SHA256),
    algorithm(5, "RSA_SIGN_PKCS1_2048_SHA256", KeyAlgorithm::RsaPkcs1(RsaBits::B2048), SHA256),
    algorithm(6, "RSA_SIGN_PKCS1_3072_SHA256", KeyAlgorithm::RsaPkcs1(RsaBits::B3072), SHA256),
    algorithm(7, "RSA_SIGN_PKCS1_4096_SHA256", KeyAlgorithm::RsaPkcs1(RsaBits::B4096), SHA256),
    algorithm(12, "EC_SIGN_P256_SHA256", KeyAlgorithm::EcdsaP256, SHA256),
    algorithm(13, "EC_SIGN_P384_SHA384", KeyAlgorithm::EcdsaP384, SHA384),
    algorithm(40, "EC_SIGN_ED25519", KeyAlgorithm::Ed25519, None),
];

const fn algorithm(
    number: i64,
    name: &'static str,
    key: KeyAlgorithm,
    digest: Option<(&'static str, usize)>,
) -> Algorithm {
    Algorithm { number, name, key, digest }
}

impl Algorithm {
    pub(super) fn of(number: i64) -> Self {
        ALGORITHMS.into_iter().find(|known| known.number == number).unwrap_or(ALGORITHMS[6])
    }
}

/// An error as Google's interfaces tell it.
struct Refusal(StatusCode, &'static str, String);

type Answer = Result<Value, Refusal>;

fn invalid(what: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", what.into())
}

fn missing(name: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{name} not found."))
}

fn precondition(what: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", what.into())
}

fn internal(what: impl ToString) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", what.to_string())
}

pub(super) fn router(cloud: Arc<Cloud>) -> Router {
    Router::new().fallback(move |request: Request| handle(cloud.clone(), request))
}

async fn handle(cloud: Arc<Cloud>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches("/v1/").to_owned();
    let query: BTreeMap<String, String> = parts.uri.query().map(read_query).unwrap_or_default();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let call = Call { method: name_of(&parts.method, &path), path, query, body };
    let failure = {
        let mut state = cloud.lock();
        *state.calls.entry(call.method.clone()).or_default() += 1;
        state.next_failure(&call.method)
    };
    let denied = || format!("Permission 'cloudkms.{}' denied on resource '{}'", call.method, call.path);
    let answer = match failure {
        None => call.answer(&mut cloud.lock()),
        Some(Failure::Throttled) => Err(Refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'Cryptographic requests'".into(),
        )),
        Some(Failure::Unavailable) => Err(Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "UNAVAILABLE",
            "The service is currently unavailable.".into(),
        )),
        Some(Failure::Denied) => Err(Refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", denied())),
        Some(Failure::Unauthenticated) => Err(Refusal(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.".into(),
        )),
        Some(Failure::Cut) => {
            let answer = call.answer(&mut cloud.lock());
            return cut(&tell(answer).0);
        }
        Some(Failure::Silent) => std::future::pending().await,
    };
    let (text, status) = tell(answer);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn tell(answer: Answer) -> (String, StatusCode) {
    match answer {
        Ok(value) => (value.to_string(), StatusCode::OK),
        Err(Refusal(status, code, message)) => {
            let error = json!({"error": {"code": status.as_u16(), "message": message, "status": code}});
            (error.to_string(), status)
        }
    }
}

/// Half an answer.
fn cut(text: &str) -> Response {
    let half = text.as_bytes()[..text.len() / 2].to_vec();
    let parts = [Ok(half), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    Response::new(Body::from_stream(stream::iter(parts)))
}

fn read_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What the method is called in Google's documents.
fn name_of(method: &Method, path: &str) -> String {
    if let Some((_, verb)) = path.rsplit_once(':') {
        return verb.to_owned();
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    match (method, path.split('/').count()) {
        (&Method::POST, _) => format!("{last}.create"),
        (_, count) if count % 2 == 1 => match last {
            "publicKey" => "publicKey".to_owned(),
            _ => format!("{last}.list"),
        },
        (_, 8) => "cryptoKeys.get".to_owned(),
        (_, 10) => "cryptoKeyVersions.get".to_owned(),
        _ => "get".to_owned(),
    }
}

struct Call {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
}

impl Call {
    fn answer(&self, state: &mut State) -> Answer {
        let resource = self.path.split(':').next().unwrap_or_default();
        if !resource.starts_with(&format!("{KEY_RING}/")) && resource != KEY_RING {
            return Err(missing(resource));
        }
        match self.method.as_str() {
            "cryptoKeys.create" => self.create(state),
            "cryptoKeys.list" => self.list(state),
            "cryptoKeys.get" => {
                let key = state.keys.get(resource).ok_or_else(|| missing(resource))?;
                Ok(self.describe(resource, key))
            }
            "cryptoKeyVersions.list" => self.versions(state, resource.trim_end_matches("/cryptoKeyVersions")),
            "cryptoKeyVersions.get" => {
                let (level, algorithm, version) = find(state, resource)?;
                if version.looks > 0 {
                    version.looks -= 1;
                } else if version.state == VersionState::PendingGeneration {
                    version.state = VersionState::Enabled;
                }
                self.describe_version(resource, level, algorithm, version, true)
            }
            "publicKey" => self.public_key(state, resource.trim_end_matches("/publicKey")),
            "asymmetricSign" => self.sign(state, resource),
            "getIamPolicy" => {
                if resource != KEY_RING && !state.keys.contains_key(resource) {
                    return Err(missing(resource));
                }
                let bindings = state.policies.get(resource).cloned().unwrap_or_else(|| json!([]));
                Ok(json!({"version": 1, "etag": "BwYAAAAAAAA=", "bindings": bindings}))
            }
            other => Err(Refusal(StatusCode::NOT_FOUND, "NOT_FOUND", format!("no method {other}"))),
        }
    }

    /// Enumerations are numbers where that was asked for, and names otherwise.
    fn one_of(&self, number: i64, name: &str) -> Value {
        match self
            .query
            .values()
            .any(|value| value.contains("enum-encoding=int") || value.contains("enum-encoding%3Dint"))
        {
            true => json!(number),
            false => json!(name),
        }
    }

    fn create(&self, state: &mut State) -> Answer {
        let id = self.query.get("cryptoKeyId").cloned().unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if id.is_empty() || id.len() > 63 || !id.bytes().all(allowed) {
            return Err(invalid("CryptoKey ID must match [a-zA-Z0-9_-]{1,63}"));
        }
        let name = format!("{KEY_RING}/cryptoKeys/{id}");
        if state.keys.contains_key(&name) {
            return Err(Refusal(
                StatusCode::CONFLICT,
                "ALREADY_EXISTS",
                format!("CryptoKey {name} already exists."),
            ));
        }
        if !is(&self.body["purpose"], SIGN, "ASYMMETRIC_SIGN") {
            return Err(invalid("only ASYMMETRIC_SIGN is simulated"));
        }
        let template = &self.body["versionTemplate"];
        let algorithm = ALGORITHMS
            .into_iter()
            .find(|known| is(&template["algorithm"], known.number, known.name))
            .ok_or_else(|| invalid("the algorithm is not one of the purpose ASYMMETRIC_SIGN"))?;
        let level = match &template["protectionLevel"] {
            level if is(level, HSM, "HSM") => HSM,
            level if is(level, SOFTWARE, "SOFTWARE") || level.is_null() => SOFTWARE,
            _ => return Err(invalid("only the protection levels SOFTWARE and HSM are simulated")),
        };
        let version = Version::make(algorithm, state.says, state.looks).map_err(internal)?;
        let key = CryptoKey { purpose: SIGN, level, algorithm, versions: BTreeMap::from([(1, version)]) };
        let answer = self.describe(&name, &key);
        state.keys.insert(name, key);
        Ok(answer)
    }

    fn list(&self, state: &State) -> Answer {
        let keys: Vec<_> = state.keys.iter().map(|(name, key)| self.describe(name, key)).collect();
        Ok(self.page("cryptoKeys", keys))
    }

    fn versions(&self, state: &State, name: &str) -> Answer {
        let key = state.keys.get(name).ok_or_else(|| missing(name))?;
        let describe = |(number, version): (&u32, &Version)| {
            let name = format!("{name}/cryptoKeyVersions/{number}");
            self.describe_version(&name, key.level, key.algorithm, version, false)
        };
        let versions = key.versions.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
        Ok(self.page("cryptoKeyVersions", versions))
    }

    fn page(&self, of: &str, all: Vec<Value>) -> Value {
        let total = all.len();
        let start: usize =
            self.query.get("pageToken").and_then(|token| token.parse().ok()).unwrap_or_default();
        let page: Vec<_> = all.into_iter().skip(start).take(PAGE).collect();
        let next = if start + PAGE < total { (start + PAGE).to_string() } else { String::new() };
        json!({of: page, "nextPageToken": next, "totalSize": total})
    }

    fn describe(&self, name: &str, key: &CryptoKey) -> Value {
        let purpose = if key.purpose == SIGN { "ASYMMETRIC_SIGN" } else { "ENCRYPT_DECRYPT" };
        json!({
            "name": name,
            "purpose": self.one_of(key.purpose, purpose),
            "createTime": "2026-01-01T00:00:00Z",
            "versionTemplate": {
                "protectionLevel": self.level(key.level),
                "algorithm": self.one_of(key.algorithm.number, key.algorithm.name),
            },
        })
    }

    fn level(&self, level: i64) -> Value {
        self.one_of(level, if level == HSM { "HSM" } else { "SOFTWARE" })
    }

    fn describe_version(
        &self,
        name: &str,
        level: i64,
        algorithm: Algorithm,
        version: &Version,
        full: bool,
    ) -> Answer {
        let mut value = json!({
            "name": name,
            "state": self.one_of(version.state as i64, name_of_state(version.state)),
            "protectionLevel": self.level(level),
            "algorithm": self.one_of(algorithm.number, algorithm.name),
            "createTime": "2026-01-01T00:00:00Z",
        });
        let there = version.state != VersionState::PendingGeneration;
        // Attestations come with the full view alone.
        if full && there && level == HSM && algorithm.key != KeyAlgorithm::Ed25519 {
            let module = Module::of_this_process().map_err(internal)?;
            let statement = module.attest(version.key.public_key(), version.says).map_err(internal)?;
            value["attestation"] = json!({
                "format": self.one_of(4, "CAVIUM_V2_COMPRESSED"),
                "content": Base64::encode_string(&statement),
                "certChains": {
                    "caviumCerts": module.manufacturer_chain,
                    "googleCardCerts": module.owner_card,
                    "googlePartitionCerts": module.owner_partition,
                },
            });
        }
        Ok(value)
    }

    fn public_key(&self, state: &mut State, name: &str) -> Answer {
        let corrupt = state.is_corrupt(Corruption::Pem);
        let (level, algorithm, version) = find(state, name)?;
        must_be_enabled(name, version)?;
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let text = Base64::encode_string(version.key.public_key().spki());
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        let checksum = CRC32C.checksum(pem.as_bytes()).to_string();
        if corrupt {
            // In the middle of the point or the modulus, so that it still is a key's encoding.
            let at = 30 + text.len() / 2;
            let other = if &pem[at..=at] == "A" { "B" } else { "A" };
            pem.replace_range(at..=at, other);
        }
        Ok(json!({
            "pem": pem,
            "pemCrc32c": checksum,
            "name": name,
            "algorithm": self.one_of(algorithm.number, algorithm.name),
            "protectionLevel": self.level(level),
        }))
    }

    fn sign(&self, state: &mut State, name: &str) -> Answer {
        let wrong = |state: &mut State| {
            use Corruption::{Name, NoChecksum, OtherKey, Signature, Unverified};
            [Signature, OtherKey, Name, Unverified, NoChecksum].map(|corruption| state.is_corrupt(corruption))
        };
        let (level, algorithm, version) = find(state, name)?;
        must_be_enabled(name, version)?;
        let key = version.key.clone();
        let (signature, verified_digest, verified_data) = self.signature(algorithm, &key)?;
        state.signatures += 1;
        let [flipped, other_key, other_name, unverified, unchecked] = wrong(state);
        let mut signature = match other_key {
            true => {
                self.signature(
                    algorithm,
                    &crate::software::SoftwareKey::generate(algorithm.key).map_err(internal)?,
                )?
                .0
            }
            false => signature,
        };
        let checksum = CRC32C.checksum(&signature).to_string();
        if flipped && let Some(last) = signature.last_mut() {
            *last ^= 1;
        }
        let mut answer = json!({
            "signature": Base64::encode_string(&signature),
            "signatureCrc32c": checksum,
            "verifiedDigestCrc32c": verified_digest && !unverified,
            "verifiedDataCrc32c": verified_data && !unverified,
            "name": if other_name { format!("{name}0") } else { name.to_owned() },
            "protectionLevel": self.level(level),
        });
        if unchecked && let Some(fields) = answer.as_object_mut() {
            fields.remove("signatureCrc32c");
        }
        Ok(answer)
    }

    /// The signature, and which checksum of the request was verified.
    fn signature(
        &self,
        algorithm: Algorithm,
        key: &crate::software::SoftwareKey,
    ) -> Result<(Vec<u8>, bool, bool), Refusal> {
        let digest = self.body["digest"].as_object().filter(|digest| !digest.is_empty());
        let data = self.body["data"].as_str().filter(|data| !data.is_empty());
        let checked = |bytes: &[u8], field: &str| match self.body[field].as_str() {
            None => Ok(false),
            Some(text) if text.parse() == Ok(CRC32C.checksum(bytes)) => Ok(true),
            Some(_) => Err(invalid(format!("{field} did not match the bytes that it is of"))),
        };
        match (algorithm.digest, digest, data) {
            (_, Some(_), Some(_)) => Err(invalid("one of digest and data is allowed, not both")),
            (Some((kind, length)), Some(digest), None) => {
                let value = digest.get(kind).and_then(Value::as_str).ok_or_else(|| {
                    invalid(format!("{} takes a {kind} digest, not {:?}", algorithm.name, digest.keys()))
                })?;
                let value = Base64::decode_vec(value).map_err(|_| invalid("the digest is no base64"))?;
                if digest.len() != 1 || value.len() != length {
                    return Err(invalid(format!("a {kind} digest has {length} bytes, not {}", value.len())));
                }
                let verified = checked(&value, "digestCrc32c")?;
                let signature =
                    key.sign_digest_by(algorithm.key.signature_algorithm(), &value).map_err(internal)?;
                Ok((signature, verified, false))
            }
            (None, Some(_), None) => Err(invalid(format!("{} takes data and no digest", algorithm.name))),
            (_, None, data) => {
                // An empty message is absent on the wire: proto3 knows no difference.
                let value = Base64::decode_vec(data.unwrap_or_default())
                    .map_err(|_| invalid("the data is no base64"))?;
                if value.is_empty() && algorithm.digest.is_some() {
                    return Err(invalid("one of digest and data is needed"));
                }
                if value.len() > MAX_DATA {
                    return Err(invalid(format!("data of {} bytes is longer than {MAX_DATA}", value.len())));
                }
                let verified = checked(&value, "dataCrc32c")?;
                let signature = block_on(key.sign(&value)).map_err(internal)?;
                Ok((signature, false, verified))
            }
        }
    }
}

fn is(value: &Value, number: i64, name: &str) -> bool {
    value.as_i64() == Some(number) || value.as_str() == Some(name)
}

fn find<'a>(state: &'a mut State, name: &str) -> Result<(i64, Algorithm, &'a mut Version), Refusal> {
    let (key, number) = name.split_once("/cryptoKeyVersions/").ok_or_else(|| missing(name))?;
    let key = state.keys.get_mut(key).ok_or_else(|| missing(name))?;
    if key.purpose != SIGN {
        return Err(precondition(format!("{name} is not of the purpose ASYMMETRIC_SIGN")));
    }
    let version = number.parse().ok().and_then(|number: u32| key.versions.get_mut(&number));
    Ok((key.level, key.algorithm, version.ok_or_else(|| missing(name))?))
}

fn must_be_enabled(name: &str, version: &Version) -> Result<(), Refusal> {
    match version.state {
        VersionState::Enabled => Ok(()),
        other => {
            Err(precondition(format!("{name} is not enabled, current state is: {}.", name_of_state(other))))
        }
    }
}

fn name_of_state(state: VersionState) -> &'static str {
    match state {
        VersionState::Enabled => "ENABLED",
        VersionState::Disabled => "DISABLED",
        VersionState::Destroyed => "DESTROYED",
        VersionState::DestroyScheduled => "DESTROY_SCHEDULED",
        VersionState::PendingGeneration => "PENDING_GENERATION",
    }
}
