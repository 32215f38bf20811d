//! A key in a TPM is proven to be there: a witness sees the TPM, the ceremony and the daemon demand it, an auditor judges
//! it again, and evidence of another TPM is worth nothing.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use e2e::{Caller, Daemon, Domain, Issue, Listen, Site, Tool, request};
use serde_json::Value;
use undercroft_log::leaf::{Body, Digest, Grade};

use crate::judges::judge_entries;
use crate::place::bodies;

/// Two TPMs of two manufacturers, of which one is known.
struct Proven {
    site: Site,
    witness_url: String,
    vkey: String,
    _folder: tempfile::TempDir,
}

impl Proven {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Two TPMs, so that a key's URI says which.
        let tpm = |label: &str| {
            let socket = folder.path().canonicalize().unwrap().join(format!("devices/tpm-{label}/sock"));
            let key = format!("tpm:handle=0x81000010;tcti=swtpm:path={}", socket.display());
            Domain { key, ..Domain::tpm(&format!("{label}.example"), "ecdsa-p256") }
        };
        let domains = vec![tpm("prod"), tpm("edge")];
        let site = Site::new(folder.path(), domains, Listen::Anywhere).unwrap();
        site.hsm_sim_up().unwrap().args(["--softhsm", "witness"]).done().unwrap();
        let anchors = site.path("anchors");
        fs::create_dir_all(&anchors).unwrap();
        let manufacturer = site.path("devices/tpm-prod/manufacturer");
        fs::copy(manufacturer.join("swtpm-localca-rootca-cert.pem"), anchors.join("root.pem")).unwrap();
        fs::copy(manufacturer.join("issuercert.pem"), anchors.join("issuer.pem")).unwrap();
        let (witness_url, vkey) = configure_witness(&site);
        // From here on the TPMs have attestation keys, and the witness is believed.
        let mut devices = fs::read_to_string(site.devices()).unwrap();
        for tpm in ["prod", "edge"] {
            let named = format!("name = \"{tpm}\"\n");
            let activation = site.path(&format!("{tpm}.activation.json"));
            let more = format!("{named}attestation-key = \"0x81010100\"\nactivation = {activation:?}\n");
            devices = devices.replace(&named, &more);
        }
        let devices =
            format!("endorsement-anchors = {anchors:?}\n{devices}\n[[activator]]\nvkey = \"{vkey}\"\n");
        fs::write(site.devices(), devices).unwrap();
        site.write_plan().unwrap();
        Self { site, witness_url, vkey, _folder: folder }
    }

    fn witness(&self) -> Daemon {
        let run = self.tool("undercroft-witness").args(["run", "--config"]);
        let run = run.arg(self.site.path("witness/witness.toml"));
        Daemon::start(run, &self.site.path("witness/n"), self.site.path("witness/witness.log")).unwrap()
    }

    fn tool(&self, name: &str) -> Tool {
        tool(&self.site, name)
    }

    fn activate(&self, device: &str) -> Tool {
        let activate = self.tool("undercroft").args(["keys", "activate", device, "--witness"]);
        let out = self.site.path(&format!("{device}.activation.json"));
        activate.arg(&self.witness_url).arg("--out").arg(out)
    }

    /// The steps of an activation whose files people carry: on the CA's host, and by who certifies.
    fn asks(&self, more: &[&str], out: &str) -> Tool {
        let activate = self.tool("undercroft").args(["keys", "activate"]).args(more);
        activate.arg("--out").arg(self.site.path(out))
    }

    fn certifies(&self, step: &str, file: &str, out: &str) -> Tool {
        let activate = self.tool("undercroft-witness").args(["activate", step]).arg(self.site.path(file));
        let activate = activate.arg("--config").arg(self.site.path("auditor/activator.toml"));
        activate.arg("--out").arg(self.site.path(out))
    }

    fn config(&self) -> PathBuf {
        self.site.path("daemon/undercroft.toml")
    }

    /// Changes a file of text; `from` must stand in it.
    fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.site.path(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name}: {from}: {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Demands proof of an intermediate's key in the plan.
    fn demand(&self, domain: &str) {
        let label = domain.split('.').next().unwrap();
        let name = format!("name = \"{label}-intermediate\"\n");
        self.change("ceremony/plan.toml", &name, &format!("{name}custody = \"proven\"\n"));
    }

    fn undemand(&self, domain: &str) {
        let label = domain.split('.').next().unwrap();
        let name = format!("name = \"{label}-intermediate\"\n");
        self.change("ceremony/plan.toml", &format!("{name}custody = \"proven\"\n"), &name);
    }

    fn custody(&self, domain: &Domain) -> Tool {
        let folder = self.site.path(&domain.folder);
        let audit = Tool::ours("undercroft-audit").unwrap().arg("custody").arg(folder.join("log"));
        audit.arg("--key").arg(self.site.path(&format!("{}.vkey", domain.folder)))
    }

    fn believing(&self, audit: Tool) -> Tool {
        let vkey = self.site.path("witness/vkey");
        fs::write(&vkey, format!("{}\n", self.vkey)).unwrap();
        audit.arg("--activator").arg(vkey).arg("--endorsement-anchors").arg(self.site.path("anchors"))
    }

    /// The entries about the authority's key in the log of prod.example, as they are now.
    fn records(&self) -> Vec<undercroft_log::leaf::Key> {
        let domain = &self.site.domains()[1];
        self.site.export(domain).unwrap().done().unwrap();
        let of_authority = |body| match body {
            Body::Key(key) if key.purpose.starts_with("authority") => Some(key),
            _ => None,
        };
        bodies(&self.site.path(&domain.folder).join("log")).into_iter().filter_map(of_authority).collect()
    }

    fn issues(&self, daemon: &Daemon, caller: &Caller) -> i32 {
        let out = self.site.path("out");
        let (_, csr) = request(&out, "leaf", "P-256", Some("spiffe://prod.example/ns/a/sa/b")).unwrap();
        let issue = Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more: &[] };
        self.site.issue(daemon, caller, &issue).unwrap().run().unwrap().status
    }
}

