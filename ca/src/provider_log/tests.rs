use serde_json::json;
use undercroft_keys::{KeyAlgorithm, SignatureAlgorithm};
use undercroft_log::leaf::{
    Base64Bytes, Caller, Channel, Digest, Grade, HexKeyId, Intent, Key, KeyEvent, KeyEvidence, Object,
    Outcome, ToBeSigned,
};

use super::*;

const REGION: &str = "arn:aws:kms:eu-central-1:111122223333";
const ALLOWANCE: SignedDuration = SignedDuration::from_secs(5);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

fn key(number: u8) -> KeyId {
    KeyId::from([number; 32])
}

fn arn(number: u8) -> String {
    format!("{REGION}:key/{number}")
}

struct Log {
    uses: Uses,
    index: u64,
}

impl Log {
    /// A log that knows the keys 1 and 2 from second 0 on.
    fn new() -> Self {
        let mut log = Self { uses: Uses::default(), index: 0 };
        for number in [1, 2] {
            log.knows(number, &arn(number));
        }
        log
    }

    fn enter(&mut self, seconds: i64, body: Body) -> u64 {
        let index = self.index;
        let sequence = matches!(body, Body::Intent(_)).then_some(1);
        let origin = "ca.example/undercroft/prod.example/1".parse().unwrap();
        let evidence = match &body {
            Body::Key(Key { evidence: KeyEvidence::Inline(bytes), .. }) => Some(bytes.0.clone()),
            _ => None,
        };
        self.uses.enter(&Leaf { origin, index, time: at(seconds), sequence, body }, evidence.as_deref());
        self.index += 1;
        index
    }

    fn knows(&mut self, number: u8, arn: &str) {
        self.knows_for(number, arn, "authority intermediate of prod.example");
    }

    fn knows_for(&mut self, number: u8, arn: &str, purpose: &str) {
        let evidence = json!({
            "endpoint": null,
            "key": {
                "arn": arn, "spki": "00", "spec": null, "usage": null, "state": null, "manager": null, "origin": null,
                "multi_region": null, "custom_key_store": null, "cloud_hsm_cluster": null,
            },
            "policy": "{}", "grants": [],
        });
        self.enter(
            0,
            Body::Key(Key {
                event: KeyEvent::Opened,
                purpose: purpose.into(),
                key_id: HexKeyId(key(number)),
                spki: Base64Bytes(vec![0]),
                algorithm: KeyAlgorithm::EcdsaP256,
                uri: "awskms:alias=ca".into(),
                grade: Grade::Declared,
                findings: Vec::new(),
                format: "aws-kms-v1".into(),
                evidence: KeyEvidence::Inline(Base64Bytes(evidence.to_string().into_bytes())),
            }),
        );
    }

    fn intent(&mut self, number: u8, seconds: i64) -> u64 {
        self.enter(
            seconds,
            Body::Intent(Intent {
                object: Object::Certificate,
                domain: "prod.example".into(),
                profile: "workload".into(),
                key_id: HexKeyId(key(number)),
                algorithm: SignatureAlgorithm::EcdsaP256Sha256,
                tbs: ToBeSigned::Der(Base64Bytes(vec![0x30, 0x00])),
                caller: Caller { id: "spiffe://control.example/operator/a".into(), by: Channel::Mtls },
                rule: "prod-workloads".into(),
                policy: Digest([1; 32]),
                request: None,
                withheld: Vec::new(),
                evidence: Vec::new(),
            }),
        )
    }

    fn outcome(&mut self, intent: u64, seconds: i64, result: OutcomeResult) {
        self.enter(seconds, Body::Outcome(Outcome { intent, result, command: None }));
    }

    fn signs(&mut self, number: u8, from: i64, to: i64) -> u64 {
        let intent = self.intent(number, from);
        self.outcome(intent, to, OutcomeResult::Signature(Base64Bytes(vec![1])));
        intent
    }

    fn compare(&self, signed: &[(u8, i64)]) -> Comparison {
        let signed = signed.iter().enumerate().map(|(number, (key, seconds))| Signed {
            time: at(*seconds),
            event: number.to_string(),
            key: Some(arn(*key)),
            by: "arn:aws:iam::111122223333:role/ca".into(),
        });
        let log = ProviderLog {
            signed: signed.collect(),
            covers: Some((at(-1000), at(100_000))),
            ..ProviderLog::default()
        };
        self.uses.compare(&log, ALLOWANCE)
    }
}

