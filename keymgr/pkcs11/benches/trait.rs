//! What the trait costs: SoftHSM, P-256, through [`undercroft_keymgr::SigningKey`] and by the bare C functions, in turns of
//! one run; and how long 64 callers wait for 4 sessions.
//!
//! *Bare* is the `cryptoki` crate on as many threads as there are sessions, each with a session of its own that signs
//! digests of messages one after the other: nothing is queued, nobody waits for an answer, nothing is checked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hsm_sim::faulty_module::FaultyModule;
use hsm_sim::softhsm;
use undercroft_keymgr::{Backend as _, Device, Key};
use undercroft_keys::KeyAlgorithm;
use undercroft_pkcs11::Pkcs11Backend;

const SESSIONS: usize = 4;
const CALLERS: usize = 64;

/// What is measured: the device, the module that drives it, and how often.
struct Subject {
    name: &'static str,
    device: Device,
    module: PathBuf,
    rounds: usize,
    signatures: usize,
}

fn main() {
    let [softhsm_device, slow_device] = ["trait", "slow"].map(|name| {
        let device = softhsm::token_for_this_process(name).unwrap();
        Device { sessions: NonZeroUsize::new(SESSIONS), ..device }
    });
    let module = softhsm::module().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let slow = FaultyModule::before(&module, folder.path()).unwrap();
    slow.begin("C_Sign-takes", 2_000).unwrap();
    measure(&Subject {
        name: "SoftHSM, which signs on our processors",
        device: softhsm_device,
        module,
        rounds: 7,
        signatures: 16_000,
    });
    measure(&Subject {
        name: "SoftHSM, and 2 ms a signature on nobody's processor, as in a device of its own",
        device: slow.in_front_of(&slow_device),
        module: slow.library().to_owned(),
        rounds: 3,
        signatures: 4_000,
    });
}

fn measure(subject: &Subject) {
    let manager = Pkcs11Backend.open(&subject.device).unwrap();
    let uri: undercroft_keymgr::KeyUri = "pkcs11:object=bench;id=%01".parse().unwrap();
    let uri = uri.completed_by(&subject.device.uri).unwrap();
    let key = block_on(manager.create(&uri, KeyAlgorithm::EcdsaP256)).unwrap();
    let module = Pkcs11::new(&subject.module).unwrap();
    let (mut bare, mut traits) = (Vec::new(), Vec::new());
    let (mut waits, mut ideals) = (Vec::new(), Vec::new());
    for round in 0..=subject.rounds {
        let by_c = by_c(&module, &subject.device.name, subject.signatures);
        let (rate, wait) = by_trait(&key, subject.signatures);
        // The first round warms everything up.
        if round > 0 {
            bare.push(by_c);
            traits.push(rate);
            waits.push(wait.as_secs_f64());
            ideals.push(CALLERS as f64 / by_c);
        }
    }
    let (bare, through, waited, ideal) = (median(bare), median(traits), median(waits), median(ideals));
    println!("{}: P-256, {SESSIONS} sessions, medians of {} turns", subject.name, subject.rounds);
    println!("  bare C   {bare:7.0} signatures a second");
    println!("  trait    {through:7.0}  {:.2} of bare (aim 0.90), {CALLERS} callers", through / bare);
    println!(
        "  p99      {:7.2} ms from being asked to the answer, {:.2} of {CALLERS} signatures at the bare rate (aim at most 2)",
        waited * 1e3,
        waited / ideal
    );
}

/// Signatures a second.
fn by_c(module: &Pkcs11, token: &str, signatures: usize) -> f64 {
    let slots = module.get_slots_with_token().unwrap();
    let is_ours = |slot: &&cryptoki::slot::Slot| {
        module.get_token_info(**slot).is_ok_and(|info| info.label().trim_end() == token)
    };
    let slot = *slots.iter().find(is_ours).unwrap();
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let session = module.open_ro_session(slot).unwrap();
            // The token is logged in for the whole process.
            let _ = session.login(UserType::User, Some(&AuthPin::from("1234".to_owned())));
            let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(vec![1])];
            let key = session.find_objects(&template).unwrap()[0];
            (session, key)
        })
        .collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (session, key) in sessions {
            scope.spawn(move || {
                for number in 0..signatures / SESSIONS {
                    let digest = digest(&SHA256, &number.to_be_bytes());
                    session.sign(&Mechanism::Ecdsa, key, digest.as_ref()).unwrap();
                }
            });
        }
    });
    signatures as f64 / began.elapsed().as_secs_f64()
}

/// Signatures a second with [`CALLERS`] waiting all the time, and the 99th percentile of how long each waits.
fn by_trait(key: &Key, signatures: usize) -> (f64, Duration) {
    let one = |number: usize| async move {
        let asked = Instant::now();
        key.signer.sign(&number.to_be_bytes()).await.unwrap();
        asked.elapsed()
    };
    let mut waited = Vec::with_capacity(signatures);
    let began = Instant::now();
    block_on(async {
        let mut calls: FuturesUnordered<_> = (0..CALLERS).map(one).collect();
        let mut next = CALLERS;
        while let Some(wait) = calls.next().await {
            waited.push(wait);
            if next < signatures {
                calls.push(one(next));
                next += 1;
            }
        }
    });
    let rate = signatures as f64 / began.elapsed().as_secs_f64();
    waited.sort_unstable();
    (rate, waited[waited.len() * 99 / 100])
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
