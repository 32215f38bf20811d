//! The key of an intermediate is in other hands: it is frozen, its certificates are revoked, and another one signs, by the
//! word of the quorum and of nobody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::verifiers::{Verdict, Verifier};
use e2e::{Caller, Domain, Issue, Listen, Ran, Site, Tool, request};
use serde_json::Value;
use undercroft_ca::certificate::to_pem;
use undercroft_log::leaf::{Body, Reason, RecoveryWay, RefusedAction};

use crate::freeze::Quorum;
use crate::place::{Place, bodies};
use crate::revocation::get;
use crate::rotation::{create_key, table};

const PROD: &str = "prod.example";

/// How long a CRL may take to be published.
const PATIENCE: Duration = Duration::from_secs(60);

/// An installation whose first ceremony has made a spare intermediate, i2, that is in no configuration yet.
struct Story {
    place: Place,
    /// Where CRLs are served.
    logs: String,
    /// `[[domain.authority]]` of i1, and of i2.
    authorities: [String; 2],
}

impl Story {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site =
            Site::new(folder.path(), vec![Domain::softhsm(PROD, "ecdsa-p256")], Listen::Anywhere).unwrap();
        site.hsm_sim_up().unwrap().done().unwrap();
        site.write_plan().unwrap();
        for tool in site.create_keys().unwrap() {
            tool.done().unwrap();
        }
        create_key(&site, "intermediate-i2", "ceremony/requests", "intermediate-2");
        let path = site.path("ceremony/plan.toml");
        let plan = fs::read_to_string(&path).unwrap();
        let spare = table(&plan, "name = \"prod-intermediate\"")
            .replace("name = \"prod-intermediate\"", "name = \"prod-intermediate-2\"")
            .replace("prod.example/intermediate", "prod.example/intermediate-2")
            .replace("Intermediate I1", "Intermediate I2");
        fs::write(&path, plan + &spare).unwrap();
        site.ceremony().unwrap().done().unwrap();
        site.write_configuration().unwrap();
        let config = site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let logs = format!("127.0.0.1:{port}");
        let text = text.replace("admin-socket =", &format!("logs = \"{logs}\"\nadmin-socket ="));
        // The last domain is prod.example.
        let (_, last) = text.rsplit_once("[[domain.authority]]").unwrap();
        let (own, _) = last.split_once("\n[[device]]").unwrap();
        let own = format!("[[domain.authority]]{own}");
        let published = format!("{own}\n[domain.authority.revocation]\ncrl-lifetime = \"1d\"\n");
        let second = published
            .replace("\"i1\"", "\"i2\"")
            .replace("intermediate.pem", "intermediate-2.pem")
            .replace("intermediate-i1", "intermediate-i2")
            .replace("prod/i1.", "prod/i2.");
        fs::write(&config, text.replace(&own, &published)).unwrap();
        let place = Place::of(folder, site);
        let mut story = Self { place, logs, authorities: [published, second] };
        story.place.stop();
        Quorum::name(&story.place);
        story.place.start();
        story
    }

    /// Has the configuration name other authorities of prod.example, and starts the daemon again.
    fn configure(&mut self, before: &str, after: &str) {
        self.place.stop();
        let config = self.place.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        assert_eq!(text.matches(before).count(), 1);
        fs::write(&config, text.replace(before, after)).unwrap();
        self.place.start();
    }

    fn plan(&self, authority: &str, replacement: &str, out: &str) -> Tool {
        let tool = self.place.site.administer(&["recover", "plan", authority, "--replacement"]).unwrap();
        let tool = tool.arg(self.place.path(replacement)).args(["--reason", "the token was on sale"]);
        tool.args(["--requester", "alice", "--out"]).arg(self.place.path(out))
    }

    /// `recover compromise` with the plan and the statement of `folder`.
    fn recover(&self, folder: &str, approvals: &[&Path]) -> Tool {
        let folder = self.place.path(folder);
        let tool = self.place.site.administer(&["recover", "compromise", "--plan"]).unwrap();
        let tool = tool.arg(folder.join("plan.json")).arg("--statement").arg(folder.join("statement.json"));
        let tool = tool.arg("--affected").arg(self.place.path("affected.json"));
        approvals.iter().fold(tool, |tool, approval| tool.arg("--approval").arg(approval))
    }

    fn frozen(&self) -> usize {
        self.place.json(&["status"])["frozen"].as_array().unwrap().len()
    }

    /// Serial numbers and names of what is affected, as the list says.
    fn affected(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.place.path("affected.json")).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let text = |live: &Value, field: &str| live[field].as_str().unwrap().to_owned();
        let live = list["revoke"].as_array().unwrap().iter();
        live.map(|live| (text(live, "serial"), text(live, "spiffe-id"))).collect()
    }

    /// The CRL of i1 in PEM, once it has every serial number.
    fn crl(&self, serials: &[String]) -> PathBuf {
        let (der, pem) = (self.place.path("i1.crl"), self.place.path("i1.crl.pem"));
        let rest = Duration::from_millis(50);
        let mut text = String::new();
        for _ in 0..PATIENCE.as_millis() / rest.as_millis() {
            let answer = get(&self.logs, "/prod/i1.crl", "");
            if answer.status == 200 {
                fs::write(&der, &answer.body).unwrap();
                let openssl =
                    Tool::foreign("openssl").args(["crl", "-inform", "DER", "-noout", "-text", "-in"]);
                text = openssl.arg(&der).done().unwrap().stdout.to_lowercase();
                if serials.iter().all(|serial| text.contains(serial.as_str())) {
                    fs::write(&pem, to_pem("X509 CRL", &answer.body).unwrap()).unwrap();
                    return pem;
                }
            }
            std::thread::sleep(rest);
        }
        panic!("the CRL has not all of {serials:?}: {text}\n{}", self.place.daemon().logged());
    }

    /// `openssl verify` of what was issued to `out`, under the root and i1, with the CRL of i1.
    fn verify(&self, out: &str, crl: &Path) -> Ran {
        let openssl = Tool::foreign("openssl").args(["verify", "-crl_check", "-CAfile"]);
        let openssl = openssl.arg(self.place.path("prod.example/root.pem")).arg("-untrusted");
        let openssl = openssl.arg(self.place.path("prod.example/intermediate.pem")).arg("-CRLfile").arg(crl);
        openssl.arg(self.place.path(out).join("leaf.pem")).run().unwrap()
    }

    fn issuer(&self, out: &str) -> String {
        let leaf = self.place.path(out).join("leaf.pem");
        Tool::foreign("openssl").args(["x509", "-noout", "-issuer", "-in"]).arg(leaf).done().unwrap().stdout
    }

    fn serial(&self, out: &str) -> String {
        let leaf = self.place.path(out).join("leaf.pem");
        let said = Tool::foreign("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(leaf).done();
        said.unwrap().stdout.trim_end().trim_start_matches("serial=").to_lowercase()
    }

    /// A SPIRE server's CA.
    fn spire_ca(&self, spire: &Caller, out: &str) -> Ran {
        let out = self.place.path(out);
        let (_, csr) = request(&out, "leaf", "P-384", Some("spiffe://prod.example")).unwrap();
        self.place.ask(spire, &Issue { domain: PROD, profile: "spire-ca", csr: &csr, out: &out, more: &[] })
    }
}

