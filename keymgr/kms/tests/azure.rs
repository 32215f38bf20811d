//! The backend on a simulated Azure Key Vault: the conformance suite, and what is Azure's own.
#![cfg(feature = "azurekv")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;

use futures::executor::block_on;
use futures::future::join_all;
use hsm_sim::azure::{AzureVault, Corruption, Failure};
use hsm_sim::conformance::{self, Subject, table};
use serde_json::Value;
use undercroft_keymgr::{Backend as _, Device, Error, ErrorKind, Key, KeyManager, KeyUri, Secrecy};
use undercroft_keys::{KeyAlgorithm, RsaBits};
use undercroft_kms::{AZURE_CUSTODY_FORMAT, AzureKvBackend};

const P256: KeyAlgorithm = KeyAlgorithm::EcdsaP256;

/// 22 November 2026, noon.
const NOW: i64 = 1_795_348_800;

fn open(device: &Device) -> Arc<dyn KeyManager> {
    AzureKvBackend { secrecy: Secrecy::Strict }.open(device).unwrap()
}

fn uri(device: &Device, attributes: &str) -> KeyUri {
    let uri: KeyUri = format!("azurekv:{attributes}").parse().unwrap();
    uri.completed_by(&device.uri).unwrap()
}

/// A vault with a key `ca` in it, the device, and the key.
fn with_key() -> (AzureVault, Device, Key) {
    let vault = AzureVault::start(NOW).unwrap();
    let device = vault.device("prod");
    let key = block_on(open(&device).create(&uri(&device, "key=ca"), P256)).unwrap();
    (vault, device, key)
}

fn refusal<T>(answer: Result<T, Error>) -> (ErrorKind, String) {
    let error = answer.map(|_| ()).unwrap_err();
    (error.kind(), error.to_string())
}

fn opening(device: &Device, attributes: &str) -> Result<Key, Error> {
    block_on(open(device).open(&uri(device, attributes), P256))
}

#[test]
fn conforms() {
    let vault = AzureVault::start(NOW).unwrap();
    let device = vault.device("conformance");
    let worked = conformance::run(&Subject {
        open: &|| open(&device),
        uri: &|number| uri(&device, &format!("key=key-{number}")),
        unsupported: &[(KeyAlgorithm::Ed25519, "vaults have no such keys")],
        no_throwaway: Some("deleted keys are kept"),
        custody_format: AZURE_CUSTODY_FORMAT,
    });
    assert_eq!(worked, KeyAlgorithm::ALL[..8]);
    table::says("Azure Key Vault (simulated)", &worked, false);
}

#[test]
fn a_wrong_answer_is_never_given_out_and_never_asked_for_again() {
    let (vault, device, _) = with_key();
    for (corruption, says) in [
        (Corruption::Signature, "does not verify under its public key"),
        (Corruption::OtherKey, "does not verify under its public key"),
        (Corruption::Kid, "came as one by"),
        (Corruption::Short, "63 bytes came as a signature"),
    ] {
        // Opened anew, so that the signature is the first one.
        let key = opening(&device, "key=ca").unwrap();
        let before = vault.calls("sign");
        vault.corrupt(corruption);
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Fault, "{corruption:?}: {text}");
        assert!(text.contains(says) && text.contains("key=ca"), "{corruption:?}: {text}");
        assert_eq!(vault.calls("sign"), before + 1, "{corruption:?}: asked again");
        block_on(key.signer.sign(b"message")).unwrap();
    }
}

#[test]
fn a_version_that_does_not_sign_is_refused_with_why() {
    let (vault, device, key) = with_key();
    let id = vault.versions("ca").remove(0);
    let refused = |says: &str| {
        for named in ["key=ca".to_owned(), format!("key=ca;version={id}")] {
            let (kind, text) = refusal(opening(&device, &named));
            assert_eq!(kind, ErrorKind::Denied, "{named}: {text}");
            assert!(text.contains(says), "{named}: {text}");
        }
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Denied, "{text}");
        // Another role would not help.
        assert!(!text.contains("Key Vault Crypto User"), "{text}");
    };
    vault.change("ca", |attributes| attributes.enabled = false);
    refused("disabled");
    vault.change("ca", |attributes| (attributes.enabled, attributes.expires) = (true, Some(NOW - 1)));
    refused("expired since 2026-11-22");
    vault.change("ca", |attributes| (attributes.expires, attributes.not_before) = (None, Some(NOW + 60)));
    refused("not valid before 2026-11-22");
    // It is the vault's clock that counts.
    vault.set_time(NOW + 60);
    opening(&device, "key=ca").unwrap();
    block_on(key.signer.sign(b"message")).unwrap();
}

