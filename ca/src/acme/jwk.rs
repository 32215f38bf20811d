//! Keys of accounts (RFC 7517, RFC 8037), and their thumbprints (RFC 7638).

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use undercroft_keys::{KeyType, PublicKey, SignatureAlgorithm};

use super::problem::{Problem, Type};

/// The public key of an account. One key has one thumbprint: what else stood in the JWK is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    key: PublicKey,
    thumbprint: [u8; 32],
}

impl Jwk {
    /// Reads one: P-256, RSA of 2048 bits or more with the exponent 65537, or Ed25519.
    ///
    /// # Errors
    /// `badPublicKey`.
    pub fn read(members: &Map<String, Value>) -> Result<Self, Problem> {
        let bad = |why: &str| Problem::new(Type::BadPublicKey, format!("the account's key: {why}"));
        if ["d", "p", "q", "k"].iter().any(|member| members.contains_key(*member)) {
            return Err(bad("it holds private parts, so that it is nobody's any more"));
        }
        let text = |member: &str| {
            let value = members.get(member).and_then(Value::as_str);
            value.ok_or_else(|| bad(&format!("`{member}` is missing")))
        };
        let bytes = |member: &str| {
            Base64UrlUnpadded::decode_vec(text(member)?)
                .map_err(|_| bad(&format!("`{member}` is no base64url")))
        };
        let unsound = |error: undercroft_keys::PublicKeyError| bad(&error.to_string());
        // RFC 7638 section 3.2: the required members alone, in the order of their names.
        let (key, canonical) = match text("kty")? {
            "EC" if text("crv")? == "P-256" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(bad("a coordinate has not 32 bytes"));
                }
                let key = PublicKey::from_ec_point(KeyType::P256, &[&[4][..], &x, &y].concat());
                (
                    key.map_err(unsound)?,
                    json!({ "crv": "P-256", "kty": "EC", "x": text("x")?, "y": text("y")? }),
                )
            }
            "OKP" if text("crv")? == "Ed25519" => {
                let key = PublicKey::from_ed25519(&bytes("x")?).map_err(unsound)?;
                (key, json!({ "crv": "Ed25519", "kty": "OKP", "x": text("x")? }))
            }
            "RSA" => {
                let (exponent, modulus) = (bytes("e")?, bytes("n")?);
                // RFC 7518 section 6.3.1: without leading zeros, or one key had many thumbprints.
                if exponent != [1, 0, 1] || modulus.first().is_none_or(|first| *first == 0) {
                    return Err(bad("the exponent is not 65537, or the modulus has leading zeros"));
                }
                let key = PublicKey::from_rsa_modulus(&modulus).map_err(unsound)?;
                (key, json!({ "e": text("e")?, "kty": "RSA", "n": text("n")? }))
            }
            _ => return Err(bad("it is neither of P-256, nor RSA, nor Ed25519")),
        };
        // serde_json's maps are in the order of names.
        let thumbprint = Sha256::digest(canonical.to_string()).into();
        Ok(Self { key, thumbprint })
    }

    /// SHA-256 of its canonical JSON.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// Verifies a JWS signature (RFC 7518 section 3, RFC 8037 section 3.1).
    ///
    /// # Errors
    /// `badSignatureAlgorithm`, `unauthorized`.
    pub(super) fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), Problem> {
        let unverified =
            || Problem::new(Type::Unauthorized, "the signature does not verify under the account's key");
        let (algorithm, signature) = match (algorithm, self.key.key_type()) {
            ("ES256", KeyType::P256) => {
                (SignatureAlgorithm::EcdsaP256Sha256, ecdsa(signature).ok_or_else(unverified)?)
            }
            ("RS256", KeyType::Rsa(_)) => (SignatureAlgorithm::RsaPkcs1Sha256, signature.to_vec()),
            ("EdDSA", KeyType::Ed25519) => (SignatureAlgorithm::Ed25519, signature.to_vec()),
            _ => {
                let why = "taken are ES256, RS256 and EdDSA, each with a key of its own kind";
                return Err(Problem::new(Type::BadSignatureAlgorithm, why));
            }
        };
        self.key.verify(algorithm, message, &signature).map_err(|_| unverified())
    }
}

/// r and s of 32 bytes each, as X.509 carries them.
fn ecdsa(signature: &[u8]) -> Option<Vec<u8>> {
    use der::Encode as _;
    use der::asn1::UintRef;

    let (r, s) = (signature.len() == 64).then(|| signature.split_at(32))?;
    let part = |bytes| UintRef::new(bytes).ok();
    EcdsaSigValue { r: part(r)?, s: part(s)? }.to_der().ok()
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(der::Sequence)]
struct EcdsaSigValue<'a> {
    r: der::asn1::UintRef<'a>,
    s: der::asn1::UintRef<'a>,
}
