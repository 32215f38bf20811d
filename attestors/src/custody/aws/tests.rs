use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004c1a3fae9d019c259261fc6194fc0c04dc88c6b365d41ddc8c02d2e12bd1238ce3c11df2faf72180b14e45a8abcfb001a7afe254acf130e44d6b2c343191225a7";

fn key() -> PublicKey {
    PublicKey::from_spki(&hex::decode(SPKI).unwrap()).unwrap()
}

/// The policy that AWS gives a key if nobody says otherwise.
fn default_policy() -> Value {
    json!({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [{
        "Sid": "Enable IAM User Permissions", "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*",
    }]})
}

fn evidence() -> Value {
    json!({
        "endpoint": null,
        "key": {
            "arn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "spki": SPKI,
            "spec": "ECC_NIST_P256", "usage": "SIGN_VERIFY", "state": "Enabled", "manager": "CUSTOMER",
            "origin": "AWS_KMS", "multi_region": null, "custom_key_store": null, "cloud_hsm_cluster": null,
        },
        "policy": default_policy().to_string(),
        "grants": [],
    })
}

fn judged(change: impl FnOnce(&mut Value)) -> Custody {
    let mut evidence = evidence();
    change(&mut evidence);
    judge(evidence.to_string().as_bytes(), &key())
}

fn statements(statements: &Value) -> String {
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    judged(|evidence| evidence["policy"] = policy.to_string().into()).findings.join("\n")
}

#[test]
fn a_sound_key_is_declared_and_its_account_is_named() {
    let custody = judged(|_| ());
    assert_eq!(custody.grade, Grade::Declared, "{custody:?}");
    let findings = custody.findings.join("\n");
    for part in [
        "origin AWS_KMS",
        "state Enabled",
        "whomever IAM policies of the account 111122223333 let (statement `Enable IAM User Permissions`) may sign",
        "may let others sign",
        "attests nothing",
    ] {
        assert!(findings.contains(part), "{part}: {findings}");
    }
}

#[test]
fn key_material_that_is_elsewhere_too_is_unknown() {
    for origin in [json!("EXTERNAL"), json!("EXTERNAL_KEY_STORE"), json!("UNHEARD_OF"), Value::Null] {
        let custody = judged(|evidence| evidence["key"]["origin"] = origin.clone());
        assert_eq!(custody.grade, Grade::Unknown, "{origin}");
    }
    for (field, value) in [("usage", "ENCRYPT_DECRYPT"), ("manager", "AWS")] {
        assert_eq!(judged(|evidence| evidence["key"][field] = value.into()).grade, Grade::Unknown, "{field}");
        assert_eq!(judged(|evidence| evidence["key"][field] = Value::Null).grade, Grade::Unknown, "{field}");
    }
}

#[test]
fn who_answers_for_aws_is_looked_at() {
    for (endpoint, grade) in [
        ("https://kms.eu-central-1.amazonaws.com", Grade::Declared),
        ("https://vpce-0a1b-2c3d.kms.eu-central-1.vpce.amazonaws.com:443", Grade::Declared),
        ("https://kms.cn-north-1.amazonaws.com.cn", Grade::Declared),
        ("http://127.0.0.1:5000", Grade::Software),
        ("http://[::1]:5000", Grade::Software),
        ("https://127.0.0.1:5000", Grade::Software),
        ("https://[::1]", Grade::Software),
        ("https://localhost:5000", Grade::Software),
        ("http://kms.eu-central-1.amazonaws.com", Grade::Software),
        ("https://kms.example.org", Grade::Unknown),
        ("https://amazonaws.com.example.org", Grade::Unknown),
        ("https://notamazonaws.com", Grade::Unknown),
    ] {
        let custody = judged(|evidence| evidence["endpoint"] = endpoint.into());
        assert_eq!(custody.grade, grade, "{endpoint}: {custody:?}");
    }
}

