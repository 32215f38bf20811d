//! The backend on a simulated Google Cloud KMS: the conformance suite, and what is Google's own.
#![cfg(feature = "gcpkms")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;

use futures::executor::block_on;
use futures::future::join_all;
use hsm_sim::conformance::{self, Subject, table};
use hsm_sim::google::{Corruption, Failure, GoogleKms, VersionState};
use serde_json::{Value, json};
use undercroft_keymgr::{Backend as _, Device, Error, ErrorKind, Key, KeyManager, KeyUri, Secrecy};
use undercroft_keys::{KeyAlgorithm, RsaBits};
use undercroft_kms::{GOOGLE_CUSTODY_FORMAT, GcpKmsBackend};

const P256: KeyAlgorithm = KeyAlgorithm::EcdsaP256;

fn open(device: &Device) -> Arc<dyn KeyManager> {
    GcpKmsBackend { secrecy: Secrecy::Strict }.open(device).unwrap()
}

fn uri(device: &Device, attributes: &str) -> KeyUri {
    let uri: KeyUri = format!("gcpkms:{attributes}").parse().unwrap();
    uri.completed_by(&device.uri).unwrap()
}

/// A cloud with a key `ca` in it, the device, and the key.
fn with_key() -> (GoogleKms, Device, Key) {
    let cloud = GoogleKms::start().unwrap();
    let device = cloud.device("prod");
    let key = block_on(open(&device).create(&uri(&device, "key=ca"), P256)).unwrap();
    (cloud, device, key)
}

fn refusal<T>(answer: Result<T, Error>) -> (ErrorKind, String) {
    let error = answer.map(|_| ()).unwrap_err();
    (error.kind(), error.to_string())
}

fn reopened(device: &Device) -> Key {
    block_on(open(device).open(&uri(device, "key=ca"), P256)).unwrap()
}

#[test]
fn conforms() {
    let cloud = GoogleKms::start().unwrap();
    let device = cloud.device("conformance");
    let subject = Subject {
        open: &|| open(&device),
        uri: &|number| uri(&device, &format!("key=key-{number}")),
        unsupported: &[],
        no_throwaway: Some("versions are kept"),
        custody_format: GOOGLE_CUSTODY_FORMAT,
    };
    let worked = conformance::run_with_messages_up_to(65_536, &subject);
    assert_eq!(worked, KeyAlgorithm::ALL);
    table::says("Google Cloud KMS (simulated)", &worked, false);
}

#[test]
fn a_message_that_google_does_not_take_is_refused_before_it_is_asked() {
    let cloud = GoogleKms::start().unwrap();
    let device = cloud.device("prod");
    let key = block_on(open(&device).create(&uri(&device, "key=ed"), KeyAlgorithm::Ed25519)).unwrap();
    block_on(key.signer.sign(&[0; 65_536])).unwrap();
    let asked = cloud.calls("asymmetricSign");
    let (kind, text) = refusal(block_on(key.signer.sign(&[0; 65_537])));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("65536 bytes at most"), "{text}");
    assert_eq!(cloud.calls("asymmetricSign"), asked);
}

#[test]
fn a_wrong_answer_is_never_given_out_and_never_asked_for_again() {
    let (cloud, device, _) = with_key();
    for (corruption, says) in [
        (Corruption::Signature, "does not have its checksum"),
        (Corruption::NoChecksum, "does not have its checksum"),
        (Corruption::Name, "came as one by"),
        (Corruption::Unverified, "no checksum was verified"),
        (Corruption::OtherKey, "does not verify under its public key"),
    ] {
        // Opened anew, so that the signature is the first one.
        let key = reopened(&device);
        let before = cloud.calls("asymmetricSign");
        cloud.corrupt(corruption);
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Fault, "{corruption:?}: {text}");
        assert!(text.contains(says) && text.contains("key=ca"), "{corruption:?}: {text}");
        assert_eq!(cloud.calls("asymmetricSign"), before + 1, "{corruption:?}: asked again");
        block_on(key.signer.sign(b"message")).unwrap();
    }
}

#[test]
fn a_public_key_that_changed_on_its_way_is_refused() {
    let (cloud, device, _) = with_key();
    cloud.corrupt(Corruption::Pem);
    let (kind, text) = refusal(block_on(open(&device).open(&uri(&device, "key=ca"), P256)));
    assert_eq!(kind, ErrorKind::Fault);
    assert!(text.contains("public key") && text.contains("checksum"), "{text}");
}

