//! Signing with a TPM that is killed every second. `make soak` signs ten thousand times.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;

use futures::executor::block_on;
use hsm_sim::soak;
use hsm_sim::swtpm::{Manufacture, Swtpm};
use undercroft_keys::KeyAlgorithm;

use device::{open, uri};

#[test]
fn a_tpm_that_is_killed_every_second_signs_rightly_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let mut running = Some(tpm.start().unwrap());
    let device = tpm.device("edge");
    let key = block_on(open(&device).create(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap();
    // SIGKILL, in the middle of whatever it does.
    let soaked = soak::run(&key, |_| {
        drop(running.take());
        running = Some(tpm.start().unwrap());
    });
    println!("{soaked:?}");
}
