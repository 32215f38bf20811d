//! Bundles: the roots of a trust domain, as they are published.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use undercroft_keys::{KeyType, Numbers, PublicKey};
use undercroft_log::leaf::Digest;

use crate::certificate::AuthorityCertificate;
use crate::names::TrustDomain;

/// How often consumers should look for a newer bundle, in seconds (SPIFFE Trust Domain and Bundle section 4.1.2).
const REFRESH_HINT: u64 = 300;

/// The published bundle of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    domain: TrustDomain,
    sequence: u64,
    roots: Vec<AuthorityCertificate>,
}

impl Bundle {
    /// The bundle of `roots` with a sequence number.
    pub fn new(domain: TrustDomain, sequence: u64, roots: Vec<AuthorityCertificate>) -> Self {
        Self { domain, sequence, roots }
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// `spiffe_sequence`: it grows with each change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The roots.
    pub fn roots(&self) -> &[AuthorityCertificate] {
        &self.roots
    }

    /// SHA-256 over the roots, in order: bundles of the same roots have the same digest.
    pub fn digest_of(roots: &[AuthorityCertificate]) -> Digest {
        digest_of_roots(&roots.iter().map(AuthorityCertificate::der).collect::<Vec<_>>())
    }

    /// The SPIFFE bundle document: a JWK Set (SPIFFE Trust Domain and Bundle section 4).
    pub fn to_json(&self) -> Value {
        let keys: Vec<_> = self.roots.iter().map(jwk).collect();
        json!({ "spiffe_sequence": self.sequence, "spiffe_refresh_hint": REFRESH_HINT, "keys": keys })
    }
}

/// [`Bundle::digest_of`] roots in DER.
pub(crate) fn digest_of_roots(roots: &[&[u8]]) -> Digest {
    let mut all = Vec::new();
    for root in roots {
        all.extend(Digest::of(root).0);
    }
    Digest::of(&all)
}

/// X509-SVID section 6.1: `use` is `x509-svid`, `kid` is absent, `x5c` holds exactly the root.
fn jwk(root: &AuthorityCertificate) -> Value {
    let mut jwk = public_jwk(root.public_key());
    jwk["use"] = json!("x509-svid");
    jwk["x5c"] = json!([Base64::encode_string(root.der())]);
    jwk
}

fn public_jwk(key: &PublicKey) -> Value {
    let url = Base64UrlUnpadded::encode_string;
    match key.numbers() {
        Numbers::Ec { x, y } => {
            let curve = if key.key_type() == KeyType::P256 { "P-256" } else { "P-384" };
            json!({ "kty": "EC", "crv": curve, "x": url(x), "y": url(y) })
        }
        Numbers::Rsa { n, e } => json!({ "kty": "RSA", "n": url(n), "e": url(e) }),
        Numbers::Ed25519 { x } => json!({ "kty": "OKP", "crv": "Ed25519", "x": url(x) }),
    }
}
