//! TPMs that fail: swtpm behind one that goes wrong as it is told, and swtpm killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;

use futures::executor::block_on;
use hsm_sim::faulty_tpm::{FaultyTpm, TpmFault};
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use undercroft_keymgr::{Backend as _, Device, Error, ErrorKind, Key, SecretSource};
use undercroft_keys::{KeyAlgorithm, RsaBits};
use undercroft_tpm::TpmBackend;

use device::{open, tool, tpm, uri};

const ALGORITHM: KeyAlgorithm = KeyAlgorithm::EcdsaP256;
const HANDLE: u32 = 0x8101_0001;

struct Rig {
    between: FaultyTpm,
    device: Device,
    _running: RunningSwtpm,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
        let running = tpm.start().unwrap();
        let between = FaultyTpm::before(&tpm, folder.path()).unwrap();
        let device = between.device("edge", &tpm);
        Self { between, device, _running: running, _folder: folder }
    }

    fn key(&self) -> Key {
        block_on(open(&self.device).create(&uri(&self.device, HANDLE), ALGORITHM)).unwrap()
    }
}

fn signs(key: &Key) -> Result<(), Error> {
    let signature = block_on(key.signer.sign(b"message"))?;
    key.signer.public_key().verify(ALGORITHM.signature_algorithm(), b"message", &signature).unwrap();
    Ok(())
}

/// Warnings by which a TPM says that it has not begun (Part 2, table 17): the caller hears none of them.
#[test]
fn what_the_tpm_has_not_begun_is_sent_again() {
    let rig = Rig::new();
    let key = rig.key();
    signs(&key).unwrap();
    for (name, code) in [
        ("OBJECT_MEMORY", 0x902),
        ("SESSION_MEMORY", 0x903),
        ("MEMORY", 0x904),
        ("SESSION_HANDLES", 0x905),
        ("OBJECT_HANDLES", 0x906),
        ("YIELDED", 0x908),
        ("TESTING", 0x90a),
        ("RETRY", 0x922),
    ] {
        rig.between.next(TpmFault::Answers(code));
        signs(&key).unwrap_or_else(|error| panic!("TPM_RC_{name}: {error}"));
        assert_eq!(rig.between.left(), 0, "TPM_RC_{name} was met by nobody");
    }
}

#[test]
fn what_the_tpm_may_have_done_is_not_sent_again() {
    let rig = Rig::new();
    let key = rig.key();
    for fault in [TpmFault::BreaksOff, TpmFault::Answers(0x101)] {
        rig.between.next(fault);
        let error = signs(&key).unwrap_err();
        let kind = match fault {
            TpmFault::BreaksOff => ErrorKind::Unavailable,
            _ => ErrorKind::Fault, // TPM_RC_FAILURE
        };
        assert!(error.kind() == kind && !error.is_undone(), "{fault:?}: {error}");
        // One that is asked again is back at once.
        signs(&key).unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
    }
}

#[test]
fn a_tpm_that_hangs_is_told_in_time() {
    let mut rig = Rig::new();
    rig.device.time_limit = "500ms".parse().unwrap();
    let key = rig.key();
    rig.between.next(TpmFault::Hangs);
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("edge has not answered within 500ms"), "{error}");
    rig.between.go_on();
    // swtpm has one connection, which the call that hung gives back when it comes back.
    let again = (0..20).find_map(|_| signs(&key).ok());
    assert!(again.is_some(), "{:?}", signs(&key));
}

