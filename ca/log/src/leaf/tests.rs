use proptest::prelude::*;
use undercroft_keys::SignatureAlgorithm;

use super::*;

fn intent() -> Intent {
    Intent {
        object: Object::Certificate,
        domain: "prod.example".into(),
        profile: "workload".into(),
        key_id: HexKeyId(KeyId::from([0xab; 32])),
        algorithm: SignatureAlgorithm::EcdsaP256Sha256,
        tbs: ToBeSigned::Der(Base64Bytes(vec![0x30, 0x00])),
        caller: Caller { id: "spiffe://control.example/operator/a".into(), by: Channel::Mtls },
        rule: "prod-workloads".into(),
        policy: Digest([1; 32]),
        request: Some(Digest([2; 32])),
        withheld: vec!["subject CN=\"root\"".into()],
        evidence: Vec::new(),
    }
}

fn stamped(body: &Body) -> Vec<u8> {
    let sequence = matches!(body, Body::Intent(_)).then_some(3);
    let time = "2026-11-22T08:00:00Z".parse().unwrap();
    Draft::new(body).unwrap().stamp("\"ca.example/undercroft/prod.example/1\"", 7, time, sequence)
}

fn refusal(text: &str) -> String {
    Leaf::parse(text.as_bytes()).unwrap_err().to_string()
}

/// The exact text, written down here once: what is hashed must not change by accident.
#[test]
fn an_intent_is_written_exactly_so() {
    let text = String::from_utf8(stamped(&Body::Intent(intent()))).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"v":1,"origin":"ca.example/undercroft/prod.example/1","index":7,"time":"2026-11-22T08:00:00Z","#,
            r#""kind":"intent","sequence":3,"body":{"object":"certificate","domain":"prod.example","#,
            r#""profile":"workload","key_id":"abababababababababababababababababababababababababababababababab","#,
            r#""algorithm":"ecdsa-p256-sha256","tbs":{"der":"MAA="},"#,
            r#""caller":{"id":"spiffe://control.example/operator/a","by":"mtls"},"rule":"prod-workloads","#,
            r#""policy":"0101010101010101010101010101010101010101010101010101010101010101","#,
            r#""request":"0202020202020202020202020202020202020202020202020202020202020202","#,
            r#""withheld":["subject CN=\"root\""]}}"#,
        )
    );
}

fn attested() -> Attested {
    let bytes = |byte| Base64Bytes(vec![byte]);
    Attested { signer: bytes(1), attest: bytes(2), signature: bytes(3) }
}

fn rotation() -> Rotation {
    Rotation {
        event: RotationEvent::Advanced,
        domain: "prod.example".into(),
        number: 1,
        schedule: RotationSchedule::Planned,
        planned: "2026-11-22T08:00:00Z".parse().unwrap(),
        phases: vec![EnteredPhase {
            phase: RotationPhase::PrePublish,
            since: "2026-11-22T09:00:00Z".parse().unwrap(),
        }],
        authorities: vec![Replacement {
            old: "i1".into(),
            old_key: HexKeyId(KeyId::from([9; 32])),
            new: "i2".into(),
        }],
        roots: Some(RotatedRoots {
            old: Base64Bytes(vec![0x30]),
            new: Base64Bytes(vec![0x31]),
            new_by_old: Some(Base64Bytes(vec![0x32])),
            old_by_new: None,
        }),
        caller: Caller { id: "uid:0".into(), by: Channel::UnixSocket },
        blockers: Vec::new(),
        approval: Some(Digest([6; 32])),
    }
}

fn revocation() -> Revocation {
    Revocation {
        event: RevocationEvent::Revoke,
        domain: "prod.example".into(),
        issuer: HexKeyId(KeyId::from([9; 32])),
        serials: vec![HexSerial([0x17; 16]), HexSerial([0x18; 16])],
        reason: Some(Reason::KeyCompromise),
        date: "2026-11-22T08:00:00Z".parse().unwrap(),
        caller: Caller { id: "uid:0".into(), by: Channel::UnixSocket },
    }
}

fn accepted() -> Accepted {
    Accepted {
        rule: "nodes".into(),
        spiffe_id: "spiffe://prod.example/node/a".into(),
        assurance: "hardware".into(),
        transcript: Digest([1; 32]),
        attestation_key: Base64Bytes(vec![0, 0x0b]),
        clock: TpmClock { milliseconds: 5, resets: 6, restarts: 7, safe: true, firmware: [8, 9] },
        selectors: vec!["tpm:class:discrete".into()],
    }
}

