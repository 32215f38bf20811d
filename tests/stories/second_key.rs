//! A TPM signs each checkpoint beside the log key, so that whoever steals that key alone cannot speak for the log.

use std::fs;

use base64ct::{Base64, Encoding as _};
use e2e::{Domain, Issue, Listen, Site, Tool, request};

#[test]
fn what_the_log_key_signs_without_the_tpm_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Domain::tpm("edge.example", "ecdsa-p256");
    let site = Site::new(folder.path(), vec![edge], Listen::Anywhere).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    site.create_keys().unwrap().into_iter().for_each(|tool| drop(tool.done().unwrap()));
    let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), site.devices().display().to_string());
    let create = Tool::ours("undercroft").unwrap().with(&site.variables()).with(&[environment]);
    let create = create.args(["keys", "create", "tpm:handle=0x81000020", "--algorithm", "ecdsa-p256"]);
    create.args(["--name", "second", "--out"]).arg(site.path("second")).done().unwrap();
    site.ceremony().unwrap().done().unwrap();
    site.write_configuration().unwrap();
    let config = site.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (control, edge) = text.split_once("name = \"edge.example\"\n").unwrap();
    let second = "second-log-key = \"tpm:handle=0x81000020\"\n";
    fs::write(&config, format!("{control}name = \"edge.example\"\n{second}{edge}")).unwrap();

    let doctor = Tool::ours("undercroft").unwrap().with(&site.variables());
    let said = doctor.args(["doctor", "--config"]).arg(&config).done().unwrap().stdout;
    let vkeys = said.lines().find(|line| line.contains("second key")).unwrap();
    let [_, of_log, of_tpm] = vkeys.splitn(3, "; vkey ").collect::<Vec<_>>()[..] else { panic!("{said}") };
    fs::write(site.path("log.vkey"), of_log.split(';').next().unwrap()).unwrap();
    fs::write(site.path("second.vkey"), of_tpm).unwrap();

    let daemon = site.start().unwrap();
    let edge = &site.domains()[1];
    let server = site.enrolled(&daemon, "/server/edge").unwrap();
    let out = site.path("issued");
    let (_, csr) = request(&out, "leaf", "P-256", Some("spiffe://edge.example")).unwrap();
    let issue = Issue { domain: "edge.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
    site.issue(&daemon, &server, &issue).unwrap().done().unwrap();
    site.export(edge).unwrap().done().unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);

    let log = site.path("edge.example/log");
    let audit = |key: &[&str]| {
        let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(&log);
        audit.arg("--key").arg(site.path("log.vkey")).args(key).run().unwrap()
    };
    let second = site.path("second.vkey").display().to_string();
    let with_second = ["--second-key", &second];
    audit(&with_second).expect(0).unwrap();

    // OpenSSL reads the line by what the page says of it: four bytes of id, then ECDSA with SHA-256 over the text.
    let note = fs::read_to_string(log.join("checkpoint")).unwrap();
    let (text, lines) = note.split_once("\n\n").unwrap();
    let [own, seconds] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{note}") };
    let blob = Base64::decode_vec(seconds.rsplit(' ').next().unwrap()).unwrap();
    fs::write(site.path("text"), format!("{text}\n")).unwrap();
    fs::write(site.path("signature"), &blob[4..]).unwrap();
    let spki = Base64::decode_vec(of_tpm.trim_end().splitn(3, '+').nth(2).unwrap()).unwrap();
    fs::write(site.path("second.der"), &spki[1..]).unwrap();
    let openssl = Tool::foreign("openssl").args(["dgst", "-sha256", "-keyform", "DER", "-verify"]);
    let openssl = openssl.arg(site.path("second.der")).arg("-signature").arg(site.path("signature"));
    openssl.arg(site.path("text")).done().unwrap();

    // What the log key has signed alone: believed by whoever does not know the second key, and by nobody else.
    fs::write(log.join("checkpoint"), format!("{text}\n\n{own}\n")).unwrap();
    audit(&[]).expect(0).unwrap();
    audit(&with_second).expect(5).unwrap().says("is not signed by the second key").unwrap();
    let swapped = Base64::encode_string(&[&blob[..4], b"no signature of it"].concat());
    fs::write(
        log.join("checkpoint"),
        format!("{text}\n\n{own}\n\u{2014} {} {swapped}\n", of_tpm.split('+').next().unwrap()),
    )
    .unwrap();
    audit(&with_second).expect(5).unwrap().says("does not verify").unwrap();
    site.hsm_sim_down().unwrap().done().unwrap();
}
