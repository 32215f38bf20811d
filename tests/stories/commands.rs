//! The operator's commands, for people and for programs.

use e2e::{Domain, Tool};
use serde_json::Value;

use crate::place::Place;

#[test]
fn commands_say_the_same_to_people_and_to_programs() {
    let mut place = Place::prod();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();

    let status = place.json(&["status"]);
    assert_eq!((&status["control"], &status["development"]), (&"control.example".into(), &true.into()));
    assert_eq!(status["rules"], 2);
    let prod = &status["domains"][1];
    assert_eq!((&prod["name"], &prod["bundle-sequence"]), (&"prod.example".into(), &1.into()));
    assert_eq!(prod["authorities"][0]["algorithm"], "ecdsa-p256-sha256");
    assert_eq!(place.json(&["domain", "show", "prod.example"]), *prod);
    assert_eq!(place.json(&["domain", "list"]), serde_json::json!(["control.example", "prod.example"]));
    let text = place.site.administer(&["status"]).unwrap().done().unwrap();
    text.says("prod.example").unwrap().says("development mode").unwrap();
    let unknown = place.site.administer(&["domain", "show", "prod.exampel"]).unwrap().run().unwrap();
    unknown.expect(2).unwrap().says("prod.example").unwrap();

    // The bundle is the root, as PEM and as SPIFFE's document.
    let root = std::fs::read_to_string(place.path("prod.example/root.pem")).unwrap();
    let pem = place.site.administer(&["bundle", "prod.example"]).unwrap().done().unwrap();
    assert_eq!(pem.stdout, root);
    let spiffe =
        place.site.administer(&["bundle", "prod.example", "--format", "spiffe"]).unwrap().done().unwrap();
    let spiffe: Value = serde_json::from_str(&spiffe.stdout).unwrap();
    assert_eq!((&spiffe["spiffe_sequence"], &spiffe["keys"][0]["use"]), (&1.into(), &"x509-svid".into()));
    let der = spiffe["keys"][0]["x5c"][0].as_str().unwrap();
    assert_eq!(root.lines().filter(|line| !line.starts_with("---")).collect::<String>(), der);

    let doctor = |output| {
        let config = place.path("daemon/undercroft.toml");
        let doctor =
            Tool::ours("undercroft").unwrap().args(["doctor", "--output", output, "--config"]).arg(config);
        doctor.with(&place.site.variables()).done().unwrap().stdout
    };
    let checks: Vec<Value> = serde_json::from_str(&doctor("json")).unwrap();
    assert!(checks.iter().all(|check| check["verdict"] != "bad"), "{checks:?}");
    assert!(checks.iter().any(|check| check["what"] == "prod.example authority i1"), "{checks:?}");
    assert!(doctor("text").contains("custody software"));
    // What this machine has is told as it would be written down.
    let token = checks.iter().find(|check| check["what"].as_str().unwrap().contains("token `prod`")).unwrap();
    let found = token["text"].as_str().unwrap();
    assert!(
        found.starts_with("uri = \"pkcs11:token=prod;serial=") && found.contains("module-path="),
        "{token}"
    );

    let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), place.site.devices().display().to_string());
    let keys = |arguments: &[&str]| {
        let keys = Tool::ours("undercroft").unwrap().arg("keys").args(arguments).args(["--output", "json"]);
        let keys = keys.with(&place.site.variables()).with(std::slice::from_ref(&environment));
        serde_json::from_str::<Value>(&keys.done().unwrap().stdout).unwrap()
    };
    assert!(keys(&["list"]).to_string().contains("intermediate-i1"));
    let shown = keys(&["show", "pkcs11:token=prod;object=intermediate-i1", "--algorithm", "ecdsa-p256"]);
    assert!(shown.to_string().contains(prod["authorities"][0]["key-id"].as_str().unwrap()), "{shown}");

    place.stop();
    let gone = place.site.administer(&["status"]).unwrap().run().unwrap();
    gone.expect(3).unwrap().says("admin.sock").unwrap();
}

#[test]
fn every_program_completes_itself_and_brings_its_manual() {
    for program in ["undercroft", "undercroft-ceremony", "undercroft-audit"] {
        for shell in ["bash", "zsh", "fish"] {
            let ran = Tool::ours(program).unwrap().args(["completions", shell]).done().unwrap();
            assert!(ran.stdout.contains(program), "{program} {shell}");
        }
        let manual = Tool::ours(program).unwrap().arg("man").done().unwrap();
        assert!(manual.stdout.contains(".TH") && manual.stdout.contains("SYNOPSIS"), "{program}");
        Tool::ours(program).unwrap().arg("--no-such").run().unwrap().expect(2).unwrap();
        Tool::ours(program).unwrap().arg("--version").done().unwrap().says(program).unwrap();
    }
}

