//! The backend on swtpm: the conformance suite, and what is the TPM's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod device;

use futures::executor::block_on;
use hsm_sim::conformance::{self, Subject, table};
use hsm_sim::swtpm::{Manufacture, Swtpm};
use undercroft_keymgr::{Backend as _, Device, ErrorKind, SecretSource};
use undercroft_keys::{KeyAlgorithm, RsaBits};
use undercroft_tpm::{CUSTODY_FORMAT, TpmBackend};

use device::{open, tool, tpm, uri};

#[test]
fn conforms() {
    let (_folder, _running, device) = tpm();
    let unsupported = [
        (KeyAlgorithm::Ed25519, "TPM 2.0 revision 1.59 has no EdDSA"),
        (KeyAlgorithm::RsaPss(RsaBits::B4096), "libtpms 0.9 makes RSA keys of 3072 bits at most"),
        (KeyAlgorithm::RsaPkcs1(RsaBits::B4096), "libtpms 0.9 makes RSA keys of 3072 bits at most"),
    ];
    let worked = conformance::run(&Subject {
        open: &|| open(&device),
        uri: &|number| uri(&device, 0x8101_0000 + number),
        unsupported: &unsupported,
        no_throwaway: None,
        custody_format: CUSTODY_FORMAT,
    });
    table::says("TPM 2.0 (swtpm 0.7)", &worked, true);
}

fn with_pin(device: &Device, pin: &str) -> (tempfile::TempDir, Device) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pin");
    std::fs::write(&file, pin).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    (folder, Device { pin: Some(SecretSource::File(file)), ..device.clone() })
}

#[test]
fn a_wrong_pin_is_tried_once_and_never_again() {
    let (_folder, _running, device) = tpm();
    let key = uri(&device, 0x8101_0001);
    let (_right, right) = with_pin(&device, "the-right-one");
    block_on(open(&right).create(&key, KeyAlgorithm::EcdsaP256)).unwrap();
    let (_wrong, wrong) = with_pin(&device, "the-wrong-one");
    let opened = block_on(open(&wrong).open(&key, KeyAlgorithm::EcdsaP256)).unwrap();
    let first = block_on(opened.signer.sign(b"x")).unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Denied);
    assert!(first.to_string().contains("not tried again"), "{first}");
    assert!(!first.to_string().contains("the-wrong-one"), "{first}");
    let second = block_on(opened.signer.sign(b"x")).unwrap_err();
    assert_eq!(second.to_string(), first.to_string());
    // Three failures lock a swtpm; one did not, so the right PIN still works.
    let opened = block_on(open(&right).open(&key, KeyAlgorithm::EcdsaP256)).unwrap();
    block_on(opened.signer.sign(b"x")).unwrap();
}

#[test]
fn a_key_that_can_leave_the_tpm_is_refused() {
    let (folder, _running, device) = tpm();
    tool(
        &device,
        &folder,
        "tpm2_createprimary -Q -C o -G ecc256:aes128cfb -c root.ctx
         tpm2_flushcontext -t
         tpm2_create -Q -C root.ctx -G ecc256:ecdsa-sha256:null -u k.pub -r k.priv -a 'sensitivedataorigin|userwithauth|sign'
         tpm2_flushcontext -t
         tpm2_load -Q -C root.ctx -u k.pub -r k.priv -c k.ctx
         tpm2_evictcontrol -Q -C o -c k.ctx 0x81010001
         tpm2_flushcontext -t",
    );
    let refused =
        block_on(open(&device).open(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(refused.to_string().contains("can leave its TPM"), "{refused}");
}

#[test]
fn our_storage_root_is_the_one_that_other_tools_make() {
    let (folder, _running, device) = tpm();
    block_on(open(&device).create(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap();
    // The qualified name of a key depends on its parent's: hash(parent's qualified name, name).
    tool(
        &device,
        &folder,
        "tpm2_createprimary -Q -C o -G ecc256:aes128cfb -c root.ctx -a 'restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda'
         tpm2_readpublic -Q -c root.ctx -q root.qn
         tpm2_flushcontext -t
         tpm2_readpublic -Q -c 0x81010001 -n key.name -q key.qn
         cat root.qn key.name | openssl dgst -sha256 -binary > expected
         tail -c 32 key.qn | cmp - expected",
    );
}

#[test]
fn custody_evidence_is_what_the_tpm_says() {
    let (_folder, _running, device) = tpm();
    let key = block_on(open(&device).create(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap();
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence.bytes).unwrap();
    assert_eq!(evidence["tpm"]["manufacturer"], "IBM");
    assert_eq!(evidence["tpm"]["vendor"], "SW   TPM");
    let public = hex::decode(evidence["key"]["public"].as_str().unwrap()).unwrap();
    let public = undercroft_tpm_wire::PublicArea::parse(&public).unwrap();
    assert_eq!(&public.public_key().unwrap(), key.signer.public_key());
}

#[test]
fn a_tpm_that_went_away_and_came_back_serves_again() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(folder.path(), Manufacture::Bare).unwrap();
    let running = tpm.start().unwrap();
    let device = tpm.device("edge");
    let key = block_on(open(&device).create(&uri(&device, 0x8101_0001), KeyAlgorithm::EcdsaP256)).unwrap();
    drop(running);
    let gone = block_on(key.signer.sign(b"x")).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Unavailable);
    let _running = tpm.start().unwrap();
    let signature = block_on(key.signer.sign(b"x")).unwrap();
    key.signer.public_key().verify(key.signer.algorithm().signature_algorithm(), b"x", &signature).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let refusal = |uri: &str| {
        let device = Device::new("edge", uri.parse().unwrap());
        TpmBackend.open(&device).unwrap_err()
    };
    let absent = refusal("tpm:tcti=swtpm:path=/nonexistent/sock");
    assert_eq!(absent.kind(), ErrorKind::Unavailable);
    assert!(absent.to_string().contains("swtpm:path=/nonexistent/sock"), "{absent}");
    assert!(refusal("tpm:").to_string().contains("add tcti="));
    let (_folder, _running, device) = tpm();
    let no_handle = block_on(open(&device).create(&device.uri, KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert!(no_handle.to_string().contains("handle=0x81"), "{no_handle}");
}
