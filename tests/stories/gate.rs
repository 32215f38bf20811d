//! Two gates beside a TPM: nothing is signed that they have not seen, kept and agreed to.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use e2e::{Caller, Daemon, Domain, Issue, Listen, Ran, Site, Tool, request};
use sha2::{Digest as _, Sha256};
use undercroft_log::leaf::{Body, Leaf, OutcomeResult};

use crate::place::bodies;

const GATES: [&str; 2] = ["gate-1", "gate-2"];
const ID: &str = "spiffe://prod.example/ns/pay/sa/ledger";

pub(crate) struct Gated {
    pub(crate) site: Site,
    ports: Vec<u16>,
    folder: tempfile::TempDir,
}

impl Gated {
    /// An installation whose intermediate of `prod.example` lives in a TPM and was made with two gates, as an operator
    /// would make it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site =
            Site::new(folder.path(), vec![Domain::tpm("prod.example", "ecdsa-p256")], Listen::Anywhere);
        let site = site.unwrap();
        let up = site.hsm_sim_up().unwrap();
        GATES.iter().fold(up, |up, gate| up.args(["--softhsm", gate])).done().unwrap();
        let ports = GATES.map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let own = Self { site, ports: ports.to_vec(), folder };
        own.make_gates();
        own.make_keys();
        own.site.ceremony().unwrap().done().unwrap();
        own.site.write_configuration().unwrap();
        own.change("daemon/undercroft.toml", "key = \"tpm:", "gates = \"../gates.toml\"\nkey = \"tpm:");
        own.give_certificates();
        own
    }

    pub(crate) fn tool(&self, name: &str) -> Tool {
        let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), self.site.devices().display().to_string());
        Tool::ours(name).unwrap().with(&self.site.variables()).with(&[environment])
    }

    /// Each gate's team makes a key and tells the public half.
    fn make_gates(&self) {
        let mut gates = String::new();
        for (gate, port) in GATES.iter().zip(&self.ports) {
            let uri = format!("pkcs11:token={gate};object=gate");
            let create = self.tool("undercroft").args(["keys", "create", &uri, "--algorithm", "ecdsa-p256"]);
            create.args(["--name", "gate", "--out"]).arg(self.site.path(gate)).done().unwrap();
            let devices = fs::read_to_string(self.site.devices()).unwrap();
            let device =
                devices.split("[[device]]").find(|table| table.contains(&format!("name = \"{gate}\"")));
            let text = format!(
                "key = \"{uri}\"\nstate = \"state\"\nlisten = \"127.0.0.1:{port}\"\npolicy = \"policy.toml\"\npolicy-arc = \"1.3.6.1.4.1.32473.1\"\ndomains = [\"control.example\", \"prod.example\"]\n\n[[device]]{}",
                device.unwrap()
            );
            fs::write(self.site.path(&format!("{gate}/gate.toml")), text).unwrap();
            fs::write(self.site.path(&format!("{gate}/policy.toml")), self.site.policy()).unwrap();
            let key = self.gate_command(gate, &["key"]).done().unwrap().stdout;
            fs::write(self.site.path(&format!("{gate}.pem")), key).unwrap();
            gates += &format!(
                "[[gate]]\nname = \"{gate}\"\nurl = \"http://127.0.0.1:{port}\"\nkey = \"{gate}.pem\"\n\n"
            );
        }
        fs::write(self.site.path("gates.toml"), gates).unwrap();
    }

    /// The CA's team makes the gated key, gives its custody file to the gates, and has its request signed.
    fn make_keys(&self) {
        self.site.write_plan().unwrap();
        let gates = self.site.path("gates.toml");
        for create in self.site.create_keys().unwrap() {
            let is_gated = create.line().contains("tpm:");
            let create = if is_gated { create.arg("--gates").arg(&gates) } else { create };
            let ran = create.done().unwrap();
            if is_gated {
                ran.says("give").unwrap().says("to its gates").unwrap();
            }
        }
        let requests = self.site.path("ceremony/requests/prod.example");
        for gate in GATES {
            let authority = "\n[[authority]]\ncustody = \"../ceremony/requests/prod.example/intermediate.custody.json\"\ndomain = \"prod.example\"\nurls = { crl = \"http://pki.ca.example/prod/i1.crl\", certificate = \"http://pki.ca.example/prod/i1.cer\" }\nca-callers = [\"spiffe://control.example/server/prod\"]\ngates = [\"../gate-1.pem\", \"../gate-2.pem\"]\nrate = { most = 50, per = \"1m\" }\nca-rate = { most = 4, per = \"1h\" }\n";
            let path = self.site.path(&format!("{gate}/gate.toml"));
            let text = fs::read_to_string(&path).unwrap();
            let (head, device) = text.split_once("\n[[device]]").unwrap();
            fs::write(&path, format!("{head}{authority}\n[[device]]{device}")).unwrap();
        }
        let key = &self.site.domains()[1].key;
        let ask = || {
            let tool = self.tool("undercroft").args(["keys", "request", key, "--algorithm", "ecdsa-p256"]);
            tool.args(["--name", "intermediate", "--out"]).arg(&requests)
        };
        // Not without gates, and not while they are away.
        ask().run().unwrap().expect(2).unwrap().says("gated").unwrap();
        ask().arg("--gates").arg(&gates).run().unwrap().expect(3).unwrap().says("no gate gives").unwrap();
        let gate = self.gate(GATES[1]);
        ask().arg("--gates").arg(&gates).done().unwrap();
        assert_eq!(gate.stop().unwrap(), 0);
    }

    /// After the ceremony the gates get the certificate and the log's key.
    fn give_certificates(&self) {
        let doctor = self.tool("undercroft").args(["doctor", "--config"]);
        let said = doctor.arg(self.site.path("daemon/undercroft.toml")).done().unwrap().stdout;
        let keys = said.lines().filter_map(|line| line.split("; vkey ").nth(1));
        let key = keys.into_iter().find(|key| key.contains("prod.example")).unwrap();
        fs::write(self.site.path("prod.vkey"), format!("{key}\n")).unwrap();
        for gate in GATES {
            self.change(
                &format!("{gate}/gate.toml"),
                "domain = \"prod.example\"",
                "domain = \"prod.example\"\ncertificate = \"../prod.example/intermediate.pem\"\nlog = \"../prod.vkey\"",
            );
        }
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.site.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn gate_command(&self, gate: &str, command: &[&str]) -> Tool {
        let tool = self.tool("undercroft-witness").arg("gate").args(command);
        tool.arg("--config").arg(self.site.path(&format!("{gate}/gate.toml")))
    }

    pub(crate) fn gate(&self, gate: &str) -> Daemon {
        let notify = self.site.path(&format!("{gate}/n"));
        Daemon::start(self.gate_command(gate, &["run"]), &notify, self.site.path(&format!("{gate}/log")))
            .unwrap()
    }

    pub(crate) fn gates(&self) -> Vec<Daemon> {
        GATES.map(|gate| self.gate(gate)).into()
    }

    fn ask(
        &self,
        daemon: &Daemon,
        caller: &Caller,
        profile: &str,
        id: &str,
        more: &[&str],
    ) -> (Ran, PathBuf) {
        let out = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let (_, csr) = request(&out, "leaf", "P-256", Some(id)).unwrap();
        let issue = Issue { domain: "prod.example", profile, csr: &csr, out: &out, more };
        (self.site.issue(daemon, caller, &issue).unwrap().run().unwrap(), out)
    }

    /// Has the daemon publish CRLs of the gated authority at `address`, and the gates agree to them.
    fn publish(&self, address: &str, more: &str) {
        let url = "certificate = \"http://pki.ca.example/prod/i1.cer\" }";
        let table = format!("{url}\n\n[domain.authority.revocation]\ncrl-lifetime = \"1d\"\n{more}");
        self.change("daemon/undercroft.toml", url, &table);
        self.change(
            "daemon/undercroft.toml",
            "admin-socket =",
            &format!("logs = \"{address}\"\nadmin-socket ="),
        );
    }

    pub(crate) fn svid(&self, daemon: &Daemon, caller: &Caller) -> Ran {
        self.ask(daemon, caller, "svid", ID, &[]).0
    }
}