#[test]
fn a_key_that_may_leave_or_does_not_sign_is_refused() {
    let (vault, device, _) = with_key();
    vault.change("ca", |attributes| attributes.exportable = true);
    let (kind, text) = refusal(opening(&device, "key=ca"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("exportable"), "{text}");
    vault.change("ca", |attributes| (attributes.exportable, attributes.signs) = (false, false));
    let (kind, text) = refusal(opening(&device, "key=ca"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("key_ops"), "{text}");
    assert!(block_on(open(&device).list()).unwrap().is_empty());
}

#[test]
fn a_name_gets_no_second_version_and_of_several_one_must_be_named() {
    let (vault, device, first) = with_key();
    let again = block_on(open(&device).create(&uri(&device, "key=ca"), P256));
    assert_eq!(refusal(again).0, ErrorKind::Exists);
    assert_eq!((vault.versions("ca").len(), vault.calls("create")), (1, 1));

    vault.rotate("ca").unwrap();
    let (kind, text) = refusal(opening(&device, "key=ca"));
    assert_eq!(kind, ErrorKind::NotFound);
    let ids = vault.versions("ca");
    assert!(ids.iter().all(|id| text.contains(id)) && text.contains("add version="), "{text}");
    let named = opening(&device, &format!("key=ca;version={}", ids[0])).unwrap();
    assert_eq!(named.signer.public_key(), first.signer.public_key());
    block_on(named.signer.sign(b"message")).unwrap();
    let absent = opening(&device, "key=ca;version=00000000000000000000000000000000");
    assert_eq!(refusal(absent).0, ErrorKind::NotFound);
    let versioned = block_on(open(&device).create(&uri(&device, &format!("key=b;version={}", ids[0])), P256));
    let (kind, text) = refusal(versioned);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("leave version away"), "{text}");
    // One usable version is enough, whatever the others are.
    vault.change("ca", |attributes| attributes.enabled = false);
    opening(&device, "key=ca").unwrap();
}

#[test]
fn more_versions_than_fit_on_a_page_are_all_seen() {
    let (vault, device, _) = with_key();
    for _ in 0..4 {
        vault.rotate("ca").unwrap();
    }
    let (_, text) = refusal(opening(&device, "key=ca"));
    assert!(vault.versions("ca").iter().all(|id| text.contains(id)), "{text}");
    assert_eq!(block_on(open(&device).list()).unwrap().len(), 5);
}

#[test]
fn the_name_of_a_deleted_key_is_not_used() {
    let (vault, device, _) = with_key();
    vault.delete("ca");
    let (kind, text) = refusal(opening(&device, "key=ca"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("was deleted") && text.contains("recover"), "{text}");
    let (kind, text) = refusal(block_on(open(&device).create(&uri(&device, "key=ca"), P256)));
    assert_eq!(kind, ErrorKind::Exists);
    assert!(text.contains("deleted key"), "{text}");
    // Who may not see deleted keys hears it from the vault.
    vault.fail("deleted", Failure::Denied);
    let (kind, text) = refusal(block_on(open(&device).create(&uri(&device, "key=ca"), P256)));
    assert_eq!(kind, ErrorKind::Exists);
    assert!(text.contains("ObjectIsDeletedButRecoverable"), "{text}");
}

#[test]
fn one_rsa_key_signs_by_both_paddings_and_nothing_signs_another_kind_of_digest() {
    let vault = AzureVault::start(NOW).unwrap();
    let device = vault.device("prod");
    let (pss, pkcs1) = (KeyAlgorithm::RsaPss(RsaBits::B2048), KeyAlgorithm::RsaPkcs1(RsaBits::B2048));
    block_on(open(&device).create(&uri(&device, "key=rsa"), pss)).unwrap();
    for algorithm in [pss, pkcs1] {
        let key = block_on(open(&device).open(&uri(&device, "key=rsa"), algorithm)).unwrap();
        let signature = block_on(key.signer.sign(b"message")).unwrap();
        let public_key = key.signer.public_key();
        public_key.verify(algorithm.signature_algorithm(), b"message", &signature).unwrap();
        let other = if algorithm == pss { pkcs1 } else { pss };
        assert!(public_key.verify(other.signature_algorithm(), b"message", &signature).is_err());
    }
}

#[test]
fn what_was_turned_away_is_tried_again_and_what_may_have_been_done_is_not() {
    let (vault, _, key) = with_key();
    let (asked, made) = (vault.calls("sign"), vault.signatures());
    for _ in 0..3 {
        vault.fail("sign", Failure::Throttled(1));
    }
    block_on(key.signer.sign(b"message")).unwrap();
    assert_eq!((vault.calls("sign"), vault.signatures()), (asked + 4, made + 1));

    for (failure, signed) in [(Failure::Cut, 1), (Failure::Unavailable, 0)] {
        let (asked, made) = (vault.calls("sign"), vault.signatures());
        vault.fail("sign", failure);
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Unavailable, "{failure:?}: {text}");
        assert_eq!((vault.calls("sign"), vault.signatures()), (asked + 1, made + signed), "{failure:?}");
        block_on(key.signer.sign(b"message")).unwrap();
    }
}

#[test]
fn reading_is_tried_again_and_making_a_key_is_not() {
    let (vault, device, _) = with_key();
    for failure in [Failure::Cut, Failure::Unavailable, Failure::Throttled(1)] {
        vault.fail("get", failure);
        opening(&device, "key=ca").unwrap();
    }
    vault.fail("create", Failure::Cut);
    let lost = block_on(open(&device).create(&uri(&device, "key=cut"), P256));
    assert_eq!(refusal(lost).0, ErrorKind::Unavailable);
    assert_eq!(vault.versions("cut").len(), 1);
    let again = block_on(open(&device).create(&uri(&device, "key=cut"), P256));
    assert_eq!(refusal(again).0, ErrorKind::Exists);
}

#[test]
fn no_answer_ends_with_the_time_limit() {
    let (vault, _, key) = with_key();
    vault.fail("sign", Failure::Silent);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("no answer within"), "{text}");
    block_on(key.signer.sign(b"message")).unwrap();
}