#[test]
fn a_compromised_intermediate_is_replaced_by_the_quorums_word() {
    let mut story = Story::new();
    let place = &story.place;
    for out in ["one", "two"] {
        place.issue(PROD, out, &[]).expect(0).unwrap();
    }
    let spire = place.site.enrolled(place.daemon(), "/server/prod").unwrap();
    story.spire_ca(&spire, "spire").expect(0).unwrap();
    assert!(story.issuer("one").contains("Intermediate I1"));

    // What cannot be meant is not put to the quorum.
    let refused = |tool: Tool, status: i32, says: &str| {
        tool.run().unwrap().expect(status).unwrap().says(says).unwrap();
    };
    let spare = "prod.example/intermediate-2.pem";
    refused(story.plan("i1", spare, "no"), 2, "write DOMAIN/NAME");
    refused(story.plan("prod.example/i7", spare, "no"), 2, "no authority `prod.example/i7`");
    refused(story.plan("prod.example/i1", "prod.example/intermediate.pem", "no"), 4, "the compromised key");
    refused(story.plan("prod.example/i1", "prod.example/root.pem", "no"), 4, "roots stay offline");
    refused(story.plan("prod.example/i1", "control/intermediate.pem", "no"), 4, "not for prod.example");
    refused(story.plan("prod.example/i1", spare, "no").args(["--tainted-root", "12"]), 2, "no key id");
    assert!(!place.path("no").exists());

    story.plan("prod.example/i1", spare, "recovery").done().unwrap().says("ssh-keygen -Y sign").unwrap();
    let statement = place.path("recovery/statement.json");
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|who| Quorum::sign(place, who, &statement));
    // Too few, one person twice, whoever asked, and a plan that was changed behind the signatures.
    refused(story.recover("recovery", &[&bob]), 4, "1 of the 2 persons");
    refused(story.recover("recovery", &[&bob, &bob]), 4, "1 of the 2 persons");
    refused(story.recover("recovery", &[&alice, &bob]), 4, "alice asked for it");
    refused(story.recover("recovery", &[]), 2, "--approval");
    let forged = place.path("forged");
    fs::create_dir(&forged).unwrap();
    let plan = fs::read_to_string(place.path("recovery/plan.json")).unwrap();
    fs::write(forged.join("plan.json"), plan.replace("on sale", "at home")).unwrap();
    fs::copy(&statement, forged.join("statement.json")).unwrap();
    refused(story.recover("forged", &[&bob, &carol]), 4, "it is about");
    let text = fs::read_to_string(&statement).unwrap();
    fs::copy(place.path("recovery/plan.json"), forged.join("plan.json")).unwrap();
    fs::write(forged.join("statement.json"), text.replace("alice", "dave")).unwrap();
    refused(story.recover("forged", &[&alice, &bob]), 4, "does not verify");
    // A dry run verifies, lists, and changes nothing.
    let dry = story.recover("recovery", &[&bob, &carol]).arg("--dry-run").done().unwrap();
    dry.says("3 certificates of the compromised key are to be revoked").unwrap();
    assert_eq!(story.affected().len(), 3);
    assert_eq!(story.frozen(), 0);
    place.issue(PROD, "meanwhile", &[]).expect(0).unwrap();

    // For real: frozen, recorded, revoked, and not done as long as nobody has put the other one into service.
    let early = story.recover("recovery", &[&bob, &carol]).args(["--output", "json"]);
    let early = early.run().unwrap().expect(6).unwrap();
    let told: Value = serde_json::from_str(&early.stdout).unwrap();
    assert_eq!(told["approved-by"], serde_json::json!(["bob", "carol"]));
    assert_eq!((&told["live"], &told["revoked"]), (&Value::from(4), &Value::from(4)));
    let steps = |told: &Value| -> Vec<(String, bool)> {
        let steps = told["steps"].as_array().unwrap().iter();
        steps.map(|it| (it["step"].as_str().unwrap().to_owned(), it["done"].as_bool().unwrap())).collect()
    };
    let expected = |done: [bool; 4]| -> Vec<(String, bool)> {
        ["freeze", "record", "replace", "retire"].map(str::to_owned).into_iter().zip(done).collect()
    };
    assert_eq!(steps(&told), expected([true, true, false, false]));
    assert_eq!(story.frozen(), 1);
    place.issue(PROD, "refused", &[]).expect(4).unwrap().says("the token was on sale").unwrap();
    let affected = story.affected();
    let serials: Vec<_> = affected.iter().map(|(serial, _)| serial.clone()).collect();
    let old = ["one", "two", "spire", "meanwhile"];
    assert_eq!(serials, old.map(|out| story.serial(out)));
    let names: Vec<_> = affected.iter().map(|(_, name)| name.as_str()).collect();
    let ledger = "spiffe://prod.example/ns/pay/sa/ledger";
    assert_eq!(names, [ledger, ledger, "spiffe://prod.example", ledger]);
    // Whoever has the CRL refuses all of them.
    let crl = story.crl(&serials);
    for out in old {
        let verdict = story.verify(out, &crl);
        assert_ne!(verdict.status, 0);
        verdict.says("certificate revoked").unwrap();
    }

    // The signatures were for this plan, and not for another one that somebody writes afterwards.
    story.plan("prod.example/i1", spare, "another").done().unwrap();
    fs::copy(&statement, place.path("another/statement.json")).unwrap();
    refused(story.recover("another", &[&bob, &carol]), 4, "it is about");

    // The other one is put into service: first in the configuration.
    let [first, second] = story.authorities.clone();
    story.configure(&first, &format!("{first}\n{second}"));
    let behind = story.recover("recovery", &[&bob, &carol]).run().unwrap().expect(6).unwrap();
    behind.says("put it before the other authorities").unwrap();
    story.place.issue(PROD, "still-refused", &[]).expect(4).unwrap();
    story.configure(&format!("{first}\n{second}"), &format!("{second}\n{first}"));
    let again = story.recover("recovery", &[&bob, &carol]).args(["--output", "json"]).run().unwrap();
    let told: Value = serde_json::from_str(&again.expect(6).unwrap().stdout).unwrap();
    assert_eq!(steps(&told), expected([true, true, true, false]));
    assert_eq!((&told["live"], &told["revoked"]), (&Value::from(4), &Value::from(0)));
    // Everybody on the list comes for another one, which others accept.
    for out in ["again-one", "again-two", "again-meanwhile"] {
        story.place.issue(PROD, out, &[]).expect(0).unwrap();
    }
    story.spire_ca(&spire, "again-spire").expect(0).unwrap();
    for out in ["again-one", "again-two", "again-meanwhile", "again-spire"] {
        assert!(story.issuer(out).contains("Intermediate I2"), "{out}");
        assert!(!serials.contains(&story.serial(out)));
    }
    let place = &story.place;
    for verifier in [Verifier::OpenSsl, Verifier::GnuTls] {
        let (root, chain) = (place.path("prod.example/root.pem"), place.path("again-one/chain.pem"));
        assert_eq!(verifier.verify(&root, &chain, &place.path("scratch")).unwrap(), Verdict::Accepted);
    }
    story.configure(&format!("{second}\n{first}"), &second);
    let done = story.recover("recovery", &[&bob, &carol]).done().unwrap();
    done.says("done  retire").unwrap().says("0 certificates of the compromised key were revoked").unwrap();
    assert_eq!(story.affected(), affected);
    story.place.issue(PROD, "after", &[]).expect(0).unwrap();

    // One plan, one approval, one freeze, each revoked once: whatever was repeated. Refusals are there, each.
    story.place.export_and_audit();
    let control = bodies(&story.place.path("control/log"));
    let count = |wanted: fn(&Body) -> bool| control.iter().filter(|body| wanted(body)).count();
    assert_eq!(count(|body| matches!(body, Body::Approval(approval) if approval.by == ["bob", "carol"])), 1);
    assert_eq!(count(|body| matches!(body, Body::Freeze(_))), 1);
    assert_eq!(count(|body| matches!(body, Body::Recovery(it) if it.way == RecoveryWay::Compromise)), 1);
    assert_eq!(count(|body| matches!(body, Body::Refusal(it) if it.action == RefusedAction::Recover)), 6);
    let revoked: Vec<_> = bodies(&story.place.path("prod.example/log"))
        .into_iter()
        .filter_map(|body| match body {
            Body::Revocation(revocation) => Some((revocation.reason, revocation.serials.len())),
            _ => None,
        })
        .collect();
    assert_eq!(revoked, [(Some(Reason::Superseded), 4)]);
    story.place.stop();
}