fn refused() -> VerdictResult {
    VerdictResult::Refused(RefusedNode { code: "ek-chain".into(), reason: "x".into() })
}

fn verdict(result: VerdictResult) -> Verdict {
    Verdict {
        domain: "prod.example".into(),
        attestor: "tpm".into(),
        endorsement: Some(Digest([2; 32])),
        evidence: BlobOf { sha256: Digest([3; 32]), length: 4 },
        policy: BlobOf { sha256: Digest([5; 32]), length: 6 },
        result,
    }
}

#[test]
fn verdicts_are_read_strictly_and_name_their_blobs() {
    let body = Body::Verdict(verdict(VerdictResult::Accepted(accepted())));
    assert_eq!(body.blobs(), [(Digest([3; 32]), 4), (Digest([5; 32]), 6)]);
    let good = String::from_utf8(stamped(&body)).unwrap();
    for (from, to, part) in [
        (r#""accepted""#, r#""taken""#, "unknown variant"),
        (r#""resets":6"#, r#""resets":-6"#, "invalid value"),
        (r#""resets":6"#, r#""resets":4294967296"#, "invalid value"),
        (r#""milliseconds":5"#, r#""milliseconds":9007199254740992"#, "2^53"),
        (r#""firmware":[8,9]"#, r#""firmware":[8]"#, "invalid length"),
        (r#""safe":true,"#, "", "missing field `safe`"),
        (r#""rule":"nodes""#, r#""rule":"nodes","why":1"#, "unknown field `why`"),
        (r#""length":4"#, r#""length":4.5"#, "floating point"),
        (r#""domain":"#, r#""endorsement":null,"domain":"#, "duplicate field"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
}

#[test]
fn revocations_are_read_strictly() {
    let good = String::from_utf8(stamped(&Body::Revocation(revocation()))).unwrap();
    for (from, to, part) in [
        (r#""revoke""#, r#""unrevoke""#, "unknown variant"),
        (r#""key-compromise""#, r#""certificate-hold""#, "unknown variant"),
        (r#""key-compromise""#, r#""remove-from-crl""#, "unknown variant"),
        ("1717171717171717", "17", "not 32 lower-case"),
        ("17171717", "1717171A", "not 32 lower-case"),
        (r#""reason":"#, r#""why":"#, "unknown field"),
        (r#""date":"2026-11-22T08:00:00Z","#, "", "missing field `date`"),
        (r#""serials":["#, r#""serials":"","x":["#, "sequence"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
}

/// The most serial numbers with the longest names that there can be still make an entry.
#[test]
fn an_entry_holds_the_most_serial_numbers_of_a_revocation() {
    let body = Body::Revocation(Revocation {
        domain: "d".repeat(255),
        serials: vec![HexSerial([0x17; 16]); MOST_SERIALS],
        caller: Caller { id: "s".repeat(2048), by: Channel::UnixSocket },
        ..revocation()
    });
    assert!(stamped(&body).len() <= MAX_ENTRY);
}

#[test]
fn every_kind_reads_back_as_it_was_written() {
    let caller = || Caller { id: "uid:0".into(), by: Channel::UnixSocket };
    let bodies = [
        Body::Intent(intent()),
        Body::Intent(Intent {
            object: Object::Crl,
            tbs: ToBeSigned::Blob { sha256: Digest([3; 32]), length: 40_000 },
            evidence: vec![Evidence { format: "x".into(), sha256: Digest([4; 32]) }],
            ..intent()
        }),
        Body::Outcome(Outcome {
            intent: 7,
            result: OutcomeResult::Signature(Base64Bytes(vec![1, 2])),
            command: None,
        }),
        Body::Outcome(Outcome {
            intent: 7,
            result: OutcomeResult::Abandoned("restart".into()),
            command: None,
        }),
        Body::Refusal(Refusal {
            action: RefusedAction::Issue,
            domain: "prod.example".into(),
            caller: caller(),
            rule: "no-rule".into(),
            reason: "nobody may".into(),
            asked: Asked { lifetime: Some(3600), ..Asked::default() },
            policy: Digest([1; 32]),
            request: None,
        }),
        Body::Policy(Policy { sha256: Digest([1; 32]), previous: None, text: Text::Inline("# none".into()) }),
        Body::Key(Key {
            event: KeyEvent::Opened,
            purpose: "authority prod".into(),
            key_id: HexKeyId(KeyId::from([9; 32])),
            spki: Base64Bytes(vec![0x30]),
            algorithm: "ecdsa-p384".parse().unwrap(),
            uri: "pkcs11:object=ca".into(),
            grade: Grade::Declared,
            findings: vec!["the token says so".into()],
            format: "pkcs11-attributes-v1".into(),
            evidence: KeyEvidence::Inline(Base64Bytes(b"{}".to_vec())),
        }),
        Body::Bundle(Bundle {
            domain: "prod.example".into(),
            sequence: 1,
            roots: vec![Base64Bytes(vec![0x30])],
            tainted: Vec::new(),
            refresh_hint: None,
        }),
        Body::Bundle(Bundle {
            domain: "prod.example".into(),
            sequence: 2,
            roots: vec![Base64Bytes(vec![0x30]), Base64Bytes(vec![0x31])],
            tainted: vec![Digest([8; 32])],
            refresh_hint: Some(300),
        }),
        Body::Rotation(rotation()),
        Body::Rotation(Rotation { event: RotationEvent::Abandoned, ..rotation() }),
        Body::Rotation(Rotation {
            event: RotationEvent::Refused,
            phases: Vec::new(),
            roots: None,
            blockers: vec![
                RotationBlocker {
                    rule: "pre-publication".into(),
                    text: "x".into(),
                    until: Some("2026-11-23T08:00:00Z".parse().unwrap()),
                },
                RotationBlocker { rule: "consumer".into(), text: "x".into(), until: None },
            ],
            approval: None,
            ..rotation()
        }),
        Body::Enrolment(Enrolment {
            event: EnrolmentEvent::Made,
            token: Digest([5; 32]),
            id: "spiffe://control.example/operator/a".into(),
            expires: "2026-11-22T09:00:00Z".parse().unwrap(),
            caller: caller(),
        }),
        Body::Ceremony(Ceremony {
            event: CeremonyEvent::Adopted,
            step: Some(CeremonyStep { number: 1, artefact: "x".into(), output: None }),
            plan: Digest([6; 32]),
            text: "first".into(),
            transcript: Some(TranscriptHead { verifier_key: "k".into(), checkpoint: "c\n".into() }),
        }),
        Body::Command(Command::CloseEpoch {
            number: LedgerNumber { epoch: 4, ordinal: 1 },
            reason: CloseReason::Timer,
            audited: vec![0x133, 0x15d],
            head: LogHead { size: 7, root: crate::tree::Hash::empty_root() },
            attested: attested(),
        }),
        Body::Command(Command::IncrementCounter {
            number: LedgerNumber { epoch: 4, ordinal: 2 },
            index: 0x0180_0100,
        }),
        Body::AnchorIntent(AnchorIntent { index: 0x0180_0100, value: 12 }),
        Body::Anchor(Anchor {
            index: 0x0180_0100,
            value: 12,
            head: LogHead { size: 8, root: crate::tree::Hash::empty_root() },
            increment: LedgerNumber { epoch: 4, ordinal: 2 },
            certify: LedgerNumber { epoch: 4, ordinal: 3 },
            attested: attested(),
        }),
        Body::Approval(Approval {
            statement: "x".into(),
            signatures: vec!["x".into()],
            by: vec!["x".into()],
            about: None,
        }),
        Body::Approval(Approval {
            statement: "x".into(),
            signatures: vec!["x".into()],
            by: vec!["x".into()],
            about: Some("x".into()),
        }),
        Body::Freeze(Freeze {
            what: Freezable::Authority(HexKeyId(KeyId::from([8; 32]))),
            event: FreezeEvent::Frozen { reason: "the token is gone".into() },
            caller: Caller { id: "uid:1000".into(), by: Channel::UnixSocket },
        }),
        Body::Freeze(Freeze {
            what: Freezable::Caller("spiffe://control.example/operator/alice".into()),
            event: FreezeEvent::Unfrozen {
                freeze: Digest([9; 32]),
                approval: 6,
                nonce: "909130fc2e226067ac279df523caf9af".into(),
            },
            caller: Caller { id: "uid:1000".into(), by: Channel::UnixSocket },
        }),
        Body::Alert(Alert { event: AlertEvent::Raised, rule: "witnesses-away".into(), text: "x".into() }),
        Body::Outcome(Outcome {
            intent: 7,
            result: OutcomeResult::Signatures(BlobOf { sha256: Digest([8; 32]), length: 9 }),
            command: None,
        }),
        Body::Verdict(verdict(VerdictResult::Accepted(accepted()))),
        Body::Verdict(Verdict { endorsement: None, ..verdict(refused()) }),
        Body::Revocation(revocation()),
        Body::Revocation(Revocation { event: RevocationEvent::Release, reason: None, ..revocation() }),
        Body::Epoch(Epoch { previous: "k".into(), checkpoint: "c\n".into() }),
        Body::Recovery(Recovery {
            way: RecoveryWay::NewEpoch,
            statement: "s\n".into(),
            approvals: vec!["a".into()],
        }),
        Body::Start(Start { version: "0.1.0".into(), configuration: Digest([7; 32]), development: true }),
    ];
    for body in bodies {
        let bytes = stamped(&body);
        let leaf = Leaf::parse(&bytes).unwrap();
        assert_eq!(leaf.body, body);
        assert_eq!(leaf.index, 7);
        assert_eq!(leaf.origin.as_str(), "ca.example/undercroft/prod.example/1");
        assert_eq!(Leaf::raw_body(&bytes).unwrap(), Draft::new(&body).unwrap().body());
    }
}

#[test]
fn strictness() {
    let good = String::from_utf8(stamped(&Body::Outcome(Outcome {
        intent: 7,
        result: OutcomeResult::Abandoned("x".into()),
        command: Some(LedgerNumber { epoch: 3, ordinal: 9 }),
    })))
    .unwrap();
    Leaf::parse(good.as_bytes()).unwrap();
    for (from, to, part) in [
        (r#""v":1"#, r#""v":2"#, "version 2"),
        (r#""v":1"#, r#""v":1,"v":1"#, "duplicate field"),
        (r#""v":1"#, r#""v":1,"w":1"#, "unknown field `w`"),
        (r#""v":1,"#, "", "missing field `v`"),
        (r#""intent":7"#, r#""intent":7,"intent":8"#, "duplicate field"),
        (r#""intent":7"#, r#""intent":7,"extra":8"#, "unknown field `extra`"),
        (r#""intent":7"#, r#""intent":-7"#, "integer"),
        (r#""intent":7"#, r#""intent":7.0"#, "floating point"),
        (r#""intent":7"#, r#""intent":"7""#, "string"),
        (r#""abandoned":"x""#, r#""abandoned":"x","signature":"AA==""#, "expected"),
        (r#""abandoned":"x""#, r#""signature":"AA""#, "base64"),
        (r#""index":7"#, r#""index":9007199254740992"#, "`index` is 2^53"),
        ("08:00:00Z", "08:00:00.5Z", "not a time"),
        ("08:00:00Z", "08:00:00+00:00", "not a time"),
        ("T08:00:00Z", " 08:00:00Z", "not a time"),
        ("08:00:00Z", "08:00Z", "not a time"),
        (r#""kind":"outcome""#, r#""kind":"verdict""#, "unknown field `intent`"),
        (r#""kind":"outcome""#, r#""kind":"anchor""#, "unknown field `intent`"),
        (r#""epoch":3"#, r#""epoch":3,"epoch":3"#, "duplicate field"),
        (r#""epoch":3"#, r#""epoch":3,"of":"x""#, "unknown field `of`"),
        (r#""kind":"outcome""#, r#""kind":"outcomes""#, "unknown variant"),
        (r#""kind":"outcome""#, r#""kind":"outcome","sequence":1"#, "sequence"),
        (r#""kind":"outcome""#, r#""kind":"intent""#, "sequence"),
        ("ca.example", "ca example", "origin"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
    assert!(refusal(&format!("{good}x")).contains("trailing"));
    assert!(Leaf::parse(&[b"\xff", good.as_bytes()].concat()).is_err());
}

#[test]
fn integers_of_bodies_are_below_two_to_the_53() {
    for (kind, body) in [
        ("outcome", r#"{"intent":N,"result":{"abandoned":"x"}}"#),
        ("outcome", r#"{"intent":1,"result":{"abandoned":"x"},"command":{"epoch":N,"ordinal":1}}"#),
        ("anchor-intent", r#"{"index":1,"value":N}"#),
        ("command", r#"{"increment-counter":{"number":{"epoch":1,"ordinal":N},"index":1}}"#),
        ("bundle", r#"{"domain":"prod.example","sequence":N,"roots":[]}"#),
        ("bundle", r#"{"domain":"prod.example","sequence":1,"roots":[],"refresh_hint":N}"#),
        (
            "rotation",
            r#"{"event":"planned","domain":"d","number":N,"schedule":"planned","planned":"2026-11-22T08:00:00Z","phases":[],"authorities":[],"caller":{"id":"i","by":"mtls"}}"#,
        ),
        (
            "freeze",
            r#"{"what":{"domain":"d"},"event":{"unfrozen":{"freeze":"D","approval":N,"nonce":"x"}},"caller":{"id":"i","by":"mtls"}}"#,
        ),
        ("policy", r#"{"sha256":"D","text":{"blob":N}}"#),
        (
            "refusal",
            r#"{"action":"issue","domain":"d","caller":{"id":"i","by":"mtls"},"rule":"r","reason":"w","asked":{"lifetime":N},"policy":"D"}"#,
        ),
    ] {
        let leaf = |integer: &str| {
            let body = body.replace('N', integer).replace('D', &"01".repeat(32));
            let text = format!(
                r#"{{"v":1,"origin":"ca.example/undercroft/control/1","index":7,"time":"2026-11-22T08:00:00Z","kind":"{kind}","body":{body}}}"#
            );
            Leaf::parse(text.as_bytes()).map_err(|error| error.to_string())
        };
        leaf("9007199254740991").unwrap();
        let refused = leaf("9007199254740992").unwrap_err();
        assert!(refused.contains("2^53"), "{refused}");
    }
    let blob = Body::Intent(Intent {
        tbs: ToBeSigned::Blob { sha256: Digest([3; 32]), length: MAX_INTEGER + 1 },
        ..intent()
    });
    assert!(refusal(&String::from_utf8(stamped(&blob)).unwrap()).contains("2^53"));
}

#[test]
fn digests_are_lower_case() {
    let good = String::from_utf8(stamped(&Body::Intent(intent()))).unwrap();
    let upper = good.replace("abababab", "ABABABAB");
    assert!(refusal(&upper).contains("lower-case"));
    let short = good.replace("0101", "01");
    assert!(refusal(&short).contains("64"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Leaf::parse(&bytes);
    }

    #[test]
    fn a_changed_byte_never_panics(index in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = stamped(&Body::Intent(intent()));
        let at = index.index(bytes.len());
        bytes[at] = byte;
        let _ = Leaf::parse(&bytes);
    }
}

#[test]
fn a_freeze_is_of_one_thing_and_says_one_event() {
    let good = String::from_utf8(stamped(&Body::Freeze(Freeze {
        what: Freezable::Domain("prod.example".into()),
        event: FreezeEvent::Frozen { reason: "x".into() },
        caller: Caller { id: "uid:1000".into(), by: Channel::UnixSocket },
    })))
    .unwrap();
    Leaf::parse(good.as_bytes()).unwrap();
    for (from, to, part) in [
        (r#"{"domain":"prod.example"}"#, r#"{"domain":"prod.example","caller":"x"}"#, "expected"),
        (r#"{"domain":"prod.example"}"#, r#"{"network":"prod.example"}"#, "unknown variant"),
        (r#"{"domain":"prod.example"}"#, r#"{"authority":"AB"}"#, "lower-case"),
        (r#"{"reason":"x"}"#, r#"{"reason":"x","reason":"y"}"#, "duplicate field"),
        (r#"{"reason":"x"}"#, r#"{"reason":"x","until":"y"}"#, "unknown field `until`"),
        (r#""frozen":"#, r#""thawed":"#, "unknown variant"),
        (r#""frozen":"#, r#""unfrozen":"#, "unknown field `reason`"),
        (r#"{"frozen":{"reason":"x"}}"#, r#"{"frozen":{}}"#, "missing field `reason`"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
}
