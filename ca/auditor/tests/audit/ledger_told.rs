//! How the programs tell what a TPM did.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::installation::INSTALLATION;
use crate::tpm::{COUNTER, Story};

fn audit(story: &Story, command: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    story.log.write(&path);
    fs::write(directory.path().join("log.vkey"), story.log.verifier().to_string()).unwrap();
    let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
    audit.arg(command).arg(path).arg("--key").arg(directory.path().join("log.vkey")).args(more);
    audit.output().unwrap()
}

fn text(ran: &Output) -> String {
    String::from_utf8(ran.stdout.clone()).unwrap()
}

#[test]
fn verify_tells_the_ledger_and_what_is_wrong_with_it() {
    let mut story = Story::gated();
    story.issue();
    story.close();
    story.intent();
    story.tpm.increment(COUNTER);
    story.close();
    let ran = audit(&story, "verify", &[]);
    assert_eq!(ran.status.code(), Some(0));
    let told = text(&ran);
    assert!(told.contains("ledger of the TPM: 4 epochs (complete 1, uncovered 2, open 1)"), "{told}");
    assert!(told.contains("epoch 3 uncovered: the TPM did something"), "{told}");
    assert!(told.contains("its gates allow 1 hidden signatures at most"), "{told}");
    let ran = audit(&story, "verify", &["--output", "json"]);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["ledger"][1]["covered"], "complete");
    assert_eq!(
        (&told["ledger"][2]["covered"], &told["ledger"][2]["hidden"]),
        (&json!("uncovered"), &json!(1))
    );

    let entry = story.close_with(|_, _, _, attested| *attested.signature.0.last_mut().unwrap() ^= 1);
    let ran = audit(&story, "verify", &[]);
    assert_eq!(ran.status.code(), Some(5));
    let bad = format!("BAD entry {entry}: the TPM has not signed the attestation (ledger)");
    assert!(text(&ran).contains(&bad), "{}", text(&ran));
    let ran = audit(&story, "verify", &["--output", "json"]);
    assert_eq!(ran.status.code(), Some(5));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&told["findings"][0]["entry"], &told["findings"][0]["rule"]),
        (&json!(entry), &json!("ledger"))
    );
}

#[test]
fn the_report_holds_ledger_anchors_alerts_and_recoveries() {
    let mut story = Story::gated();
    story.anchor();
    story.close();
    story.tpm.increment(COUNTER);
    story.close();
    story
        .log
        .push("alert", json!({ "event": "raised", "rule": "tpm-unreachable", "text": "it is <b>gone</b>" }));
    story.log.push("alert", json!({ "event": "ended", "rule": "tpm-unreachable", "text": "it is back" }));
    let recovery =
        json!({ "way": "refilled", "statement": "what people signed", "approvals": ["one", "two"] });
    story.log.push("recovery", recovery);
    let ran = audit(&story, "report", &[]);
    let told = text(&ran);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    for line in [
        "## Ledger of the TPM",
        "| complete | 1 |",
        "| uncovered | 2 |",
        "| 3 | 1 | the TPM did something that does not stand in the log | 0 |",
        "## Anchors",
        "| 0x1800100 | 1 | ",
        "## Alerts",
        "| raised | ",
        "it is \\<b\\>gone\\</b\\>",
        "## Recoveries",
        "| refilled | ",
    ] {
        assert!(told.contains(line), "{line} in:\n{told}");
    }
    let ran = audit(&story, "report", &["--output", "json"]);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let population = &told["population"];
    assert_eq!(population["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&population["anchors"][0]["value"], &population["anchors"][0]["counter"]),
        (&json!(1), &json!(COUNTER))
    );
    assert_eq!(population["recoveries"][0]["approvals"], 2);
    assert_eq!(told["log"]["ledger"][2]["covered"], "uncovered");
    // A log without a TPM says nothing of one.
    let mut plain = Story::gated();
    plain.log = INSTALLATION.prod.clone();
    let told = text(&audit(&plain, "report", &[]));
    assert!(!told.contains("Ledger of the TPM"), "{told}");
}