fn events(signed: &[Signed]) -> Vec<&str> {
    signed.iter().map(|signed| signed.event.as_str()).collect()
}

#[test]
fn each_intent_accounts_for_one_signature_in_its_time() {
    let mut log = Log::new();
    log.signs(1, 100, 101);
    log.signs(1, 100, 102);
    log.signs(2, 200, 201);
    let comparison = log.compare(&[(1, 100), (1, 102), (2, 201)]);
    assert_eq!(comparison.alarms(), 0, "{comparison:?}");
    assert_eq!(
        comparison.keys.iter().map(|key| (key.signed, key.accounted)).collect::<Vec<_>>(),
        [(2, 2), (1, 1)]
    );
    // Clocks may be apart by so much and no more.
    assert_eq!(log.compare(&[(1, 95), (1, 107), (2, 196)]).alarms(), 0);
    assert_eq!(events(&log.compare(&[(1, 94), (1, 102), (2, 201)]).keys[0].unaccounted), ["0"]);
    assert_eq!(events(&log.compare(&[(1, 100), (1, 108), (2, 201)]).keys[0].unaccounted), ["1"]);
}

#[test]
fn what_no_intent_accounts_for_is_named() {
    let mut log = Log::new();
    log.signs(1, 100, 101);
    // One too many in the same second; one long after; one by another key of the log.
    let comparison = log.compare(&[(1, 100), (1, 100), (1, 5000), (2, 100)]);
    assert_eq!(events(&comparison.keys[0].unaccounted), ["1", "2"]);
    assert_eq!(events(&comparison.keys[1].unaccounted), ["3"]);
    assert_eq!(comparison.alarms(), 3);
}

#[test]
fn no_intent_is_taken_from_one_that_needs_it() {
    let mut log = Log::new();
    // The wide one accounts for the late signature, the narrow one for the early, in whatever order they were stamped.
    log.signs(1, 100, 300);
    log.signs(1, 101, 102);
    assert_eq!(log.compare(&[(1, 102), (1, 300)]).alarms(), 0);
    let mut log = Log::new();
    log.signs(1, 100, 102);
    log.signs(1, 100, 300);
    assert_eq!(log.compare(&[(1, 102), (1, 300)]).alarms(), 0);
}

#[test]
fn intents_that_were_given_up_or_wait_may_have_a_signature_and_need_none() {
    let mut log = Log::new();
    let abandoned = log.intent(1, 100);
    log.outcome(abandoned, 110, OutcomeResult::Abandoned("no answer".into()));
    log.intent(2, 200);
    assert_eq!(log.compare(&[]).alarms(), 0);
    assert_eq!(log.compare(&[(1, 109), (2, 90_000)]).alarms(), 0);
    assert_eq!(log.compare(&[(1, 109), (1, 109), (2, 199), (2, 201)]).alarms(), 2);
}

#[test]
fn a_signature_that_the_provider_does_not_know_of_is_named_if_its_time_is_covered() {
    let mut log = Log::new();
    let intent = log.signs(1, 100, 101);
    log.signs(1, 99_999, 100_001);
    let comparison = log.compare(&[]);
    assert_eq!(comparison.keys[0].unseen, [intent], "the other may be in the next file");
    assert_eq!(comparison.alarms(), 1);
    let nothing = log.uses.compare(&ProviderLog::default(), ALLOWANCE);
    assert_eq!(nothing.alarms(), 0, "a log that covers nothing says nothing");
}

#[test]
fn one_signature_before_the_log_knows_the_key_is_its_request() {
    let log = Log::new();
    let comparison = log.compare(&[(1, -500), (1, -400)]);
    assert_eq!(comparison.keys[0].request.as_ref().unwrap().event, "0");
    assert_eq!(events(&comparison.keys[0].unaccounted), ["1"]);
}