fn tool(site: &Site, name: &str) -> Tool {
    let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), site.devices().display().to_string());
    Tool::ours(name).unwrap().with(&site.variables()).with(&[environment])
}

/// A witness who knows the manufacturer of one of the TPMs: its address and its key.
fn configure_witness(site: &Site) -> (String, String) {
    let folder = site.path("witness");
    let create = tool(site, "undercroft").args(["keys", "create", "pkcs11:token=witness;object=witness"]);
    create.args(["--algorithm", "ed25519", "--name", "witness", "--out"]).arg(&folder).done().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let devices = fs::read_to_string(site.devices()).unwrap();
    let device = devices.split("[[device]]").find(|table| table.contains("name = \"witness\"")).unwrap();
    let config = folder.join("witness.toml");
    let text = format!(
        "name = \"witness.example/w1\"\nkey = \"pkcs11:token=witness;object=witness\"\nstate = \"state\"\nlisten = \"127.0.0.1:{port}\"\nendorsement-anchors = \"../anchors\"\n\n[[device]]{device}"
    );
    fs::write(&config, text).unwrap();
    let key = tool(site, "undercroft-witness").args(["key", "--config"]).arg(&config).done().unwrap();
    (format!("http://127.0.0.1:{port}"), key.stdout.trim_end().to_owned())
}

#[test]
fn a_key_is_proven_from_its_making_to_its_audit_and_another_tpm_proves_nothing() {
    let proven = Proven::new();
    let site = &proven.site;
    {
        let witness = proven.witness();
        proven.activate("prod").done().unwrap().says("certifies the attestation key").unwrap();
        proven
            .activate("edge")
            .run()
            .unwrap()
            .expect(4)
            .unwrap()
            .says("does not lead to a manufacturer")
            .unwrap();
        assert!(!site.path("edge.activation.json").exists());
        assert_eq!(witness.stop().unwrap(), 0);
    }
    // The witness is not needed any more.
    proven.activate("prod").run().unwrap().expect(3).unwrap();
    create_keys(&proven);
    ceremony(&proven);
    let daemon = start(&proven);
    audit(&proven);
    comes_back(&proven, daemon);
    swapped(&proven);
}

#[test]
fn who_has_no_network_between_them_carry_files_and_a_gate_certifies_too() {
    let proven = Proven::new();
    let site = &proven.site;
    // An auditor: the key of his own token, no address, and no log.
    let text = fs::read_to_string(site.path("witness/witness.toml")).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("listen")).map(|line| format!("{line}\n")).collect();
    fs::create_dir(site.path("auditor")).unwrap();
    fs::write(site.path("auditor/activator.toml"), &text).unwrap();
    by_files(&proven);
    as_a_gates(&proven, &text);
    let run = proven.tool("undercroft-witness").args(["run", "--config"]);
    let run = run.arg(site.path("auditor/activator.toml"));
    run.run().unwrap().expect(2).unwrap().says("listen").unwrap();
}

