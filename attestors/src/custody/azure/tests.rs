use serde_json::{Value, json};

use super::*;

const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce3c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";

fn key() -> PublicKey {
    PublicKey::from_spki(&hex::decode(SPKI).unwrap()).unwrap()
}

fn evidence(change: impl FnOnce(&mut Value)) -> Value {
    let mut evidence = json!({
        "endpoint": null,
        "key": {
            "kid": "https://prod.vault.azure.net/keys/ca/0123456789abcdef0123456789abcdef", "spki": SPKI,
            "kty": "EC-HSM", "key_ops": ["sign", "verify"], "enabled": true, "exportable": false,
            "hsm_platform": "2", "managed": null, "created": 1_767_225_600, "not_before": null, "expires": null,
            "recovery_level": "Recoverable",
        },
    });
    change(&mut evidence);
    evidence
}

#[track_caller]
fn is(evidence: &Value, grade: Grade, says: &str) {
    let custody = judge(evidence.to_string().as_bytes(), &key());
    assert_eq!(custody.grade, grade, "{custody:?}");
    assert!(custody.findings.iter().any(|finding| finding.contains(says)), "no `{says}` in {custody:?}");
}

#[test]
fn a_key_in_an_hsm_is_declared_and_never_more() {
    is(&evidence(|_| {}), Grade::Declared, "Azure says so");
    let attested = evidence(|it| {
        it["key"]["kid"] =
            json!("https://prod.managedhsm.azure.net/keys/ca/0123456789abcdef0123456789abcdef");
        it["attestation"] =
            json!({"version": "MRVL-1", "certificates": "AA==", "private_key": "AA==", "public_key": "AA=="});
    });
    is(&attested, Grade::Declared, "MRVL-1");
    is(&attested, Grade::Declared, "not judged by this version");
    is(&attested, Grade::Declared, "of which a vault tells nothing");
}

#[test]
fn a_key_that_may_leave_or_is_in_software_is_called_so() {
    for (change, grade, says) in [
        ((|it| it["key"]["exportable"] = json!(true)) as fn(&mut Value), Grade::Unknown, "release policy"),
        (|it| it["release_policy"] = json!({"data": "e30="}), Grade::Unknown, "release policy"),
        (|it| it["key"]["kty"] = json!("EC"), Grade::Software, "in software"),
        (|it| it["key"]["kty"] = json!("RSA"), Grade::Software, "in software"),
        (|it| it["key"]["hsm_platform"] = json!("0"), Grade::Unknown, "platform"),
        (|it| it["key"]["kty"] = json!("oct-HSM"), Grade::Unknown, "oct-HSM"),
        (|it| it["key"]["enabled"] = json!(false), Grade::Unknown, "enabled and signs"),
        (|it| it["key"]["enabled"] = json!(null), Grade::Unknown, "enabled and signs"),
        (|it| it["key"]["key_ops"] = json!(["verify"]), Grade::Unknown, "enabled and signs"),
        (|it| it["endpoint"] = json!("http://127.0.0.1:8443"), Grade::Software, "simulator"),
        (|it| it["endpoint"] = json!("https://proxy.example.org"), Grade::Unknown, "proxy.example.org"),
        (
            |it| it["key"]["kid"] = json!("https://vault.example.org/keys/ca/1"),
            Grade::Unknown,
            "no name of a vault",
        ),
        (|it| it["key"]["kid"] = json!("ca"), Grade::Unknown, "no name of a vault"),
    ] {
        is(&evidence(change), grade, says);
    }
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let text = evidence(|_| {}).to_string();
    for text in ["{}".to_owned(), format!("{text}x"), text.replacen('{', "{\"more\":1,", 1)] {
        assert_eq!(judge(text.as_bytes(), &key()).grade, Grade::Unknown, "{text}");
    }
    let other = evidence(|it| it["key"]["spki"] = json!("00"));
    is(&other, Grade::Unknown, "about another key");
}
