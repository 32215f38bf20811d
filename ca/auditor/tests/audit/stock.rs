//! What is reported of a log.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use undercroft_log::tree::leaf_hash;

use crate::installation::INSTALLATION;
use crate::log::Log;

fn report(log: &Log, more: &[&str], spoil: impl FnOnce(&Path)) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    log.write(&path);
    spoil(&path);
    fs::write(directory.path().join("log.vkey"), log.verifier().to_string()).unwrap();
    let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
    audit.arg("report").arg(path).arg("--key").arg(directory.path().join("log.vkey")).args(more);
    audit.output().unwrap()
}

fn json(log: &Log, more: &[&str]) -> Value {
    let ran = report(log, &[more, &["--output", "json"]].concat(), |_| {});
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// How many entries of a kind have a value somewhere in their bodies.
fn entries_with(log: &Log, kind: &str, pointer: &str, value: &str) -> u64 {
    let is_so =
        |index: &&u64| log.value(**index)["body"].pointer(pointer).is_some_and(|found| found == value);
    log.all(kind).iter().filter(is_so).count() as u64
}

#[test]
fn everything_in_a_log_is_counted_once() {
    for log in [&INSTALLATION.prod, &INSTALLATION.control, &INSTALLATION.ceremony] {
        let told = json(log, &[]);
        let size = log.entries.len() as u64;
        assert_eq!(told["log"]["size"], size);
        let kinds = told["log"]["kinds"].as_object().unwrap();
        assert_eq!(kinds.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), size);
        for (kind, count) in kinds {
            assert_eq!(log.all(kind).len() as u64, *count, "{kind}");
        }
        let population = &told["population"];
        for (table, kind, pointer) in [
            ("profiles", "intent", "/profile"),
            ("callers", "intent", "/caller/id"),
            ("rules", "intent", "/rule"),
            ("uses", "intent", "/key_id"),
            ("refusals", "refusal", "/rule"),
        ] {
            let table = population[table].as_object().unwrap();
            for (name, count) in table {
                assert_eq!(entries_with(log, kind, pointer, name), *count, "{kind} {name}");
            }
            let sum: u64 = table.values().map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(sum, log.all(kind).len() as u64, "{kind} {pointer}");
        }
        for (list, kind) in [("policies", "policy"), ("bundles", "bundle"), ("starts", "start")] {
            assert_eq!(population[list].as_array().unwrap().len(), log.all(kind).len(), "{list}");
        }
        assert_eq!(told["retention"]["minimum-index"], 0);
        assert_eq!(told["retention"]["oldest"], log.value(0)["time"]);
        assert_eq!(told["retention"]["newest"], log.value(size - 1)["time"]);
    }
}

#[test]
fn policies_are_in_force_until_the_next_one_and_open_intents_are_named() {
    let told = json(&INSTALLATION.control, &[]);
    let policies = &told["population"]["policies"];
    assert_eq!((&policies[0]["until"], &policies[1]["until"]), (&policies[1]["from"], &Value::Null));
    assert_eq!(told["population"]["ceremonies"][0]["event"], "adopted");

    let mut log = INSTALLATION.prod.clone();
    let last = log.last("outcome");
    let intent = log.value(last)["body"]["intent"].as_u64().unwrap();
    log.remove(last);
    let told = json(&log, &[]);
    assert_eq!(told["population"]["open"], serde_json::json!([intent]));
    assert_eq!(told["population"]["abandoned"].as_array().unwrap().len(), 1);
    let ran = report(&log, &[], |_| {});
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains(&format!("\nOpen intents: {intent}\n")), "{text}");
}

#[test]
fn a_sample_is_drawn_by_its_seed_and_holds_what_the_log_holds() {
    let log = &INSTALLATION.prod;
    let drawn = |seed| json(log, &["--seed", seed, "--sample", "5"])["population"]["sample"].clone();
    let sample = drawn("2026");
    assert_eq!(sample["entries"].as_array().unwrap().len(), 5);
    for entry in sample["entries"].as_array().unwrap() {
        let index = entry["index"].as_u64().unwrap();
        assert_eq!(entry["kind"], log.value(index)["kind"]);
        assert_eq!(entry["hash"], leaf_hash(&log.entries[index as usize]).to_string());
    }
    assert_eq!(drawn("2026"), sample);
    assert_ne!(drawn("2027"), sample);
    let text = String::from_utf8(report(log, &["--seed", "2026", "--sample", "5"], |_| {}).stdout).unwrap();
    assert!(text.contains("## Sample\n\nDrawn by the seed \"2026\""), "{text}");
    for half in [["--seed", "2026"], ["--sample", "5"], ["--sample", "0"]] {
        assert_eq!(report(log, &half, |_| {}).status.code(), Some(2), "{half:?}");
    }
}

#[test]
fn nothing_is_reported_of_a_log_that_does_not_verify() {
    let log = &INSTALLATION.prod;
    let bundle = format!("tile/entries/000.p/{}", log.entries.len());
    let change = |path: &Path| {
        let file = path.join(&bundle);
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    for more in [&[][..], &["--output", "json"]] {
        let ran = report(log, more, change);
        assert_eq!((ran.status.code(), ran.stdout.len()), (Some(5), 0));
        assert!(String::from_utf8_lossy(&ran.stderr).contains("(entry)"));
    }
    // What verifies in every byte and says what cannot be.
    let mut lie = log.clone();
    lie.edit(lie.last("intent"), |entry| entry["sequence"] = 9.into());
    let ran = report(&lie, &[], |_| {});
    assert_eq!((ran.status.code(), ran.stdout.len()), (Some(5), 0));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("(sequence)"));
}

/// A caller writes what he likes into a request that is refused.
#[test]
fn what_strangers_wrote_is_text_and_nothing_else() {
    let mut log = INSTALLATION.prod.clone();
    let refusal = log.last("refusal");
    log.edit_body(refusal, |body| body["rule"] = "a|b <script> `c`\n# d".into());
    let text = String::from_utf8(report(&log, &[], |_| {}).stdout).unwrap();
    assert!(text.contains("| a\\|b \\<script\\> \\`c\\` \\# d | 1 |\n"), "{text}");
}
