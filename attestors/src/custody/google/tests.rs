use std::sync::OnceLock;

use futures::executor::block_on;
use hsm_sim::google::attestation::{Module, Says, compress};
use hsm_sim::software::SoftwareKeys;
use proptest::prelude::*;
use serde_json::{Value, json};
use undercroft_keymgr::KeyManager as _;
use undercroft_keys::{KeyAlgorithm, RsaBits};

use super::*;

/// Within the time of rcgen's certificates, which are good from 1975 to 4096.
const NOW: i64 = 1_795_348_800;

fn module() -> &'static Module {
    Module::of_this_process().unwrap()
}

fn key(algorithm: KeyAlgorithm) -> PublicKey {
    let made = block_on(SoftwareKeys::default().throwaway(algorithm)).unwrap();
    made.public_key().clone()
}

/// One key for all tests: making RSA keys takes a while.
fn p256() -> &'static PublicKey {
    static KEY: OnceLock<PublicKey> = OnceLock::new();
    KEY.get_or_init(|| key(KeyAlgorithm::EcdsaP256))
}

fn anchors() -> HsmAnchors {
    HsmAnchors::from_pem(&[&module().manufacturer_root], &[&module().owner_root]).unwrap()
}

fn evidence_of(key: &PublicKey, statement: &[u8]) -> Value {
    json!({
        "endpoint": null,
        "key": {
            "name": "projects/acme-ca/locations/europe-west3/keyRings/prod/cryptoKeys/ca/cryptoKeyVersions/1",
            "spki": hex::encode(key.spki()), "algorithm": "EC_SIGN_P256_SHA256", "protection_level": "HSM",
            "state": "ENABLED", "imported": false,
        },
        "attestation": {
            "format": "CAVIUM_V2_COMPRESSED", "content": Base64::encode_string(statement),
            "manufacturer_chain": module().manufacturer_chain, "owner_card": module().owner_card,
            "owner_partition": module().owner_partition,
        },
        "policies": [],
    })
}

fn evidence() -> Value {
    evidence_of(p256(), &module().attest(p256(), Says::default()).unwrap())
}

fn judged(evidence: &Value, anchors: &HsmAnchors) -> Custody {
    at(evidence, anchors, NOW)
}

fn at(evidence: &Value, anchors: &HsmAnchors, now: i64) -> Custody {
    let now = Timestamp::from_second(now).unwrap();
    judge(evidence.to_string().as_bytes(), p256(), anchors, now)
}

#[track_caller]
fn is(evidence: &Value, grade: Grade, says: &str) {
    let custody = judged(evidence, &anchors());
    assert_eq!(custody.grade, grade, "{custody:?}");
    assert!(custody.findings.iter().any(|finding| finding.contains(says)), "no `{says}` in {custody:?}");
}

#[test]
fn a_statement_that_leads_to_both_anchors_proves_the_key() {
    is(&evidence(), Grade::Proven, "made in it and never leaves it");
    // Whoever answered: what the HSM has signed stays true.
    let mut elsewhere = evidence();
    elsewhere["endpoint"] = json!("http://127.0.0.1:1");
    is(&elsewhere, Grade::Proven, "certified by its manufacturer and by Google");
}

#[test]
fn keys_of_other_kinds_are_proven_too() {
    for algorithm in [KeyAlgorithm::EcdsaP384, KeyAlgorithm::RsaPss(RsaBits::B2048)] {
        let key = key(algorithm);
        let evidence = evidence_of(&key, &module().attest(&key, Says::default()).unwrap());
        let now = Timestamp::from_second(NOW).unwrap();
        let custody = judge(evidence.to_string().as_bytes(), &key, &anchors(), now);
        assert_eq!(custody.grade, Grade::Proven, "{algorithm}: {custody:?}");
    }
}