#[test]
fn a_tpm_in_lockout_is_told_as_such_and_serves_after_it() {
    let (folder, _running, device) = tpm();
    let file = folder.path().join("pin");
    std::fs::write(&file, "the-right-one").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let device = Device { pin: Some(SecretSource::File(file)), ..device };
    let manager = open(&device);
    block_on(manager.create(&uri(&device, HANDLE), ALGORITHM)).unwrap();
    drop(manager);
    // As somebody who guesses would.
    tool(
        &device,
        &folder,
        "echo x > message
         for guess in 1 2 3 4 5; do tpm2_sign -Q -c 0x81010001 -p wrong$guess -g sha256 -o out message 2>> said || true; done
         grep -qi lockout said",
    );
    let manager = open(&device);
    let key = block_on(manager.open(&uri(&device, HANDLE), ALGORITHM)).unwrap();
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("TPM_RC_LOCKOUT: the TPM is in dictionary-attack lockout"), "{error}");
    drop((manager, key));
    tool(&device, &folder, "tpm2_dictionarylockout -c");
    let key = block_on(open(&device).open(&uri(&device, HANDLE), ALGORITHM)).unwrap();
    signs(&key).unwrap();
}

#[test]
fn an_algorithm_that_the_tpm_lacks_is_named() {
    let (_folder, _running, device) = tpm();
    let manager = open(&device);
    for (algorithm, says) in [
        (KeyAlgorithm::RsaPss(RsaBits::B4096), "as rsa-4096-pss"),
        (KeyAlgorithm::Ed25519, "TPMs have no Ed25519 keys; use ecdsa-p256"),
    ] {
        for error in [
            block_on(manager.create(&uri(&device, HANDLE), algorithm)).unwrap_err(),
            block_on(manager.throwaway(algorithm)).map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(
                error.to_string().contains(says) || error.to_string().contains("rsa-4096-pss"),
                "{error}"
            );
        }
    }
    // Nothing was left at the handle, and what is there is never overwritten.
    let made = block_on(manager.create(&uri(&device, HANDLE), ALGORITHM)).unwrap();
    let error = block_on(manager.create(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP384)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    let error = block_on(manager.open(&uri(&device, HANDLE), KeyAlgorithm::EcdsaP384)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("P-256") && error.to_string().contains("ecdsa-p384"), "{error}");
    signs(&made).unwrap();
}

#[test]
fn an_uri_with_what_nobody_knows_is_refused_by_name() {
    for (text, says) in [
        ("tpm:handle=0x81010001;slot=3", "slot"),
        ("tpm:handle=0x81010001;handle=0x81010002", "handle"),
        ("tpm:handle=0x01010001", "0x81"),
    ] {
        let refusal = text.parse::<undercroft_keymgr::KeyUri>().unwrap_err().to_string();
        assert!(refusal.contains(says), "{text}: {refusal}");
    }
    let unreachable = Device { uri: "tpm:tcti=nonsense:x".parse().unwrap(), ..swtpm_device() };
    let error = TpmBackend.open(&unreachable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("`nonsense:x`"), "{error}");
}

fn swtpm_device() -> Device {
    Swtpm::in_folder(std::path::Path::new("/nonexistent")).device("edge")
}

#[test]
fn a_tpm_with_another_key_under_the_handle_signs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let running = tpm.start().unwrap();
    let device = tpm.device("edge");
    let key = block_on(open(&device).create(&uri(&device, HANDLE), ALGORITHM)).unwrap();
    drop(running);
    let running = tpm.start().unwrap();
    // Somebody swaps the key while we are not connected.
    tool(&device, &folder, "tpm2_evictcontrol -Q -C o -c 0x81010001");
    tool(
        &device,
        &folder,
        "tpm2_createprimary -Q -C o -G ecc256:aes128cfb -c root.ctx
         tpm2_flushcontext -t
         tpm2_create -Q -C root.ctx -G ecc256:ecdsa-sha256:null -u k.pub -r k.priv -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
         tpm2_flushcontext -t
         tpm2_load -Q -C root.ctx -u k.pub -r k.priv -c k.ctx
         tpm2_evictcontrol -Q -C o -c k.ctx 0x81010001
         tpm2_flushcontext -t",
    );
    // libtss2-tcti-swtpm connects for each command, so that no connection has broken.
    let error = signs(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fault);
    assert!(error.to_string().contains("has become another key"), "{error}");
    drop(running);
}
