//! Entries are lost, and found again in a mirror; or the log goes on under another origin, by the quorum's word.

use std::fs;
use std::path::Path;

use e2e::{Domain, Tool};
use undercroft_log::leaf::{Body, RecoveryWay};

use crate::judges::judge_entries;
use crate::place::{Place, bodies};

struct Lost {
    place: Place,
}

impl Lost {
    /// A database that was put back to an older copy, after certificates were issued. `mirror` holds what was lost.
    fn new() -> Self {
        let mut place = Place::prod();
        place.stop();
        let config = place.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let roster = ["alice", "bob", "carol"].map(|name| {
            let key = place.path(name);
            let keygen = Tool::foreign("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
            keygen.done().unwrap();
            let key = fs::read_to_string(key.with_extension("pub")).unwrap();
            format!("[[recovery.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
        });
        let (head, devices) = text.split_once("\n[[device]]").unwrap();
        let text = format!(
            "{head}\n[domain.anchor]\ndevice = \"prod\"\n\n[recovery]\nquorum = 2\n\n{}\n[[device]]{devices}",
            roster.concat()
        );
        fs::write(&config, text).unwrap();

        place.start();
        place.issue("prod.example", "before", &[]).expect(0).unwrap();
        place.stop();
        fs::copy(place.path("daemon/undercroft.db"), place.path("saved.db")).unwrap();
        place.start();
        place.issue("prod.example", "lost", &[]).expect(0).unwrap();
        place.export_and_audit();
        place.stop();
        fs::copy(place.path("saved.db"), place.path("daemon/undercroft.db")).unwrap();
        Self { place }
    }

    fn recover(&self, command: &str, arguments: &[&str]) -> Tool {
        let tool = Tool::ours("undercroft").unwrap().args(["recover", command, "--config"]);
        let tool = tool.arg(self.place.path("daemon/undercroft.toml")).args(["--domain", "prod.example"]);
        tool.args(arguments).with(&self.place.site.variables())
    }

    fn prod(&self) -> &Domain {
        &self.place.site.domains()[1]
    }

    fn log(&self) -> Vec<Body> {
        bodies(&self.place.path("prod.example/log"))
    }
}

#[test]
fn what_a_mirror_holds_is_put_back() {
    let mut lost = Lost::new();
    // The token remembers more than the database, so that the daemon does not start.
    let refused = lost.place.site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("its token has noted").unwrap().says("the log went back").unwrap();

    let mirror = lost.place.path("prod.example/log");
    let before = lost.log();
    // A mirror that was changed puts nothing back.
    let bundle = fs::read_dir(mirror.join("tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&bundle).unwrap();
    let mut changed = bytes.clone();
    let last = changed.len() - 9;
    changed[last] ^= 1;
    fs::write(&bundle, changed).unwrap();
    let refill = |lost: &Lost| lost.recover("refill", &["--from"]).arg(&mirror);
    refill(&lost).run().unwrap().expect(5).unwrap();
    fs::write(&bundle, bytes).unwrap();

    refill(&lost).done().unwrap().says("were put back").unwrap();
    refill(&lost).run().unwrap().expect(2).unwrap().says("nothing to put back").unwrap();
    let prod = lost.prod().clone();
    lost.place.start();
    lost.place.issue("prod.example", "after", &[]).expect(0).unwrap();
    lost.place.site.export(&prod).unwrap().done().unwrap();
    lost.place.site.audit(&prod).unwrap().done().unwrap();
    let log = lost.log();
    assert_eq!(log[..before.len()], before[..]);
    assert!(
        log.iter()
            .any(|body| matches!(body, Body::Recovery(recovery) if recovery.way == RecoveryWay::Refilled))
    );
    lost.place.stop();
}

#[test]
fn a_log_goes_on_under_another_origin_by_the_quorums_word() {
    let mut lost = Lost::new();
    let statement = lost.place.path("statement.json");
    let newest = lost.place.path("lost/leaf.tlog-proof");
    let state = lost.recover("statement", &["--reason", "the disk and every copy are gone", "--newest"]);
    state.arg(&newest).arg("--out").arg(&statement).done().unwrap().says("ssh-keygen -Y sign").unwrap();
    let sign = |who: &str, file: &Path| {
        let signed = lost.place.path(&format!("{who}.sig"));
        let copy = lost.place.path(&format!("{who}-copy"));
        fs::copy(file, &copy).unwrap();
        let tool =
            Tool::foreign("ssh-keygen").args(["-q", "-Y", "sign", "-n", "undercroft-approval-v1", "-f"]);
        tool.arg(lost.place.path(who)).arg(&copy).done().unwrap();
        fs::rename(copy.with_extension("sig"), &signed).unwrap();
        signed
    };
    let (alice, bob) = (sign("alice", &statement), sign("bob", &statement));
    let begin = |statement: &Path, approvals: &[&Path]| {
        let tool = lost.recover("new-epoch", &["--statement"]).arg(statement);
        approvals.iter().fold(tool, |tool, approval| tool.arg("--approval").arg(approval))
    };
    begin(&statement, &[&alice]).run().unwrap().expect(4).unwrap().says("1 of the 2 persons").unwrap();
    begin(&statement, &[&alice, &alice])
        .run()
        .unwrap()
        .expect(4)
        .unwrap()
        .says("1 of the 2 persons")
        .unwrap();
    // A statement that was changed is not the one that was signed.
    let other = lost.place.path("other.json");
    fs::write(&other, fs::read_to_string(&statement).unwrap().replace("gone", "fine")).unwrap();
    begin(&other, &[&alice, &bob]).run().unwrap().expect(4).unwrap().says("does not verify").unwrap();

    // The next epoch is not to be begun by configuration alone.
    let config = lost.place.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let next = text.replace("name = \"prod.example\"\n", "name = \"prod.example\"\nepoch = 2\n");
    fs::write(&config, &next).unwrap();
    lost.place.site.serve().unwrap().run().unwrap().expect(2).unwrap().says("recover new-epoch").unwrap();
    fs::write(&config, &text).unwrap();

    begin(&statement, &[&alice, &bob]).arg("--dry-run").done().unwrap().says("alice, bob").unwrap();
    begin(&statement, &[&alice, &bob]).done().unwrap().says("prod.example/2 has begun").unwrap();
    begin(&statement, &[&alice, &bob]).run().unwrap().expect(2).unwrap().says("has entries already").unwrap();

    fs::write(&config, &next).unwrap();
    let prod = lost.prod().clone();
    fs::remove_dir_all(lost.place.path("prod.example/log")).unwrap();
    lost.place.start();
    lost.place.issue("prod.example", "after", &[]).expect(0).unwrap();
    let key = lost.place.json(&["domain", "show", "prod.example"])["log-key"].as_str().unwrap().to_owned();
    fs::write(lost.place.path("prod.example/log.vkey"), key + "\n").unwrap();
    lost.place.site.export(&prod).unwrap().done().unwrap();
    lost.place.site.audit(&prod).unwrap().done().unwrap();
    let log = lost.log();
    judge_entries(&[lost.place.path("prod.example/log")]);
    assert!(matches!(&log[0], Body::Epoch(epoch) if epoch.checkpoint.contains("prod.example/1")));
    assert!(matches!(&log[1], Body::Recovery(recovery) if recovery.approvals.len() == 2));
    lost.place.stop();
}
