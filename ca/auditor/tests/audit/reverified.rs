//! `undercroft-audit reverify`: verdicts of a log, judged again from the evidence that it keeps.

use std::process::Command;

use hsm_sim::measured_boot::MeasuredBoot;
use hsm_sim::node::{BOOT_PCRS, Opened, SimNode, wanted};
use serde_json::{Value, json};
use undercroft_ca::nodes::{LastClock, NodePolicy, Record, appraise};
use undercroft_log::leaf::{Digest, TpmClock};

use crate::installation::INSTALLATION;
use crate::log::Log;

const AT: &str = "2031-01-01T00:00:00Z";
const EXPORTER: [u8; 32] = [0xe7; 32];
const SECRET: [u8; 32] = [0x5e; 32];
const RULES: &str = r#"
[tpm]
pcrs = { sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] }
event-log = true
maker = [{ file = "maker.pem", class = "simulated" }]

[[rule]]
name = "all"
domain = "prod.example"
profile = "node"
spiffe-id = "spiffe://prod.example/node/{ek}"
assurance = "software"
"#;

/// A log with a verdict that takes a node and one that refuses the same evidence by another policy, and the indexes of both.
struct Told {
    log: Log,
    taken: u64,
    refused: u64,
    evidence: Vec<u8>,
}

fn blob(bytes: &[u8]) -> Value {
    json!({ "sha256": Digest::of(bytes).to_string(), "length": bytes.len() })
}

fn told() -> Told {
    let folder = tempfile::tempdir().unwrap();
    let node = SimNode::make(&folder.path().join("node"), &MeasuredBoot::honest()).unwrap();
    let maker = std::fs::read(node.anchor()).unwrap();
    let read = |text: &str| NodePolicy::parse("nodes.toml", text, |_| Ok(maker.clone())).unwrap();
    let policies = [read(RULES), read(&RULES.replace("\"software\"", "\"hardware\""))];
    let hello = node.hello("prod.example").unwrap();
    // What was in the credential is known to whoever judges, and how the node came to it is not looked at.
    let opened = Opened { secret: SECRET.to_vec() };
    let answer = node.show(&hello, Some((b"{}", &opened)), &EXPORTER, &wanted(&BOOT_PCRS, true)).unwrap();
    let record = Record::begun(&hello, EXPORTER, None).challenged(b"{}", &SECRET).answered(&answer);
    let evidence = record.encode();
    let at = AT.parse().unwrap();
    let taken = appraise(&record, &policies[0], at).unwrap();
    let refused = appraise(&record, &policies[1], at).unwrap_err();
    assert_eq!(refused.code, "node-assurance");
    let attested = &taken.claims.attested;
    let key: Vec<u8> = attested.binding().attestation_key.clone();
    let clock = TpmClock::from(LastClock::from(*attested.clock()));
    let accepted = json!({ "accepted": {
        "rule": "all", "spiffe_id": taken.admitted.spiffe_id.to_string(), "assurance": "software",
        "transcript": Digest(taken.transcript).to_string(),
        "attestation_key": undercroft_log::leaf::Base64Bytes(key),
        "clock": clock, "selectors": taken.claims.selectors(),
    } });
    let mut log = INSTALLATION.prod.clone();
    log.blobs.push(evidence.clone());
    let mut push = |policy: &NodePolicy, result: Value| {
        log.blobs.push(policy.bundle().to_vec());
        let index = log.push("verdict", json!({
            "domain": "prod.example", "attestor": "tpm", "endorsement": taken.claims.endorsement().to_string(),
            "evidence": blob(&evidence), "policy": blob(policy.bundle()), "result": result,
        }));
        log.edit(index, |entry| entry["time"] = AT.into())
    };
    let taken_at = push(&policies[0], accepted);
    let refused_at = push(&policies[1], json!({ "refused": { "code": "node-assurance", "reason": "x" } }));
    Told { log, taken: taken_at, refused: refused_at, evidence }
}

