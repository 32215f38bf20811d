//! Gated keys on swtpm: the TPM signs what a gate has authorised, once, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use futures::executor::block_on;
use futures::future::join_all;
use hsm_sim::software::SoftwareKey;
use undercroft_keymgr::{Authorisation, Error, ErrorKind, Gate, Key, SigningKey as _};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_tpm_wire::{HashAlgorithm, PublicArea, Scheme, command, policy};

use device::{open, tool, tpm, try_tool, uri};

const HANDLE: u32 = 0x8101_0001;
const MESSAGE: &[u8] = b"a certificate that stands in the log";

/// A gate that authorises `message`, in a way that a test may bend.
struct Word<'a> {
    gate: &'a SoftwareKey,
    key: &'a PublicArea,
    message: &'a [u8],
    expiration: i32,
    bend: fn(&mut Vec<u8>),
}

impl<'a> Word<'a> {
    fn of(gate: &'a SoftwareKey, key: &'a PublicArea, message: &'a [u8]) -> Self {
        Self { gate, key, message, expiration: 10, bend: |_| {} }
    }

    async fn say(&self, nonce: &[u8]) -> Authorisation {
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        let cp_hash = command::sign(&self.key.name(), digest(&SHA256, self.message).as_ref(), scheme);
        let mut message = policy::authorisation(nonce, self.expiration, &cp_hash);
        (self.bend)(&mut message);
        let signature = self.gate.sign(&message).await.unwrap();
        Authorisation { gate: self.gate.public_key().id(), expiration: self.expiration, signature }
    }
}

#[async_trait]
impl Gate for Word<'_> {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        Ok(self.say(nonce).await)
    }
}

/// A word that was given before.
struct Replayed(Mutex<Option<Authorisation>>);

#[async_trait]
impl Gate for Replayed {
    async fn authorise(&self, _: &[u8]) -> Result<Authorisation, Error> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}

fn gates() -> (Vec<SoftwareKey>, Vec<PublicKey>) {
    let keys: Vec<_> = (0..2).map(|_| SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap()).collect();
    let public = keys.iter().map(|key| key.public_key().clone()).collect();
    (keys, public)
}

/// The public area as the TPM itself tells it.
fn area(key: &Key) -> PublicArea {
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&evidence.bytes).unwrap();
    PublicArea::parse(&hex::decode(json["key"]["public"].as_str().unwrap()).unwrap()).unwrap()
}

fn sign(key: &Key, message: &[u8], gates: &[PublicKey], gate: &dyn Gate) -> Result<Vec<u8>, Error> {
    block_on(key.gated.as_ref().unwrap().sign(message, gates, gate)).map(|counted| counted.signature)
}

fn verifies(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    let algorithm = key.signer.algorithm().signature_algorithm();
    key.signer.public_key().verify(algorithm, message, signature).is_ok()
}

#[test]
fn any_of_its_gates_releases_a_key_for_one_digest() {
    let (_folder, _running, device) = tpm();
    let (keys, public) = gates();
    let made = block_on(open(&device).create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public));
    let made = made.unwrap();
    let area = area(&made);
    assert!(area.signs_by_policy_alone());
    for gate in keys.iter().chain(&keys) {
        let signature = sign(&made, MESSAGE, &public, &Word::of(gate, &area, MESSAGE)).unwrap();
        assert!(verifies(&made, MESSAGE, &signature));
    }
    // A new process finds it gated, too.
    drop(made);
    let found = block_on(open(&device).open(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256)).unwrap();
    let signature = sign(&found, MESSAGE, &public, &Word::of(&keys[1], &area, MESSAGE)).unwrap();
    assert!(verifies(&found, MESSAGE, &signature));
}

#[test]
fn nothing_else_is_signed() {
    let (_folder, _running, device) = tpm();
    let (keys, public) = gates();
    let tpm = open(&device);
    let key = block_on(tpm.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    let area = area(&key);
    let refused = |gate: &dyn Gate, gates: &[PublicKey]| sign(&key, MESSAGE, gates, gate).unwrap_err();
    let word = || Word::of(&keys[0], &area, MESSAGE);

    let other = Word::of(&keys[0], &area, b"something else");
    assert!(refused(&other, &public).to_string().contains("TPM_RC_SIGNATURE"));
    let bends: [fn(&mut Vec<u8>); 4] = [
        |message| message[0] ^= 1,
        // The expiration is part of what the gate signs.
        |message| message[35] ^= 1,
        |message| *message.last_mut().unwrap() ^= 1,
        |message| message.push(0),
    ];
    for bend in bends {
        let error = refused(&Word { bend, ..word() }, &public);
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("TPM_RC_SIGNATURE"), "{error}");
    }
    let stranger = SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let error = refused(&Word { gate: &stranger, ..word() }, &public);
    assert!(error.to_string().contains("is no gate of this key"), "{error}");
    // Other gates, fewer, or in another order, are another policy.
    let swapped = [public[1].clone(), public[0].clone()];
    let foreign = [public[0].clone(), stranger.public_key().clone()];
    for wrong in [&swapped[..], &foreign, &public[..1], &[public[0].clone(), public[0].clone()]] {
        let error = refused(&word(), wrong);
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported), "{error}");
    }
    // Without a gate it is not even tried.
    let error = block_on(key.signer.sign(MESSAGE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("gated"), "{error}");
    // And none of that has spoiled anything.
    assert!(verifies(&key, MESSAGE, &sign(&key, MESSAGE, &public, &word()).unwrap()));
}

