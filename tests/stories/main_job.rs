//! The main job: from devices to a certificate that strangers accept, and a log that an auditor accepts.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::verifiers::{Verdict, Verifier};
use e2e::{Domain, Issue, Tool, certificates, request};
use undercroft_log::leaf::{Body, Channel, Object};

use crate::judges::{judge_certificates, judge_crls, mirror, verify_py};
use crate::place::{Place, bodies, files};
use crate::served_log::served;

#[test]
fn from_devices_to_certificates_that_strangers_accept() {
    let domains =
        vec![Domain::softhsm("prod.example", "ecdsa-p256"), Domain::tpm("edge.example", "ecdsa-p256")];
    let mut place = Place::new(domains);
    for domain in ["prod.example", "edge.example"] {
        place.issue(domain, domain, &["--dns", &format!("ledger.{domain}")]).expect(0).unwrap();
        for name in ["leaf.pem", "chain.pem", "bundle.pem", "leaf.tlog-proof", "leaf.entry", "log.vkey"] {
            assert!(place.path(domain).join(name).is_file(), "{name}");
        }
        // What came with it proves that it stands in the log: to us, and to whoever was given the files.
        let file = |name: &str| place.path(domain).join(name);
        let audit = Tool::ours("undercroft-audit").unwrap().arg("certificate").arg(file("leaf.pem"));
        let audit = audit.arg("--entry").arg(file("leaf.entry")).arg("--proof").arg(file("leaf.tlog-proof"));
        audit.arg("--key").arg(file("log.vkey")).done().unwrap();
        let files = ["leaf.pem", "leaf.entry", "leaf.tlog-proof", "log.vkey"].map(file);
        let [pem, entry, proof, vkey] = files.each_ref().map(PathBuf::as_path);
        let certificate = Path::new("certificate");
        verify_py(&[certificate, pem, entry, proof, vkey]).expect(0).unwrap().says("operator/alice").unwrap();
        // The files of another certificate, and another log's key.
        let other = place.path("control/operator-alice/leaf.pem");
        verify_py(&[certificate, &other, entry, proof, vkey]).expect(5).unwrap();
        let other = place.path("control/operator-alice/log.vkey");
        verify_py(&[certificate, pem, entry, proof, &other]).expect(5).unwrap();
    }
    let spire = place.site.enrolled(place.daemon(), "/server/prod").unwrap();
    let out = place.path("prod.example/spire-ca");
    let (_, csr) = request(&out, "leaf", "P-384", Some("spiffe://prod.example")).unwrap();
    let issue = Issue { domain: "prod.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
    place.ask(&spire, &issue).expect(0).unwrap();
    let text = Tool::foreign("openssl").args(["x509", "-noout", "-text", "-in"]).arg(out.join("leaf.pem"));
    text.done().unwrap().says("CA:TRUE, pathlen:0").unwrap();

    let scratch = place.path("scratch");
    let present: Vec<_> = Verifier::ALL.into_iter().filter(|verifier| verifier.is_present()).collect();
    assert!(Verifier::CERTAIN.iter().all(|certain| present.contains(certain)));
    for (domain, chain) in [
        ("prod.example", "prod.example/chain.pem"),
        ("edge.example", "edge.example/chain.pem"),
        ("control", "control/operator-alice/chain.pem"),
    ] {
        for verifier in &present {
            let root = place.path(domain).join("root.pem");
            let verdict = verifier.verify(&root, &place.path(chain), &scratch).unwrap();
            assert_eq!(verdict, Verdict::Accepted, "{verifier}: {chain}");
        }
    }
    for verifier in [Verifier::OpenSsl, Verifier::GnuTls] {
        let verdict = verifier.verify(&place.path("prod.example/root.pem"), &out.join("chain.pem"), &scratch);
        assert_eq!(verdict.unwrap(), Verdict::Accepted, "{verifier}: SPIRE's CA");
    }

    place.export_and_audit();
    let log = bodies(&place.path("prod.example/log"));
    let intents: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Intent(intent) => {
                Some((&*intent.profile, &*intent.caller.id, intent.caller.by, intent.object))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        intents,
        [
            ("svid", "spiffe://control.example/operator/alice", Channel::Mtls, Object::Certificate),
            ("spire-ca", "spiffe://control.example/server/prod", Channel::Mtls, Object::Certificate),
        ]
    );
    place.stop();

    let pems: Vec<_> = files(place.site.folder())
        .into_iter()
        .filter(|file| ["root.pem", "intermediate.pem", "leaf.pem"].iter().any(|name| file.ends_with(name)))
        .collect();
    assert_eq!(pems.len(), 6 + 2 + 2 + 1, "{pems:?}");
    judge_certificates(&pems);
    judge_crls(
        &["control", "prod.example", "edge.example"]
            .map(|folder| (place.path(folder).join("root.crl"), place.path(folder).join("root.pem"))),
    );
    no_secret_is_left_behind(&place);
}

/// Tokens and PINs stand in their own files and nowhere else: not in logs, nor in what was exported.
fn no_secret_is_left_behind(place: &Place) {
    // Not the sockets.
    let all: Vec<_> = files(place.site.folder()).into_iter().filter(|file| file.is_file()).collect();
    let (secrets, others): (Vec<_>, Vec<_>) = all.iter().partition(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        name == "token" || name.ends_with(".pin")
    });
    assert!(secrets.len() >= 5, "{secrets:?}");
    for secret in secrets {
        let secret = fs::read_to_string(secret).unwrap();
        for other in &others {
            let text = String::from_utf8_lossy(&fs::read(other).unwrap()).into_owned();
            assert!(!text.contains(secret.trim()), "{} holds a secret", other.display());
        }
    }
}