/// A ceremony says what it would do, does it once, and never does it over.
#[test]
fn a_ceremony_is_rehearsed_and_is_never_run_over_its_own_output() {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec![Domain::softhsm("prod.example", "ecdsa-p256")];
    let site = e2e::Site::built(folder.path(), domains).unwrap();
    let plan = Tool::ours("undercroft-ceremony").unwrap().arg("plan").arg(site.path("ceremony/plan.toml"));
    plan.done().unwrap().says("prod-root").unwrap().says("signed by prod-root").unwrap();
    let before = crate::place::files(folder.path());
    let again = site.ceremony().unwrap().run().unwrap();
    assert!([1, 2].contains(&again.status), "{again:?}");
    assert_eq!(crate::place::files(folder.path()), before);
    let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(site.path("ceremony/transcript"));
    let audit = audit.arg("--key").arg(site.path("ceremony/transcript/log.vkey")).args(["--output", "json"]);
    let report: Value = serde_json::from_str(&audit.done().unwrap().stdout).unwrap();
    assert!(report.to_string().contains("ca.example/undercroft/ceremony/first/1"), "{report}");
}

#[test]
fn a_token_is_measured_with_scratch_keys_and_never_with_those_of_an_authority() {
    let mut place = Place::new(vec![
        Domain::softhsm("prod.example", "ecdsa-p256"),
        Domain::tpm("edge.example", "ecdsa-p256"),
    ]);
    let svg = place.path("bench.svg");
    let bench = |arguments: &[&str]| {
        let bench = Tool::ours("undercroft").unwrap().args(["bench", "--output", "json", "--seconds", "1"]);
        let bench = bench.arg("--environment").arg(place.site.devices()).with(&place.site.variables());
        bench.args(arguments)
    };
    let keys = |place: &Place| {
        let list =
            Tool::ours("undercroft").unwrap().args(["keys", "list", "--output", "json", "--environment"]);
        list.arg(place.site.devices()).with(&place.site.variables()).done().unwrap().stdout
    };
    let before = keys(&place);
    for (device, threads) in [("prod", "4,1,2,1"), ("edge", "1,2")] {
        let run = bench(&[device, "--threads", threads, "--svg", svg.to_str().unwrap()]).done().unwrap();
        let measured: Value = serde_json::from_str(&run.stdout).unwrap();
        let rows = measured["rows"].as_array().unwrap();
        let threads: Vec<_> = rows.iter().map(|row| row["threads"].as_u64().unwrap()).collect();
        assert!(threads.is_sorted_by(|one, next| one < next), "{measured}");
        for row in rows {
            let number = |name: &str| row[name].as_f64().unwrap();
            assert!(number("rate") > 1.0 && number("p50-ms") <= number("p99-ms"), "{row}");
            // Little's law: what is under way is the rate times the time that each takes.
            assert!(number("rate") * number("p50-ms") / 1e3 <= 2.0 * number("threads"), "{row}");
        }
        assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
        std::fs::remove_file(&svg).unwrap();
    }
    assert_eq!(keys(&place), before, "a scratch key was left behind");

    let config = place.path("daemon/undercroft.toml");
    let configuration = std::fs::read_to_string(&config).unwrap();
    let log_key =
        configuration.lines().filter_map(|line| line.strip_prefix("log-key = ")).next_back().unwrap();
    for (device, algorithm, used) in [
        ("prod", "ecdsa-p256", "pkcs11:token=prod;object=intermediate-i1"),
        ("logs", "ed25519", log_key.trim_matches('"')),
    ] {
        let bench = bench(&[device, "--threads", "1", "--algorithm", algorithm, "--key", used, "--config"]);
        bench.arg(&config).run().unwrap().expect(4).unwrap().says("scratch key").unwrap();
    }
    // Which keys are in use must be known.
    bench(&["prod", "--key", "pkcs11:token=prod;object=intermediate-i1"]).run().unwrap().expect(2).unwrap();
    bench(&["nowhere"]).run().unwrap().expect(3).unwrap().says("`prod`").unwrap();
    place.stop();
}
