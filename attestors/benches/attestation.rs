//! What it costs to verify an attestation of a node, beside the public-key operations in it alone.
//!
//! The evidence is what swtpm made (`conformance/record`): an RSA-2048 endorsement key with a chain of three certificates, a P-256
//! attestation key, a quote over eight PCRs, the event log of their boot, and TPM2_Certify of a P-256 key. *Bare* is the signatures of two
//! certificates, of the quote and of TPM2_Certify, and the encryption of one credential, by aws-lc-rs on the same bytes. Both take turns in one run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64ct::{Base64, Encoding as _};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use serde_json::Value;
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_attestors::tpm::event_log::{Boot, EventLog, SecureBoot};
use undercroft_attestors::tpm::node::{
    Attested, Binding, Certification, Maker, Policy, Quote, TpmClass, known_weak_firmware,
};
use undercroft_keys::PublicKey;
use undercroft_tpm_wire::pcr::PcrSelection;
use undercroft_tpm_wire::{HashAlgorithm, PublicArea, Signature};

/// Turns, and attestations in each.
const TURNS: usize = 41;
const EACH: u32 = 25;
/// Threads and attestations of each, for the rate.
const THREADS: usize = 2;
const MANY: u32 = 1_000;

struct Evidence {
    at: Timestamp,
    chain: Vec<Vec<u8>>,
    endorsement: Vec<u8>,
    attestation_key: Vec<u8>,
    secret: Vec<u8>,
    transcript: [u8; 32],
    mac: Vec<u8>,
    asked: Vec<u8>,
    quote: [Vec<u8>; 2],
    values: Vec<Vec<u8>>,
    key: [Vec<u8>; 3],
    requested: Vec<u8>,
    log: Vec<u8>,
}

fn main() {
    let (evidence, policy) = recorded();
    let bare = Bare::of(&evidence, &policy);
    let binding = verified(&evidence, &policy, None).binding().clone();
    let events = EventLog::parse(&evidence.log).unwrap().events().len();
    println!(
        "an attestation of swtpm: chain of three, quote over {} PCRs, {events} events",
        evidence.values.len()
    );
    let mut turns = [const { Vec::new() }; 3];
    for turn in 0..=TURNS {
        let took = [
            timed(|| bare.run()),
            timed(|| _ = black_box(verified(&evidence, &policy, None))),
            timed(|| _ = black_box(verified(&evidence, &policy, Some(&binding)))),
        ];
        // The first turn warms everything up.
        if turn > 0 {
            turns.iter_mut().zip(took).for_each(|(turns, took)| turns.push(took));
        }
    }
    let [bare, full, again] = turns.map(median);
    println!("  bare public-key operations  {bare:7.1} µs");
    println!("  the whole verification      {full:7.1} µs  {:.2} of bare (limit 1.3)", full / bare);
    println!("  of a key that is known      {again:7.1} µs");
    println!(
        "  of keys that are known      {:7.0} a second on {THREADS} threads",
        rate(&evidence, &policy, &binding)
    );
}

/// Microseconds for one.
fn timed(mut what: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..EACH).for_each(|_| what());
    began.elapsed().as_secs_f64() * 1e6 / f64::from(EACH)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Verifications a second of what again comes from a known key, on some threads.
fn rate(evidence: &Evidence, policy: &Policy, binding: &Binding) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..MANY).for_each(|_| _ = black_box(verified(evidence, policy, Some(binding)))));
        }
    });
    THREADS as f64 * f64::from(MANY) / began.elapsed().as_secs_f64()
}

/// All that a server does with evidence, from bytes on. A known key gets no credential.
fn verified(evidence: &Evidence, policy: &Policy, known: Option<&Binding>) -> Attested {
    let endorsement = Endorsement::read(&evidence.endorsement, &evidence.chain).unwrap();
    let candidate =
        policy.endorse(endorsement, evidence.at).unwrap().candidate(&evidence.attestation_key).unwrap();
    let bound = match known {
        Some(binding) => candidate.recalled(binding, evidence.transcript).unwrap(),
        None => {
            black_box(candidate.credential(&evidence.secret, &[7; 32]).unwrap());
            candidate.activated(&evidence.secret, evidence.transcript, &evidence.mac).unwrap()
        }
    };
    let quote = Quote { attest: &evidence.quote[0], signature: &evidence.quote[1], values: &evidence.values };
    let quoted = bound.quoted(&quote, &PcrSelection::parse(&evidence.asked).unwrap(), None).unwrap();
    let values = quoted.boot_pcrs(HashAlgorithm::Sha256).unwrap();
    let log = EventLog::parse(&evidence.log).unwrap().verify(&values).unwrap();
    black_box((SecureBoot::read(&log).unwrap(), Boot::read(&log).unwrap()));
    let [public, attest, signature] = &evidence.key;
    let requested = PublicKey::from_spki(&evidence.requested).unwrap();
    quoted.certified(&Certification { public, attest, signature }, &requested).unwrap()
}

