use std::sync::Arc;

use async_trait::async_trait;
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_keymgr::{Error, ErrorKind, Key, SigningKey};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock;
use undercroft_log::leaf::{Channel, Leaf};
use undercroft_log::sequencer::{self, Limits, Log};
use undercroft_log_files::FolderStore;

use super::*;
use crate::fixtures::{Parts, now, parts};
use crate::gated::Signing;
use crate::log_key::LogKey;
use crate::profile::Kind;
use crate::tbs::Revoked;
use crate::time::{Lifetime, Validity};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        now()
    }
}

fn software(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap())
}

fn decision() -> Decision {
    Decision {
        domain: "prod.example".into(),
        profile: "svid".into(),
        caller: Caller { id: "spiffe://control.example/operator/a".into(), by: Channel::Mtls },
        rule: "prod-workloads".into(),
        policy: Digest::of(b"policy"),
        request: None,
        withheld: Vec::new(),
        evidence: Vec::new(),
    }
}

fn prepare(parts: &Parts, key: &SoftwareKey) -> Prepared {
    Prepared::certificate(&parts.spec(), parts.signed_by(), key.public_key(), decision()).unwrap()
}

/// Runs a story with a log in a folder.
fn with_log<T>(story: impl AsyncFnOnce(&Log<Effect>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FolderStore::open(folder.path()).unwrap());
    let key = software(KeyAlgorithm::Ed25519);
    let key = Key { signer: key.clone(), custody: key, gated: None, prehashed: None };
    let log_key =
        Arc::new(LogKey::new("ca.example/undercroft/prod.example/1".parse().unwrap(), key).unwrap());
    let (log, driver) = block_on(sequencer::open(store, log_key, Arc::new(Noon), Limits::default())).unwrap();
    let (told, ended) = block_on(async {
        futures::join!(
            async {
                let told = story(&log).await;
                log.close();
                told
            },
            driver
        )
    });
    ended.unwrap();
    told
}

/// A token that lies or is gone.
#[derive(Debug)]
struct Broken {
    honest: Arc<SoftwareKey>,
    answer: Result<Vec<u8>, ErrorKind>,
}

#[async_trait]
impl SigningKey for Broken {
    fn algorithm(&self) -> KeyAlgorithm {
        self.honest.algorithm()
    }

    fn public_key(&self) -> &PublicKey {
        self.honest.public_key()
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        self.answer.clone().map_err(|kind| Error::new(kind, "the token is gone"))
    }
}

#[test]
fn what_was_linted_is_logged_and_signed() {
    let parts = parts(Kind::Svid);
    let key = software(KeyAlgorithm::EcdsaP384);
    let (issued, outcome) = with_log(async |log| {
        let prepared = prepare(&parts, &key);
        let linted = prepared.to_be_signed().to_vec();
        let receipt = log.append(prepared.intent()).await.unwrap();
        let Body::Intent(intent) = Leaf::parse(receipt.leaf()).unwrap().body else { panic!() };
        assert_eq!(intent.tbs, LoggedBytes::Der(Base64Bytes(linted.clone())));
        let issued = issue(prepared, receipt, Signing::Directly(&*key)).await.unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(issued.der()).unwrap();
        assert_eq!(certificate.tbs_certificate.as_ref(), linted);
        let signature = &certificate.signature_value.data;
        key.public_key().verify(key.algorithm().signature_algorithm(), &linted, signature).unwrap();
        let outcome = log.append(issued.outcome().unwrap()).await.unwrap();
        (issued, Leaf::parse(outcome.leaf()).unwrap())
    });
    let Body::Outcome(outcome) = outcome.body else { panic!() };
    assert_eq!(outcome.intent, issued.logged().index());
    let OutcomeResult::Signature(signature) = outcome.result else { panic!() };
    assert!(issued.der().ends_with(&signature.0));
}

#[test]
fn a_receipt_of_another_entry_signs_nothing() {
    let parts = parts(Kind::Svid);
    let key = software(KeyAlgorithm::EcdsaP384);
    let refused = with_log(async |log| {
        let logged = prepare(&parts, &key);
        let other = prepare(&Parts { serial: [0x33; 16].try_into_serial(), ..parts.clone() }, &key);
        let receipt = log.append(logged.intent()).await.unwrap();
        issue(other, receipt, Signing::Directly(&*key)).await.unwrap_err()
    });
    assert!(matches!(refused, IssueError::OtherEntry { index: 0 }), "{refused}");
}

