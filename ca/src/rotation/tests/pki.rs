//! Two roots of a domain, an intermediate below each, and each root certified by the other; with software keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::leaf::{HexKeyId, Replacement};

use crate::certificate::AuthorityCertificate;
use crate::fixtures::now;
use crate::names::{Identity, parse_spiffe_id, parse_trust_domain};
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::signed::assemble;
use crate::subject::Subject;
use crate::tbs::{self, CertificateSpec, DomainConstraints, Issuer, SignedBy};
use crate::time::{Lifetime, Validity};

fn key_of(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap())
}

/// So many seconds after the beginning.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

/// Who signs: a certificate and its key.
pub(super) struct Signer {
    pub(super) certificate: AuthorityCertificate,
    name: String,
    key: Arc<SoftwareKey>,
}

pub(super) struct Pki {
    pub(super) old_root: Signer,
    pub(super) new_root: Signer,
    pub(super) old_authority: Signer,
    pub(super) new_authority: Signer,
    pub(super) new_by_old: AuthorityCertificate,
    pub(super) old_by_new: AuthorityCertificate,
    /// The key of everything that is no authority.
    pub(super) leaf: PublicKey,
}

impl Pki {
    /// At `begins`. Of an intermediate's rotation (not `of_root`), both authorities are below the old root.
    pub(super) fn new(algorithm: KeyAlgorithm, of_root: bool, begins: Timestamp) -> Self {
        let old_root = root_of("Root R1", algorithm, None, "prod.example", begins);
        let new_root = root_of("Root R2", algorithm, None, "prod.example", begins);
        let above = if of_root { &new_root } else { &old_root };
        Self {
            old_authority: authority("Intermediate I1", algorithm, &old_root, begins),
            new_authority: authority("Intermediate I2", algorithm, above, begins),
            new_by_old: cross(&new_root, &old_root, Some(3), None, begins).certificate,
            old_by_new: cross(&old_root, &new_root, Some(3), None, begins).certificate,
            leaf: SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap().public_key().clone(),
            old_root,
            new_root,
        }
    }

    pub(super) fn replaced(&self) -> Vec<Replacement> {
        let old_key = HexKeyId(self.old_authority.certificate.public_key().id());
        vec![Replacement { old: "i1".into(), old_key, new: "i2".into() }]
    }

    pub(super) fn authority_of_new_root(&self, begins: Timestamp) -> Signer {
        authority("Intermediate I3", KeyAlgorithm::EcdsaP256, &self.new_root, begins)
    }
}

pub(super) fn root(name: &str, begins: Timestamp) -> Signer {
    root_with(name, None, "prod.example", begins)
}

pub(super) fn root_with(name: &str, path_length: Option<u8>, domain: &str, begins: Timestamp) -> Signer {
    root_of(name, KeyAlgorithm::EcdsaP256, path_length, domain, begins)
}

/// A root with the key of another and a name of its own.
pub(super) fn signed_again(other: &Signer, name: &str, begins: Timestamp) -> Signer {
    signed_by_itself(name, other.key.clone(), None, "prod.example", begins)
}

pub(super) fn name_of(signer: &Signer) -> String {
    signer.name.clone()
}

fn root_of(name: &str, algorithm: KeyAlgorithm, path: Option<u8>, domain: &str, begins: Timestamp) -> Signer {
    signed_by_itself(name, key_of(algorithm), path, domain, begins)
}

fn signed_by_itself(
    name: &str,
    key: Arc<SoftwareKey>,
    path: Option<u8>,
    domain: &str,
    begins: Timestamp,
) -> Signer {
    let identity = Identity::authority(&parse_trust_domain(domain).unwrap());
    let subject = Subject::new("prod.example", Some(name)).unwrap();
    let made = Made {
        kind: Kind::Root,
        subject: &subject,
        public_key: key.public_key(),
        identity: &identity,
        path_length: path,
        constraints: None,
        validity: Validity::new(begins, begins + Lifetime::days(7300).0).unwrap(),
    };
    let by = SignedBy::Itself(key.algorithm().signature_algorithm());
    let certificate = AuthorityCertificate::from_der(&made.signed(by, &key)).unwrap();
    Signer { certificate, name: name.to_owned(), key }
}