/// A key, what it signed, and the signature.
type Check = (&'static dyn VerificationAlgorithm, Vec<u8>, Vec<u8>, Vec<u8>);

/// The public-key operations alone.
struct Bare {
    checks: Vec<Check>,
    endorsement: OaepPublicEncryptingKey,
}

impl Bare {
    fn of(evidence: &Evidence, policy: &Policy) -> Self {
        let mut chain = evidence.chain.clone();
        chain.push(policy.makers[0].certificate.der().to_vec());
        let mut checks: Vec<Check> = Vec::new();
        for pair in chain.windows(2) {
            let read = x509_cert::Certificate::from_der(&pair[0]).unwrap();
            let key = Certificate::from_der(&pair[1]).unwrap();
            let key = key.fields().subject_public_key_info().subject_public_key.raw_bytes().to_vec();
            let tbs = read.tbs_certificate().to_der().unwrap();
            checks.push((&RSA_PKCS1_2048_8192_SHA256, key, tbs, read.signature().raw_bytes().to_vec()));
        }
        let area = PublicArea::parse(&evidence.attestation_key).unwrap().public_key().unwrap();
        let point = area.spki()[area.spki().len() - 65..].to_vec();
        for (attest, signature) in
            [(&evidence.quote[0], &evidence.quote[1]), (&evidence.key[1], &evidence.key[2])]
        {
            let signature = Signature::parse(signature).unwrap().to_x509().unwrap();
            checks.push((&ECDSA_P256_SHA256_ASN1, point.clone(), attest.clone(), signature));
        }
        let endorsement = PublicArea::parse(&evidence.endorsement).unwrap().public_key().unwrap();
        let endorsement = PublicEncryptingKey::from_der(endorsement.spki()).unwrap();
        Self { checks, endorsement: OaepPublicEncryptingKey::new(endorsement).unwrap() }
    }

    fn run(&self) {
        for (algorithm, key, message, signature) in &self.checks {
            UnparsedPublicKey::new(*algorithm, key).verify(message, signature).unwrap();
        }
        let mut out = vec![0; self.endorsement.ciphertext_size()];
        let label = Some(&b"IDENTITY\0"[..]);
        self.endorsement.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut out, label).unwrap();
        black_box(out);
    }
}

fn recorded() -> (Evidence, Policy) {
    let index: Value = serde_json::from_str(include_str!("../conformance/tpm/index.json")).unwrap();
    let row = index["honest-too"].as_array().unwrap().iter();
    let change = &row.clone().find(|row| !row["change"]["event-log"].is_null()).unwrap()["change"];
    let of = |name: &str| if change[name].is_null() { &index["honest"][name] } else { &change[name] };
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let many = |value: &Value| -> Vec<Vec<u8>> {
        let all = value.as_array().unwrap().iter();
        all.map(|one| Base64::decode_vec(one.as_str().unwrap()).unwrap()).collect()
    };
    let (quote, key) = (of("quote"), of("key"));
    let evidence = Evidence {
        at: of("at").as_str().unwrap().parse().unwrap(),
        chain: many(&of("ek")["chain"]),
        endorsement: bytes(&of("ek")["public"]),
        attestation_key: bytes(of("ak")),
        secret: bytes(of("secret")),
        transcript: bytes(of("transcript")).try_into().unwrap(),
        mac: bytes(of("mac")),
        asked: bytes(of("asked")),
        quote: ["attest", "signature"].map(|part| bytes(&quote[part])),
        values: quote["values"].as_array().unwrap().iter().map(bytes).collect(),
        key: ["public", "attest", "signature"].map(|part| bytes(&key[part])),
        requested: bytes(of("requested")),
        log: bytes(of("event-log")),
    };
    let maker = |der: Vec<u8>| Maker {
        certificate: Certificate::from_der(&der).unwrap(),
        class: TpmClass::Simulated,
        manufacturers: Vec::new(),
    };
    let policy = Policy {
        makers: many(of("anchors")).into_iter().map(maker).collect(),
        weak_firmware: known_weak_firmware(),
        ..Policy::default()
    };
    (evidence, policy)
}