#[test]
fn two_parties_agree_or_nothing_is_signed() {
    let gated = Gated::new();
    let site = &gated.site;
    let mut gates = gated.gates();
    let daemon = site.start().unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();

    let (issued, out) = gated.ask(&daemon, &alice, "svid", ID, &[]);
    issued.expect(0).unwrap();
    gated.ask(&daemon, &server, "spire-ca", "spiffe://prod.example", &[]).0.expect(0).unwrap();

    // The gate keeps what it has seen, and gives it to anybody.
    let entry = fs::read(out.join("leaf.entry")).unwrap();
    let leaf = Leaf::parse(&entry).unwrap();
    let origin = hex::encode(Sha256::digest(leaf.origin.as_str()));
    let url = format!("http://127.0.0.1:{}/{origin}/leaf/{}", gated.ports[0], leaf.index);
    let fetched = Tool::foreign("python3").args([
        "-c",
        "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())",
        &url,
    ]);
    assert_eq!(fetched.done().unwrap().stdout.as_bytes(), entry);

    // One gate is enough, and its word counts as much.
    drop(gates.remove(0));
    gated.svid(&daemon, &alice).expect(0).unwrap();
    // Its team can stop everything.
    gated.gate_command("gate-2", &["freeze", "--reason", "a drill"]).done().unwrap();
    gated.svid(&daemon, &alice).expect(4).unwrap().says("issuance is frozen: a drill").unwrap();
    gated.gate_command("gate-2", &["release"]).done().unwrap().says("it goes on").unwrap();
    gated.svid(&daemon, &alice).expect(0).unwrap();
    // With none, nothing.
    drop(gates.remove(0));
    gated.svid(&daemon, &alice).expect(3).unwrap().says("no gate gives its word").unwrap();
    let _gates = gated.gates();
    gated.svid(&daemon, &alice).expect(0).unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);

    // Without its gates in the configuration the intermediate issues nothing, and says why.
    gated.change("daemon/undercroft.toml", "gates = \"../gates.toml\"\n", "");
    let daemon = site.start().unwrap();
    gated.svid(&daemon, &alice).expect(3).unwrap().says("configure its gates").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
}