#[test]
fn what_is_not_allowed_is_told_with_the_role_that_is_missing() {
    let (vault, device, key) = with_key();
    vault.fail("sign", Failure::Denied);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("keys/sign/action") && text.contains("Key Vault Crypto User"), "{text}");
    vault.fail("versions", Failure::Denied);
    let (kind, text) = refusal(opening(&device, "key=ca"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("keys/read"), "{text}");
    vault.fail("create", Failure::Denied);
    let (_, text) = refusal(block_on(open(&device).create(&uri(&device, "key=x"), P256)));
    assert!(text.contains("Key Vault Crypto Officer"), "{text}");
}

#[test]
fn a_vault_that_goes_and_comes_back_is_used_again_and_shows_its_key_again() {
    let (mut vault, _, key) = with_key();
    vault.leave();
    assert_eq!(refusal(block_on(key.signer.sign(b"message"))).0, ErrorKind::Unavailable);
    vault.come_back().unwrap();
    // The first signature after the outage is looked at.
    vault.corrupt(Corruption::OtherKey);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Fault, "{text}");
    block_on(key.signer.sign(b"message")).unwrap();
}

#[test]
fn more_callers_than_places_are_all_served() {
    let vault = AzureVault::start(NOW).unwrap();
    let device = Device { sessions: 4.try_into().ok(), ..vault.device("prod") };
    let key = block_on(open(&device).create(&uri(&device, "key=ca"), P256)).unwrap();
    let signed = block_on(join_all((0..64).map(|_| key.signer.sign(b"message"))));
    assert!(signed.iter().all(Result::is_ok));
}

#[test]
fn a_device_without_a_vault_is_refused_and_so_are_requests_in_the_clear() {
    let vault = AzureVault::start(NOW).unwrap();
    let device = Device { uri: "azurekv:".parse().unwrap(), ..vault.device("prod") };
    let (kind, text) = refusal(AzureKvBackend::default().open(&device));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.contains("add vault="), "{text}");
    assert!("azurekv:vault=a.vault.azure.net;endpoint=http://10.0.0.1:80".parse::<KeyUri>().is_err());
}

#[test]
fn a_vault_of_another_name_is_not_believed() {
    let (_vault, device, _) = with_key();
    let KeyUri::AzureKv(uri) = &device.uri else { panic!("{device:?}") };
    // A token for vault.azure.net is not for this host: the challenge says so.
    let elsewhere = undercroft_keymgr::AzureKvUri { vault: Some("vault.example.org".into()), ..uri.clone() };
    let device = Device { uri: KeyUri::AzureKv(elsewhere), ..device.clone() };
    let (_, text) = refusal(opening(&device, "key=ca"));
    assert!(text.contains("vault.example.org"), "{text}");
}

#[test]
fn evidence_is_what_the_vault_says() {
    let (_vault, _, key) = with_key();
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence.bytes).unwrap();
    assert_eq!(evidence["key"]["kty"], "EC-HSM");
    assert_eq!(evidence["key"]["hsm_platform"], "2");
    assert_eq!(evidence["key"]["exportable"], false);
    assert_eq!(evidence["key"]["key_ops"], serde_json::json!(["sign", "verify"]));
    assert_eq!(evidence["key"]["spki"], hex::encode(key.signer.public_key().spki()));
    assert!(evidence.get("attestation").is_none() && evidence.get("release_policy").is_none(), "{evidence}");
}
