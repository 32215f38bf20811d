//! What the tests of this crate share: a time, names, and specifications that pass lint.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::names::{Identity, TpmNames, parse_spiffe_id, parse_trust_domain};
use crate::profile::{Kind, PolicyArc, Profile};
use crate::serial::{Entropy, NoEntropy, SerialNumber};
use crate::subject::Subject;
use crate::tbs::{CertificateSpec, DomainConstraints, Issuer, SignedBy, Urls};
use crate::time::{Lifetime, Validity};

/// 2026-11-22T08:00:00Z.
pub(crate) fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

/// A new key; RSA keys take long to make, so there is one of each length in a process.
pub(crate) fn key(algorithm: KeyAlgorithm) -> PublicKey {
    static RSA: Mutex<BTreeMap<KeyAlgorithm, PublicKey>> = Mutex::new(BTreeMap::new());
    let make = || SoftwareKey::generate(algorithm).unwrap().public_key().clone();
    match algorithm {
        KeyAlgorithm::RsaPss(bits) | KeyAlgorithm::RsaPkcs1(bits) => {
            RSA.lock().unwrap().entry(KeyAlgorithm::RsaPss(bits)).or_insert_with(make).clone()
        }
        _ => make(),
    }
}

/// Randomness that is different each time and the same in each run.
#[derive(Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU8);

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 0x7e + 1);
        Ok(())
    }
}

/// Everything that a specification borrows.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) profile: Profile,
    pub(crate) arc: PolicyArc,
    pub(crate) serial: SerialNumber,
    pub(crate) validity: Validity,
    pub(crate) subject: Subject,
    pub(crate) public_key: PublicKey,
    pub(crate) identity: Identity,
    pub(crate) path_length: Option<u8>,
    pub(crate) constraints: Option<DomainConstraints>,
    /// None for roots, which sign themselves.
    pub(crate) issuer: Option<Issuer>,
}

impl Parts {
    pub(crate) fn spec(&self) -> CertificateSpec<'_> {
        CertificateSpec {
            profile: &self.profile,
            policy_arc: &self.arc,
            serial: self.serial,
            validity: self.validity,
            subject: &self.subject,
            public_key: &self.public_key,
            identity: &self.identity,
            path_length: self.path_length,
            constraints: self.constraints.as_ref(),
        }
    }

    pub(crate) fn signed_by(&self) -> SignedBy<'_> {
        match &self.issuer {
            Some(issuer) => SignedBy::Issuer(issuer),
            None => SignedBy::Itself(KeyAlgorithm::EcdsaP256.signature_algorithm()),
        }
    }
}

/// A sound specification of each kind.
pub(crate) fn parts(kind: Kind) -> Parts {
    let domain = parse_trust_domain("prod.example").unwrap();
    let profile = Profile::standard(kind);
    let issuer_validity =
        Validity::new(now() - Lifetime::days(30).0, now() + Lifetime::days(7300).0).unwrap();
    let leaf = |id: &str, dns: &[&str]| {
        Identity::leaf(&parse_spiffe_id(id).unwrap(), dns.iter().map(|name| name.parse().unwrap()).collect())
    };
    let identity = match kind {
        Kind::Root | Kind::Intermediate | Kind::SpireCa | Kind::CrossCertificate => {
            Identity::authority(&domain)
        }
        Kind::Svid => leaf("spiffe://prod.example/ns/a/sa/b", &["b.prod.example"]),
        Kind::OcspSigner => Identity::default(),
        Kind::AttestationKey => Identity::tpm(
            TpmNames::new(["id:00001014", "swtpm", "id:20191023"].map(str::to_owned), [0xe4; 32]).unwrap(),
        ),
        Kind::Server => leaf("spiffe://prod.example/undercroft/server", &["ca.prod.example"]),
    };
    Parts {
        validity: Validity::within(&issuer_validity, now(), profile.lifetime()).unwrap(),
        profile,
        arc: "1.3.6.1.4.1.32473.1".parse().unwrap(),
        serial: SerialNumber::from_bytes([0x17; 16]).unwrap(),
        subject: match kind {
            Kind::AttestationKey => Subject::empty(),
            _ => Subject::new("prod.example", Some("subject")).unwrap(),
        },
        public_key: key(KeyAlgorithm::EcdsaP256),
        identity,
        path_length: match kind {
            Kind::Intermediate => Some(1),
            Kind::SpireCa => Some(0),
            Kind::CrossCertificate => Some(3),
            Kind::Root | Kind::Svid | Kind::Server | Kind::OcspSigner | Kind::AttestationKey => None,
        },
        constraints: None,
        issuer: (kind != Kind::Root).then(|| Issuer {
            name: Subject::new("prod.example", Some("issuer")).unwrap(),
            key_identifier: vec![0x42; 20],
            algorithm: KeyAlgorithm::EcdsaP384.signature_algorithm(),
            validity: issuer_validity,
            urls: Urls {
                crl: "http://pki.example/prod.crl".parse().unwrap(),
                certificate: "http://pki.example/prod.cer".parse().unwrap(),
                ocsp: Some("http://pki.example/prod/ocsp".parse().unwrap()),
                crl_shards: None,
            },
        }),
    }
}
