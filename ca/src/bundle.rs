//! Bundles: the roots of a trust domain, as they are published.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use undercroft_keys::{KeyType, Numbers, PublicKey};
use undercroft_log::leaf::{Base64Bytes, Bundle as Entry, Digest};

use crate::certificate::{AuthorityCertificate, CertificateError};
use crate::names::TrustDomain;
use crate::time::Lifetime;

/// How often consumers should look for a newer bundle, unless configuration says otherwise (SPIFFE Trust Domain and Bundle
/// section 4.1.2).
pub const REFRESH_HINT: Lifetime = Lifetime::seconds(300);

/// The published bundle of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    domain: TrustDomain,
    sequence: u64,
    roots: Vec<AuthorityCertificate>,
    /// SHA-256 of roots.
    tainted: Vec<Digest>,
    refresh_hint: Lifetime,
}

impl Bundle {
    /// The first bundle of a domain.
    pub fn first(domain: TrustDomain, roots: Vec<AuthorityCertificate>, refresh_hint: Lifetime) -> Self {
        Self { domain, sequence: 1, roots, tainted: Vec::new(), refresh_hint }
    }

    /// The bundle that comes after this one. `tainted` are the SHA-256 of roots.
    #[must_use]
    pub fn next(
        &self,
        roots: Vec<AuthorityCertificate>,
        tainted: Vec<Digest>,
        refresh_hint: Lifetime,
    ) -> Self {
        Self { domain: self.domain.clone(), sequence: self.sequence + 1, roots, tainted, refresh_hint }
    }

    /// Reads what stands in the log.
    ///
    /// # Errors
    /// A root in it is none.
    pub fn read(domain: TrustDomain, entry: &Entry) -> Result<Self, CertificateError> {
        let roots = entry.roots.iter().map(|root| AuthorityCertificate::from_der(&root.0));
        Ok(Self {
            domain,
            sequence: entry.sequence,
            roots: roots.collect::<Result<_, _>>()?,
            tainted: entry.tainted.clone(),
            refresh_hint: entry.refresh_hint.map_or(REFRESH_HINT, Lifetime::seconds),
        })
    }

    /// What stands in the log.
    pub fn entry(&self) -> Entry {
        Entry {
            domain: self.domain.as_str().to_owned(),
            sequence: self.sequence,
            roots: self.roots.iter().map(|root| Base64Bytes(root.der().to_vec())).collect(),
            tainted: self.tainted.clone(),
            refresh_hint: Some(self.refresh_hint.as_seconds()),
        }
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// `spiffe_sequence`: it grows by one with each change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The roots, tainted ones too: what stands under those goes on verifying until they are retired.
    pub fn roots(&self) -> &[AuthorityCertificate] {
        &self.roots
    }

    /// Whether nothing new is to stand under a root.
    pub fn is_tainted(&self, root: &AuthorityCertificate) -> bool {
        self.tainted.contains(&Digest::of(root.der()))
    }

    /// `spiffe_refresh_hint`: how often consumers should look for a newer one.
    pub fn refresh_hint(&self) -> Lifetime {
        self.refresh_hint
    }

    /// Whether another bundle has the same roots, whatever its taints.
    pub fn has_roots_of(&self, other: &Self) -> bool {
        self.roots.len() == other.roots.len() && self.roots.iter().all(|root| other.roots.contains(root))
    }

    /// The SPIFFE bundle document: a JWK Set (SPIFFE Trust Domain and Bundle section 4). It has no room for taints.
    pub fn to_json(&self) -> Value {
        let keys: Vec<_> = self.roots.iter().map(jwk).collect();
        json!({
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": self.refresh_hint.as_seconds(),
            "keys": keys,
        })
    }
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