#[test]
fn a_version_that_cannot_sign_is_refused_with_its_state() {
    let (cloud, device, key) = with_key();
    for (state, name) in [
        (VersionState::Disabled, "DISABLED"),
        (VersionState::DestroyScheduled, "DESTROY_SCHEDULED"),
        (VersionState::Destroyed, "DESTROYED"),
    ] {
        cloud.set_state("ca", 1, state);
        for named in ["key=ca", "key=ca;version=1"] {
            let (kind, text) = refusal(block_on(open(&device).open(&uri(&device, named), P256)));
            assert_eq!(kind, ErrorKind::Denied, "{named}: {text}");
            assert!(text.contains(name), "{named}: {text}");
        }
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Denied, "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_key_that_is_still_being_made_is_waited_for_and_no_longer_than_a_call_may_take() {
    let cloud = GoogleKms::start().unwrap();
    let device = cloud.device("prod");
    cloud.generate_slowly(3);
    block_on(open(&device).create(&uri(&device, "key=slow"), P256)).unwrap();
    assert!(cloud.calls("cryptoKeyVersions.get") >= 4);
    cloud.generate_slowly(u32::MAX);
    let (kind, text) = refusal(block_on(open(&device).create(&uri(&device, "key=never"), P256)));
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("PENDING_GENERATION"), "{text}");
    let (kind, text) = refusal(block_on(open(&device).open(&uri(&device, "key=never"), P256)));
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("PENDING_GENERATION"), "{text}");
}

#[test]
fn of_several_versions_one_must_be_named_and_a_name_gets_no_second_version() {
    let (cloud, device, first) = with_key();
    cloud.rotate("ca");
    let manager = open(&device);
    let (kind, text) = refusal(block_on(manager.open(&uri(&device, "key=ca"), P256)));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.contains("1 ENABLED, 2 ENABLED") && text.contains("version="), "{text}");
    let named = block_on(manager.open(&uri(&device, "key=ca;version=1"), P256)).unwrap();
    assert_eq!(named.signer.public_key(), first.signer.public_key());
    let second = block_on(manager.open(&uri(&device, "key=ca;version=2"), P256)).unwrap();
    assert_ne!(second.signer.public_key(), first.signer.public_key());
    let absent = block_on(manager.open(&uri(&device, "key=ca;version=3"), P256));
    assert_eq!(refusal(absent).0, ErrorKind::NotFound);

    assert_eq!(refusal(block_on(manager.create(&uri(&device, "key=ca"), P256))).0, ErrorKind::Exists);
    assert_eq!(cloud.versions("ca"), 2);
    let (kind, text) = refusal(block_on(manager.create(&uri(&device, "key=new;version=7"), P256)));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("leave version away"), "{text}");
    // One usable version is enough, whatever the others are.
    cloud.set_state("ca", 2, VersionState::Disabled);
    block_on(manager.open(&uri(&device, "key=ca"), P256)).unwrap();
}

#[test]
fn keys_that_sign_otherwise_or_not_at_all_are_refused() {
    let (cloud, device, _) = with_key();
    cloud.make_encryption_key("disk");
    let manager = open(&device);
    block_on(manager.create(&uri(&device, "key=rsa"), KeyAlgorithm::RsaPkcs1(RsaBits::B2048))).unwrap();
    // The same kind of key and another padding: a key of Google's has one.
    let pss = KeyAlgorithm::RsaPss(RsaBits::B2048);
    let (kind, text) = refusal(block_on(manager.open(&uri(&device, "key=rsa"), pss)));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("RSA_SIGN_PKCS1_2048_SHA256"), "{text}");
    assert!(block_on(manager.open(&uri(&device, "key=disk"), P256)).is_err());
    let listed = block_on(manager.list()).unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed[0].uri.to_string().contains("key=ca;version=1"), "{listed:?}");
    assert_eq!(refusal(block_on(manager.throwaway(P256))).0, ErrorKind::Unsupported);
}

#[test]
fn what_was_turned_away_is_tried_again_and_what_may_have_been_done_is_not() {
    let (cloud, _, key) = with_key();
    let (asked, made) = (cloud.calls("asymmetricSign"), cloud.signatures());
    for _ in 0..3 {
        cloud.fail("asymmetricSign", Failure::Throttled);
    }
    block_on(key.signer.sign(b"message")).unwrap();
    assert_eq!((cloud.calls("asymmetricSign"), cloud.signatures()), (asked + 4, made + 1));

    for (failure, signed) in [(Failure::Cut, 1), (Failure::Unavailable, 0)] {
        let (asked, made) = (cloud.calls("asymmetricSign"), cloud.signatures());
        cloud.fail("asymmetricSign", failure);
        let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
        assert_eq!(kind, ErrorKind::Unavailable, "{failure:?}: {text}");
        let now = (cloud.calls("asymmetricSign"), cloud.signatures());
        assert_eq!(now, (asked + 1, made + signed), "{failure:?}");
        block_on(key.signer.sign(b"message")).unwrap();
    }
}

