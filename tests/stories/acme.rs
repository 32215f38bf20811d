//! A device with a TPM gets a certificate by ACME, with a client that is not ours, and what it could forge is refused by name:
//! nothing is issued for it, and each refusal that was judged stands in the log.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use e2e::{Domain, Site, Tool};
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use serde_json::Value;
use undercroft_log::leaf::{Body, Channel};

use crate::place::{Place, bodies};

/// A site that serves devices, and one of them.
struct Devices {
    place: Place,
    port: u16,
    tpm: Swtpm,
    _running: RunningSwtpm,
    _folder: tempfile::TempDir,
}

impl Devices {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::manufacture(&folder.path().join("t"), Manufacture::WithEndorsement).unwrap();
        let running = tpm.start().unwrap();
        let place = tempfile::tempdir().unwrap();
        let mut site =
            Site::built(place.path(), vec![Domain::softhsm("prod.example", "ecdsa-p256")]).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [maker, _] = tpm.manufacturer();
        fs::copy(maker, site.path("daemon/maker.pem")).unwrap();
        client().args(["ca"]).arg(site.path("other-ca")).done().unwrap();
        let tpms = "[tpm]\npcrs = { sha256 = [0] }\nevent-log = false\n\n[[tpm.maker]]\nfile = \"maker.pem\"\nclass = \"simulated\"\n";
        fs::write(site.path("daemon/tpms.toml"), tpms).unwrap();
        let acme = format!(
            r#"
[acme]
listen = "127.0.0.1:{port}"
url = "https://ca.control.example:{port}"
domain = "prod.example"
spiffe-id = "spiffe://prod.example/device/{{id}}"
attestation-roots = "../other-ca/ca.pem"

[acme.attestation]
authority = "{}"
tpm-policy = "tpms.toml"
"#,
            authority(&site)
        );
        let rule = r#"
[[rule]]
name = "devices"
callers = ["spiffe://prod.example/undercroft/acme"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/device/*"]
"#;
        site.set_policy(&format!("{}{rule}", site.policy())).unwrap();
        let config = site.path("daemon/undercroft.toml");
        fs::write(&config, fs::read_to_string(&config).unwrap() + &acme).unwrap();
        Self { place: Place::of(place, site), port, tpm, _running: running, _folder: folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Runs the client.
    fn device(&self, what: &str) -> Value {
        let [_, issuer] = self.tpm.manufacturer();
        let ran = client()
            .arg(what)
            .arg(self.path("device"))
            .arg(format!("https://ca.control.example:{}", self.port))
            .arg(self.port.to_string())
            .arg(self.path("control/root.pem"))
            .arg(self.tpm.tcti())
            .arg(issuer)
            .arg(self.path("other-ca"))
            .done()
            .unwrap();
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn openssl(&self, certificate: &str, more: &[&str]) {
        let verify = Tool::foreign("openssl").args(["verify", "-x509_strict", "-CAfile"]);
        let verify = verify.arg(self.path("prod.example/root.pem")).args(["-untrusted"]);
        let verify = verify.arg(self.path("prod.example/intermediate.pem")).args(more.iter());
        verify.arg(self.path(certificate)).done().unwrap().says(": OK").unwrap();
    }
}

fn client() -> Tool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/stories/acme/device.py");
    Tool::foreign("python3").args([script])
}

/// The first authority of prod.example.
fn authority(site: &Site) -> String {
    let config: toml::Table =
        fs::read_to_string(site.path("daemon/undercroft.toml")).unwrap().parse().unwrap();
    let domains = config["domain"].as_array().unwrap();
    let prod = domains.iter().find(|domain| domain["name"].as_str() == Some("prod.example")).unwrap();
    prod["authority"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_device_gets_a_certificate_for_a_key_in_its_tpm_and_forgeries_get_none() {
    let mut devices = Devices::new();
    let told = devices.device("all");
    let told = told.as_array().unwrap();
    let wrong: Vec<_> = told.iter().filter(|case| case[1] != case[2]).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(told.len() > 120, "{}", told.len());

    // Others believe what came out.
    devices.openssl("device/device.pem", &["-purpose", "sslclient"]);
    let der =
        Tool::foreign("openssl").args(["x509", "-inform", "DER", "-in"]).arg(devices.path("device/ak-0.der"));
    der.arg("-out").arg(devices.path("device/ak.pem")).done().unwrap();
    devices.openssl("device/ak.pem", &[]);

    // An attestation key whose certificate is taken back vouches for nothing any more.
    assert_eq!(devices.device("later"), "valid");
    let serial = Tool::foreign("openssl").args(["x509", "-noout", "-serial", "-in"]);
    let serial = serial.arg(devices.path("device/ak.pem")).done().unwrap().stdout;
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_lowercase();
    let site = &devices.place.site;
    site.administer(&["revoke", "--domain", "prod.example", "--serial", &serial]).unwrap().done().unwrap();
    assert_eq!(devices.device("later"), "ak-revoked");

    devices.place.export_and_audit();
    // Each code of a refusal that was judged is the rule of an entry.
    let logged: Vec<_> =
        devices.place.refusals("prod.example").into_iter().map(|refusal| refusal.rule).collect();
    for code in told.iter().filter_map(|case| case[1].as_str()) {
        let judged = ["statement-", "ak-", "attest-", "key-", "ek-", "session-key", "csr-", "identifier-m"];
        if judged.iter().any(|begins| code.starts_with(begins)) {
            assert!(logged.iter().any(|rule| rule == code), "{code}: {logged:?}");
        }
    }
    assert!(logged.iter().any(|rule| rule == "ak-revoked"));
    // What was issued is what was honest: one attestation key, and four certificates.
    let intents: Vec<_> = bodies(&devices.path("prod.example/log"))
        .into_iter()
        .filter_map(|body| match body {
            Body::Intent(intent) => Some(intent),
            _ => None,
        })
        .collect();
    let by = |channel| intents.iter().filter(|intent| intent.caller.by == channel).count();
    assert_eq!((by(Channel::Activation), by(Channel::Acme)), (1, 4));
    let of_device = intents.iter().find(|intent| intent.caller.by == Channel::Acme).unwrap();
    assert_eq!(of_device.caller.id, "spiffe://prod.example/undercroft/acme");
    assert!(of_device.withheld.iter().any(|what| what.contains("administrator")), "{of_device:?}");
    let formats: Vec<_> = of_device.evidence.iter().map(|evidence| evidence.format.as_str()).collect();
    assert_eq!(formats, ["acme-statement-v1", "acme-account-v1"]);
    devices.place.stop();
}
