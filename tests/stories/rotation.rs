//! An intermediate is rotated from its plan to its end, and the rotation of a root begins: with the real programs.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::verifiers::{Verdict, Verifier};
use e2e::{Domain, Issue, Site, Tool, certificates, request};
use serde_json::Value;
use undercroft_log::leaf::{Body, RotationEvent, RotationPhase};

use crate::judges::judge_entries;
use crate::place::{Place, bodies};

const PROD: &str = "prod.example";

/// The first of its tables in a plan that hold `text`.
pub(crate) fn table(plan: &str, text: &str) -> String {
    let tables = plan.split("\n[[").skip(1).map(|table| format!("\n[[{}\n", table.trim_end()));
    tables.into_iter().find(|table| table.contains(text)).unwrap()
}

/// `undercroft keys create` of an authority's key.
pub(crate) fn create_key(site: &Site, object: &str, requests: &str, name: &str) {
    let create = Tool::ours("undercroft").unwrap().args(["keys", "create"]);
    let create = create.arg(format!("pkcs11:token=prod;object={object}"));
    let create = create.args(["--algorithm", "ecdsa-p256", "--name", name, "--out"]);
    let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), site.devices().display().to_string());
    create.arg(site.path(requests).join(PROD)).with(&site.variables()).with(&[environment]).done().unwrap();
}

