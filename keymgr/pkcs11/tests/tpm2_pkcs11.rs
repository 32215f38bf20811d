//! The backend on a second real module, tpm2-pkcs11: the same suite, with what that module cannot do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, which tells another process that it ran"
)]

use std::path::PathBuf;
use std::process::Command;

use futures::executor::block_on;
use hsm_sim::conformance::{self, Subject, table};
use hsm_sim::swtpm::{Manufacture, Swtpm};
use hsm_sim::tpm2_pkcs11::Tpm2Pkcs11;
use undercroft_keymgr::{Backend as _, KeyUri};
use undercroft_keys::{KeyAlgorithm, RsaBits};
use undercroft_pkcs11::{CUSTODY_FORMAT, Pkcs11Backend};

const LABEL: &str = "second";

const NO_PSS: &str = "tpm2-pkcs11 1.9 offers no CKM_RSA_PKCS_PSS";
const NO_4096: &str = "libtpms 0.9 makes RSA keys of 3072 bits at most";

const UNSUPPORTED: [(KeyAlgorithm, &str); 5] = [
    (KeyAlgorithm::RsaPss(RsaBits::B2048), NO_PSS),
    (KeyAlgorithm::RsaPss(RsaBits::B3072), NO_PSS),
    (KeyAlgorithm::RsaPss(RsaBits::B4096), NO_PSS),
    (KeyAlgorithm::RsaPkcs1(RsaBits::B4096), NO_4096),
    (KeyAlgorithm::Ed25519, "TPM 2.0 revision 1.59 has no EdDSA"),
];

/// It makes these, signs CKM_RSA_PKCS with TPM2_RSA_Decrypt, which keys of ours may not do, and then keeps the key in use
/// for the rest of the process: it cannot be destroyed again. Whoever tries hears all of that.
const HALF: [KeyAlgorithm; 2] =
    [KeyAlgorithm::RsaPkcs1(RsaBits::B2048), KeyAlgorithm::RsaPkcs1(RsaBits::B3072)];

/// The module reads its environment, which belongs to the whole process: the suite runs in one of its own.
#[test]
fn conforms() {
    if let Some(store) = std::env::var_os("TPM2_PKCS11_STORE") {
        return suite(&PathBuf::from(store));
    }
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(&folder.path().join("tpm"), Manufacture::Bare).unwrap();
    let _running = tpm.start().unwrap();
    let token = Tpm2Pkcs11::token(&folder.path().join("store"), &tpm, LABEL).unwrap();
    let mut own = Command::new(std::env::current_exe().unwrap());
    let ran = own.args(["--exact", "conforms", "--nocapture"]).envs(token.variables()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("the suite has run"), "{said}");
}

fn suite(store: &std::path::Path) {
    let device = Tpm2Pkcs11::in_folder(store, LABEL);
    let uri = |number: u32| -> KeyUri {
        let uri: KeyUri = format!("pkcs11:object=key-{number}").parse().unwrap();
        uri.completed_by(&device.uri).unwrap()
    };
    let subject = Subject {
        open: &|| Pkcs11Backend.open(&device).unwrap(),
        uri: &uri,
        unsupported: &UNSUPPORTED,
        no_throwaway: Some("tpm2-pkcs11 1.9 knows no keys that are session objects"),
        custody_format: CUSTODY_FORMAT,
    };
    let worked = conformance::run_without(&subject, &HALF);
    assert_eq!(worked, [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384]);
    table::says("tpm2-pkcs11 1.9 on swtpm", &worked, false);
    for (number, algorithm) in (800..).zip(HALF) {
        let error = block_on((subject.open)().create(&uri(number), algorithm)).unwrap_err().to_string();
        assert!(error.contains("could not be destroyed again"), "{algorithm}: {error}");
        assert!(error.contains("remove it with the token's own tool"), "{algorithm}: {error}");
    }
    println!("the suite has run: {worked:?}");
}