#[test]
fn without_anchors_nothing_is_proven_and_with_others_neither() {
    let custody = judged(&evidence(), &HsmAnchors::default());
    assert_eq!(custody.grade, Grade::Declared);
    assert!(custody.findings.last().unwrap().contains("no roots"), "{custody:?}");
    let (maker, owner) = (module().manufacturer_root.as_str(), module().owner_root.as_str());
    // One anchor is not enough, and neither are two in each other's place.
    for (makers, owners) in [(vec![maker], vec![]), (vec![], vec![owner]), (vec![owner], vec![maker])] {
        let anchors = HsmAnchors::from_pem(&makers, &owners).unwrap();
        assert_eq!(judged(&evidence(), &anchors).grade, Grade::Declared);
    }
    // Roots of the same names and with other keys: a forgery, or the wrong anchors.
    let other = Module::make().unwrap();
    let anchors = HsmAnchors::from_pem(&[&other.manufacturer_root], &[&other.owner_root]).unwrap();
    let custody = judged(&evidence(), &anchors);
    assert_eq!(custody.grade, Grade::Unknown, "{custody:?}");
    assert!(
        HsmAnchors::from_pem(&["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], &[])
            .is_err()
    );
}

#[test]
fn each_thing_that_the_hsm_says_of_the_key_counts() {
    let honest = Says::default();
    for (says, finding) in [
        (Says { local: false, ..honest }, "not made in the HSM"),
        (Says { extractable: true, ..honest }, "may be taken out"),
        (Says { never_extractable: false, ..honest }, "could once be taken out"),
        (Says { sensitive: false, ..honest }, "may be read"),
    ] {
        let statement = module().attest(p256(), says).unwrap();
        is(&evidence_of(p256(), &statement), Grade::Unknown, finding);
    }
}

#[test]
fn a_statement_about_another_key_is_refused() {
    let other = module().attest(&key(KeyAlgorithm::EcdsaP256), Says::default()).unwrap();
    is(&evidence_of(p256(), &other), Grade::Unknown, "about another key");
    let rsa = module().attest(&key(KeyAlgorithm::RsaPss(RsaBits::B2048)), Says::default()).unwrap();
    is(&evidence_of(p256(), &rsa), Grade::Unknown, "about another key");
}

#[test]
fn one_bit_anywhere_in_the_statement_is_noticed() {
    let statement = unpacked();
    for at in 0..statement.len() {
        let mut changed = statement.clone();
        changed[at] ^= 1;
        let custody = judged(&evidence_of(p256(), &compress(&changed).unwrap()), &anchors());
        assert_eq!(custody.grade, Grade::Unknown, "byte {at}: {custody:?}");
    }
}

#[test]
fn a_statement_that_is_cut_or_longer_is_refused() {
    let statement = unpacked();
    for length in [0, 15, 255, 256, 300, statement.len() - 1] {
        is(&evidence_of(p256(), &compress(&statement[..length]).unwrap()), Grade::Unknown, "malformed");
    }
    let longer = [&statement[..], b"x"].concat();
    is(&evidence_of(p256(), &compress(&longer).unwrap()), Grade::Unknown, "malformed");
    is(&evidence_of(p256(), &statement), Grade::Unknown, "cannot be unpacked");
    is(&evidence_of(p256(), &compress(&vec![0; 70_000]).unwrap()), Grade::Unknown, "more than 65536 bytes");
}

#[test]
fn certificates_in_the_wrong_places_or_missing_are_refused() {
    let other = Module::make().unwrap();
    let cases: [(&str, Value); 7] = [
        ("manufacturer_chain", json!([])),
        ("manufacturer_chain", json!([module().manufacturer_chain[0]])),
        ("manufacturer_chain", json!([module().manufacturer_chain[1], module().manufacturer_chain[0]])),
        ("manufacturer_chain", json!(other.manufacturer_chain)),
        ("owner_card", json!(module().owner_partition)),
        ("owner_partition", json!(other.owner_partition)),
        ("owner_partition", json!(["no PEM"])),
    ];
    for (field, value) in cases {
        let mut wrong = evidence();
        wrong["attestation"][field] = value.clone();
        let custody = judged(&wrong, &anchors());
        assert_eq!(custody.grade, Grade::Unknown, "{field} {value}: {custody:?}");
    }
}

#[test]
fn certificates_out_of_their_time_prove_nothing_and_anchors_have_no_time() {
    // Before 1975: neither cards nor partitions were valid.
    let custody = at(&evidence(), &anchors(), 0);
    assert_eq!(custody.grade, Grade::Declared);
    assert!(custody.findings.last().unwrap().contains("not valid at 1970"), "{custody:?}");
}

#[test]
fn other_formats_are_kept_and_not_judged() {
    let mut other = evidence();
    other["attestation"]["format"] = json!("CAVIUM_V1_COMPRESSED");
    is(&other, Grade::Declared, "CAVIUM_V1_COMPRESSED are not judged");
}

#[test]
fn what_google_says_decides_where_there_is_no_statement() {
    let with = |change: fn(&mut Value)| {
        let mut evidence = evidence();
        evidence.as_object_mut().unwrap().remove("attestation");
        change(&mut evidence);
        evidence
    };
    is(&with(|_| {}), Grade::Declared, "no statement of the HSM");
    is(&with(|it| it["key"]["protection_level"] = json!("SOFTWARE")), Grade::Software, "in software");
    is(
        &with(|it| it["key"]["protection_level"] = json!("EXTERNAL_VPC")),
        Grade::Unknown,
        "outside of Google",
    );
    is(&with(|it| it["key"]["protection_level"] = json!("")), Grade::Unknown, "not said");
    is(&with(|it| it["endpoint"] = json!("http://127.0.0.1:9010")), Grade::Software, "simulator");
    is(&with(|it| it["endpoint"] = json!("https://kms.example.org")), Grade::Unknown, "kms.example.org");
    is(
        &with(|it| it["endpoint"] = json!("https://googleapis.com.example.org")),
        Grade::Unknown,
        "no name of Google",
    );
    is(
        &with(|it| it["endpoint"] = json!("https://cloudkms-x.p.googleapis.com")),
        Grade::Declared,
        "Google says so",
    );
    // A statement does not make an imported key one that was made in the HSM.
    let mut imported = evidence();
    imported["key"]["imported"] = json!(true);
    is(&imported, Grade::Unknown, "imported");
}

#[test]
fn who_else_may_sign_is_told() {
    let mut evidence = evidence();
    evidence["policies"] = json!([
        {"resource": "ring", "unread": null, "bindings": [
            {"role": "roles/cloudkms.signer", "members": ["user:eve@example.org"], "condition": "request.time < t"},
            {"role": "roles/cloudkms.admin", "members": ["group:admins@example.org"], "condition": null},
            {"role": "roles/cloudkms.viewer", "members": ["user:auditor@example.org"], "condition": null},
            {"role": "projects/acme-ca/roles/own", "members": ["allUsers"], "condition": null}]},
        {"resource": "key", "unread": "not allowed", "bindings": []},
    ]);
    for says in [
        "user:eve@example.org may sign when request.time < t",
        "group:admins@example.org may let others sign",
        "allUsers may do what projects/acme-ca/roles/own allows",
        "the policy of key is not known: not allowed",
        "on the project and above it is not in the evidence",
    ] {
        is(&evidence, Grade::Proven, says);
    }
    let custody = judged(&evidence, &anchors());
    assert!(!custody.findings.iter().any(|finding| finding.contains("auditor@")), "{custody:?}");
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let text = evidence().to_string();
    let now = Timestamp::from_second(NOW).unwrap();
    let about_another = judge(text.as_bytes(), &key(KeyAlgorithm::EcdsaP256), &anchors(), now);
    assert_eq!(about_another, Custody::unknown("the evidence is about another key"));
    for text in ["{}".to_owned(), format!("{text}x"), text.replacen('{', "{\"more\":1,", 1)] {
        assert_eq!(judge(text.as_bytes(), p256(), &anchors(), now).grade, Grade::Unknown);
    }
}

proptest! {
    #[test]
    fn arbitrary_statements_are_taken_apart_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let packed = compress(&bytes).unwrap();
        prop_assert!(statement::Statement::parse(&packed).is_err());
        let _ = statement::Statement::parse(&bytes);
    }

    #[test]
    fn changed_headers_are_taken_apart_without_harm(at in 0usize..64, value in any::<u8>()) {
        let mut changed = unpacked();
        changed[at] = value;
        let _ = statement::Statement::parse(&compress(&changed).unwrap());
    }
}

fn unpacked() -> Vec<u8> {
    static STATEMENT: OnceLock<Vec<u8>> = OnceLock::new();
    let unpack = || {
        use std::io::Read as _;
        let packed = module().attest(p256(), Says::default()).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    };
    STATEMENT.get_or_init(unpack).clone()
}
