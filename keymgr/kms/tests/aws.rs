//! The backend on moto: the conformance suite, and what is AWS's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod alone;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::executor::block_on;
use hsm_sim::aws::{ACCOUNT, Answer, Moto, Proxy, REGION, device};
use hsm_sim::conformance::{self, Subject, table};
use jiff::Timestamp;
use serde_json::{Value, json};
use undercroft_attestors::custody::{Grade, judge};
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::{
    Backend as _, Device, DeviceConfig, Error, ErrorKind, Key, KeyManager, KeyUri, Secrecy,
};
use undercroft_keys::KeyAlgorithm::{self, EcdsaP256, EcdsaP384};
use undercroft_kms::{AWS_CUSTODY_FORMAT, AwsKmsBackend};

use alone::alone;

/// Credentials that somebody wrote into the environment.
const WRITTEN: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIAWRITTEN"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];

fn open(device: &Device) -> Arc<dyn KeyManager> {
    AwsKmsBackend::default().open(device).unwrap()
}

fn uri(device: &Device, attributes: &str) -> KeyUri {
    let uri: KeyUri = format!("awskms:{attributes}").parse().unwrap();
    uri.completed_by(&device.uri).unwrap()
}

fn create(device: &Device, alias: &str) -> Key {
    block_on(open(device).create(&uri(device, &format!("alias={alias}")), EcdsaP256)).unwrap()
}

fn sign(key: &Key, message: &[u8]) -> Result<Vec<u8>, Error> {
    block_on(key.signer.sign(message))
}

fn verifies(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    let algorithm = key.signer.algorithm().signature_algorithm();
    key.signer.public_key().verify(algorithm, message, signature).is_ok()
}

fn refusal(manager: &dyn KeyManager, uri: &KeyUri, algorithm: KeyAlgorithm) -> (ErrorKind, String) {
    let error = block_on(manager.open(uri, algorithm)).map(|_| ()).unwrap_err();
    (error.kind(), error.to_string())
}

/// What somebody else does to the keys.
fn call(moto: &Moto, operation: &str, parameters: &Value) -> Value {
    let answer = moto.call(operation, &parameters.to_string()).unwrap();
    serde_json::from_str(&answer).unwrap_or_default()
}

/// A key that somebody else made, with an alias of its own.
fn foreign(moto: &Moto, alias: &str, parameters: &Value) -> String {
    let made = call(moto, "CreateKey", parameters);
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    call(moto, "CreateAlias", &json!({"AliasName": format!("alias/{alias}"), "TargetKeyId": id}));
    id
}

fn metadata(moto: &Moto, key: &str) -> Value {
    call(moto, "DescribeKey", &json!({"KeyId": key}))["KeyMetadata"].clone()
}

#[test]
fn conforms() {
    if !alone("conforms", &WRITTEN) {
        return;
    }
    let moto = Moto::with_rsa_keys_ahead().unwrap();
    let device = moto.device("cloud");
    let worked = conformance::run(&Subject {
        open: &|| open(&device),
        uri: &|number| uri(&device, &format!("alias=keys/{number}")),
        unsupported: &[(KeyAlgorithm::Ed25519, "AWS KMS signs at most 4,096 bytes with it")],
        no_throwaway: Some("keys of AWS KMS stay for 7 days at least"),
        custody_format: AWS_CUSTODY_FORMAT,
    });
    assert_eq!(worked.len(), KeyAlgorithm::ALL.len() - 1);
    table::says("AWS KMS (moto 5.2)", &worked, false);
    let way_out = block_on(open(&device).throwaway(EcdsaP256)).map(|_| ()).unwrap_err().to_string();
    assert!(way_out.contains("PKCS#11 token or a TPM"), "{way_out}");
}