fn by_files(proven: &Proven) {
    let site = &proven.site;
    for device in ["prod", "edge"] {
        let request = format!("{device}.request.json");
        proven.asks(&[device], &request).done().unwrap().says("undercroft-witness activate begin").unwrap();
    }
    let mut keys = site.create_keys().unwrap().into_iter();
    let key = keys.find(|create| create.line().contains("tpm-prod/sock")).unwrap();
    key.done().unwrap().says("custody software").unwrap();
    let unknown = proven.certifies("begin", "edge.request.json", "edge.challenge.json").run().unwrap();
    unknown.expect(4).unwrap().says("does not lead to a manufacturer").unwrap();
    assert!(!site.path("edge.challenge.json").exists());
    let begin = || proven.certifies("begin", "prod.request.json", "prod.challenge.json").done().unwrap();
    let challenge = site.path("prod.challenge.json").display().to_string();
    let answer = |device: &str| proven.asks(&[device, "--challenge", &challenge], "prod.answer.json");
    let finish = || proven.certifies("finish", "prod.answer.json", "prod.activation.json");
    begin();
    answer("edge").run().unwrap().expect(2).unwrap().says("it is for another TPM").unwrap();
    answer("prod").done().unwrap().says("undercroft-witness activate finish").unwrap();
    // Whoever was wrong begins again.
    proven.change("prod.answer.json", "\"secret\": \"", "\"secret\": \"00");
    finish().run().unwrap().expect(4).unwrap().says("not the one that was enclosed").unwrap();
    answer("prod").done().unwrap();
    finish().run().unwrap().expect(4).unwrap().says("begin again").unwrap();
    assert!(!site.path("prod.activation.json").exists());
    begin();
    answer("prod").done().unwrap();
    let dry = finish().arg("--dry-run").done().unwrap();
    dry.says("undercroft-attestation-key/v1").unwrap();
    assert!(!site.path("prod.activation.json").exists());
    let signed = finish().args(["--output", "json"]).done().unwrap();
    let signed: Value = serde_json::from_str(&signed.stdout).unwrap();
    assert!(signed["certificate"].as_str().unwrap().contains("\u{2014} witness.example/w1 "), "{signed}");
    finish().run().unwrap().expect(4).unwrap().says("was used").unwrap();
    is_proven(proven);
}

/// The key of the TPM is proven to whom believes the witness's key.
fn is_proven(proven: &Proven) {
    let tcti = format!("swtpm:path={}", proven.site.path("devices/tpm-prod/sock").display());
    let uri = format!("tpm:handle=0x81000010;tcti={tcti}");
    let show = proven.tool("undercroft").args(["keys", "show", &uri, "--algorithm", "ecdsa-p256"]);
    show.done().unwrap().says("custody    proven").unwrap().says("witness.example/w1 saw at").unwrap();
}

/// A gate serves the routes when its team says as whom it certifies.
fn as_a_gates(proven: &Proven, activator: &str) {
    let site = &proven.site;
    fs::remove_file(site.path("prod.activation.json")).unwrap();
    let gate = "pkcs11:token=witness;object=gate";
    let create = proven.tool("undercroft").args(["keys", "create", gate, "--algorithm", "ecdsa-p256"]);
    create.args(["--name", "gate", "--out"]).arg(site.path("gate")).done().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, device) = activator.split_once("[[device]]").unwrap();
    let config = format!(
        "key = \"{gate}\"\nstate = \"state\"\nlisten = \"127.0.0.1:{port}\"\npolicy = \"policy.toml\"\npolicy-arc = \"1.3.6.1.4.1.32473.1\"\ndomains = [\"control.example\", \"prod.example\", \"edge.example\"]\n[[device]]{device}"
    );
    fs::write(site.path("gate/policy.toml"), site.policy()).unwrap();
    let run = |more: &str| {
        fs::write(site.path("gate/gate.toml"), format!("{more}{config}")).unwrap();
        proven.tool("undercroft-witness").args(["gate", "run", "--config"]).arg(site.path("gate/gate.toml"))
    };
    let start = |more: &str| Daemon::start(run(more), &site.path("gate/n"), site.path("gate/log")).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let activate = || proven.asks(&["prod", "--witness", &url], "prod.activation.json");
    {
        let gate = start("");
        activate().run().unwrap().expect(2).unwrap().says("certifies no attestation keys").unwrap();
        assert_eq!(gate.stop().unwrap(), 0);
    }
    let listens = "activator = \"../witness/witness.toml\"\n";
    run(listens).run().unwrap().expect(2).unwrap().says("the gate listens for it").unwrap();
    let gate = start("activator = \"../auditor/activator.toml\"\n");
    activate().done().unwrap().says("certifies the attestation key").unwrap();
    assert_eq!(gate.stop().unwrap(), 0);
    is_proven(proven);
}

