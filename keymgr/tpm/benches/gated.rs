//! What a gate and a ledger cost a TPM: swtpm, three ways of using one kind of key, in turns of one run.
//!
//! - *plain*: an authorised key, and a TPM that audits nothing;
//! - *audited*: the same key once the TPM audits its commands;
//! - *gated*: a key that wants a gate's word. The gate is a key in this process, so that the TPM's part is what counts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]

#[path = "../tests/device/mod.rs"]
mod device;

use std::time::Instant;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use futures::executor::block_on;
use futures::future::join_all;
use hsm_sim::software::SoftwareKey;
use undercroft_keymgr::{Authorisation, Error, Gate, Key, LedgerPlaces, SigningKey as _};
use undercroft_keys::KeyAlgorithm;
use undercroft_tpm_wire::{HashAlgorithm, PublicArea, Scheme, command, policy};

use device::{open, tpm};

const ROUNDS: usize = 5;
const SIGNATURES: usize = 400;
const IN_FLIGHT: usize = 32;

struct Word<'a> {
    gate: &'a SoftwareKey,
    key: &'a PublicArea,
    message: &'a [u8],
}

#[async_trait]
impl Gate for Word<'_> {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        let cp_hash = command::sign(&self.key.name(), digest(&SHA256, self.message).as_ref(), scheme);
        let signature = self.gate.sign(&policy::authorisation(nonce, 15, &cp_hash)).await?;
        Ok(Authorisation { gate: self.gate.public_key().id(), expiration: 15, signature })
    }
}

fn area(key: &Key) -> PublicArea {
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&evidence.bytes).unwrap();
    PublicArea::parse(&hex::decode(json["key"]["public"].as_str().unwrap()).unwrap()).unwrap()
}

/// Signatures a second.
fn rate(mut sign: impl AsyncFnMut(&[u8])) -> f64 {
    let began = Instant::now();
    for first in (0..SIGNATURES).step_by(IN_FLIGHT) {
        block_on(sign(&first.to_be_bytes()));
    }
    SIGNATURES.div_ceil(IN_FLIGHT) as f64 * IN_FLIGHT as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let gates: Vec<_> = (0..2).map(|_| SoftwareKey::generate(KeyAlgorithm::EcdsaP256).unwrap()).collect();
    let public: Vec<_> = gates.iter().map(|gate| gate.public_key().clone()).collect();
    // Two TPMs, since what one audits it audits for good.
    let (_plain_folder, _plain_running, plain) = tpm();
    let (_audited_folder, _audited_running, audited) = tpm();
    let (plain, audited) = (open(&plain), open(&audited));
    let p256 = KeyAlgorithm::EcdsaP256;
    let name = |handle: u32| format!("tpm:handle={handle:#x}").parse().unwrap();
    let plain_key = block_on(plain.create(&name(0x8101_0001), p256)).unwrap();
    let gated_key = block_on(plain.create_gated(&name(0x8101_0002), p256, &public)).unwrap();
    let audited_key = block_on(audited.create(&name(0x8101_0001), p256)).unwrap();
    let places = LedgerPlaces { attestation_key: 0x8101_0100, counter: 0x0180_0100 };
    let ledger = audited.ledger(places).unwrap();
    block_on(ledger.provision()).unwrap();
    block_on(ledger.close_epoch([0; 32])).unwrap();

    let area = area(&gated_key);
    let gated = gated_key.gated.as_ref().unwrap();
    let direct = async |key: &Key, message: &[u8]| {
        let signed = join_all((0..IN_FLIGHT).map(|_| key.signer.sign_counted(message))).await;
        assert!(signed.iter().all(Result::is_ok));
    };
    let (mut plains, mut audits, mut gateds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plains.push(rate(async |message| direct(&plain_key, message).await));
        audits.push(rate(async |message| direct(&audited_key, message).await));
        gateds.push(rate(async |message| {
            let word = Word { gate: &gates[0], key: &area, message };
            let signed = join_all((0..IN_FLIGHT).map(|_| gated.sign(message, &public, &word))).await;
            assert!(signed.iter().all(Result::is_ok), "{signed:?}");
        }));
    }
    let (plain, audited, gated) = (median(plains), median(audits), median(gateds));
    println!("swtpm, P-256, {IN_FLIGHT} in flight, medians of {ROUNDS} turns");
    println!("  plain    {plain:7.0} signatures a second");
    println!("  audited  {audited:7.0}  {:.2} of plain (aim 0.95)", audited / plain);
    println!("  gated    {gated:7.0}  {:.2} of plain (aim 0.40)", gated / plain);
}