#[test]
fn an_alias_that_is_taken_stays_as_it_is_even_when_it_is_taken_in_the_meantime() {
    if !alone("an_alias_that_is_taken_stays_as_it_is_even_when_it_is_taken_in_the_meantime", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    // Not even a key of another kind, or one that cannot sign, is overwritten.
    let taken = foreign(&moto, "ca", &json!({"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT"}));
    let manager = open(&device);
    let error = block_on(manager.create(&uri(&device, "alias=ca"), EcdsaP256)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(proxy.seen("CreateKey").is_empty());
    // Somebody takes it after we have looked.
    proxy.answers({
        let mut looked = false;
        move |request| match request.operation.as_str() {
            "DescribeKey" if !std::mem::replace(&mut looked, true) => Answer::error(400, "NotFoundException"),
            _ => Answer::Forward,
        }
    });
    let error = block_on(manager.create(&uri(&device, "alias=ca"), EcdsaP256)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.to_string().contains("is deleted in 7 days"), "{error}");
    assert_eq!(metadata(&moto, "alias/ca")["KeyId"], taken);
    // The key that was made in vain goes, and nothing else does.
    let deleted = proxy.seen("ScheduleKeyDeletion");
    assert_eq!(deleted.len(), 1);
    let deleted: Value = serde_json::from_str(&deleted[0].parameters).unwrap();
    assert_ne!(deleted["KeyId"], taken);
    assert_eq!(metadata(&moto, deleted["KeyId"].as_str().unwrap())["KeyState"], "PendingDeletion");
    // AWS chooses IDs.
    let id = uri(&device, "key-id=1234abcd-12ab-34cd-56ef-1234567890ab");
    let error = block_on(manager.create(&id, EcdsaP256)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = block_on(manager.open(&device.uri, EcdsaP256)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("add alias=… or key-id=…"), "{error}");
}

#[test]
fn keys_that_must_not_sign_are_refused_by_what_is_wrong_with_them() {
    if !alone("keys_that_must_not_sign_are_refused_by_what_is_wrong_with_them", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    let manager = open(&device);
    let p256 = json!({"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"});
    let imported = json!({"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256", "Origin": "EXTERNAL"});
    let disabled = foreign(&moto, "disabled", &p256);
    call(&moto, "DisableKey", &json!({"KeyId": disabled}));
    let deleted = foreign(&moto, "deleted", &p256);
    call(&moto, "ScheduleKeyDeletion", &json!({"KeyId": deleted, "PendingWindowInDays": 7}));
    foreign(&moto, "imported", &imported);
    for (alias, spec, usage) in [
        ("p521", "ECC_NIST_P521", "SIGN_VERIFY"),
        ("k256", "ECC_SECG_P256K1", "SIGN_VERIFY"),
        ("rsa", "RSA_2048", "SIGN_VERIFY"),
        ("p384", "ECC_NIST_P384", "SIGN_VERIFY"),
        ("symmetric", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("decrypts", "RSA_2048", "ENCRYPT_DECRYPT"),
    ] {
        foreign(&moto, alias, &json!({"KeyUsage": usage, "KeySpec": spec}));
    }
    for (name, kind, part) in [
        ("alias=disabled", ErrorKind::Denied, "state Disabled; `aws kms enable-key`"),
        ("alias=deleted", ErrorKind::Denied, "state PendingDeletion; `aws kms cancel-key-deletion`"),
        ("alias=imported", ErrorKind::Denied, "key material from EXTERNAL"),
        ("alias=p521", ErrorKind::Unsupported, "is ECC_NIST_P521 and no ecdsa-p256 key"),
        ("alias=k256", ErrorKind::Unsupported, "is ECC_SECG_P256K1 and no ecdsa-p256 key"),
        ("alias=rsa", ErrorKind::Unsupported, "is RSA_2048 and no ecdsa-p256 key"),
        ("alias=p384", ErrorKind::Unsupported, "is ECC_NIST_P384 and no ecdsa-p256 key"),
        ("alias=symmetric", ErrorKind::Unsupported, "is for ENCRYPT_DECRYPT"),
        ("alias=decrypts", ErrorKind::Unsupported, "is for ENCRYPT_DECRYPT"),
        ("alias=absent", ErrorKind::NotFound, "alias=absent"),
        ("key-id=1234abcd-12ab-34cd-56ef-1234567890ab", ErrorKind::NotFound, "is not in AWS KMS"),
    ] {
        let (found, message) = refusal(&*manager, &uri(&device, name), EcdsaP256);
        assert_eq!(found, kind, "{name}: {message}");
        assert!(message.contains(part) && message.contains(name), "{name}: {message}");
    }
    // The one that is sound opens as what it is, by its alias and by its ID, and is listed beside those that sign.
    block_on(manager.open(&uri(&device, "alias=p384"), EcdsaP384)).unwrap();
    let listed = block_on(manager.list()).unwrap();
    let by_uri = |part: &str| listed.iter().find(|key| key.uri.to_string().contains(part));
    assert!(by_uri(&deleted).is_none() && by_uri(&disabled).is_some());
    assert_eq!(listed.iter().filter(|key| key.public_key.is_some()).count(), 4, "{listed:?}");
}

#[test]
fn an_open_key_that_is_taken_away_says_so() {
    if !alone("an_open_key_that_is_taken_away_says_so", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    let key = create(&device, "ca");
    sign(&key, b"before").unwrap();
    let id = metadata(&moto, "alias/ca")["KeyId"].clone();
    call(&moto, "DisableKey", &json!({"KeyId": id}));
    let error = sign(&key, b"after").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("is disabled; `aws kms enable-key`"), "{error}");
    call(&moto, "EnableKey", &json!({"KeyId": id}));
    sign(&key, b"again").unwrap();
    call(&moto, "ScheduleKeyDeletion", &json!({"KeyId": id, "PendingWindowInDays": 7}));
    let error = sign(&key, b"at last").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("PendingDeletion"), "{error}");
}

#[test]
fn an_alias_that_is_pointed_elsewhere_changes_nothing_for_a_key_that_is_open() {
    if !alone("an_alias_that_is_pointed_elsewhere_changes_nothing_for_a_key_that_is_open", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    let key = create(&device, "ca");
    let other = foreign(&moto, "other", &json!({"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"}));
    call(&moto, "UpdateAlias", &json!({"AliasName": "alias/ca", "TargetKeyId": other}));
    let signature = sign(&key, b"message").unwrap();
    assert!(verifies(&key, b"message", &signature));
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    assert!(!String::from_utf8(evidence.bytes).unwrap().contains(&other));
    // Whoever opens it anew gets the other, and sees that its public key is not the one that is certified.
    let again = block_on(open(&device).open(&uri(&device, "alias=ca"), EcdsaP256)).unwrap();
    assert_ne!(again.signer.public_key(), key.signer.public_key());
}

#[test]
fn a_key_of_another_account_is_refused() {
    if !alone("a_key_of_another_account_is_refused", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    create(&moto.device("cloud"), "ca");
    let elsewhere: KeyUri =
        format!("awskms:region={REGION};account=999900001111;endpoint=http://127.0.0.1:{}", moto.port())
            .parse()
            .unwrap();
    let device = Device { uri: elsewhere, ..moto.device("cloud") };
    let (kind, message) = refusal(&*open(&device), &uri(&device, "alias=ca"), EcdsaP256);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains(&format!("account {ACCOUNT} and not to 999900001111")), "{message}");
}

#[test]
fn a_device_in_no_region_and_plain_http_to_elsewhere_are_refused() {
    let nowhere = Device::new("cloud", "awskms:account=123456789012".parse().unwrap());
    let error = AwsKmsBackend::default().open(&nowhere).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("add region=…"), "{error}");
    for endpoint in ["http://kms.eu-central-1.amazonaws.com", "http://192.0.2.1:80", "http://localhost:5000"]
    {
        let config: DeviceConfig = serde_json::from_value(json!({
            "name": "cloud", "uri": format!("awskms:region={REGION};endpoint={endpoint}"),
        }))
        .unwrap();
        let error = Device::from_config(config, Path::new("/"), Secrecy::Lenient).unwrap_err().to_string();
        assert!(error.contains("`endpoint` cannot be") && error.contains("loopback address"), "{error}");
    }
}

#[test]
fn without_credentials_it_says_where_they_were_looked_for() {
    if !alone(
        "without_credentials_it_says_where_they_were_looked_for",
        &[("AWS_EC2_METADATA_DISABLED", "true")],
    ) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    let (kind, message) = refusal(&*open(&device), &uri(&device, "alias=ca"), EcdsaP256);
    assert_eq!(kind, ErrorKind::Denied);
    for part in ["no AWS credentials here", "environment", "profile", "instance", "a role"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn written_credentials_are_refused_where_secrecy_is_strict() {
    if !alone("written_credentials_are_refused_where_secrecy_is_strict", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let strict = AwsKmsBackend { secrecy: Secrecy::Strict }.open(&device).unwrap();
    let (kind, message) = refusal(&*strict, &uri(&device, "alias=ca"), EcdsaP256);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains("AWS_ACCESS_KEY_ID") && message.contains("--strict refuses"), "{message}");
    assert!(!message.contains("AKIAWRITTEN") && !message.contains("hush-hush"), "{message}");
    assert!(proxy.seen("DescribeKey").is_empty(), "nothing was sent with them");
}

#[test]
fn a_profile_counts_as_written_and_is_used_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = hush-hush\n")
        .unwrap();
    let variables =
        [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];
    if !alone("a_profile_counts_as_written_and_is_used_otherwise", &variables) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    create(&device, "ca");
    let strict = AwsKmsBackend { secrecy: Secrecy::Strict }.open(&device).unwrap();
    let (kind, message) = refusal(&*strict, &uri(&device, "alias=ca"), EcdsaP256);
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains("a profile in ~/.aws") && !message.contains("AKIAPROFILE"), "{message}");
}

#[test]
fn what_the_container_is_given_is_taken_where_secrecy_is_strict() {
    // A container's credentials endpoint (the ECS agent's), which answers as AWS documents.
    let endpoint = Proxy::before(1).unwrap();
    endpoint.answers(|_| {
        let given = json!({
            "AccessKeyId": "ASIAGIVEN", "SecretAccessKey": "hush", "Token": "t", "Expiration": "2999-01-01T00:00:00Z",
        });
        Answer::Instead(200, given.to_string())
    });
    let address = format!("http://127.0.0.1:{}/credentials", endpoint.port());
    if !alone(
        "what_the_container_is_given_is_taken_where_secrecy_is_strict",
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address), ("AWS_EC2_METADATA_DISABLED", "true")],
    ) {
        return;
    }
    let moto = Moto::start().unwrap();
    let device = moto.device("cloud");
    let strict = AwsKmsBackend { secrecy: Secrecy::Strict }.open(&device).unwrap();
    let key = block_on(strict.create(&uri(&device, "alias=ca"), EcdsaP256)).unwrap();
    let signature = sign(&key, b"message").unwrap();
    assert!(verifies(&key, b"message", &signature));
}

#[test]
fn only_what_was_not_done_is_asked_for_again() {
    if !alone("only_what_was_not_done_is_asked_for_again", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let key = create(&device, "ca");
    let turned_away = AtomicUsize::new(0);
    proxy.answers(move |request| match request.operation.as_str() {
        "Sign" if turned_away.fetch_add(1, Ordering::SeqCst) < 3 => Answer::error(400, "ThrottlingException"),
        _ => Answer::Forward,
    });
    let signature = sign(&key, b"throttled").unwrap();
    assert!(verifies(&key, b"throttled", &signature));
    assert_eq!(proxy.seen("Sign").len(), 4);
    for (status, code, kind, part) in [
        (500, "KMSInternalException", ErrorKind::Unavailable, "AWS KMS failed at Sign"),
        (500, "DependencyTimeoutException", ErrorKind::Unavailable, "AWS KMS failed at Sign"),
        (502, "BadGateway", ErrorKind::Unavailable, "AWS KMS failed at Sign"),
        (400, "AccessDeniedException", ErrorKind::Denied, "needs the permission kms:Sign"),
        (400, "ExpiredTokenException", ErrorKind::Denied, "does not take the credentials"),
        (400, "InvalidKeyUsageException", ErrorKind::Unsupported, "cannot do Sign"),
        (400, "KMSInvalidStateException", ErrorKind::Denied, "state that does not allow Sign"),
        (400, "WhatIsThis", ErrorKind::Fault, "`WhatIsThis`"),
    ] {
        proxy.answers(move |_| Answer::error(status, code));
        let before = proxy.seen("Sign").len();
        let error = sign(&key, b"failing").unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(error.to_string().contains(part) && error.to_string().contains("alias=ca"), "{error}");
        assert_eq!(proxy.seen("Sign").len(), before + 1, "{code} was asked for again");
    }
}

#[test]
fn a_signature_that_may_have_been_made_is_not_asked_for_twice() {
    if !alone("a_signature_that_may_have_been_made_is_not_asked_for_twice", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let key = create(&device, "ca");
    proxy.answers(|request| match request.operation.as_str() {
        "Sign" => Answer::Lost,
        _ => Answer::Forward,
    });
    let error = sign(&key, b"lost").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer within 10s"), "{error}");
    assert_eq!(proxy.seen("Sign").len(), 1);
    proxy.answers(|_| Answer::Forward);
    sign(&key, b"found").unwrap();
}

#[test]
fn an_endpoint_that_goes_and_comes_back_serves_again() {
    if !alone("an_endpoint_that_goes_and_comes_back_serves_again", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let key = create(&device, "ca");
    sign(&key, b"before").unwrap();
    proxy.goes_away();
    let error = sign(&key, b"away").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = error.to_string();
    assert!(told.contains("no answer within 10s") && told.contains("is its endpoint right?"), "{told}");
    // A call that finds nobody waits for its return.
    let signed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sign(&key, b"back"));
        proxy.comes_back().unwrap();
        waiting.join().unwrap().unwrap()
    });
    assert!(verifies(&key, b"back", &signed));
}

#[test]
fn what_answers_for_another_key_or_signs_wrongly_is_a_fault() {
    if !alone("what_answers_for_another_key_or_signs_wrongly_is_a_fault", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let key = create(&device, "ca");
    let arn = metadata(&moto, "alias/ca")["Arn"].as_str().unwrap().to_owned();
    let other = foreign(&moto, "other", &json!({"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"}));
    let parameters = json!({
        "KeyId": other, "Message": "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=", "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    });
    let by_other = call(&moto, "Sign", &parameters);
    let as_told = |change: &dyn Fn(&mut Value)| {
        let mut answer = by_other.clone();
        change(&mut answer);
        let answer = answer.to_string();
        proxy.answers(move |_| Answer::Instead(200, answer.clone()));
        let error = sign(&key, b"message").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fault, "{error}");
        error.to_string()
    };
    assert!(
        as_told(&|_| ()).contains(&format!("but AWS signed with arn:aws:kms:{REGION}:{ACCOUNT}:key/{other}"))
    );
    let wrong = as_told(&|answer| {
        answer["KeyId"] = arn.clone().into();
        answer["SigningAlgorithm"] = "ECDSA_SHA_384".into();
    });
    assert!(wrong.contains("and ECDSA_SHA_384"), "{wrong}");
    let wrong = as_told(&|answer| {
        answer["KeyId"] = arn.clone().into();
        answer["Signature"] = "".into();
    });
    assert!(wrong.contains("gave no signature"), "{wrong}");
    // The very first signature is verified …
    let wrong = as_told(&|answer| answer["KeyId"] = arn.clone().into());
    assert!(wrong.contains("does not verify under its public key"), "{wrong}");
    // … and so is the first after an outage, and no other: callers verify what they release.
    proxy.answers(|_| Answer::Forward);
    sign(&key, b"message").unwrap();
    proxy.answers(|_| Answer::error(500, "KMSInternalException"));
    assert_eq!(sign(&key, b"message").unwrap_err().kind(), ErrorKind::Unavailable);
    let wrong = as_told(&|answer| answer["KeyId"] = arn.clone().into());
    assert!(wrong.contains("does not verify under its public key"), "{wrong}");
    // What is opened is compared, too.
    let answer = call(&moto, "GetPublicKey", &json!({"KeyId": other})).to_string();
    proxy.answers(move |request| match request.operation.as_str() {
        "GetPublicKey" => Answer::Instead(200, answer.clone()),
        _ => Answer::Forward,
    });
    let (kind, message) = refusal(&*open(&device), &uri(&device, "alias=ca"), EcdsaP256);
    assert_eq!(kind, ErrorKind::Fault);
    assert!(message.contains("but AWS gave the public key of"), "{message}");
}

#[test]
fn custody_says_who_else_may_sign() {
    if !alone("custody_says_who_else_may_sign", &WRITTEN) {
        return;
    }
    let moto = Moto::start().unwrap();
    let proxy = Proxy::before(moto.port()).unwrap();
    let device = device("cloud", proxy.port());
    let key = create(&device, "ca");
    let id = metadata(&moto, "alias/ca")["KeyId"].clone();
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:role/backup"}, "Action": ["kms:Sign"], "Resource": "*"},
    ]});
    call(&moto, "PutKeyPolicy", &json!({"KeyId": id, "PolicyName": "default", "Policy": policy.to_string()}));
    let grantee = "arn:aws:iam::123456789012:role/granted";
    call(
        &moto,
        "CreateGrant",
        &json!({"KeyId": id, "GranteePrincipal": grantee, "Operations": ["Sign"], "Name": "g"}),
    );
    let evidence = block_on(key.custody.custody_evidence()).unwrap();
    let custody = judge(
        evidence.format,
        &evidence.bytes,
        key.signer.public_key(),
        &Trust::default(),
        Timestamp::UNIX_EPOCH,
    );
    // moto is no AWS: what answers on this machine is not believed to be hardware.
    assert_eq!(custody.grade, Grade::Software, "{custody:?}");
    let findings = custody.findings.join("\n");
    for part in ["origin AWS_KMS", "role/backup", grantee, &format!("IAM policies of the account {ACCOUNT}")]
    {
        assert!(findings.contains(part), "{part}: {findings}");
    }
    // Evidence without the policy is none.
    for operation in ["GetKeyPolicy", "ListGrants", "DescribeKey"] {
        proxy.answers(move |request| match request.operation == operation {
            true => Answer::error(400, "AccessDeniedException"),
            false => Answer::Forward,
        });
        let error = block_on(key.custody.custody_evidence()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains(&format!("permission kms:{operation}")), "{error}");
    }
}
