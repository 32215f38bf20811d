//! Signed requests: a JWS in the flattened JSON serialization (RFC 7515 section 7.2.2) as RFC 8555 section 6.2 has it.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwk::Jwk;
use super::problem::{Problem, Type};

/// The longest request: an attestation object of 64 KiB, twice in base64.
pub const MAX_JWS: usize = 128 * 1024;

/// Who says that it signed.
#[derive(Clone, Debug)]
pub enum Signer {
    /// A key.
    Key(Jwk),
    /// An account, by its address.
    Account(String),
}

/// A request whose signature has not been verified yet.
#[derive(Clone, Debug)]
pub struct Jws {
    algorithm: String,
    nonce: String,
    url: String,
    signer: Signer,
    /// What is signed.
    message: String,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

/// No unprotected header, and one signature (RFC 8555 section 6.2).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

/// All that may be in it: an extension that is not understood must not be ignored (`crit`, RFC 7515 section 4.1.11).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    nonce: String,
    url: String,
    jwk: Option<Map<String, Value>>,
    kid: Option<String>,
}

impl Jws {
    /// Reads one.
    ///
    /// # Errors
    /// `malformed`, `badSignatureAlgorithm`, `badPublicKey`, `badNonce`.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        if body.len() > MAX_JWS {
            return Err(Problem::malformed("the request is too long"));
        }
        let wrong = |error: serde_json::Error| Problem::malformed(&format!("the JWS: {error}"));
        let flattened: Flattened = serde_json::from_slice(body).map_err(wrong)?;
        let decode = |field: &str, text: &str| {
            Base64UrlUnpadded::decode_vec(text)
                .map_err(|_| Problem::malformed(&format!("`{field}` is no base64url without padding")))
        };
        let protected = decode("protected", &flattened.protected)?;
        let header: Header = serde_json::from_slice(&protected).map_err(wrong)?;
        if !matches!(header.alg.as_str(), "ES256" | "RS256" | "EdDSA") {
            let why = "taken are ES256, RS256 and EdDSA";
            return Err(Problem::new(Type::BadSignatureAlgorithm, why));
        }
        let signer = match (header.jwk, header.kid) {
            (Some(jwk), None) => Signer::Key(Jwk::read(&jwk)?),
            (None, Some(kid)) => Signer::Account(kid),
            _ => return Err(Problem::malformed("the JWS must have either `jwk` or `kid`")),
        };
        Ok(Self {
            algorithm: header.alg,
            nonce: header.nonce,
            url: header.url,
            signer,
            message: format!("{}.{}", flattened.protected, flattened.payload),
            signature: decode("signature", &flattened.signature)?,
            payload: decode("payload", &flattened.payload)?,
        })
    }

    /// The nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The address that it was meant for.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who says that it signed.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// `badSignatureAlgorithm`, `unauthorized`.
    pub fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        key.verify(&self.algorithm, self.message.as_bytes(), &self.signature)
    }

    /// What was signed for.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}