#[test]
fn a_thief_who_owns_the_ca_does_not_get_past_the_gates_policy() {
    let mut gated = Gated::new();
    let _gates = gated.gates();
    // The thief rewrites the CA's policy: every operator may have a SPIRE CA, and any name for a day.
    let text = gated.site.policy().replace("/server/prod", "/operator/alice").replace("/ns/*/sa/*", "/**");
    gated.site.set_policy(&text.replace("\"4h\"", "\"24h\"")).unwrap();
    let daemon = gated.site.start().unwrap();
    let alice = gated.site.enrolled(&daemon, "/operator/alice").unwrap();
    for (profile, id, more, rule) in [
        ("spire-ca", "spiffe://prod.example", &[][..], "no-rule"),
        ("svid", "spiffe://prod.example/admin", &[], "id-not-allowed"),
        ("svid", ID, &["--lifetime", "20h"], "lifetime-over-cap"),
    ] {
        let (ran, _) = gated.ask(&daemon, &alice, profile, id, more);
        ran.expect(4).unwrap().says(rule).unwrap().says("gate `gate-1` gives no word").unwrap();
    }
    // And what they agree on goes on.
    gated.svid(&daemon, &alice).expect(0).unwrap();
    // Each refused one stands in the log as abandoned, with the gate's reason.
    gated.site.export(&gated.site.domains()[1]).unwrap().done().unwrap();
    let log = bodies(&gated.site.path("prod.example/log"));
    let abandoned = log.iter().filter(|body| {
        matches!(body, Body::Outcome(outcome)
            if matches!(&outcome.result, OutcomeResult::Abandoned(why) if why.contains("gives no word")))
    });
    assert_eq!(abandoned.count(), 3);
    assert_eq!(daemon.stop().unwrap(), 0);
}