/// A site whose domain has two intermediates, i1 and i2, and whose next root, with i3 below it, was made in a second
/// ceremony, in which both roots have certified each other. Three persons may approve.
pub(crate) fn built(folder: &Path) -> Site {
    let site = Site::new(folder, vec![Domain::softhsm(PROD, "ecdsa-p256")], e2e::Listen::Anywhere).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    for tool in site.create_keys().unwrap() {
        tool.done().unwrap();
    }
    create_key(&site, "intermediate-i2", "ceremony/requests", "intermediate-2");
    let path = site.path("ceremony/plan.toml");
    let plan = fs::read_to_string(&path).unwrap();
    let own = table(&plan, "name = \"prod-intermediate\"");
    let second = own
        .replace("name = \"prod-intermediate\"", "name = \"prod-intermediate-2\"")
        .replace("prod.example/intermediate", "prod.example/intermediate-2")
        .replace("Intermediate I1", "Intermediate I2");
    fs::write(&path, format!("{plan}{second}")).unwrap();
    site.ceremony().unwrap().done().unwrap();

    create_key(&site, "intermediate-i3", "second/requests", "intermediate");
    let (head, _) = plan.split_once("\n[[").unwrap();
    let head = head.replace("name = \"first\"", "name = \"second\"").replace("ceremony-log", "second-log");
    let tables = table(&plan, "name = \"prod-root\"") + &own;
    let tables = tables
        .replace("prod-root-r1", "prod-root-r2")
        .replace("Root R1", "Root R2")
        .replace("Intermediate I1", "Intermediate I3");
    let crossed = crossed(&site, &plan);
    fs::write(site.path("second/plan.toml"), format!("{head}\n{tables}{crossed}")).unwrap();
    let run = Tool::ours("undercroft-ceremony").unwrap().arg("run").arg(site.path("second/plan.toml"));
    let run = run.arg("--environment").arg(site.path("ceremony/environment.toml"));
    let run = run.arg("--requests").arg(site.path("second/requests")).arg("--out").arg(site.path("second"));
    let run = run.arg("--transcript").arg(site.path("second/transcript")).with(&site.variables());
    run.done().unwrap();

    site.write_configuration().unwrap();
    let config = site.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let roster = ["alice", "bob", "carol"].map(|name| {
        let key = site.path(name);
        let keygen = Tool::foreign("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        keygen.done().unwrap();
        let key = fs::read_to_string(key.with_extension("pub")).unwrap();
        format!("[[recovery.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
    });
    let authority = |number: u8, certificate: &str| {
        format!(
            "\n[[domain.authority]]\nname = \"i{number}\"\ncertificate = \"../{certificate}\"\nkey = \"pkcs11:token=prod;object=intermediate-i{number}\"\nalgorithm = \"ecdsa-p256\"\nurls = {{ crl = \"http://pki.ca.example/prod/i{number}.crl\", certificate = \"http://pki.ca.example/prod/i{number}.cer\" }}\n"
        )
    };
    // The last domain is prod.example. Its next root is known by configuration, and not published by it.
    let (head, devices) = text.split_once("\n[[device]]").unwrap();
    let (control, prod) = head.split_once("name = \"prod.example\"").unwrap();
    let prod = prod.replace(
        "roots = [\"../prod.example/root.pem\"]",
        "roots = [\"../prod.example/root.pem\"]\nconsumers = [\"spiffe://control.example/server/prod\"]",
    );
    let both = authority(2, "prod.example/intermediate-2.pem");
    let text = format!(
        "{control}name = \"prod.example\"{prod}{both}\n[recovery]\nquorum = 2\n\n{}\n[[device]]{devices}",
        roster.concat()
    );
    fs::write(&config, text).unwrap();
    site
}

/// The tables by which the old root and the new one certify each other.
fn crossed(site: &Site, plan: &str) -> String {
    let pem = fs::read_to_string(site.path("prod.example/root.pem")).unwrap();
    let begins = plan.split("not-before = ").nth(1).unwrap().lines().next().unwrap();
    let ends = plan.rsplit("not-after = ").next().unwrap().lines().next().unwrap();
    let existing = format!(
        "\n[[existing-root]]\nname = \"old-root\"\ndomains = [\"prod.example\"]\nkey = {{ device = \"roots\", label = \"prod-root-r1\", algorithm = \"ecdsa-p384\" }}\ncertificate = \"\"\"{pem}\"\"\"\nurls = {{ crl = \"http://pki.ca.example/prod/root.crl\", certificate = \"http://pki.ca.example/prod/root.cer\" }}\nfollows = \"CP 1.0 section 5.6\"\n"
    );
    let cross = |name: &str, issuer: &str, subject: &str| {
        format!(
            "\n[[cross-certificate]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nsubject = \"{subject}\"\nnot-before = {begins}\nnot-after = {ends}\nfollows = \"CP 1.0 section 5.6\"\noutput = \"prod.example/{name}.pem\"\n"
        )
    };
    existing + &cross("new-by-old", "old-root", "prod-root") + &cross("old-by-new", "prod-root", "old-root")
}

struct Story {
    place: Place,
}

impl Story {
    fn rotate(&self, arguments: &[&str]) -> Tool {
        self.place.site.administer(&["rotate"]).unwrap().args(arguments)
    }

    fn status(&self) -> Value {
        self.place.json(&["rotate", "status", PROD])
    }

    fn sign(&self, who: &str, file: &Path) -> PathBuf {
        let copy = self.place.path(&format!("{who}-copy"));
        fs::copy(file, &copy).unwrap();
        let tool =
            Tool::foreign("ssh-keygen").args(["-q", "-Y", "sign", "-n", "undercroft-approval-v1", "-f"]);
        tool.arg(self.place.path(who)).arg(&copy).done().unwrap();
        let signed = self.place.path(&format!("{who}.sig"));
        fs::rename(copy.with_extension("sig"), &signed).unwrap();
        signed
    }

    /// Who signed the first certificate of what was issued to `out`.
    fn issuer(&self, out: &str) -> String {
        let leaf = self.place.path(out).join("leaf.pem");
        Tool::foreign("openssl").args(["x509", "-noout", "-issuer", "-in"]).arg(leaf).done().unwrap().stdout
    }
}

#[test]
fn an_intermediate_is_rotated_and_a_root_begins_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let site = built(folder.path());
    let mut story = Story { place: Place::of(folder, site) };
    let place = &story.place;

    // i2 is configured and waits for its turn.
    place.issue(PROD, "before", &["--lifetime", "60s"]).expect(0).unwrap();
    assert!(story.issuer("before").contains("Intermediate I1"));
    story.rotate(&["status", PROD]).run().unwrap().expect(2).unwrap().says("never been rotated").unwrap();
    story.rotate(&["advance", PROD]).run().unwrap().expect(2).unwrap().says("no rotation").unwrap();
    let plan = ["plan", PROD, "--replace", "i1=i2", "--schedule", "accelerated"];
    story.rotate(&plan).arg("--dry-run").done().unwrap().says("would be planned").unwrap();
    story.rotate(&["status", PROD]).run().unwrap().expect(2).unwrap();
    story.rotate(&plan).done().unwrap().says("authority    i1 -> i2").unwrap();
    story.rotate(&["advance", PROD, "--dry-run"]).done().unwrap().says("would go on").unwrap();
    assert_eq!(story.status()["phase"], Value::Null);
    story.rotate(&["advance", PROD]).done().unwrap().says("has gone on: pre-publish").unwrap();
    story.rotate(&["advance", PROD]).done().unwrap().says("has gone on: switch").unwrap();
    // Nobody knows yet whether i2 can issue.
    let early = story.rotate(&["advance", PROD]).run().unwrap().expect(6).unwrap();
    early.says("may not enter `drain` yet").unwrap().says("unused: i2 has issued nothing").unwrap();
    place.issue(PROD, "after", &[]).expect(0).unwrap();
    assert!(story.issuer("after").contains("Intermediate I2"));
    story.rotate(&["advance", PROD]).done().unwrap().says("has gone on: drain").unwrap();
    // What i1 has issued lives for a minute, and the daemon says until when; programs read it.
    let early = story.rotate(&["advance", PROD, "--output", "json"]).run().unwrap().expect(6).unwrap();
    let told: Value = serde_json::from_str(&early.stdout).unwrap();
    assert_eq!(told["blockers"][0]["rule"], "longest-live");
    let until: jiff::Timestamp = told["blockers"][0]["until"].as_str().unwrap().parse().unwrap();
    let now: jiff::Timestamp = told["now"].as_str().unwrap().parse().unwrap();
    assert!(until > now && until < now + jiff::SignedDuration::from_secs(62), "{told}");
    let error: Value = serde_json::from_str(&early.stderr).unwrap();
    assert_eq!(error["status"], 6);
    for verifier in [Verifier::OpenSsl, Verifier::GnuTls] {
        for chain in ["before/chain.pem", "after/chain.pem"] {
            let root = place.path("prod.example/root.pem");
            let verdict = verifier.verify(&root, &place.path(chain), &place.path("scratch")).unwrap();
            assert_eq!(verdict, Verdict::Accepted, "{verifier}: {chain}");
        }
    }

    // Everything is as it was after a power cut.
    story.place.daemon.take().unwrap().kill().unwrap();
    story.place.start();
    assert_eq!(story.status()["phase"], "drain");
    let place = &story.place;
    place.issue(PROD, "later", &[]).expect(0).unwrap();
    assert!(story.issuer("later").contains("Intermediate I2"));
    // By the daemon's own word: when the date has come that it named, nothing stands in the way any more.
    loop {
        let status = story.status();
        let now: jiff::Timestamp = status["now"].as_str().unwrap().parse().unwrap();
        assert_eq!(status["blockers"].as_array().unwrap().is_empty(), now >= until, "{status}");
        if now >= until {
            break;
        }
    }
    story.rotate(&["advance", PROD]).done().unwrap().says("has gone on: retire").unwrap();

    // The root: approved by two of three, none of whom asked.
    let statement = place.path("bundle.json");
    let new_root = place.path("second/prod.example/root.pem");
    let plan =
        |replace: &str| story.rotate(&["plan", PROD, "--replace", replace, "--new-root"]).arg(&new_root);
    plan("i1=i3").run().unwrap().expect(2).unwrap().says("`i1` has retired").unwrap();
    let planned = plan("i2=i3").args(["--requester", "alice", "--statement"]).arg(&statement).done().unwrap();
    planned.says("Root R1").unwrap().says("ssh-keygen -Y sign -n undercroft-approval-v1").unwrap();
    let without = story.rotate(&["advance", PROD]).run().unwrap().expect(4).unwrap();
    without.says("2 of alice, bob, carol must approve").unwrap();
    let approved = |persons: &[&str]| {
        let advance = story.rotate(&["advance", PROD, "--statement"]).arg(&statement);
        persons.iter().fold(advance, |tool, who| tool.arg("--approval").arg(story.sign(who, &statement)))
    };
    approved(&["bob"]).run().unwrap().expect(4).unwrap().says("1 of the 2 persons").unwrap();
    approved(&["alice", "bob"]).run().unwrap().expect(4).unwrap().says("alice asked for it").unwrap();
    assert_eq!(place.json(&["bundle", PROD])["sequence"], 1);
    approved(&["bob", "carol"]).done().unwrap().says("has gone on: pre-publish").unwrap();
    let bundle = place.json(&["bundle", PROD]);
    assert_eq!(bundle["sequence"], 2);
    let published = bundle["roots"].as_str().unwrap();
    let old = fs::read_to_string(place.path("prod.example/root.pem")).unwrap();
    assert_eq!(published, old + &fs::read_to_string(&new_root).unwrap());

    let early = story.rotate(&["advance", PROD]).run().unwrap().expect(6).unwrap();
    let early = early.says("pre-publication: `pre-publish` lasts 2 leaf lifetime(s) of 1d").unwrap();
    let early = early.says("distribution-lag: `pre-publish` lasts 5 refresh hint(s) of 5m").unwrap();
    let early = early.says("consumer: the consumer spiffe://control.example/server/prod").unwrap();
    early.says("cross-certificate: the cross-certificate of the new root by the old is missing").unwrap();
    // The SPIRE server has a CA minted, and with it come both roots.
    let spire = place.site.enrolled(place.daemon(), "/server/prod").unwrap();
    let out = place.path("prod.example/spire-ca");
    let (_, csr) = request(&out, "leaf", "P-384", Some("spiffe://prod.example")).unwrap();
    let issue = Issue { domain: PROD, profile: "spire-ca", csr: &csr, out: &out, more: &[] };
    place.ask(&spire, &issue).expect(0).unwrap();
    assert_eq!(certificates(&out.join("bundle.pem")).unwrap().len(), 2);
    let status = story.status();
    let rules: Vec<_> =
        status["blockers"].as_array().unwrap().iter().map(|blocker| &blocker["rule"]).collect();
    assert_eq!(rules, ["pre-publication", "distribution-lag", "cross-certificate", "cross-certificate"]);
    assert_eq!(status["consumers"][0]["holds"], 2);

    let page = place.path("rotation.html");
    story.rotate(&["status", PROD, "--page"]).arg(&page).done().unwrap().says("rotation.html").unwrap();
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("<svg") && text.contains("pre-publication") && text.contains("Root R2"));

    place.export_and_audit();
    judge_entries(&[place.path("prod.example/log")]);
    let events: Vec<_> = bodies(&place.path("prod.example/log"))
        .into_iter()
        .filter_map(|body| match body {
            Body::Rotation(rotation) if rotation.event != RotationEvent::Refused => {
                Some((rotation.number, rotation.phases.last().map(|entered| entered.phase)))
            }
            _ => None,
        })
        .collect();
    let phases =
        [RotationPhase::PrePublish, RotationPhase::Switch, RotationPhase::Drain, RotationPhase::Retire];
    let first = [(1, None)].into_iter().chain(phases.map(|phase| (1, Some(phase))));
    let second = [(2, None), (2, Some(RotationPhase::PrePublish))];
    assert_eq!(events, first.chain(second).collect::<Vec<_>>());
    story.place.stop();
}
