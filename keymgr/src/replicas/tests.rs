use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::{CustodyEvidence, ProveCustody};

/// A token that answers as it is told, and counts what it is asked to sign.
#[derive(Debug)]
struct Told {
    public_key: PublicKey,
    answer: Mutex<Answer>,
    signed: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Signs(u8),
    Gone,
    /// Gone, and nobody knows whether it signed before.
    Unsure,
    Denied,
    Fault,
}

impl Told {
    fn new(public_key: &PublicKey, number: u8) -> Arc<Self> {
        let answer = Mutex::new(Answer::Signs(number));
        Arc::new(Self { public_key: public_key.clone(), answer, signed: AtomicUsize::new(0) })
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn answer(&self) -> Result<u8, Error> {
        let error = |kind, what: &str| Error::new(kind, what);
        match *self.answer.lock().unwrap() {
            Answer::Signs(number) => Ok(number),
            Answer::Gone => Err(error(ErrorKind::Unavailable, "gone").undone()),
            Answer::Unsure => Err(error(ErrorKind::Unavailable, "gone in the middle")),
            Answer::Denied => Err(error(ErrorKind::Denied, "denied")),
            Answer::Fault => Err(error(ErrorKind::Fault, "another key")),
        }
    }

    fn key(self: &Arc<Self>) -> Key {
        Key { signer: self.clone(), custody: self.clone(), gated: None, prehashed: None }
    }
}

#[async_trait]
impl SigningKey for Told {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::Ed25519
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        self.answer().map(|number| vec![number])
    }
}

#[async_trait]
impl ProveCustody for Told {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        self.answer().map(|number| CustodyEvidence { format: "told", bytes: vec![number] })
    }
}

fn public_key(number: u8) -> PublicKey {
    PublicKey::from_ed25519(&[number; 32]).unwrap()
}

fn replicas() -> (Key, Arc<Told>, Arc<Told>, mpsc::Receiver<ReplicaNews>) {
    let (first, second) = (Told::new(&public_key(1), 1), Told::new(&public_key(1), 2));
    let (tell, news) = mpsc::channel();
    let keys = vec![("first".into(), first.key()), ("second".into(), second.key())];
    let replicas = Replicas::new(keys, move |event| tell.send(event).unwrap()).unwrap();
    (replicas.into_key().unwrap(), first, second, news)
}

fn sign(key: &Key) -> Result<Vec<u8>, Error> {
    block_on(key.signer.sign(b"message"))
}

#[test]
fn the_first_signs_and_when_it_dies_the_second_does_within_the_call() {
    let (key, first, second, news) = replicas();
    assert_eq!(sign(&key).unwrap(), [1]);
    assert_eq!(second.signed.load(Ordering::SeqCst), 0);
    first.answers(Answer::Gone);
    assert_eq!(sign(&key).unwrap(), [2]);
    assert_eq!(news.recv().unwrap(), ReplicaNews::Rests { uri: "first".into(), why: "gone".into() });
    // It is not asked to sign while it rests.
    let asked = first.signed.load(Ordering::SeqCst);
    assert_eq!(sign(&key).unwrap(), [2]);
    assert_eq!(first.signed.load(Ordering::SeqCst), asked);
    first.answers(Answer::Signs(1));
    assert_eq!(news.recv().unwrap(), ReplicaNews::Serves { uri: "first".into() });
    // It came back without a signature, and the next one is its.
    assert_eq!(first.signed.load(Ordering::SeqCst), asked);
    assert_eq!(sign(&key).unwrap(), [1]);
}

#[test]
fn what_was_perhaps_signed_is_not_signed_by_another_and_the_next_is() {
    let (key, first, second, _news) = replicas();
    first.answers(Answer::Unsure);
    let error = sign(&key).unwrap_err();
    assert!(error.to_string().contains("gone in the middle") && !error.is_undone(), "{error}");
    assert_eq!(second.signed.load(Ordering::SeqCst), 0);
    assert_eq!(sign(&key).unwrap(), [2]);
}

#[test]
fn a_replica_that_is_another_key_is_out_for_good() {
    let (key, first, second, news) = replicas();
    first.answers(Answer::Fault);
    assert_eq!(sign(&key).unwrap_err().kind(), ErrorKind::Fault);
    assert_eq!(news.recv().unwrap(), ReplicaNews::IsOut { uri: "first".into(), why: "another key".into() });
    first.answers(Answer::Signs(1));
    assert_eq!(sign(&key).unwrap(), [2]);
    // Not even where nothing else is left.
    second.answers(Answer::Gone);
    let asked = first.signed.load(Ordering::SeqCst);
    assert_eq!(sign(&key).unwrap_err().kind(), ErrorKind::Unavailable);
    second.answers(Answer::Fault);
    assert_eq!(sign(&key).unwrap_err().kind(), ErrorKind::Fault);
    let error = sign(&key).unwrap_err();
    assert!(error.to_string().contains("every replica"), "{error}");
    assert_eq!(first.signed.load(Ordering::SeqCst), asked);
}

#[test]
fn a_replica_that_comes_back_as_another_key_is_out_before_it_signs() {
    let (key, first, _, news) = replicas();
    first.answers(Answer::Gone);
    assert_eq!(sign(&key).unwrap(), [2]);
    let asked = first.signed.load(Ordering::SeqCst);
    first.answers(Answer::Fault);
    news.recv().unwrap();
    assert!(matches!(news.recv().unwrap(), ReplicaNews::IsOut { .. }));
    assert_eq!(sign(&key).unwrap(), [2]);
    assert_eq!(first.signed.load(Ordering::SeqCst), asked);
}

#[test]
fn where_all_are_gone_each_is_named_and_a_refusal_is_no_end() {
    let (key, first, second, _news) = replicas();
    first.answers(Answer::Denied);
    assert_eq!(sign(&key).unwrap(), [2]);
    second.answers(Answer::Gone);
    let error = sign(&key).unwrap_err();
    assert!(error.is_undone() && error.kind() == ErrorKind::Unavailable);
    assert!(error.to_string().contains("second: gone"), "{error}");
    // Where none serves, those that rest are asked: they may be back.
    second.answers(Answer::Signs(2));
    assert_eq!(sign(&key).unwrap(), [2]);
}

#[test]
fn what_is_no_replica_is_refused() {
    let (one, other) = (Told::new(&public_key(1), 1), Told::new(&public_key(2), 2));
    let both = vec![("one".into(), one.key()), ("other".into(), other.key())];
    let error = Replicas::new(both, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("other is no replica of one"), "{error}");
    assert_eq!(Replicas::new(Vec::new(), |_| {}).unwrap_err().kind(), ErrorKind::NotFound);
}
