//! The backend on SoftHSM: the conformance suite, and what is PKCS#11's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::{Arc, OnceLock};

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, CertificateType, ObjectClass};
use cryptoki::slot::Slot;
use futures::executor::block_on;
use hsm_sim::conformance::{self, Subject, table};
use hsm_sim::softhsm;
use undercroft_keymgr::{Backend as _, Device, ErrorKind, KeyManager, KeyUri, SecretSource};
use undercroft_keys::KeyAlgorithm;
use undercroft_pkcs11::{CUSTODY_FORMAT, Pkcs11Backend};

/// Every token of this process is made before SoftHSM is loaded: it does not see those that come later.
struct Tokens {
    conformance: Device,
    keys: Device,
    locked: Device,
    vendor: Device,
}

fn tokens() -> &'static Tokens {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    TOKENS.get_or_init(|| Tokens {
        conformance: softhsm::token_for_this_process("conformance").unwrap(),
        keys: softhsm::token_for_this_process("keys").unwrap(),
        locked: softhsm::token_for_this_process("locked").unwrap(),
        vendor: softhsm::token_for_this_process("vendor").unwrap(),
    })
}

fn open(device: &Device) -> Arc<dyn KeyManager> {
    Pkcs11Backend.open(device).unwrap()
}

fn uri(device: &Device, attributes: &str) -> KeyUri {
    let uri: KeyUri = format!("pkcs11:{attributes}").parse().unwrap();
    uri.completed_by(&device.uri).unwrap()
}

#[test]
fn conforms() {
    let device = &tokens().conformance;
    let worked = conformance::run(&Subject {
        open: &|| open(device),
        uri: &|number| uri(device, &format!("object=key-{number}")),
        unsupported: &[],
        no_throwaway: None,
        custody_format: CUSTODY_FORMAT,
    });
    assert_eq!(worked, KeyAlgorithm::ALL);
    table::says("SoftHSM 2.6", &worked, true);
}

#[test]
fn a_key_is_destroyed_by_its_identifier_and_no_other() {
    let device = &tokens().keys;
    let token = open(device);
    let (doomed, other) = (uri(device, "object=doomed"), uri(device, "object=other"));
    let [key, kept] =
        [&doomed, &other].map(|uri| block_on(token.create(uri, KeyAlgorithm::EcdsaP256)).unwrap());
    let destruction = token.destruction().unwrap();
    let wrong = block_on(destruction.destroy(&doomed, kept.signer.public_key().id())).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Denied, "{wrong}");
    block_on(key.signer.sign(b"still there")).unwrap();
    block_on(destruction.destroy(&doomed, key.signer.public_key().id())).unwrap();
    let gone = block_on(token.open(&doomed, KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    assert!(block_on(key.signer.sign(b"gone")).is_err());
    let again = block_on(destruction.destroy(&doomed, key.signer.public_key().id())).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound, "{again}");
    block_on(kept.signer.sign(b"untouched")).unwrap();
}

#[test]
fn keys_read_back_as_made_in_the_token_and_never_out_of_it() {
    let device = &tokens().keys;
    let key = block_on(open(device).create(&uri(device, "object=custody"), KeyAlgorithm::EcdsaP256)).unwrap();
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let evidence = String::from_utf8(evidence.bytes).unwrap();
    for part in [
        r#""sensitive":true"#,
        r#""always_sensitive":true"#,
        r#""extractable":false"#,
        r#""never_extractable":true"#,
        r#""local":true"#,
        r#""model":"SoftHSM v2""#,
    ] {
        assert!(evidence.contains(part), "{part} is missing in {evidence}");
    }
    assert!(!evidence.contains("1234"), "the PIN is in the evidence");
}