/// What the program says of a log, and its exit status.
fn reverify(log: &Log, more: &[&str]) -> (Option<i32>, Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(&directory.path().join("log"));
    let key = directory.path().join("key");
    std::fs::write(&key, log.verifier().to_string()).unwrap();
    let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
    audit.args(["--output", "json", "reverify"]).arg(folder.path()).arg("--key").arg(&key).args(more);
    let output = audit.output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn rules(said: &Value) -> Vec<(u64, String)> {
    let judged = said["judged"].as_array().unwrap().iter();
    let of = |one: &Value| -> Vec<(u64, String)> {
        let differences = one["differences"].as_array().unwrap().iter();
        differences
            .map(|it| (one["entry"].as_u64().unwrap(), it["rule"].as_str().unwrap().to_owned()))
            .collect()
    };
    judged.flat_map(of).collect()
}

#[test]
fn verdicts_come_out_again_and_each_change_of_one_is_found_by_name() {
    let honest = told();
    let (taken, refused) = (honest.taken, honest.refused);
    let (status, said, error) = reverify(&honest.log, &[]);
    assert_eq!((status, &said["verdicts"], &said["differing"]), (Some(0), &json!(2), &json!(0)), "{error}");
    let (status, said, _) = reverify(&honest.log, &[&taken.to_string()]);
    assert_eq!((status, &said["verdicts"]), (Some(0), &json!(1)));
    assert_eq!(reverify(&honest.log, &["0"]).0, Some(2));
    assert_eq!(reverify(&honest.log, &["999999"]).0, Some(2));

    let flipped = json!({ "refused": { "code": "node-assurance", "reason": "x" } });
    let accepted = honest.log.value(taken)["body"]["result"].clone();
    let mut other: Record = Record::parse(&honest.evidence).unwrap();
    other.exporter = Digest([1; 32]);
    let other = other.encode();
    type Tell<'a> = &'a dyn Fn(&mut Log) -> u64;
    let lies: [(&str, Tell<'_>, u64, &str); 7] = [
        (
            "an acceptance that was a refusal",
            &|log| log.edit_body(refused, |body| body["result"] = accepted.clone()),
            refused,
            "verdict-result",
        ),
        (
            "a refusal that was an acceptance",
            &|log| log.edit_body(taken, |body| body["result"] = flipped.clone()),
            taken,
            "verdict-result",
        ),
        (
            "another code",
            &|log| log.edit_body(refused, |body| body["result"]["refused"]["code"] = "ek-denied".into()),
            refused,
            "verdict-code",
        ),
        (
            "another node",
            &|log| {
                log.edit_body(taken, |body| {
                    body["result"]["accepted"]["spiffe_id"] = "spiffe://prod.example/node/x".into()
                })
            },
            taken,
            "verdict-id",
        ),
        (
            "a time before the endorsement certificate",
            &|log| log.edit(refused, |entry| entry["time"] = "2001-01-01T00:00:00Z".into()),
            refused,
            "verdict-code",
        ),
        (
            "other evidence under its own name",
            &|log| {
                log.blobs.push(other.clone());
                log.edit_body(taken, |body| body["evidence"] = blob(&other))
            },
            taken,
            "verdict-result",
        ),
        (
            "a policy that is none",
            &|log| {
                log.blobs.push(b"{}".to_vec());
                log.edit_body(taken, |body| body["policy"] = blob(b"{}"))
            },
            taken,
            "policy-unreadable",
        ),
    ];
    for (name, tell, entry, rule) in lies {
        let mut log = honest.log.clone();
        tell(&mut log);
        let (status, said, error) = reverify(&log, &[]);
        assert_eq!(status, Some(5), "{name}: {error}");
        assert!(rules(&said).contains(&(entry, rule.to_owned())), "{name}: {said}");
        assert!(error.contains(rule) || rules(&said).len() > 1, "{name}: {error}");
    }
    // A blob that is not there.
    let mut log = honest.log.clone();
    log.blobs.retain(|blob| *blob != honest.evidence);
    let (status, said, _) = reverify(&log, &[]);
    assert_eq!(status, Some(5));
    assert_eq!(rules(&said), [(taken, "evidence-blob".to_owned()), (refused, "evidence-blob".to_owned())]);
}
