//! Certificates are stopped at once by one person, and go on by the word of the quorum.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Ran, Tool};
use undercroft_log::leaf::{Body, FreezeEvent};

use crate::place::{Place, bodies};

/// Persons with keys of OpenSSH, in the roster of a daemon.
pub(crate) struct Quorum;

impl Quorum {
    /// Gives the daemon a roster of three, of whom two must sign, from its next start on.
    pub(crate) fn name(place: &Place) {
        let config = place.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let persons = ["alice", "bob", "carol"].map(|name| {
            let key = place.path(name);
            let keygen = Tool::foreign("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            keygen.arg(&key).done().unwrap();
            let key = fs::read_to_string(key.with_extension("pub")).unwrap();
            format!("[[recovery.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
        });
        let (head, devices) = text.split_once("\n[[device]]").unwrap();
        let text = format!("{head}\n[recovery]\nquorum = 2\n\n{}\n[[device]]{devices}", persons.concat());
        fs::write(&config, text).unwrap();
    }

    /// A person's signature over a file.
    pub(crate) fn sign(place: &Place, who: &str, file: &Path) -> PathBuf {
        let (copy, signed) = (place.path(&format!("{who}-copy")), place.path(&format!("{who}.sig")));
        fs::copy(file, &copy).unwrap();
        let tool =
            Tool::foreign("ssh-keygen").args(["-q", "-Y", "sign", "-n", "undercroft-approval-v1", "-f"]);
        tool.arg(place.path(who)).arg(&copy).done().unwrap();
        fs::rename(copy.with_extension("sig"), &signed).unwrap();
        signed
    }
}

fn administer(place: &Place, arguments: &[&str]) -> Tool {
    place.site.administer(arguments).unwrap()
}

fn release(place: &Place, what: [&str; 2], statement: &Path, approvals: &[&Path]) -> Tool {
    let tool = administer(place, &["unfreeze", what[0], what[1], "--statement"]).arg(statement);
    approvals.iter().fold(tool, |tool, approval| tool.arg("--approval").arg(approval))
}

fn issue(place: &Place, out: &str) -> Ran {
    place.issue("prod.example", out, &[])
}

#[test]
fn one_person_freezes_and_the_quorum_releases() {
    let mut place = Place::prod();
    place.stop();
    Quorum::name(&place);
    place.start();
    issue(&place, "before").expect(0).unwrap();

    // What cannot be meant is said, and nothing is frozen.
    let freeze = |arguments: &[&str]| administer(&place, &[&["freeze"], arguments].concat()).run().unwrap();
    freeze(&["authority", "i1", "--reason", "x"]).expect(2).unwrap().says("prod.example/i1").unwrap();
    freeze(&["authority", "prod.example/i2", "--reason", "x"]).expect(2).unwrap().says("known are").unwrap();
    freeze(&["domain", "edge.example", "--reason", "x"]).expect(2).unwrap().says("no domain").unwrap();
    freeze(&["caller", "alice", "--reason", "x"]).expect(2).unwrap().says("no caller").unwrap();
    freeze(&["caller", "spiffe://control.example", "--reason", "x"]).expect(2).unwrap();
    freeze(&["domain", "prod.example", "--reason", " "]).expect(4).unwrap().says("reason").unwrap();
    freeze(&["domain", "prod.example"]).expect(2).unwrap();
    assert_eq!(place.json(&["status"])["frozen"].as_array().unwrap().len(), 0);

    let what = ["authority", "prod.example/i1"];
    freeze(&[what[0], what[1], "--reason", "the token is missing"])
        .expect(0)
        .unwrap()
        .says("frozen")
        .unwrap();
    freeze(&[what[0], what[1], "--reason", "again"]).expect(0).unwrap().says("already").unwrap();
    let mut refused = issue(&place, "refused").expect(4).unwrap();
    for part in ["frozen", "the token is missing", "undercroft unfreeze authority"] {
        refused = refused.says(part).unwrap();
    }
    administer(&place, &["status"]).done().unwrap().says("FROZEN: authority").unwrap();

    // It holds when the daemon is killed.
    place.daemon.take().unwrap().kill().unwrap();
    place.start();
    issue(&place, "still").expect(4).unwrap();

    let statement = place.path("unfreeze.json");
    let state =
        |requester: &[&str]| administer(&place, &[&["unfreeze", what[0], what[1]], requester].concat());
    state(&["--out", "x"]).run().unwrap().expect(2).unwrap();
    state(&["--requester", "alice", "--out"]).arg(&statement).done().unwrap().says("ssh-keygen").unwrap();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|who| Quorum::sign(&place, who, &statement));
    let refused = |approvals: &[&Path], says: &str| {
        release(&place, what, &statement, approvals).run().unwrap().expect(4).unwrap().says(says).unwrap();
    };
    refused(&[&bob], "1 of the 2 persons");
    refused(&[&bob, &bob], "1 of the 2 persons");
    refused(&[&alice, &bob], "alice asked for it");
    let other = place.path("other.json");
    fs::write(&other, fs::read_to_string(&statement).unwrap().replace("alice", "dave")).unwrap();
    let forged = release(&place, what, &other, &[&bob, &carol]).run().unwrap();
    forged.expect(4).unwrap().says("does not verify").unwrap();
    release(&place, what, &statement, &[&bob, &carol])
        .arg("--dry-run")
        .done()
        .unwrap()
        .says("nothing")
        .unwrap();
    issue(&place, "dry").expect(4).unwrap();
    release(&place, what, &statement, &[&bob, &carol]).done().unwrap().says("bob, carol").unwrap();
    issue(&place, "after").expect(0).unwrap();
    refused(&[&bob, &carol], "not frozen");

    place.export_and_audit();
    let control = bodies(&place.path("control/log"));
    let freezes: Vec<_> = control
        .iter()
        .filter_map(|body| match body {
            Body::Freeze(freeze) => Some(matches!(freeze.event, FreezeEvent::Frozen { .. })),
            _ => None,
        })
        .collect();
    assert_eq!(freezes, [true, false]);
    place.stop();
}

/// A daemon that may have no certificate of its own is released over the socket that needs none.
#[test]
fn a_daemon_whose_control_domain_is_frozen_is_reached_by_its_socket() {
    let mut place = Place::prod();
    place.stop();
    Quorum::name(&place);
    place.start();
    let what = ["domain", "control.example"];
    administer(&place, &["freeze", what[0], what[1], "--reason", "x"]).done().unwrap();
    place.stop();
    place.start();
    // It has no certificate to answer with.
    issue(&place, "nobody").expect(4).unwrap();
    let statement = place.path("unfreeze.json");
    let state = administer(&place, &["unfreeze", what[0], what[1], "--requester", "carol", "--out"]);
    state.arg(&statement).done().unwrap();
    let [alice, bob] = ["alice", "bob"].map(|who| Quorum::sign(&place, who, &statement));
    release(&place, what, &statement, &[&alice, &bob]).done().unwrap();
    place.stop();
    place.start();
    issue(&place, "somebody").expect(0).unwrap();
    place.export_and_audit();
    place.stop();
}