#[test]
fn everyone_who_may_sign_is_named() {
    let role = "arn:aws:iam::111122223333:role/backup";
    for (statement, parts) in [
        (
            json!({"Effect": "Allow", "Principal": "*", "Action": "kms:*"}),
            vec!["everyone in every account may sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "*"}),
            vec!["everyone in every account may sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": role}, "Action": "KMS:sign"}),
            vec!["role/backup may sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": [role, "444455556666"]}, "Action": ["kms:Verify", "kms:S*"]}),
            vec!["role/backup, whomever IAM policies of the account 444455556666 let may sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"Service": "backup.amazonaws.com"}, "Action": "kms:Sign"}),
            vec!["backup.amazonaws.com (Service) may sign"],
        ),
        (
            json!({"Effect": "Allow", "NotPrincipal": {"AWS": role}, "Action": "kms:Sign"}),
            vec!["everyone except arn:aws:iam::111122223333:role/backup may sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": role}, "NotAction": "kms:Decrypt"}),
            vec!["role/backup may sign", "role/backup may let others sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": role}, "Action": "kms:Sign", "Condition": {"Bool": {"x": "true"}}}),
            vec![r#"role/backup, if {"Bool":{"x":"true"}}, may sign"#],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": role}, "Action": "kms:PutKeyPolicy"}),
            vec!["role/backup may let others sign"],
        ),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": role}, "Action": "kms:Create*"}),
            vec!["role/backup may let others sign"],
        ),
        (json!({"Effect": "Deny", "Principal": {"AWS": role}, "Action": "kms:Sign"}), vec!["also denies"]),
    ] {
        // One statement may stand without a list.
        for statement in [json!([statement]), statement] {
            let findings = statements(&statement);
            for part in &parts {
                assert!(findings.contains(part), "{part}: {findings}");
            }
        }
    }
    for (statement, part) in [
        (
            json!([{"Effect": "Allow", "Principal": {"AWS": role}, "Action": ["kms:Verify", "kms:GetPublicKey"]}]),
            "may sign",
        ),
        (json!([{"Effect": "Allow", "Principal": {"AWS": role}, "NotAction": ["kms:*"]}]), "may sign"),
        (json!([{"Effect": "Deny", "Principal": {"AWS": role}, "Action": "kms:*"}]), "may sign"),
        (json!([{"Effect": "Allow", "Principal": {"AWS": role}, "Action": "kms:Sign"}]), "may let others"),
    ] {
        assert!(!statements(&statement).contains(part), "{statement}");
    }
}

#[test]
fn grants_that_sign_are_named() {
    let findings = judged(|evidence| {
        evidence["grants"] = json!([
            {"id": "g1", "grantee": "arn:x:role/a", "retiring": null, "operations": ["Sign", "Verify"]},
            {"id": "g2", "grantee": "arn:x:role/b", "retiring": null, "operations": ["Verify"]},
            {"id": "g3", "grantee": "arn:x:role/c", "retiring": "arn:x:role/d", "operations": ["CreateGrant"]},
        ]);
    });
    let findings = findings.findings.join("\n");
    assert!(findings.contains("grant g1 lets arn:x:role/a sign (nobody may retire it)"), "{findings}");
    assert!(findings.contains("grant g3 lets arn:x:role/c pass on"), "{findings}");
    assert!(!findings.contains("g2"), "{findings}");
}

#[test]
fn other_places_of_the_key_are_told() {
    let findings = judged(|evidence| {
        evidence["key"]["multi_region"] = "REPLICA".into();
        evidence["key"]["custom_key_store"] = "cks-1".into();
        evidence["key"]["cloud_hsm_cluster"] = "cluster-1".into();
        evidence["key"]["origin"] = "AWS_CLOUDHSM".into();
        evidence["key"]["state"] = "PendingDeletion".into();
    });
    assert_eq!(findings.grade, Grade::Declared);
    let findings = findings.findings.join("\n");
    for part in ["multi-region key (REPLICA)", "key store cks-1, cluster cluster-1", "state PendingDeletion"]
    {
        assert!(findings.contains(part), "{part}: {findings}");
    }
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let changes: [fn(&mut Value); 10] = [
        |evidence| evidence["policy"] = "{}".into(),
        |evidence| evidence["policy"] = "".into(),
        |evidence| evidence["policy"] = Value::Null,
        |evidence| {
            evidence["policy"] =
                json!({"Statement": [{"Effect": "Allow", "Action": "kms:*"}]}).to_string().into()
        },
        |evidence| {
            evidence["policy"] = json!({"Statement": [{"Effect": "Maybe", "Principal": "*", "Action": "*"}]})
                .to_string()
                .into()
        },
        |evidence| {
            evidence["policy"] =
                json!({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "New": 1}]})
                    .to_string()
                    .into()
        },
        |evidence| evidence["grants"] = Value::Null,
        |evidence| evidence["key"]["spki"] = "00".into(),
        |evidence| evidence["more"] = 1.into(),
        |evidence| evidence["key"]["more"] = 1.into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let custody = judged(change);
        assert_eq!(custody.grade, Grade::Unknown, "{number}: {custody:?}");
        assert_eq!(custody.findings.len(), 1, "{number}: {custody:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_evidence_is_never_graded_well(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(judge(&bytes, &key()).grade, Grade::Unknown);
    }
}
