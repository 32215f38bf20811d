//! A root is rotated from its plan to its end with the real programs, which see a simulated clock; and given up before, once.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::verifiers::{Verdict, Verifier};
use e2e::{Caller, Daemon, Issue, Ran, Site, Tool, certificates, request};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Body, RotationEvent, RotationPhase};

use crate::ceremony::faketime;
use crate::judges::judge_entries;
use crate::place::bodies;
use crate::rotation::built;

const PROD: &str = "prod.example";

struct Story {
    site: Site,
    daemon: Option<Daemon>,
    now: Timestamp,
    enrolled: u32,
    _folder: tempfile::TempDir,
}

impl Story {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = built(folder.path());
        // i2 is not needed, and i3 cannot be configured before anybody knows its root.
        let config = site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (head, rest) = text.split_once("\n[[domain.authority]]\nname = \"i2\"").unwrap();
        let (_, rest) = rest.split_once("\n[recovery]").unwrap();
        fs::write(&config, format!("{head}\n[recovery]{rest}")).unwrap();
        let mut story = Self { site, daemon: None, now: SystemClock.now(), enrolled: 0, _folder: folder };
        story.start();
        story
    }

    /// The environment of programs that see the simulated time.
    fn clock(&self) -> Vec<(String, String)> {
        faketime(&self.now.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    fn start(&mut self) {
        self.daemon = Some(self.site.start_with(&self.clock()).unwrap());
    }

    fn stop(&mut self) {
        assert_eq!(self.daemon.take().unwrap().stop().unwrap(), 0);
    }

    /// The daemon is stopped, and starts again when so much time has passed.
    fn pass(&mut self, time: SignedDuration) {
        self.stop();
        // Beside what has passed while the daemon ran: its clock goes on, and must not go back.
        self.now = self.now + time + SignedDuration::from_mins(5);
        self.start();
    }

    /// i3 signs when its turn has come.
    fn configure_next(&self) {
        let config = self.site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let next = "\n[[domain.authority]]\nname = \"i3\"\ncertificate = \"../second/prod.example/intermediate.pem\"\nkey = \"pkcs11:token=prod;object=intermediate-i3\"\nalgorithm = \"ecdsa-p256\"\nurls = { crl = \"http://pki.ca.example/prod/i3.crl\", certificate = \"http://pki.ca.example/prod/i3.cer\" }\n";
        fs::write(&config, text.replace("\n[recovery]", &format!("{next}\n[recovery]"))).unwrap();
    }

    /// Somebody's certificate lives for an hour: whoever calls comes anew.
    fn enrolled(&mut self, path: &str) -> Caller {
        self.enrolled += 1;
        let folder = self.site.path(&format!("callers/{}", self.enrolled));
        let (key, csr) = request(&folder, "leaf", "P-256", None).unwrap();
        let token = folder.join("token");
        let id = format!("spiffe://control.example{path}");
        self.site.create_enrolment(&id, &token).unwrap().done().unwrap();
        let daemon = self.daemon.as_ref().unwrap();
        let enrol = self.site.enrol(daemon, &token, &csr, &folder).unwrap();
        enrol.with(&self.clock()).done().unwrap();
        Caller { cert: folder.join("leaf.pem"), key }
    }

    fn ask(&mut self, caller: &str, profile: &str, id: &str, out: &str) {
        let caller = self.enrolled(caller);
        let out = self.site.path(out);
        let (_, csr) = request(&out, "leaf", "P-256", Some(id)).unwrap();
        let issue = Issue { domain: PROD, profile, csr: &csr, out: &out, more: &[] };
        let tool = self.site.issue(self.daemon.as_ref().unwrap(), &caller, &issue).unwrap();
        tool.with(&self.clock()).done().unwrap();
    }

    /// A workload's certificate. Gives who signed it.
    fn workload(&mut self, out: &str) -> String {
        self.ask("/operator/alice", "svid", "spiffe://prod.example/ns/pay/sa/ledger", out);
        let leaf = self.site.path(out).join("leaf.pem");
        Tool::foreign("openssl").args(["x509", "-noout", "-issuer", "-in"]).arg(leaf).done().unwrap().stdout
    }

    /// The SPIRE server has a CA minted, and takes the roots that come with it.
    fn spire(&mut self, out: &str) {
        self.ask("/server/prod", "spire-ca", "spiffe://prod.example", out);
    }

    fn rotate(&self, arguments: &[&str]) -> Tool {
        self.site.administer(&["rotate"]).unwrap().args(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.site.administer(arguments).unwrap().args(["--output", "json"]).done().unwrap();
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn bundle(&self) -> (u64, usize) {
        let bundle = self.json(&["bundle", PROD]);
        let roots = bundle["roots"].as_str().unwrap().matches("BEGIN CERTIFICATE").count();
        (bundle["sequence"].as_u64().unwrap(), roots)
    }

    fn plan(&self, schedule: &str, statement: &Path) -> Ran {
        let new_root = self.site.path("second/prod.example/root.pem");
        let plan = self.rotate(&["plan", PROD, "--replace", "i1=i3", "--schedule", schedule, "--new-root"]);
        plan.arg(new_root).args(["--requester", "alice", "--statement"]).arg(statement).done().unwrap()
    }

    fn sign(&self, who: &str, file: &Path) -> PathBuf {
        let copy = self.site.path(&format!("{who}-copy"));
        fs::copy(file, &copy).unwrap();
        let tool =
            Tool::foreign("ssh-keygen").args(["-q", "-Y", "sign", "-n", "undercroft-approval-v1", "-f"]);
        tool.arg(self.site.path(who)).arg(&copy).done().unwrap();
        let signed = self.site.path(&format!("{who}.sig"));
        fs::rename(copy.with_extension("sig"), &signed).unwrap();
        signed
    }

    /// `rotate advance` or `rotate abandon` with what these have signed.
    fn approved(&self, command: &str, statement: &Path, persons: &[&str]) -> Tool {
        let tool = self.rotate(&[command, PROD, "--statement"]).arg(statement);
        persons.iter().fold(tool, |tool, who| tool.arg("--approval").arg(self.sign(who, statement)))
    }

    /// It is too early, because of exactly this.
    fn early(&self, rules: &[&str], next: &str) {
        let ran = self.rotate(&["advance", PROD, "--output", "json"]).run().unwrap().expect(6).unwrap();
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        let blockers = told["blockers"].as_array().unwrap();
        let found: Vec<_> = blockers.iter().map(|blocker| blocker["rule"].as_str().unwrap()).collect();
        assert_eq!(found, rules, "{told}");
        assert_eq!(told["next"], next);
        let now: Timestamp = told["now"].as_str().unwrap().parse().unwrap();
        for blocker in blockers {
            let dated = !["consumer", "cross-certificate", "authority", "unused"]
                .contains(&blocker["rule"].as_str().unwrap());
            let until = blocker["until"].as_str().map(|until| until.parse::<Timestamp>().unwrap());
            assert_eq!(until.is_some_and(|until| until > now), dated, "{blocker}");
        }
    }

    fn goes_on(&self, phase: &str, more: &[&Path]) {
        let tool = self.rotate(&["advance", PROD]);
        let tool = more.iter().fold(tool, |tool, cross| tool.arg("--cross").arg(cross));
        tool.done().unwrap().says(&format!("has gone on: {phase}")).unwrap();
        assert_eq!(self.json(&["rotate", "status", PROD])["phase"], phase);
    }

    /// Whether OpenSSL accepts a chain at the simulated time, under one root alone.
    fn accepts(&self, root: &str, out: &str) -> bool {
        let at = (self.now + SignedDuration::from_mins(1)).as_second().to_string();
        let (leaf, chain) = (self.site.path(out).join("leaf.pem"), self.site.path(out).join("chain.pem"));
        let openssl = Tool::foreign("openssl").args(["verify", "-attime", &at, "-CAfile"]);
        openssl.arg(self.site.path(root)).arg("-untrusted").arg(chain).arg(leaf).run().unwrap().status == 0
    }
}

#[test]
fn a_root_is_rotated_through_every_phase_and_given_up_only_before_it_switches() {
    let mut story = Story::new();
    let (old, new) = ("prod.example/root.pem", "second/prod.example/root.pem");
    let cross =
        ["new-by-old", "old-by-new"].map(|name| story.site.path(&format!("second/prod.example/{name}.pem")));
    let refused = |tool: Tool, status: i32, says: &str| {
        tool.run().unwrap().expect(status).unwrap().says(says).unwrap();
    };
    assert!(story.workload("old").contains("Intermediate I1"));

    // The first one is given up: planned only, by an administrator; published, by the quorum.
    let (statement, undo) = (story.site.path("bundle.json"), story.site.path("abandon.json"));
    refused(story.rotate(&["abandon", PROD]), 2, "no rotation of `prod.example` is planned");
    story.plan("planned", &statement).says("is planned").unwrap();
    let state = |story: &Story| {
        story.rotate(&["abandon", PROD, "--requester", "alice", "--out"]).arg(story.site.path("abandon.json"))
    };
    refused(state(&story), 2, "needs no approval");
    story.rotate(&["abandon", PROD, "--dry-run"]).done().unwrap().says("would be given up").unwrap();
    story.rotate(&["abandon", PROD]).done().unwrap().says("was given up: abandoned").unwrap();
    refused(story.rotate(&["advance", PROD]), 2, "no rotation");
    assert_eq!(story.bundle(), (1, 1));

    story.plan("planned", &statement).says("rotation 2").unwrap();
    story.approved("advance", &statement, &["bob", "carol"]).done().unwrap().says("pre-publish").unwrap();
    assert_eq!(story.bundle(), (2, 2));
    refused(story.rotate(&["abandon", PROD]), 4, "2 of alice, bob, carol must approve");
    state(&story).done().unwrap().says("ssh-keygen -Y sign").unwrap();
    refused(story.approved("abandon", &undo, &["bob"]), 4, "1 of the 2 persons");
    refused(story.approved("abandon", &undo, &["bob", "bob"]), 4, "1 of the 2 persons");
    refused(story.approved("abandon", &undo, &["alice", "bob"]), 4, "alice asked for it");
    // The word for publishing the root is not the word for taking it back.
    refused(story.approved("abandon", &statement, &["bob", "carol"]), 4, "it is about");
    assert_eq!(story.bundle(), (2, 2));
    story.approved("abandon", &undo, &["bob", "carol"]).done().unwrap().says("abandoned").unwrap();
    assert_eq!(story.bundle(), (3, 1));
    assert_eq!(story.json(&["rotate", "status", PROD])["abandoned"], true);
    assert!(story.workload("still-old").contains("Intermediate I1"));

    // The second one goes on to its end. Nobody's approval is good twice.
    let used = statement.with_extension("used");
    fs::rename(&statement, &used).unwrap();
    story.plan("planned", &statement).says("rotation 3").unwrap();
    refused(story.approved("advance", &used, &["bob", "carol"]), 4, "it is about");
    story.approved("advance", &statement, &["bob", "carol"]).done().unwrap().says("pre-publish").unwrap();
    refused(story.approved("abandon", &undo, &["bob", "carol"]), 4, "it is about");
    assert_eq!(story.bundle(), (4, 2));
    let waits = ["pre-publication", "distribution-lag", "consumer", "cross-certificate", "cross-certificate"];
    story.early(&waits, "cross-sign");
    story.spire("spire-1");
    assert_eq!(certificates(&story.site.path("spire-1/bundle.pem")).unwrap().len(), 2);
    story.early(&[waits[0], waits[1], waits[3], waits[4]], "cross-sign");

    // Two days later, the longest lifetime twice. Who had the bundle is forgotten by a restart.
    story.configure_next();
    story.pass(SignedDuration::from_hours(48));
    story.early(&waits[2..], "cross-sign");
    story.spire("spire-2");
    story.early(&waits[3..], "cross-sign");
    let one = story.rotate(&["advance", PROD, "--cross"]).arg(&cross[0]);
    refused(one, 6, "the cross-certificate of the old root by the new is missing");
    // Nothing that is no cross-certificate of these roots helps.
    let foreign = story.rotate(&["advance", PROD, "--cross"]).arg(story.site.path(new));
    assert_eq!(foreign.run().unwrap().status, 2);
    story.goes_on("cross-sign", &[&cross[0], &cross[1]]);
    story.early(&["distribution-lag"], "switch");
    assert!(story.workload("crossed").contains("Intermediate I1"));
    // From here on whoever has only the new root verifies what is below the old one.
    assert!(story.accepts(new, "crossed") && story.accepts(old, "crossed"));

    story.pass(SignedDuration::ZERO);
    story.goes_on("switch", &[]);
    story.early(&["settling", "distribution-lag", "consumer", "unused"], "drain");
    refused(story.rotate(&["abandon", PROD]), 4, "the way back is another rotation");
    refused(story.rotate(&["abandon", PROD, "--dry-run"]), 4, "the way back is another rotation");
    refused(state(&story), 4, "the way back is another rotation");
    assert!(story.workload("new").contains("Intermediate I3"));
    assert!(story.accepts(new, "new") && story.accepts(old, "new"));
    story.early(&["settling", "distribution-lag", "consumer"], "drain");

    story.pass(SignedDuration::from_hours(24));
    story.early(&["consumer"], "drain");
    story.spire("spire-3");
    story.goes_on("drain", &[]);
    assert_eq!(story.bundle(), (5, 2));
    story.early(&["distribution-lag"], "retire");
    refused(story.rotate(&["abandon", PROD]), 4, "`drain`");
    assert!(story.workload("drained").contains("Intermediate I3"));
    assert!(story.accepts(new, "drained") && story.accepts(old, "drained"));

    story.pass(SignedDuration::from_hours(1));
    refused(story.rotate(&["advance", PROD]), 4, "must approve");
    let retired = story.site.path("retired.json");
    story.rotate(&["status", PROD, "--requester", "carol", "--statement"]).arg(&retired).done().unwrap();
    refused(story.approved("advance", &statement, &["bob", "carol"]), 4, "it is about");
    refused(story.approved("advance", &retired, &["bob", "carol"]), 4, "carol asked for it");
    story.approved("advance", &retired, &["alice", "bob"]).done().unwrap().says("retire").unwrap();
    assert_eq!(story.bundle(), (6, 1));
    refused(story.rotate(&["advance", PROD]), 2, "no rotation");
    refused(story.rotate(&["abandon", PROD]), 2, "no rotation");
    assert!(story.workload("last").contains("Intermediate I3"));
    assert!(story.accepts(new, "last") && !story.accepts(old, "last"));
    assert_eq!(certificates(&story.site.path("last/bundle.pem")).unwrap().len(), 1);

    // Others agree, and the auditor.
    let verdict = Verifier::OpenSsl.verify(
        &story.site.path(new),
        &story.site.path("last/chain.pem"),
        &story.site.path("scratch"),
    );
    assert_ne!(verdict.unwrap(), Verdict::Accepted, "it begins days from now, by the real clock");
    for domain in story.site.domains() {
        let key = story.json(&["domain", "show", &domain.name])["log-key"].as_str().unwrap().to_owned();
        fs::write(story.site.path(&domain.folder).join("log.vkey"), key + "\n").unwrap();
        story.site.export(domain).unwrap().done().unwrap();
        story.site.audit(domain).unwrap().done().unwrap().says("Everything is as it must be").unwrap();
    }
    judge_entries(&[story.site.path("prod.example/log")]);
    let (mut entered, mut abandoned, mut too_late) = (Vec::new(), Vec::new(), 0);
    for body in bodies(&story.site.path("prod.example/log")) {
        let Body::Rotation(rotation) = body else { continue };
        match rotation.event {
            RotationEvent::Advanced if rotation.number == 3 => {
                entered.extend(rotation.phases.last().map(|entered| entered.phase));
            }
            RotationEvent::Abandoned => abandoned.push((rotation.number, rotation.approval.is_some())),
            RotationEvent::Refused => {
                too_late += usize::from(rotation.blockers[0].rule == "switched");
            }
            _ => {}
        }
    }
    use RotationPhase::{CrossSign, Drain, PrePublish, Retire, Switch};
    assert_eq!(entered, [PrePublish, CrossSign, Switch, Drain, Retire]);
    assert_eq!((abandoned, too_late), (vec![(1, false), (2, true)], 2));
    story.stop();
}
