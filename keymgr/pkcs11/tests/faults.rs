//! Tokens, drivers and daemons that fail: SoftHSM behind a module that goes wrong as it is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::executor::block_on;
use futures::future::join_all;
use hsm_sim::faulty_module::{
    CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_PIN_LOCKED, CKR_SESSION_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN,
    FaultyModule,
};
use hsm_sim::softhsm;
use undercroft_keymgr::{Backend as _, Device, Error, ErrorKind, Key, KeyManager, KeyUri, SecretSource};
use undercroft_keys::KeyAlgorithm;
use undercroft_pkcs11::Pkcs11Backend;

const ALGORITHM: KeyAlgorithm = KeyAlgorithm::EcdsaP256;

/// Every token of this process is made before SoftHSM is loaded: it does not see those that come later.
const TOKENS: [&str; 10] =
    ["session", "unsure", "away", "restart", "dead", "swapped", "hangs", "pin", "create", "wrong"];

fn tokens() -> &'static BTreeMap<&'static str, Device> {
    static MADE: OnceLock<BTreeMap<&'static str, Device>> = OnceLock::new();
    MADE.get_or_init(|| {
        TOKENS.into_iter().map(|name| (name, softhsm::token_for_this_process(name).unwrap())).collect()
    })
}

/// One at a time: a module that is finalised cleans up the OpenSSL that the others use, too.
static ALONE: Mutex<()> = Mutex::new(());

struct Rig {
    faults: FaultyModule,
    device: Device,
    _folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    fn new(token: &str, change: impl FnOnce(&mut Device)) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut device = tokens()[token].clone();
        let faults = FaultyModule::before(&softhsm::module().unwrap(), folder.path()).unwrap();
        device = faults.in_front_of(&device);
        change(&mut device);
        Self { faults, device, _folder: folder, _alone: alone }
    }

    fn open(&self) -> Arc<dyn KeyManager> {
        Pkcs11Backend.open(&self.device).unwrap()
    }

    fn uri(&self, attributes: &str) -> KeyUri {
        let uri: KeyUri = format!("pkcs11:{attributes}").parse().unwrap();
        uri.completed_by(&self.device.uri).unwrap()
    }

    fn key(&self) -> Key {
        block_on(self.open().create(&self.uri("object=key"), ALGORITHM)).unwrap()
    }

    fn begin(&self, fault: &str, code: u32) {
        self.faults.begin(fault, code).unwrap();
    }

    fn end(&self, fault: &str) {
        self.faults.end(fault).unwrap();
    }
}

fn signs(key: &Key) -> Result<(), Error> {
    let signature = block_on(key.signer.sign(b"message"))?;
    key.signer.public_key().verify(ALGORITHM.signature_algorithm(), b"message", &signature).unwrap();
    Ok(())
}

fn one_session(device: &mut Device) {
    device.sessions = std::num::NonZeroUsize::new(1);
}

#[test]
fn a_session_that_is_gone_is_replaced_within_the_call() {
    let rig = Rig::new("session", one_session);
    let key = rig.key();
    for (function, code) in [
        ("C_SignInit-once", CKR_SESSION_HANDLE_INVALID),
        ("C_SignInit-once", CKR_USER_NOT_LOGGED_IN),
        ("C_SignInit-once", CKR_DEVICE_REMOVED),
        ("C_SignInit-once", CKR_DEVICE_ERROR),
        // Refused before it was looked at.
        ("C_Sign-once", CKR_SESSION_HANDLE_INVALID),
        ("C_Sign-once", CKR_USER_NOT_LOGGED_IN),
    ] {
        rig.begin(function, code);
        signs(&key).unwrap_or_else(|error| panic!("{function} {code:#x}: {error}"));
        assert!(!rig.faults.is_on(function), "{function} was never called");
    }
    // Where the new session is refused, too, the caller hears it.
    rig.begin("C_SignInit", CKR_SESSION_HANDLE_INVALID);
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    rig.end("C_SignInit");
    signs(&key).unwrap();
}