fn authority(name: &str, algorithm: KeyAlgorithm, above: &Signer, begins: Timestamp) -> Signer {
    let key = key_of(algorithm);
    let made = Made {
        kind: Kind::Intermediate,
        subject: &Subject::new("prod.example", Some(name)).unwrap(),
        public_key: key.public_key(),
        identity: &Identity::authority(&parse_trust_domain("prod.example").unwrap()),
        path_length: Some(1),
        constraints: None,
        validity: Validity::new(begins, begins + Lifetime::days(360).0).unwrap(),
    };
    let certificate = AuthorityCertificate::from_der(&made.below(above)).unwrap();
    Signer { certificate, name: name.to_owned(), key }
}

/// The name and key of one root, certified by another.
pub(super) fn cross(
    subject: &Signer,
    issuer: &Signer,
    path_length: Option<u8>,
    constraints: Option<&DomainConstraints>,
    begins: Timestamp,
) -> Signer {
    let made = Made {
        kind: Kind::Intermediate,
        subject: subject.certificate.subject(),
        public_key: subject.certificate.public_key(),
        identity: &Identity::authority(&parse_trust_domain("prod.example").unwrap()),
        path_length,
        constraints,
        validity: Validity::new(begins, begins + Lifetime::days(360).0).unwrap(),
    };
    let certificate = AuthorityCertificate::from_der(&made.below(issuer)).unwrap();
    let key = key_of(KeyAlgorithm::EcdsaP256);
    Signer { certificate, name: subject.name.clone(), key }
}

impl Signer {
    /// A workload's certificate.
    pub(super) fn leaf(&self, key: &PublicKey, now: Timestamp, lifetime: Lifetime) -> (Vec<u8>, Timestamp) {
        let validity = Validity::within(&self.certificate.validity(), now, lifetime).unwrap();
        let id = parse_spiffe_id("spiffe://prod.example/ns/a/sa/b").unwrap();
        let made = Made {
            kind: Kind::Svid,
            subject: &Subject::new("prod.example", None).unwrap(),
            public_key: key,
            identity: &Identity::leaf(&id, Vec::new()),
            path_length: None,
            constraints: None,
            validity,
        };
        (made.below(self), validity.not_after())
    }

    /// The CA of a SPIRE server.
    pub(super) fn spire_ca(&self, now: Timestamp, lifetime: Lifetime) -> Self {
        let key = key_of(KeyAlgorithm::EcdsaP256);
        let made = Made {
            kind: Kind::SpireCa,
            subject: &Subject::new("prod.example", Some("SPIRE CA")).unwrap(),
            public_key: key.public_key(),
            identity: &Identity::authority(&parse_trust_domain("prod.example").unwrap()),
            path_length: Some(0),
            constraints: None,
            validity: Validity::within(&self.certificate.validity(), now, lifetime).unwrap(),
        };
        let certificate = AuthorityCertificate::from_der(&made.below(self)).unwrap();
        Self { certificate, name: "SPIRE CA".into(), key }
    }
}

/// What is certified.
struct Made<'a> {
    kind: Kind,
    subject: &'a Subject,
    public_key: &'a PublicKey,
    identity: &'a Identity,
    path_length: Option<u8>,
    constraints: Option<&'a DomainConstraints>,
    validity: Validity,
}

impl Made<'_> {
    fn below(&self, issuer: &Signer) -> Vec<u8> {
        let own = &issuer.certificate;
        let by = Issuer {
            name: own.subject().clone(),
            key_identifier: own.subject_key_identifier().to_vec(),
            algorithm: issuer.key.algorithm().signature_algorithm(),
            validity: own.validity(),
            urls: crate::tbs::Urls {
                crl: "http://pki.example/prod.crl".parse().unwrap(),
                certificate: "http://pki.example/prod.cer".parse().unwrap(),
                ocsp: None,
                crl_shards: None,
            },
        };
        self.signed(SignedBy::Issuer(&by), &issuer.key)
    }

    fn signed(&self, by: SignedBy<'_>, key: &SoftwareKey) -> Vec<u8> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let mut serial = [0x17; 16];
        serial[8..].copy_from_slice(&SERIAL.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let spec = CertificateSpec {
            profile: &Profile::standard(self.kind),
            policy_arc: &"1.3.6.1.4.1.32473.1".parse().unwrap(),
            serial: SerialNumber::from_bytes(serial).unwrap(),
            validity: self.validity,
            subject: self.subject,
            public_key: self.public_key,
            identity: self.identity,
            path_length: self.path_length,
            constraints: self.constraints,
        };
        let tbs = tbs::certificate(&spec, by).unwrap();
        let signature = block_on(key.sign(tbs.der())).unwrap();
        assemble(tbs.der(), key.algorithm().signature_algorithm(), &signature).unwrap()
    }
}
