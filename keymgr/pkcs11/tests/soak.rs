//! Signing with a token that fails in another way every second. `make soak` signs ten thousand times.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use futures::executor::block_on;
use hsm_sim::faulty_module::{
    CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_SESSION_HANDLE_INVALID, FaultyModule,
};
use hsm_sim::{soak, softhsm};
use undercroft_keymgr::{Backend as _, KeyUri};
use undercroft_keys::KeyAlgorithm;
use undercroft_pkcs11::Pkcs11Backend;

/// What the token does when it is killed, in turn, with the code that a function fails with.
const DEATHS: [(&str, u32); 6] = [
    ("removed", 0),
    ("C_Sign-after", CKR_DEVICE_REMOVED),
    ("sessions-gone", 0),
    ("C_Sign", CKR_DEVICE_ERROR),
    ("dead", 0),
    ("C_OpenSession", CKR_SESSION_HANDLE_INVALID),
];

#[test]
fn a_token_that_is_killed_every_second_signs_rightly_or_not_at_all() {
    let device = softhsm::token_for_this_process("soak").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let faults = FaultyModule::before(&softhsm::module().unwrap(), folder.path()).unwrap();
    let device = faults.in_front_of(&device);
    let uri: KeyUri = "pkcs11:object=key".parse().unwrap();
    let uri = uri.completed_by(&device.uri).unwrap();
    let manager = Pkcs11Backend.open(&device).unwrap();
    let key = block_on(manager.create(&uri, KeyAlgorithm::EcdsaP256)).unwrap();
    let soaked = soak::run(&key, |death| {
        let (fault, code) = DEATHS[usize::try_from(death).unwrap() % DEATHS.len()];
        faults.begin(fault, code).unwrap();
        // It is away for a while; two of the faults end by being met.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let _ = faults.end(fault);
    });
    println!("{soaked:?}");
}