#[test]
fn a_running_daemon_whose_key_is_proven_no_more_stops() {
    let proven = Proven::new();
    let site = &proven.site;
    {
        let witness = proven.witness();
        proven.activate("prod").done().unwrap();
        // The TPM of the other domain makes its attestation key, and nobody certifies it.
        proven.activate("edge").run().unwrap().expect(4).unwrap();
        assert_eq!(witness.stop().unwrap(), 0);
    }
    create_keys(&proven);
    ceremony(&proven);
    let activation = site.path("prod.activation.json");
    let honest = fs::read(&activation).unwrap();
    // At the next proof of all keys.
    let mut daemon = start(&proven);
    assert_eq!(daemon.stop().unwrap(), 0);
    proven.change("daemon/undercroft.toml", "control = ", "custody-every = \"1s\"\ncontrol = ");
    daemon = site.start().unwrap();
    fs::remove_file(&activation).unwrap();
    assert_eq!(daemon.ended().unwrap(), 4);
    let said = daemon.logged();
    assert!(
        said.contains("nobody certified the attestation key") && said.contains("`proven` is required"),
        "{said}"
    );
    // It does not come up either, until the key is proven again.
    site.serve().unwrap().run().unwrap().expect(4).unwrap().says("nobody certified").unwrap();
    fs::write(&activation, &honest).unwrap();
    // After a reconnect, however long the next proof of all keys is away.
    proven.change("daemon/undercroft.toml", "custody-every = \"1s\"\n", "custody-every = \"24h\"\n");
    daemon = site.start().unwrap();
    // What stopped it stands in the log.
    let grades: Vec<_> = proven.records().iter().map(|record| record.grade).collect();
    assert!(grades.contains(&Grade::Software) && grades.last() == Some(&Grade::Proven), "{grades:?}");
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    assert_eq!(proven.issues(&daemon, &alice), 0);
    fs::remove_file(&activation).unwrap();
    assert_eq!(proven.issues(&daemon, &alice), 0);
    let pid = fs::read_to_string(site.path("devices/tpm-prod/swtpm.pid")).unwrap();
    Tool::foreign("kill").args(["-KILL", pid.trim()]).done().unwrap();
    let devices = fs::read_to_string(site.devices()).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    fs::write(site.devices(), devices).unwrap();
    // swtpm is connected to for each command, so that nothing tells of this but the TPM's own count of its resets. Whoever
    // asks for a certificate has the daemon look at it.
    let stopped = || site.administer(&["status"]).unwrap().run().unwrap().status == 3;
    let stops = (0..100).any(|_| {
        proven.issues(&daemon, &alice);
        stopped()
    });
    assert!(stops, "{}", daemon.logged());
    assert_eq!(daemon.ended().unwrap(), 4);
}