/// Keeps what it said, so that somebody can say it again.
struct Recorded<'a>(Word<'a>, Mutex<Option<Authorisation>>);

#[async_trait]
impl Gate for Recorded<'_> {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        let word = self.0.say(nonce).await;
        *self.1.lock().unwrap() = Some(word.clone());
        Ok(word)
    }
}

#[test]
fn a_word_is_good_once() {
    let (_folder, _running, device) = tpm();
    let (keys, public) = gates();
    let tpm = open(&device);
    let key = block_on(tpm.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    let area = area(&key);
    let recorded = Recorded(Word::of(&keys[0], &area, MESSAGE), Mutex::default());
    sign(&key, MESSAGE, &public, &recorded).unwrap();
    let again = Replayed(recorded.1);
    assert!(sign(&key, MESSAGE, &public, &again).unwrap_err().to_string().contains("TPM_RC_SIGNATURE"));
}

/// Says its word when the session is older than the word allows.
struct Late<'a>(Word<'a>);

#[async_trait]
impl Gate for Late<'_> {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        let word = self.0.say(nonce).await;
        // The TPM's own clock is what is tested here.
        std::thread::sleep(Duration::from_millis(2500));
        Ok(word)
    }
}

#[test]
fn a_word_that_comes_too_late_counts_for_nothing() {
    let (_folder, _running, device) = tpm();
    let (keys, public) = gates();
    let tpm = open(&device);
    let key = block_on(tpm.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    let area = area(&key);
    let late = Late(Word { expiration: 1, ..Word::of(&keys[0], &area, MESSAGE) });
    let error = sign(&key, MESSAGE, &public, &late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("TPM_RC_EXPIRED"), "{error}");
    let word = Word::of(&keys[0], &area, MESSAGE);
    assert!(verifies(&key, MESSAGE, &sign(&key, MESSAGE, &public, &word).unwrap()));
}

#[test]
fn many_sign_at_once_and_those_who_give_up_hold_nothing() {
    let (_folder, _running, device) = tpm();
    let (keys, public) = gates();
    let tpm = open(&device);
    let key = block_on(tpm.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    let area = area(&key);
    let refusing = Refusing(AtomicUsize::new(0));
    let messages: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 10]).collect();
    let words: Vec<_> =
        messages.iter().enumerate().map(|(n, message)| Word::of(&keys[n % 2], &area, message)).collect();
    let gated = key.gated.as_ref().unwrap();
    let signing = messages.iter().zip(&words).enumerate().map(|(n, (message, word))| {
        let gate: &dyn Gate = if n % 4 == 3 { &refusing } else { word };
        gated.sign(message, &public, gate)
    });
    for (n, (signed, message)) in block_on(join_all(signing)).into_iter().zip(&messages).enumerate() {
        match n % 4 {
            3 => assert_eq!(signed.unwrap_err().kind(), ErrorKind::Denied),
            _ => assert!(verifies(&key, message, &signed.unwrap().signature)),
        }
    }
    assert_eq!(refusing.0.load(Ordering::Relaxed), 10);
}

struct Refusing(AtomicUsize);

#[async_trait]
impl Gate for Refusing {
    async fn authorise(&self, _: &[u8]) -> Result<Authorisation, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Denied, "no"))
    }
}

#[test]
fn a_thief_on_the_host_cannot_sign_and_an_operator_can_certify() {
    let (folder, running, device) = tpm();
    let (_, public) = gates();
    let tpm = open(&device);
    block_on(tpm.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    drop(tpm);
    let sign = "echo rogue > m; tpm2_sign -c 0x81010001 -g sha256 -o sig m";
    let refused = try_tool(&device, &folder, sign);
    assert!(!refused.status.success());
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("0x12F") || stderr.contains("0x0000012F"), "TPM_RC_AUTH_UNAVAILABLE: {stderr}");
    // A policy session of the thief's own satisfies nothing.
    let policy = "tpm2_startauthsession --policy-session -S s; tpm2_sign -p session:s -c 0x81010001 -g sha256 -o sig m";
    let refused = try_tool(&device, &folder, policy);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("99"), "TPM_RC_POLICY_FAIL: {refused:?}");
    // Custody can be proven all the same: TPM2_Certify goes by the authValue.
    tool(
        &device,
        &folder,
        "tpm2_flushcontext -l; tpm2_createek -c ek -G ecc; tpm2_createak -C ek -c ak -G ecc -g sha256 -s ecdsa; tpm2_flushcontext -t; \
         tpm2_certify -c 0x81010001 -C ak -g sha256 -o attest -s sig",
    );
    drop(running);
}

#[test]
fn what_a_killed_process_left_behind_is_cleared() {
    let (folder, _running, device) = tpm();
    let (keys, public) = gates();
    let made = open(&device);
    let key = block_on(made.create_gated(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256, &public)).unwrap();
    let area = area(&key);
    drop((key, made));
    // Three sessions and three objects: as many as this TPM holds.
    let fill = "for n in 1 2 3; do tpm2_startauthsession --policy-session -S s$n; done; \
                for n in 1 2 3; do tpm2_createprimary -c o$n -G ecc || true; done";
    tool(&device, &folder, fill);
    let found = block_on(open(&device).open(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256)).unwrap();
    let signature = sign(&found, MESSAGE, &public, &Word::of(&keys[0], &area, MESSAGE)).unwrap();
    assert!(verifies(&found, MESSAGE, &signature));
}