#[test]
fn what_may_have_been_signed_is_not_signed_again() {
    let rig = Rig::new("unsure", one_session);
    let key = rig.key();
    for (function, code) in [
        ("C_Sign-once", CKR_DEVICE_REMOVED),
        ("C_Sign-once", CKR_DEVICE_ERROR),
        ("C_Sign-after", CKR_DEVICE_REMOVED),
        ("C_Sign-after", CKR_DEVICE_ERROR),
    ] {
        rig.begin(function, code);
        let error = signs(&key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{function} {code:#x}: {error}");
        assert!(!error.is_undone() && error.to_string().contains("cannot sign with"), "{error}");
        if function == "C_Sign-after" {
            rig.end(function);
        }
        signs(&key).unwrap_or_else(|error| panic!("after {function} {code:#x}: {error}"));
    }
}

#[test]
fn a_token_that_is_unplugged_and_comes_back_serves_at_once() {
    let rig = Rig::new("away", |_| {});
    let key = rig.key();
    block_on(join_all((0..16).map(|_| key.signer.sign(b"on every session"))));
    assert_eq!(key.custody.connections(), 0);
    for _ in 0..3 {
        rig.begin("removed", 0);
        for result in block_on(join_all((0..16).map(|_| key.signer.sign(b"x")))) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        let error = signs(&key).unwrap_err().to_string();
        assert!(error.contains("is not there; plug it in") && error.contains("device `away-"), "{error}");
        rig.end("removed");
        // Not the second call: the first.
        signs(&key).unwrap();
        for result in block_on(join_all((0..16).map(|_| key.signer.sign(b"x")))) {
            result.unwrap();
        }
    }
    // Each time some sessions at least were opened anew, so that custody is proved again.
    assert!(key.custody.connections() >= 3, "{}", key.custody.connections());
}

#[test]
fn a_daemon_that_was_restarted_is_not_noticed() {
    let rig = Rig::new("restart", |_| {});
    let key = rig.key();
    block_on(join_all((0..16).map(|_| key.signer.sign(b"on every session"))));
    for _ in 0..3 {
        rig.begin("sessions-gone", 0);
        for result in block_on(join_all((0..32).map(|_| key.signer.sign(b"x")))) {
            result.unwrap();
        }
        assert!(!rig.faults.is_on("sessions-gone"));
    }
}

#[test]
fn a_module_that_is_dead_until_it_is_finalised_is_initialised_anew() {
    let rig = Rig::new("dead", |_| {});
    let key = rig.key();
    let throwaway = block_on(rig.open().throwaway(ALGORITHM)).unwrap();
    block_on(join_all((0..16).map(|_| key.signer.sign(b"on every session"))));
    rig.begin("dead", 0);
    // As a YubiHSM's is when nobody has used it for a while: sessions are dead, and so are new ones.
    signs(&key).unwrap();
    assert!(!rig.faults.is_on("dead"));
    for result in block_on(join_all((0..16).map(|_| key.signer.sign(b"x")))) {
        result.unwrap();
    }
    // A key that lived in a session is gone and is not taken for another.
    let error = block_on(throwaway.sign(b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn after_a_token_was_away_a_wrong_signature_is_kept_back() {
    let rig = Rig::new("wrong", one_session);
    let key = rig.key();
    rig.begin("sessions-gone", 0);
    rig.begin("wrong-signature", 0);
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fault);
    assert!(error.to_string().contains("does not verify under its public key"), "{error}");
    // It stays so for as long as it is so.
    assert_eq!(signs(&key).unwrap_err().kind(), ErrorKind::Fault);
    rig.end("wrong-signature");
    signs(&key).unwrap();
}

#[test]
fn a_token_that_came_back_with_another_key_signs_nothing() {
    let rig = Rig::new("swapped", one_session);
    let key = block_on(rig.open().create(&rig.uri("object=key;id=%01"), ALGORITHM)).unwrap();
    let tool = |arguments: &[&str]| {
        let mut tool = std::process::Command::new("pkcs11-tool");
        tool.args(["--module", softhsm::module().unwrap().to_str().unwrap()]);
        tool.args(["--token-label", &rig.device.name, "--login", "--pin", "1234"]).args(arguments);
        let done = tool.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    for class in ["privkey", "pubkey"] {
        tool(&["--delete-object", "--type", class, "--id", "01"]);
    }
    tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "key", "--id", "01"]);
    rig.begin("sessions-gone", 0);
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fault);
    assert!(error.to_string().contains("has become another key"), "{error}");
}

#[test]
fn a_call_that_hangs_is_told_in_time_and_others_are_served() {
    let rig = Rig::new("hangs", |device| {
        one_session(device);
        device.time_limit = "500ms".parse().unwrap();
    });
    let key = rig.key();
    rig.begin("C_Sign-hangs", 0);
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("has not answered within 500ms"), "{error}");
    rig.end("C_Sign-hangs");
    signs(&key).unwrap();
}

#[test]
fn a_locked_token_is_not_asked_and_what_is_left_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // One module each: what is refused is remembered for the life of the process.
    let refusal = |fault: Option<&str>, login: u32, pin: Option<&str>| {
        let rig = Rig::new("pin", |device| {
            if let Some(pin) = pin {
                device.pin = Some(SecretSource::File(pin_file(folder.path(), pin)));
            }
        });
        if let Some(fault) = fault {
            rig.begin(fault, 0);
        }
        if login != 0 {
            rig.begin("C_Login", login);
        }
        let error = Pkcs11Backend.open(&rig.device).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let told = error.to_string();
        assert!(pin.is_none_or(|pin| !told.contains(pin)), "{told}");
        // Nor is the token asked a second time, whatever it would say now.
        if login != 0 {
            rig.end("C_Login");
            assert_eq!(Pkcs11Backend.open(&rig.device).unwrap_err().to_string(), told);
        }
        told
    };
    let locked = refusal(Some("pin-locked"), 0, None);
    assert!(locked.contains("was not asked; unlock it with the SO PIN"), "{locked}");
    let code = 0xa0; // CKR_PIN_INCORRECT
    let last = refusal(Some("pin-final"), code, Some("987654"));
    assert!(last.contains("one try is left before the token locks") && last.contains("tried once"), "{last}");
    let low = refusal(Some("pin-low"), code, Some("987654"));
    assert!(low.contains("counts wrong tries and will lock"), "{low}");
    let silent = refusal(None, code, Some("987654"));
    assert!(silent.contains("does not say how many tries are left"), "{silent}");
    let by_code = refusal(None, CKR_PIN_LOCKED, None);
    assert!(by_code.contains("not tried again by this process"), "{by_code}");
}

fn pin_file(folder: &Path, pin: &str) -> std::path::PathBuf {
    let file = folder.join("pin");
    std::fs::write(&file, pin).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[test]
fn a_key_that_was_perhaps_made_is_not_made_again() {
    let rig = Rig::new("create", one_session);
    let manager = rig.open();
    rig.begin("C_GenerateKeyPair-after", CKR_DEVICE_REMOVED);
    let error = block_on(manager.create(&rig.uri("object=key"), ALGORITHM)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    rig.end("C_GenerateKeyPair-after");
    // It was, and stays as it is.
    let error = block_on(manager.create(&rig.uri("object=key"), ALGORITHM)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.to_string().contains("was not touched"), "{error}");
    signs(&block_on(manager.open(&rig.uri("object=key"), ALGORITHM)).unwrap()).unwrap();
}