#[test]
fn a_label_that_matches_two_keys_is_refused_and_an_id_picks_one() {
    let device = &tokens().keys;
    let manager = open(device);
    let first = uri(device, "object=twin;id=%01");
    block_on(manager.create(&first, KeyAlgorithm::EcdsaP256)).unwrap();
    // Our own `create` never makes a second key of one label, so another program makes it.
    let status = std::process::Command::new("pkcs11-tool")
        .args(["--module", softhsm::module().unwrap().to_str().unwrap()])
        .args(["--token-label", device.name.as_str(), "--login", "--pin", "1234"])
        .args(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "twin", "--id", "02"])
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let refused = block_on(manager.open(&uri(device, "object=twin"), KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert!(refused.to_string().contains("matches 2 keys; add id="), "{refused}");
    block_on(manager.open(&first, KeyAlgorithm::EcdsaP256)).unwrap();
}

#[test]
fn an_extractable_key_is_refused() {
    let device = &tokens().keys;
    let status = std::process::Command::new("pkcs11-tool")
        .args(["--module", softhsm::module().unwrap().to_str().unwrap()])
        .args(["--token-label", device.name.as_str(), "--login", "--pin", "1234"])
        .args([
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "loose",
            "--id",
            "0a",
            "--extractable",
        ])
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let refused =
        block_on(open(device).open(&uri(device, "object=loose"), KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(refused.to_string().contains("CKA_EXTRACTABLE"), "{refused}");
}

#[test]
fn a_wrong_pin_is_tried_once_and_never_again() {
    let device = &tokens().locked;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pin");
    std::fs::write(&file, "9999").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let wrong = Device { pin: Some(SecretSource::File(file)), ..device.clone() };
    let first = Pkcs11Backend.open(&wrong).unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Denied);
    assert!(first.to_string().contains("tried once"), "{first}");
    assert!(!first.to_string().contains("9999"), "{first}");
    // Even the right PIN is not tried after that, which shows that the token is not asked at all.
    let second = Pkcs11Backend.open(device).unwrap_err();
    assert_eq!(second.to_string(), first.to_string());
}

#[test]
fn what_is_missing_is_named() {
    let device = &tokens().keys;
    let refusal = |uri: &str, pin: Option<SecretSource>| {
        let device = Device { pin, ..Device::new("hsm", uri.parse().unwrap()) };
        Pkcs11Backend.open(&device).unwrap_err()
    };
    let module = softhsm::module().unwrap();
    let module = module.display();
    let no_token = refusal(&format!("pkcs11:token=absent?module-path={module}"), device.pin.clone());
    assert_eq!(no_token.kind(), ErrorKind::Unavailable);
    assert!(no_token.to_string().contains("device `hsm`") && no_token.to_string().contains(&device.name));
    let no_module = refusal("pkcs11:token=a?module-path=/nonexistent/hsm.so", None);
    assert_eq!(no_module.kind(), ErrorKind::NotFound);
    let no_path = refusal("pkcs11:token=a", None);
    assert!(no_path.to_string().contains("module-path"), "{no_path}");
    let not_a_module = refusal("pkcs11:token=a?module-path=/bin/true", None);
    assert!(not_a_module.to_string().contains("/bin/true"), "{not_a_module}");
    let no_pin = refusal(&format!("pkcs11:token={}?module-path={module}", device.name), None);
    assert_eq!(no_pin.kind(), ErrorKind::Denied);
    assert!(no_pin.to_string().contains("pin-file"), "{no_pin}");
    let no_label = block_on(open(device).create(&device.uri, KeyAlgorithm::EcdsaP256)).unwrap_err();
    assert!(no_label.to_string().contains("object="), "{no_label}");
}

/// SoftHSM keeps certificates without reading them: one with Yubico's arc in it is evidence, another is not.
#[test]
fn certificates_of_a_vendor_beside_the_key_are_evidence_and_others_are_not() {
    let device = &tokens().vendor;
    let key =
        block_on(open(device).create(&uri(device, "object=attested"), KeyAlgorithm::EcdsaP256)).unwrap();
    let certificates = || {
        let evidence = block_on(key.custody.custody_evidence()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&evidence.bytes).unwrap()["certificates"].clone()
    };
    assert_eq!(certificates(), serde_json::Value::Null);

    let of_yubico = [0x30, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0a, 0x04, 0x03];
    let of_another = [0x30, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0b, 0x04];
    let too_long = [&of_yubico[..], &[0; 3072]].concat();
    let module = Pkcs11::new(softhsm::module().unwrap()).unwrap();
    let slots = module.get_slots_with_token().unwrap();
    let is_ours =
        |slot: &&Slot| module.get_token_info(**slot).is_ok_and(|info| info.label().trim_end() == device.name);
    let session = module.open_rw_session(*slots.iter().find(is_ours).unwrap()).unwrap();
    for der in [&of_another[..], &of_yubico, &too_long] {
        let template = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Subject(vec![0x30, 0x00]),
            Attribute::Value(der.to_vec()),
        ];
        session.create_object(&template).unwrap();
    }
    assert_eq!(certificates(), serde_json::json!([hex::encode(of_yubico)]));
}
