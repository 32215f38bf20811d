//! What the trait costs: swtpm, P-256, through [`undercroft_keymgr::SigningKey`] and by the bare ESYS function, in turns of
//! one run; and how long 64 callers wait for the one TPM.
//!
//! *Bare* is `tss-esapi`, one thread with one context that signs digests of messages one after the other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]

#[path = "../tests/device/mod.rs"]
mod device;

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::handles::{KeyHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Digest, HashScheme, HashcheckTicket, SignatureScheme};
use tss_esapi::tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK};
use tss_esapi::{Context, TctiNameConf};
use undercroft_keymgr::{Key, KeyUri};
use undercroft_keys::KeyAlgorithm;

use device::{open, tpm, uri};

const HANDLE: u32 = 0x8101_0001;
const CALLERS: usize = 64;
const ROUNDS: usize = 7;
const SIGNATURES: usize = 1_000;

fn main() {
    let (_folder, _running, device) = tpm();
    let manager = open(&device);
    let key = block_on(manager.create(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP256)).unwrap();
    let KeyUri::Tpm(place) = &device.uri else { panic!() };
    let tcti: TctiNameConf = place.tcti.as_ref().unwrap().parse().unwrap();
    let mut context = Context::new(tcti).unwrap();
    let handle = TpmHandle::try_from(HANDLE).unwrap();
    let object = context.execute_without_session(|context| context.tr_from_tpm_public(handle)).unwrap();
    context.set_sessions((Some(AuthSession::Password), None, None));
    let (mut bare, mut traits) = (Vec::new(), Vec::new());
    let (mut waits, mut ideals) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (by_esys, (through, waited)) = (by_esys(&mut context, object.into()), by_trait(&key));
        // The first round warms everything up.
        if round > 0 {
            bare.push(by_esys);
            traits.push(through);
            waits.push(waited.as_secs_f64());
            ideals.push(CALLERS as f64 / by_esys);
        }
    }
    let (bare, through, waited, ideal) = (median(bare), median(traits), median(waits), median(ideals));
    println!("swtpm, P-256, medians of {ROUNDS} turns");
    println!("  bare ESYS {bare:7.0} signatures a second");
    println!("  trait     {through:7.0}  {:.2} of bare (aim 0.97), {CALLERS} callers", through / bare);
    println!(
        "  p99       {:7.2} ms from being asked to the answer, {:.2} of {CALLERS} signatures at the bare rate (aim at most 2)",
        waited * 1e3,
        waited / ideal
    );
}

/// Signatures a second.
fn by_esys(context: &mut Context, key: KeyHandle) -> f64 {
    let began = Instant::now();
    for number in 0..SIGNATURES {
        let digest = Digest::try_from(digest(&SHA256, &number.to_be_bytes()).as_ref()).unwrap();
        let scheme = SignatureScheme::EcDsa { hash_scheme: HashScheme::new(HashingAlgorithm::Sha256) };
        let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
            tag: TPM2_ST_HASHCHECK,
            hierarchy: TPM2_RH_NULL,
            digest: TPM2B_DIGEST::default(),
        });
        context.sign(key, digest, scheme, ticket.unwrap()).unwrap();
    }
    SIGNATURES as f64 / began.elapsed().as_secs_f64()
}

/// Signatures a second with [`CALLERS`] waiting all the time, and the 99th percentile of how long each waits.
fn by_trait(key: &Key) -> (f64, Duration) {
    let one = |number: usize| async move {
        let asked = Instant::now();
        key.signer.sign(&number.to_be_bytes()).await.unwrap();
        asked.elapsed()
    };
    let mut waited = Vec::with_capacity(SIGNATURES);
    let began = Instant::now();
    block_on(async {
        let mut calls: FuturesUnordered<_> = (0..CALLERS).map(one).collect();
        let mut next = CALLERS;
        while let Some(wait) = calls.next().await {
            waited.push(wait);
            if next < SIGNATURES {
                calls.push(one(next));
                next += 1;
            }
        }
    });
    let rate = SIGNATURES as f64 / began.elapsed().as_secs_f64();
    waited.sort_unstable();
    (rate, waited[waited.len() * 99 / 100])
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