trait TryIntoSerial {
    fn try_into_serial(self) -> crate::serial::SerialNumber;
}

impl TryIntoSerial for [u8; 16] {
    fn try_into_serial(self) -> crate::serial::SerialNumber {
        crate::serial::SerialNumber::from_bytes(self).unwrap()
    }
}

#[test]
fn another_key_signs_nothing() {
    let parts = parts(Kind::Svid);
    let (key, other) = (software(KeyAlgorithm::EcdsaP384), software(KeyAlgorithm::EcdsaP384));
    let refused = with_log(async |log| {
        let prepared = prepare(&parts, &key);
        let receipt = log.append(prepared.intent()).await.unwrap();
        issue(prepared, receipt, Signing::Directly(&*other)).await.unwrap_err()
    });
    assert!(matches!(refused, IssueError::OtherKey { .. }), "{refused}");
}

#[test]
fn a_wrong_signature_never_leaves() {
    let parts = parts(Kind::Svid);
    let honest = software(KeyAlgorithm::EcdsaP384);
    let of_something_else = block_on(honest.sign(b"something else")).unwrap();
    for (answer, wrong) in
        [(Ok(of_something_else), true), (Ok(Vec::new()), true), (Err(ErrorKind::Unavailable), false)]
    {
        let key = Broken { honest: honest.clone(), answer };
        let refused = with_log(async |log| {
            let prepared = prepare(&parts, &honest);
            let receipt = log.append(prepared.intent()).await.unwrap();
            issue(prepared, receipt, Signing::Directly(&key)).await.unwrap_err()
        });
        assert_eq!(matches!(refused, IssueError::WrongSignature(_)), wrong, "{refused}");
        assert_eq!(matches!(refused, IssueError::Token(_)), !wrong, "{refused}");
    }
}

#[test]
fn what_lint_refuses_is_never_prepared() {
    let mut parts = parts(Kind::Svid);
    parts.path_length = None;
    parts.identity.uri = Some("https://prod.example/a".into());
    let key = software(KeyAlgorithm::EcdsaP384);
    let refused =
        Prepared::certificate(&parts.spec(), parts.signed_by(), key.public_key(), decision()).unwrap_err();
    let PrepareError::Lint(findings) = refused else { panic!("{refused}") };
    assert_eq!(findings[0].rule, "spiffe-id");
}

#[test]
fn large_bytes_stand_in_the_log_by_their_digest() {
    let parts = parts(Kind::Svid);
    let key = software(KeyAlgorithm::EcdsaP384);
    let revoked: Vec<_> = (0..2000u16)
        .map(|n| {
            let mut serial = [1; 16];
            serial[14..].copy_from_slice(&n.to_be_bytes());
            Revoked { serial: serial.try_into_serial(), date: now(), reason: None }
        })
        .collect();
    let issuer = parts.issuer.unwrap();
    let period = Validity::new(now(), now() + Lifetime::days(7).0).unwrap();
    let scope = crate::tbs::CrlScope::default();
    let spec = CrlSpec { issuer: &issuer, number: 1, period, revoked: &revoked, scope };
    let prepared = Prepared::crl(&spec, key.public_key(), decision()).unwrap();
    assert!(prepared.to_be_signed().len() > INLINE);
    let append = prepared.intent();
    assert_eq!(append.blobs, [prepared.to_be_signed().to_vec()]);
    let leaf: Intent = serde_json::from_str(append.draft.body()).unwrap();
    let length = prepared.to_be_signed().len() as u64;
    assert_eq!(leaf.tbs, LoggedBytes::Blob { sha256: Digest::of(prepared.to_be_signed()), length });
    let issued = with_log(async |log| {
        let receipt = log.append(append).await.unwrap();
        issue(prepared, receipt, Signing::Directly(&*key)).await.unwrap()
    });
    assert!(issued.der().len() > INLINE);
}