/// The log is the same in two exports; one grew from the other.
#[test]
fn an_export_grows_and_any_changed_file_of_it_is_found() {
    let mut place = Place::prod();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    place.export_and_audit();
    place.issue("prod.example", "two", &[]).expect(0).unwrap();
    place.export_and_audit();
    place.stop();
    let log = place.path("prod.example/log");
    let audit = || {
        let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(&log);
        audit.arg("--key").arg(place.path("prod.example/log.vkey")).run().unwrap()
    };
    let names: Vec<_> = files(&log);
    assert!(names.len() >= 3, "{names:?}");
    for file in names {
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, &bad).unwrap();
        let ran = audit();
        assert!([5, 2].contains(&ran.status), "{}: {ran:?}", file.display());
        // Tiles of hashes are no business of the one that goes by entries alone.
        if !file.starts_with(log.join("tile/0")) && !file.starts_with(log.join("tile/1")) {
            let ran = verify_py(&[Path::new("log"), &log, &place.path("prod.example/log.vkey")]);
            assert!(ran.status == 5 || is_outdated(&file, &log), "{}: {ran:?}", file.display());
        }
        fs::write(&file, &good).unwrap();
    }
    // The log of somebody else, whole in itself, is not this one.
    let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(&log);
    audit.arg("--key").arg(place.path("control/log.vkey")).run().unwrap().expect(5).unwrap();
    verify_py(&[Path::new("log"), &log, &place.path("control/log.vkey")]).expect(5).unwrap();
    verify_py(&[Path::new("log"), &log, &place.path("prod.example/log.vkey")]).expect(0).unwrap();
    assert_eq!(audit_status(&place), 0);
    assert_eq!(certificates(&place.path("one/chain.pem")).unwrap().len(), 2);
}

#[test]
fn what_is_served_to_anybody_is_the_log_that_is_exported() {
    let (mut place, address) = served();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    place.issue("prod.example", "two", &[]).expect(0).unwrap();
    place.export_and_audit();
    for domain in ["control.example", "prod.example"] {
        let mirrored = place.path("mirror").join(domain);
        let url = format!("http://{address}/{domain}");
        mirror(&url, &mirrored);
        let folder = if domain == "control.example" { "control" } else { domain };
        let key = place.path(folder).join("log.vkey");
        let audit =
            Tool::ours("undercroft-audit").unwrap().arg("verify").arg(&mirrored).arg("--key").arg(&key);
        audit.done().unwrap().says("Everything is as it must be").unwrap();
        verify_py(&[Path::new("log"), &mirrored, &key]).expect(0).unwrap();
        // Our own mirror of it is the same, as far as the log goes.
        let own = place.path("own-mirror").join(domain);
        let audit =
            Tool::ours("undercroft-audit").unwrap().arg("mirror").arg(&url).arg(&own).arg("--key").arg(&key);
        audit.done().unwrap();
        for file in files(&mirrored) {
            let of_ours = own.join(file.strip_prefix(&mirrored).unwrap());
            assert_eq!(fs::read(&of_ours).unwrap(), fs::read(&file).unwrap(), "{}", of_ours.display());
        }
    }
    place.stop();
}

/// Whether a file is a partial bundle of an earlier export, which nobody needs any more.
fn is_outdated(file: &Path, log: &Path) -> bool {
    let note = fs::read_to_string(log.join("checkpoint")).unwrap_or_default();
    let size = note.lines().nth(1).unwrap_or_default();
    file.starts_with(log.join("tile/entries")) && !file.ends_with(format!("000.p/{size}"))
}

fn audit_status(place: &Place) -> i32 {
    let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(place.path("prod.example/log"));
    audit.arg("--key").arg(place.path("prod.example/log.vkey")).run().unwrap().status
}
