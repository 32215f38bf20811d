//! What ACME says when it refuses (RFC 8555 section 6.7, RFC 7807).

use serde_json::{Value, json};

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// The account is not known here.
    AccountDoesNotExist,
    /// A statement is not believed (draft-ietf-acme-device-attest, section 6).
    BadAttestationStatement,
    /// The request is unacceptable.
    BadCsr,
    /// The nonce is.
    BadNonce,
    /// The key of an account is.
    BadPublicKey,
    /// The algorithm of a signature is.
    BadSignatureAlgorithm,
    /// No message of the protocol.
    Malformed,
    /// Too early.
    OrderNotReady,
    /// Too many at a time.
    RateLimited,
    /// A device that gets nothing here.
    RejectedIdentifier,
    /// Nobody outside can do anything.
    ServerInternal,
    /// Not the client's to ask.
    Unauthorized,
    /// An identifier that is no device's.
    UnsupportedIdentifier,
}

impl Type {
    /// Its name in `urn:ietf:params:acme:error:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountDoesNotExist => "accountDoesNotExist",
            Self::BadAttestationStatement => "badAttestationStatement",
            Self::BadCsr => "badCSR",
            Self::BadNonce => "badNonce",
            Self::BadPublicKey => "badPublicKey",
            Self::BadSignatureAlgorithm => "badSignatureAlgorithm",
            Self::Malformed => "malformed",
            Self::OrderNotReady => "orderNotReady",
            Self::RateLimited => "rateLimited",
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::ServerInternal => "serverInternal",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedIdentifier => "unsupportedIdentifier",
        }
    }

    /// The status of the answer that carries it.
    pub const fn status(self) -> u16 {
        match self {
            Self::OrderNotReady | Self::Unauthorized | Self::BadAttestationStatement => 403,
            Self::RateLimited => 429,
            Self::ServerInternal => 500,
            _ => 400,
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: Type,
    /// Our code, where there is one.
    pub code: Option<&'static str>,
    /// Why, in words.
    pub detail: String,
}

impl Problem {
    /// A refusal.
    pub fn new(kind: Type, detail: impl Into<String>) -> Self {
        Self { kind, code: None, detail: detail.into() }
    }

    pub(super) fn malformed(detail: &str) -> Self {
        Self::new(Type::Malformed, detail)
    }

    /// The same with a code of ours.
    #[must_use]
    pub fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The problem document.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.kind.as_str()),
            "detail": self.detail,
            "status": self.kind.status(),
        });
        if let (Some(code), Value::Object(members)) = (self.code, &mut document) {
            members.insert("code".to_owned(), code.into());
        }
        // RFC 8555 section 6.2: which would be taken.
        if let (Type::BadSignatureAlgorithm, Value::Object(members)) = (self.kind, &mut document) {
            members.insert("algorithms".to_owned(), json!(["ES256", "RS256", "EdDSA"]));
        }
        document
    }
}
