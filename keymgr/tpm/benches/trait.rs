//! What the trait costs: swtpm, P-256, through [`undercroft_keymgr::SigningKey`] and by the bare functions of the ESAPI
//! (`bare_esys.c`), in turns of one run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]

#[path = "../tests/device/mod.rs"]
mod device;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt as _};
use undercroft_keymgr::{Key, KeyUri};
use undercroft_keys::KeyAlgorithm;

use device::{open, tpm};

const HANDLE: u32 = 0x8101_0001;
const ROUNDS: usize = 9;
const SIGNATURES: usize = 1_000;

/// Callers who wait, so that the TPM never does.
const CALLERS: usize = 8;

fn main() {
    let (_folder, _running, device) = tpm();
    let KeyUri::Tpm(uri) = &device.uri else { panic!("{}", device.uri) };
    let tcti = uri.tcti.clone().unwrap();
    let manager = open(&device);
    let name = format!("tpm:handle={HANDLE:#x}").parse().unwrap();
    let key = block_on(manager.create(&name, KeyAlgorithm::EcdsaP256)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path());
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (by_c, by_trait) = (by_c(&program, &tcti), by_trait(&key));
        // The first round warms everything up.
        if round > 0 {
            bare.push(by_c);
            through.push(by_trait);
        }
    }
    let (bare, through) = (median(bare), median(through));
    println!("swtpm, P-256, medians of {ROUNDS} turns");
    println!("  bare C   {bare:7.0} signatures a second");
    println!("  trait    {through:7.0}  {:.2} of bare (aim 0.97), {CALLERS} callers", through / bare);
}

fn compiled(folder: &Path) -> PathBuf {
    let program = folder.join("bare_esys");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/bare_esys.c");
    let mut compile = Command::new("cc");
    compile.arg("-O2").arg("-o").arg(&program).arg(source).args(["-ltss2-esys", "-ltss2-tctildr"]);
    assert!(compile.status().unwrap().success());
    program
}

/// Signatures a second.
fn by_c(program: &Path, tcti: &str) -> f64 {
    let (handle, signatures) = (format!("{HANDLE:#x}"), SIGNATURES.to_string());
    let ran = Command::new(program).args([tcti, &handle, &signatures]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().parse().unwrap()
}

/// Signatures a second.
fn by_trait(key: &Key) -> f64 {
    let one = |number: usize| async move { key.signer.sign(&number.to_be_bytes()).await.unwrap() };
    let began = Instant::now();
    block_on(async {
        let mut calls: FuturesUnordered<_> = (0..CALLERS).map(one).collect();
        let mut next = CALLERS;
        while calls.next().await.is_some() {
            if next < SIGNATURES {
                calls.push(one(next));
                next += 1;
            }
        }
    });
    SIGNATURES as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