fn create_keys(proven: &Proven) {
    let site = &proven.site;
    for create in site.create_keys().unwrap() {
        let line = create.line().to_owned();
        let ran = create.done().unwrap();
        let grade = if line.contains("requests/prod.example") && line.contains("tpm:") {
            "proven"
        } else {
            "software"
        };
        ran.says(&format!("custody {grade}")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

fn ceremony(proven: &Proven) {
    let site = &proven.site;
    let anchors: Vec<String> = ["root.pem", "issuer.pem"]
        .iter()
        .map(|name| Digest::of(&e2e::certificates(&site.path("anchors").join(name)).unwrap()[0]).to_string())
        .collect();
    // Nobody is believed before the plan says so.
    proven.demand("prod.example");
    let refused = || site.ceremony().unwrap().run().unwrap().expect(4).unwrap();
    refused().says("signed by no activator").unwrap().says("`proven` is required").unwrap();
    let believed =
        format!("activators = [\"{}\"]\nendorsement-anchors = {anchors:?}\ntranscript =", proven.vkey);
    proven.change("ceremony/plan.toml", "transcript =", &believed);
    proven.demand("edge.example");
    refused().says("edge-intermediate").unwrap().says("nobody certified the attestation key").unwrap();
    proven.undemand("edge.example");
    // The papers of the TPM that is proven, beside the request of the one that is not.
    let (of_prod, of_edge) = (
        site.path("ceremony/requests/prod.example/intermediate.custody.json"),
        site.path("ceremony/requests/edge.example/intermediate.custody.json"),
    );
    let [honest, other] = [&of_prod, &of_edge].map(|path| fs::read(path).unwrap());
    fs::write(&of_prod, &other).unwrap();
    refused().says("about another key").unwrap();
    fs::write(&of_prod, &honest).unwrap();
    site.ceremony().unwrap().done().unwrap();
}

fn start(proven: &Proven) -> Daemon {
    let site = &proven.site;
    site.write_configuration().unwrap();
    let refused = || site.serve().unwrap().run().unwrap().expect(4).unwrap();
    for domain in ["prod.example", "edge.example"] {
        let name = format!("name = \"{domain}\"\nroots");
        proven.change(
            "daemon/undercroft.toml",
            &name,
            &format!("name = \"{domain}\"\ncustody = \"proven\"\nroots"),
        );
    }
    refused().says("edge.example").unwrap().says("nobody certified the attestation key").unwrap();
    proven.change(
        "daemon/undercroft.toml",
        "name = \"edge.example\"\ncustody = \"proven\"\n",
        "name = \"edge.example\"\n",
    );
    // Who is not believed proves nothing, although development mode takes keys in software.
    let text = fs::read_to_string(proven.config()).unwrap();
    let (without, _) = text.split_once("\n[[activator]]").unwrap();
    fs::write(proven.config(), without).unwrap();
    refused().says("signed by no activator").unwrap().says("undercroft keys activate").unwrap();
    fs::write(proven.config(), &text).unwrap();
    let doctor = proven.tool("undercroft").args(["doctor", "--config"]).arg(proven.config());
    doctor.done().unwrap().says("custody proven").unwrap();
    site.start().unwrap()
}

fn audit(proven: &Proven) {
    let site = &proven.site;
    let domain = site.domains()[1].clone();
    let records = proven.records();
    assert_eq!(records.last().unwrap().grade, Grade::Proven, "{records:?}");
    assert_eq!(records.last().unwrap().format, "tpm2-certify-v1");
    let doctor = proven.tool("undercroft").args(["doctor", "--config"]).arg(proven.config()).done().unwrap();
    let vkeys: Vec<_> = doctor.stdout.lines().filter_map(|line| line.split("; vkey ").nth(1)).collect();
    for vkey in vkeys {
        let label = vkey.split('/').nth(2).unwrap();
        fs::write(site.path(&format!("{}.vkey", label.split('+').next().unwrap())), format!("{vkey}\n"))
            .unwrap();
    }
    // All that an auditor has: the exported files, and whom he believes.
    let by_authority = |judged: &str| -> Vec<(String, String)> {
        let all: Value = serde_json::from_str(judged).unwrap();
        let of_authority = |key: &&Value| key["purpose"].as_str().unwrap().starts_with("authority");
        let all = all.as_array().unwrap().iter().filter(of_authority);
        all.map(|key| (key["said"].as_str().unwrap().to_owned(), key["grade"].as_str().unwrap().to_owned()))
            .collect()
    };
    let believing = proven.believing(proven.custody(&domain)).args(["--output", "json"]).done().unwrap();
    let judged = by_authority(&believing.stdout);
    assert_eq!(judged.last().unwrap(), &("proven".to_owned(), "proven".to_owned()), "{judged:?}");
    let text = proven.believing(proven.custody(&domain)).done().unwrap();
    text.says("witness.example/w1 saw at").unwrap().says("swtpm").unwrap();
    // The key of the log is in software, which does not satisfy everybody.
    let strict = proven.believing(proven.custody(&domain)).args(["--require", "proven"]);
    strict.run().unwrap().expect(5).unwrap().says("`proven` was to be").unwrap();
    // Who believes nobody is told that the log says more than that.
    let nobody = proven.custody(&domain).run().unwrap().expect(5).unwrap();
    nobody.says("signed by no activator").unwrap();
    // The whole audit judges it as well, and has nothing against what it cannot judge.
    let verify = |believing: bool| {
        let folder = site.path(&domain.folder);
        let verify =
            Tool::ours("undercroft-audit").unwrap().arg("verify").arg(folder.join("log")).arg("--key");
        let verify = verify.arg(site.path("prod.example.vkey"));
        if believing { proven.believing(verify) } else { verify }
    };
    verify(true).done().unwrap().says("custody proven").unwrap();
    judge_entries(&[site.path("prod.example/log")]);
    verify(false).done().unwrap();
}

fn comes_back(proven: &Proven, daemon: Daemon) {
    let site = &proven.site;
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    assert_eq!(proven.issues(&daemon, &alice), 0);
    let before = proven.records().len();
    let pid = fs::read_to_string(site.path("devices/tpm-prod/swtpm.pid")).unwrap();
    Tool::foreign("kill").args(["-KILL", pid.trim()]).done().unwrap();
    assert_ne!(proven.issues(&daemon, &alice), 0);
    let devices = fs::read_to_string(site.devices()).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    fs::write(site.devices(), devices).unwrap();
    assert!((0..100).any(|_| proven.issues(&daemon, &alice) == 0), "the TPM does not come back");
    let records = (0..200).map(|_| proven.records()).find(|records| records.len() > before);
    let Some(again) = records else { panic!("custody is not proved again") };
    assert_eq!(again.last().unwrap().grade, Grade::Proven, "{again:?}");
    assert_eq!(daemon.stop().unwrap(), 0);
    // For an auditor who asks, fresh; and not for one who asked something else.
    let tcti = format!("swtpm:path={}", site.path("devices/tpm-prod/sock").display());
    let (uri, file) = (format!("tpm:handle=0x81000010;tcti={tcti}"), site.path("asked.json"));
    let attest = proven.tool("undercroft").args(["keys", "attest", &uri, "--algorithm", "ecdsa-p256"]);
    attest
        .args(["--challenge", &"5a".repeat(32), "--out"])
        .arg(&file)
        .done()
        .unwrap()
        .says("custody proven")
        .unwrap();
    let judge = |challenge: &str| {
        let audit = Tool::ours("undercroft-audit").unwrap().args(["custody", "--file"]).arg(&file);
        let audit = audit.arg("--certificate").arg(site.path("prod.example/intermediate.pem"));
        proven.believing(audit).args(["--require", "proven", "--challenge", &challenge.repeat(32)])
    };
    judge("5a").done().unwrap();
    judge("5b").run().unwrap().expect(5).unwrap().says("does not answer the challenge").unwrap();
    let show = proven.tool("undercroft").args(["keys", "show", &uri, "--algorithm", "ecdsa-p256"]);
    show.done().unwrap().says("custody    proven").unwrap();
}

/// A thief with the rights of root on the CA's host.
fn swapped(proven: &Proven) {
    let site = &proven.site;
    let file = site.path("prod.activation.json");
    let honest = fs::read(&file).unwrap();
    let refused = || site.serve().unwrap().run().unwrap().expect(4).unwrap();
    fs::remove_file(&file).unwrap();
    refused().says("nobody certified the attestation key").unwrap();
    let mut forged: Value = serde_json::from_slice(&honest).unwrap();
    let note = forged["certificate"].as_str().unwrap().replace("anchor ", "anchor 0");
    forged["certificate"] = note.into();
    fs::write(&file, forged.to_string()).unwrap();
    refused().says("its text is not the five lines").unwrap();
    fs::write(&file, "{}").unwrap();
    refused().says("missing field").unwrap();
    fs::write(&file, &honest).unwrap();
    // Another attestation key at the same handle, in the same TPM.
    let shell = std::process::Command::new("sh")
        .args([
            "-ec",
            "tpm2_evictcontrol -Q -C o -c 0x81010100; tpm2_createprimary -Q -C o -G ecc -c root.ctx; \
             tpm2_create -Q -C root.ctx -G ecc:ecdsa-sha256:null -u ak.pub -r ak.priv \
             -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign'; \
             tpm2_flushcontext -t; tpm2_load -Q -C root.ctx -u ak.pub -r ak.priv -c ak.ctx; \
             tpm2_evictcontrol -Q -C o -c ak.ctx 0x81010100; tpm2_flushcontext -t",
        ])
        .current_dir(site.folder())
        .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", site.path("devices/tpm-prod/sock").display()))
        .output()
        .unwrap();
    assert!(shell.status.success(), "{shell:?}");
    refused().says("the certificate of the attestation key is that of another one").unwrap();
}
