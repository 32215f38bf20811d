//! An order for one device, with its authorization and its challenge (RFC 8555 section 7.1): one thing, under three addresses.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use undercroft_keys::PublicKey;

use super::problem::{Problem, Type};

/// The one kind of identifier that there is (draft-ietf-acme-device-attest, section 3).
const PERMANENT_IDENTIFIER: &str = "permanent-identifier";
/// The one challenge.
const DEVICE_ATTEST: &str = "device-attest-01";
/// The longest identifier, which is a segment of a SPIFFE ID.
const MAX_IDENTIFIER: usize = 255;

/// Whom an order is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifier {
    /// What kind of name it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name.
    pub value: String,
}

impl Identifier {
    /// Checks that it may be the name of a device, which can stand in a SPIFFE ID.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.kind != PERMANENT_IDENTIFIER {
            let why = format!("identifiers of the type {PERMANENT_IDENTIFIER} alone are taken");
            return Err(Problem::new(Type::UnsupportedIdentifier, why).coded("identifier-type"));
        }
        let refused = |code, why: &str| Err(Problem::new(Type::RejectedIdentifier, why).coded(code));
        if self.value.is_empty() {
            return refused("identifier-empty", "the identifier is empty");
        }
        // SPIFFE-ID section 2.2.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.value.len() > MAX_IDENTIFIER
            || !self.value.bytes().all(fits)
            || matches!(self.value.as_str(), "." | "..")
        {
            return refused("identifier-unfit", "the identifier cannot stand in a SPIFFE ID");
        }
        Ok(())
    }
}

/// A device whose statement was believed.
#[derive(Clone, Debug)]
pub struct Attested {
    /// The key that a certificate may be made for.
    pub key: PublicKey,
    /// Who it is.
    pub identifier: String,
    /// SHA-256 of the attestation object.
    pub evidence: [u8; 32],
}

/// How far an order is.
#[derive(Clone, Debug)]
pub enum State {
    /// The challenge waits for its answer.
    Pending,
    /// The answer is being judged.
    Judging,
    /// The answer was refused.
    Refused(Problem),
    /// The answer was believed.
    Ready(Attested),
    /// The certificate is being issued.
    Processing(Attested),
    /// It is issued.
    Valid(String),
}

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    account: String,
    identifier: Identifier,
    token: String,
    expires: Timestamp,
    state: State,
}

impl Order {
    pub(super) fn new(account: String, identifier: Identifier, token: String, expires: Timestamp) -> Self {
        Self { account, identifier, token, expires, state: State::Pending }
    }

    pub(super) fn is_of(&self, account: &str) -> bool {
        self.account == account
    }

    pub(super) fn identifier(&self) -> &str {
        &self.identifier.value
    }

    /// Section 8.1.
    pub(super) fn key_authorization(&self, thumbprint: &[u8; 32]) -> String {
        format!("{}.{}", self.token, Base64UrlUnpadded::encode_string(thumbprint))
    }

    /// Whether the answer that comes now is the one that is judged.
    pub(super) fn is_taken(&mut self) -> bool {
        let first = matches!(self.state, State::Pending);
        if first {
            self.state = State::Judging;
        }
        first
    }

    pub(super) fn judged(&mut self, judged: Result<Attested, Problem>) {
        self.state = match (&self.state, judged) {
            (State::Judging, Ok(attested)) => State::Ready(attested),
            // Nothing is known of the device; the same answer may be given again.
            (State::Judging, Err(Problem { kind: Type::ServerInternal | Type::RateLimited, .. })) => {
                State::Pending
            }
            (State::Judging, Err(problem)) => State::Refused(problem),
            (other, _) => other.clone(),
        };
    }

    pub(super) fn ready(&self) -> Result<&Attested, Problem> {
        match &self.state {
            State::Ready(attested) => Ok(attested),
            _ => Err(Problem::new(Type::OrderNotReady, format!("the order is {}", self.status()))),
        }
    }

    pub(super) fn processing(&mut self) {
        if let State::Ready(attested) = &self.state {
            self.state = State::Processing(attested.clone());
        }
    }

    pub(super) fn issued(&mut self, issued: Result<String, Problem>) -> Result<(), Problem> {
        let State::Processing(attested) = &self.state else { return Ok(()) };
        match issued {
            Ok(chain) => {
                self.state = State::Valid(chain);
                Ok(())
            }
            Err(problem) => {
                self.state = State::Ready(attested.clone());
                Err(problem)
            }
        }
    }

    pub(super) fn certificate(&self) -> Result<&str, Problem> {
        match &self.state {
            State::Valid(chain) => Ok(chain),
            _ => Err(Problem::new(Type::OrderNotReady, format!("the order is {}", self.status()))),
        }
    }

    fn status(&self) -> &'static str {
        match self.state {
            State::Pending | State::Judging => "pending",
            State::Refused(_) => "invalid",
            State::Ready(_) => "ready",
            State::Processing(_) => "processing",
            State::Valid(_) => "valid",
        }
    }

    pub(super) fn show(&self, id: &str, url: &str) -> Value {
        let mut shown = json!({
            "status": self.status(),
            "expires": self.expires.to_string(),
            "identifiers": [self.identifier],
            "authorizations": [format!("{url}/acme/authorization/{id}")],
            "finalize": format!("{url}/acme/order/{id}/finalize"),
        });
        if let (State::Refused(problem), Value::Object(members)) = (&self.state, &mut shown) {
            members.insert("error".to_owned(), problem.document());
        }
        if let (State::Valid(_), Value::Object(members)) = (&self.state, &mut shown) {
            members.insert("certificate".to_owned(), format!("{url}/acme/certificate/{id}").into());
        }
        shown
    }

    pub(super) fn authorization(&self, id: &str, url: &str) -> Value {
        let status = match self.state {
            State::Pending | State::Judging => "pending",
            State::Refused(_) => "invalid",
            State::Ready(_) | State::Processing(_) | State::Valid(_) => "valid",
        };
        json!({
            "status": status,
            "expires": self.expires.to_string(),
            "identifier": self.identifier,
            "challenges": [self.challenge(id, url)],
        })
    }

    pub(super) fn challenge(&self, id: &str, url: &str) -> Value {
        let status = match self.state {
            State::Pending => "pending",
            State::Judging => "processing",
            State::Refused(_) => "invalid",
            State::Ready(_) | State::Processing(_) | State::Valid(_) => "valid",
        };
        let mut shown = json!({
            "type": DEVICE_ATTEST,
            "url": format!("{url}/acme/challenge/{id}"),
            "status": status,
            "token": self.token,
        });
        if let (State::Refused(problem), Value::Object(members)) = (&self.state, &mut shown) {
            members.insert("error".to_owned(), problem.document());
        }
        shown
    }
}