#[test]
fn a_database_that_was_put_back_does_not_get_past_the_gates() {
    let gated = Gated::new();
    let site = &gated.site;
    let _gates = gated.gates();
    let daemon = site.start().unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    gated.svid(&daemon, &alice).expect(0).unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    let database = site.path("daemon/undercroft.db");
    let saved = site.path("saved.db");
    fs::copy(&database, &saved).unwrap();

    let daemon = site.start().unwrap();
    gated.svid(&daemon, &alice).expect(0).unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    fs::copy(&saved, &database).unwrap();
    let refused = site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("gate `gate-1`").unwrap().says("the log went back").unwrap();
}

/// A gated key signs CRLs as its gates agree to them, and nothing for an OCSP responder.
#[test]
fn a_gated_authority_says_what_it_has_revoked() {
    let gated = Gated::new();
    let site = &gated.site;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let configuration = fs::read_to_string(site.path("daemon/undercroft.toml")).unwrap();
    gated.publish(
        &address,
        "ocsp-key = \"tpm:device=tpm-prod;handle=0x81010009\"\nocsp-algorithm = \"ecdsa-p256\"\n",
    );
    site.serve()
        .unwrap()
        .run()
        .unwrap()
        .expect(2)
        .unwrap()
        .says("gates agree to certificates of callers and to CRLs")
        .unwrap();
    fs::write(site.path("daemon/undercroft.toml"), configuration).unwrap();
    gated.publish(&address, "");
    // Not by gates that nobody has told about CRLs.
    let gates = gated.gates();
    let daemon = site.start().unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    let (issued, out) = gated.ask(&daemon, &alice, "svid", ID, &[]);
    issued.expect(0).unwrap();
    let leaf = out.join("leaf.pem");
    let certificate = leaf.display().to_string();
    let revoke =
        ["revoke", "--domain", "prod.example", "--reason", "superseded", "--certificate", &certificate];
    site.administer(&revoke).unwrap().done().unwrap();
    let crl = || crate::revocation::get(&address, "/prod/i1.crl", "");
    assert_ne!(crl().status, 200, "a gate has agreed to what its team did not allow");
    assert_eq!(daemon.stop().unwrap(), 0);
    drop(gates);
    for gate in GATES {
        gated.change(
            &format!("{gate}/gate.toml"),
            "ca-rate = { most = 4, per = \"1h\" }",
            "ca-rate = { most = 4, per = \"1h\" }\ncrl-lifetime = \"1d\"",
        );
    }
    let _gates = gated.gates();
    let daemon = site.start().unwrap();
    let published = (0..1200).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        crl()
    });
    let published = published.into_iter().find(|answer| answer.status == 200);
    let published = published.unwrap_or_else(|| panic!("{}", daemon.logged()));
    let (der, pem) = (site.path("i1.crl"), site.path("i1.crl.pem"));
    fs::write(&der, &published.body).unwrap();
    Tool::foreign("openssl")
        .args(["crl", "-inform", "DER", "-in"])
        .arg(&der)
        .arg("-out")
        .arg(&pem)
        .done()
        .unwrap();
    let verify = Tool::foreign("openssl")
        .args(["verify", "-crl_check", "-CAfile"])
        .arg(site.path("prod.example/root.pem"));
    let verify =
        verify.arg("-untrusted").arg(site.path("prod.example/intermediate.pem")).arg("-CRLfile").arg(&pem);
    let ran = verify.arg(&leaf).run().unwrap();
    assert!(ran.status != 0 && ran.stderr.contains("certificate revoked"), "{ran:?}");
}