#[test]
fn reading_is_tried_again_and_making_a_key_is_not() {
    let (cloud, device, _) = with_key();
    for failure in [Failure::Cut, Failure::Unavailable, Failure::Throttled] {
        cloud.fail("publicKey", failure);
        reopened(&device);
    }
    cloud.fail("cryptoKeys.create", Failure::Cut);
    let lost = block_on(open(&device).create(&uri(&device, "key=cut"), P256));
    assert_eq!(refusal(lost).0, ErrorKind::Unavailable);
    let again = block_on(open(&device).create(&uri(&device, "key=cut"), P256));
    assert_eq!(refusal(again).0, ErrorKind::Exists);
}

#[test]
fn no_answer_ends_with_the_time_limit() {
    let (cloud, _, key) = with_key();
    cloud.fail("asymmetricSign", Failure::Silent);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("no answer within"), "{text}");
    block_on(key.signer.sign(b"message")).unwrap();
}

#[test]
fn what_is_not_allowed_is_told_with_the_role_that_is_missing() {
    let (cloud, device, key) = with_key();
    cloud.fail("asymmetricSign", Failure::Denied);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("roles/cloudkms.signer") && text.contains("useToSign"), "{text}");
    cloud.fail("publicKey", Failure::Denied);
    let (kind, text) = refusal(block_on(open(&device).open(&uri(&device, "key=ca"), P256)));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("roles/cloudkms.publicKeyViewer"), "{text}");
    cloud.fail("cryptoKeys.create", Failure::Denied);
    let (_, text) = refusal(block_on(open(&device).create(&uri(&device, "key=x"), P256)));
    assert!(text.contains("roles/cloudkms.admin"), "{text}");
    cloud.fail("asymmetricSign", Failure::Unauthenticated);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("no credentials"), "{text}");
}

#[test]
fn a_cloud_that_goes_and_comes_back_is_used_again_and_shows_its_key_again() {
    let (mut cloud, _, key) = with_key();
    cloud.leave();
    assert_eq!(refusal(block_on(key.signer.sign(b"message"))).0, ErrorKind::Unavailable);
    cloud.come_back().unwrap();
    // The first signature after the outage is looked at.
    cloud.corrupt(Corruption::OtherKey);
    let (kind, text) = refusal(block_on(key.signer.sign(b"message")));
    assert_eq!(kind, ErrorKind::Fault, "{text}");
    block_on(key.signer.sign(b"message")).unwrap();
}

#[test]
fn more_callers_than_places_are_all_served() {
    let cloud = GoogleKms::start().unwrap();
    let device = Device { sessions: 4.try_into().ok(), ..cloud.device("prod") };
    let key = block_on(open(&device).create(&uri(&device, "key=ca"), P256)).unwrap();
    let signed = block_on(join_all((0..64).map(|_| key.signer.sign(b"message"))));
    assert!(signed.iter().all(Result::is_ok));
}

#[test]
fn a_device_without_its_ring_is_refused_by_what_is_missing() {
    let cloud = GoogleKms::start().unwrap();
    for attribute in ["project", "location", "key-ring"] {
        let all = cloud.device("prod").uri.to_string();
        let (scheme, rest) = all.split_once(':').unwrap();
        let left: Vec<_> = rest.split(';').filter(|part| !part.starts_with(attribute)).collect();
        let uri = format!("{scheme}:{}", left.join(";")).parse().unwrap();
        let (kind, text) = refusal(GcpKmsBackend::default().open(&Device { uri, ..cloud.device("prod") }));
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(text.contains(&format!("add {attribute}=")), "{text}");
    }
    // What carries credentials goes by TLS, or stays on this machine.
    assert!("gcpkms:endpoint=http://kms.example.org:80".parse::<KeyUri>().is_err());
}

#[test]
fn evidence_has_metadata_statement_and_who_else_may_sign() {
    let (cloud, _, key) = with_key();
    let eve = json!([{"role": "roles/cloudkms.signer", "members": ["user:eve@example.org"]}]);
    cloud.set_policy(Some("ca"), eve);
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence.bytes).unwrap();
    assert_eq!(evidence["key"]["protection_level"], "HSM");
    assert_eq!(evidence["key"]["algorithm"], "EC_SIGN_P256_SHA256");
    assert_eq!(evidence["key"]["imported"], false);
    assert_eq!(evidence["key"]["spki"], hex::encode(key.signer.public_key().spki()));
    assert_eq!(evidence["attestation"]["format"], "CAVIUM_V2_COMPRESSED");
    assert_eq!(evidence["attestation"]["manufacturer_chain"].as_array().unwrap().len(), 2);
    assert_eq!(evidence["policies"][0]["bindings"][0]["role"], "roles/cloudkms.signerVerifier");
    assert_eq!(evidence["policies"][1]["bindings"][0]["members"][0], "user:eve@example.org");
    // Not being allowed to know who else may sign is told, and hides nothing else.
    cloud.fail("getIamPolicy", Failure::Denied);
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence.bytes).unwrap();
    assert!(evidence["policies"][0]["unread"].as_str().unwrap().contains("getIamPolicy"), "{evidence}");
}