#[test]
fn the_heads_of_the_log_are_not_compared_and_those_of_another_are() {
    let mut log = Log::new();
    log.knows_for(4, &arn(4), "log ca.example/undercroft/prod.example/1");
    log.knows_for(5, &arn(5), "log ca.example/undercroft/other.example/1");
    let comparison = log.compare(&[(4, 100), (4, 200), (5, 300)]);
    assert_eq!((comparison.heads, comparison.alarms()), (2, 1), "{comparison:?}");
}

#[test]
fn keys_are_known_in_every_region_and_others_are_none_of_ours() {
    let mut log = Log::new();
    log.knows(3, &format!("{REGION}:key/mrk-3"));
    let signed = |arn: Option<&str>| Signed {
        time: at(100),
        event: "e".into(),
        key: arn.map(str::to_owned),
        by: "somebody".into(),
    };
    let compare = |arn: Option<&str>| {
        let log_of_provider = ProviderLog { signed: vec![signed(arn)], ..ProviderLog::default() };
        log.uses.compare(&log_of_provider, ALLOWANCE)
    };
    // The replica in another region is the same key.
    assert_eq!(compare(Some("arn:aws:kms:us-east-1:111122223333:key/mrk-3")).alarms(), 1);
    for other in
        ["arn:aws:kms:eu-central-1:999900001111:key/1", "arn:aws:kms:eu-central-1:111122223333:key/9"]
    {
        let comparison = compare(Some(other));
        assert_eq!((comparison.alarms(), comparison.of_other_keys), (0, 1), "{other}");
    }
    for unsaid in [None, Some("alias/ca"), Some("arn:aws:iam::111122223333:role/x")] {
        assert_eq!(compare(unsaid).unattributed.len(), 1, "{unsaid:?}");
        assert_eq!(compare(unsaid).alarms(), 1);
    }
}

/// Keys are what their own provider calls them, however its records write it.
#[test]
fn names_of_keys_are_those_of_their_provider() {
    const VERSION: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1";
    let same = |provider, one: &str, other: &str| {
        assert!(key_name(provider, one).is_some(), "{one}");
        assert_eq!(key_name(provider, one), key_name(provider, other), "{one} {other}");
    };
    same(Provider::Aws, "arn:aws:kms:eu-central-1:1:key/mrk-1", "arn:aws:kms:us-east-1:1:key/mrk-1");
    same(Provider::Google, VERSION, &format!("//cloudkms.googleapis.com/{VERSION}"));
    let key = "https://prod.vault.azure.net/keys/ca/0a";
    same(Provider::Azure, key, "https://PROD.vault.azure.net:443/keys/CA/0A");
    same(Provider::Azure, key, &format!("{key}/sign?api-version=7.4"));
    for (provider, other) in [
        (Provider::Aws, "arn:aws:kms:eu-central-1:2:key/mrk-1"),
        (Provider::Google, "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/2"),
        (Provider::Azure, "https://prod.vault.azure.net/keys/ca/0b"),
    ] {
        let own = [
            (Provider::Aws, "arn:aws:kms:eu-central-1:1:key/mrk-1"),
            (Provider::Google, VERSION),
            (Provider::Azure, key),
        ];
        let own = own.into_iter().find(|(of, _)| *of == provider).unwrap().1;
        assert_ne!(key_name(provider, own), key_name(provider, other));
    }
    for (provider, none) in [
        (Provider::Aws, VERSION),
        (Provider::Google, key),
        (Provider::Google, "projects/p/locations/l/keyRings/r/cryptoKeys/k"),
        (Provider::Azure, "https://prod.vault.azure.net/keys/ca"),
        (Provider::Azure, "https://prod.vault.azure.net/keys/ca/0a/verify"),
        (Provider::Azure, "https://prod.vault.azure.net/secrets/ca/0a"),
        (Provider::Azure, "prod.vault.azure.net/keys/ca/0a"),
    ] {
        assert_eq!(key_name(provider, none), None, "{none}");
    }
}

#[test]
fn keys_of_another_provider_are_not_compared() {
    let mut log = Log::new();
    log.signs(1, 10, 11);
    let covers = Some((at(-1000), at(100_000)));
    let elsewhere = ProviderLog { provider: Provider::Google, covers, ..ProviderLog::default() };
    let comparison = log.uses.compare(&elsewhere, ALLOWANCE);
    assert_eq!((comparison.keys.len(), comparison.alarms()), (0, 0));
}
