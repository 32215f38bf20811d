//! A compromise is rehearsed on simulated tokens: everything is made and measured, and nothing of the installation is
//! touched but one entry.

use std::fs;
use std::path::Path;

use e2e::{Tool, certificates};
use serde_json::Value;
use undercroft_log::leaf::{Body, RecoveryWay};

use crate::place::{Place, bodies, files};

fn drill(place: &Place, authority: &str, environment: &Path, out: &Path) -> Tool {
    let tool = place.site.administer(&["drill", "compromise", authority, "--seconds", "1", "--environment"]);
    let tool = tool.unwrap().arg(environment).arg("--out").arg(out).arg("--config");
    tool.arg(place.path("daemon/undercroft.toml")).with(&place.site.variables())
}

#[test]
fn a_compromise_is_rehearsed_and_everything_says_so() {
    let mut place = Place::prod();
    for out in ["one", "two"] {
        place.issue("prod.example", out, &[]).expect(0).unwrap();
    }
    let environment = place.site.devices();
    let out = place.path("drill");
    // What cannot be meant, and what is no simulator.
    let refused = |authority: &str, environment: &Path, out: &Path, says: &str| {
        drill(&place, authority, environment, out).run().unwrap().expect(2).unwrap().says(says).unwrap();
    };
    refused("i1", &environment, &out, "say which");
    refused("prod.example/i9", &environment, &out, "known are");
    let real = place.path("real.toml");
    let text = fs::read_to_string(&environment).unwrap();
    fs::write(&real, text.replacen("development = true", "development = false", 1)).unwrap();
    refused("prod.example/i1", &real, &out, "simulated devices alone");
    refused("prod.example/i1", &environment, &place.path("daemon"), "not empty");
    assert!(!out.exists());

    let entries = |domain: &str| place.json(&["domain", "show", domain])["log-size"].as_u64().unwrap();
    let (control, prod) = (entries("control.example"), entries("prod.example"));
    let ran = drill(&place, "prod.example/i1", &environment, &out).args(["--output", "json"]).done().unwrap();
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["drill"], true);
    assert_eq!(told["affected"].as_array().unwrap().len(), 2);
    assert_eq!(told["affected"][0]["spiffe-id"], "spiffe://prod.example/ns/pay/sa/ledger");
    assert_eq!(told["affected"][0]["caller"], "spiffe://control.example/operator/alice");
    assert_eq!(told["summary"]["steps"].as_array().unwrap().len(), 5);
    assert!(told["summary"]["attached-rate"].as_f64().unwrap() > 0.0);
    // Nothing is frozen, nothing is issued, and one entry says that a drill was held.
    assert_eq!((entries("control.example"), entries("prod.example")), (control + 1, prod));
    assert_eq!(place.json(&["status"])["frozen"].as_array().unwrap().len(), 0);
    place.issue("prod.example", "three", &[]).expect(0).unwrap();

    for file in files(&out) {
        let path = file.strip_prefix(&out).unwrap().to_string_lossy().into_owned();
        assert!(path.starts_with("DRILL-"), "{path}");
    }
    let report = fs::read_to_string(out.join("DRILL-report.txt")).unwrap();
    for part in ["certificates again", "signatures a second", "2 certificates are affected"] {
        assert!(report.contains(part), "{report}");
    }
    // OpenSSL believes what was made, below the simulated root alone, and that the old one is revoked.
    let again = certificates(&out.join("DRILL-certificates.pem")).unwrap();
    assert_eq!(again.len(), 2);
    let verify = |root: &Path, intermediate: &str, more: &[&str]| {
        let tool = Tool::foreign("openssl").args(["verify", "-CAfile"]).arg(root).arg("-untrusted");
        let tool = tool.arg(out.join(intermediate)).args(more);
        tool.arg(out.join("DRILL-certificates.pem")).run().unwrap()
    };
    let root = out.join("DRILL-root.pem");
    verify(&root, "DRILL-new-intermediate.pem", &[]).expect(0).unwrap();
    assert_ne!(verify(&root, "DRILL-old-intermediate.pem", &[]).status, 0);
    assert_ne!(verify(&place.path("prod.example/root.pem"), "DRILL-new-intermediate.pem", &[]).status, 0);
    let crl = |file: &str| {
        let tool = Tool::foreign("openssl").args(["crl", "-inform", "DER", "-noout", "-text", "-in"]);
        tool.arg(out.join(file)).done().unwrap().stdout
    };
    assert_eq!(crl("DRILL-root.crl").matches("Serial Number:").count(), 1);
    let old = crl("DRILL-old-intermediate.crl").replace(':', "").to_lowercase();
    for affected in told["affected"].as_array().unwrap() {
        assert!(old.contains(affected["serial"].as_str().unwrap()), "{old}");
    }
    // The drill's own log verifies, too.
    Tool::ours("undercroft-audit")
        .unwrap()
        .arg("verify")
        .arg(out.join("DRILL-log"))
        .arg("--key")
        .arg(out.join("DRILL-log/log.vkey"))
        .run()
        .unwrap()
        .says("signed")
        .unwrap();

    place.export_and_audit();
    let control = bodies(&place.path("control/log"));
    let noted = control.iter().filter_map(|body| match body {
        Body::Recovery(recovery) if recovery.way == RecoveryWay::Drilled => Some(&recovery.statement),
        _ => None,
    });
    let noted: Vec<_> = noted.collect();
    assert_eq!(noted.len(), 1);
    assert!(noted[0].contains("undercroft-drill-v1"));
    place.stop();
}
