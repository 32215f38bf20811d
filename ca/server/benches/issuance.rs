//! How near the whole cycle comes to what the token allows.
//!
//! The *limit* verifies the CSR, has the token sign the to-be-signed bytes of a real certificate and verifies that one
//! signature: nothing else, with the same tasks, threads and sessions. The *cycle* is everything between a caller's
//! request and its answer: policy, building and linting, the intent in the log (SQLite, synchronous = FULL), the
//! signed checkpoint, signing, the outcome in the log. Both run in turns, and ratios are made of medians of one run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, for people to read"
)]
#![allow(dead_code, reason = "the rig serves the tests of the service, too")]

#[path = "../tests/service/rig.rs"]
mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use hsm_sim::softhsm;
use hsm_sim::swtpm::{Manufacture, Swtpm};
use undercroft_ca::csr::Csr;
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::service::{CertificateAuthority, IssueRequest};
use undercroft_ca::signed::Signed;
use undercroft_keymgr::{Backend as _, Key, KeyManager};
use undercroft_keys::KeyAlgorithm;
use undercroft_pkcs11::Pkcs11Backend;
use undercroft_tpm::TpmBackend;

use rig::{Rig, RootRig, ask, workload};

/// How often limit and cycle take turns.
const ROUNDS: usize = 5;

/// How long each turn is.
const TURN: Duration = Duration::from_secs(3);

/// Different requests, used over and over.
const REQUESTS: usize = 256;

fn main() {
    let softhsm = softhsm::token_for_this_process("bench").unwrap();
    let softhsm = Pkcs11Backend.open(&softhsm).unwrap();
    let in_softhsm = |name: &str, algorithm: KeyAlgorithm| -> Key {
        let uri = format!("pkcs11:object={name}-{algorithm}").parse().unwrap();
        block_on(softhsm.create(&uri, algorithm)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let running = swtpm.start().unwrap();
    let tpm: Arc<dyn KeyManager> = TpmBackend.open(&swtpm.device("bench")).unwrap();
    let in_tpm = |name: &str, algorithm: KeyAlgorithm| match (name, algorithm) {
        ("prod.example", KeyAlgorithm::EcdsaP256) => {
            block_on(tpm.create(&"tpm:handle=0x81000010".parse().unwrap(), algorithm)).unwrap()
        }
        // A TPM has no EdDSA: log keys are in SoftHSM.
        _ => in_softhsm(&format!("tpm-{name}"), algorithm),
    };
    println!("| key | in flight | limit, 1/s | cycle, 1/s | ratio |\n| --- | --- | --- | --- | --- |");
    measure("SoftHSM P-256", 256, in_softhsm);
    measure("swtpm P-256", 64, in_tpm);
    drop(running);
}

fn measure(name: &str, in_flight: usize, make: impl Fn(&str, KeyAlgorithm) -> Key) {
    let (control, prod) = (RootRig::new("control"), RootRig::new("prod"));
    let rig = Rig::with_keys([("control.example", &control, false), ("prod.example", &prod, false)], make);
    let requests: Arc<Vec<IssueRequest>> = Arc::new((0..REQUESTS).map(|_| workload()).collect());
    let (limit, cycle, pieces) = rig.run(async |ca| {
        let issued = ask(ca, workload()).await.unwrap();
        let tbs: Arc<[u8]> = Signed::from_der(&issued.chain[0]).unwrap().tbs.into();
        let key = ca.domain("prod.example").unwrap().authorities()[0].key().signer.clone();
        let (mut limits, mut cycles) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let limit = rate(in_flight, |n| {
                let (key, tbs, requests) = (key.clone(), tbs.clone(), requests.clone());
                async move {
                    Csr::from_der(&requests[n % REQUESTS].csr).unwrap();
                    let signature = key.sign(&tbs).await.unwrap();
                    let algorithm = key.algorithm().signature_algorithm();
                    key.public_key().verify(algorithm, &tbs, &signature).unwrap();
                }
            });
            limits.push(limit.await);
            let cycle = rate(in_flight, |n| {
                let (ca, requests) = (ca.clone(), requests.clone());
                async move { drop(ask(&ca, requests[n % REQUESTS].clone()).await.unwrap()) }
            });
            cycles.push(cycle.await);
        }
        let pieces = pieces(ca, &requests).await;
        (median(limits), median(cycles), pieces)
    });
    println!("| {name} | {in_flight} | {limit:.0} | {cycle:.0} | {:.2} |", cycle / limit);
    println!("{name}, pieces one after the other on one thread: {pieces}");
}

/// What pieces of the cycle cost, one after the other on one thread.
async fn pieces(ca: &CertificateAuthority, requests: &[IssueRequest]) -> String {
    let alice = parse_spiffe_id("spiffe://control.example/operator/alice").unwrap();
    let csr = each(requests, async |request| drop(Csr::from_der(&request.csr).unwrap())).await;
    let preview = each(requests, async |request| drop(ca.preview(&alice, request).await.unwrap())).await;
    format!("CSR {csr:.0} µs, policy, building and lint {:.0} µs", preview - csr)
}

async fn each(requests: &[IssueRequest], work: impl AsyncFn(&IssueRequest)) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = now();
        for request in requests {
            work(request).await;
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e6 / requests.len() as f64);
    }
    median(rounds)
}

/// How often a second the work that `make` makes is done, by so many tasks at once. `make` is given a number that
/// counts up.
async fn rate<F: Future<Output = ()> + Send + 'static>(in_flight: usize, make: impl Fn(usize) -> F) -> f64 {
    let start = now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..in_flight {
        tasks.spawn(make(n));
    }
    let mut done = 0usize;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
        done += 1;
        if start.elapsed() < TURN {
            tasks.spawn(make(in_flight + done));
        }
    }
    done as f64 / start.elapsed().as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
