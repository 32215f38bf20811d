use std::path::Path;
use std::process::Command;

use super::*;

mod algorithms;
mod fido;
mod hostile;
mod recorded;

const MESSAGE: &[u8] = b"{\"format\":\"undercroft-recovery-v1\"}\n";

/// OpenSSH makes the keys and the signatures.
struct Ssh(tempfile::TempDir);

impl Ssh {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) {
        let ran = Command::new("ssh-keygen").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Makes a key, and gives its public half.
    fn key(&self, name: &str, kind: &[&str]) -> String {
        self.run(&[&["-q", "-N", "", "-f", name], kind].concat());
        self.read(&format!("{name}.pub"))
    }

    /// What `ssh-keygen -Y verify` says of a signature by alice's key over `message`.
    fn accepts(&self, key: &str, message: &[u8], signature: &str) -> bool {
        self.accepts_for(NAMESPACE, key, message, signature)
    }

    fn accepts_for(&self, namespace: &str, key: &str, message: &[u8], signature: &str) -> bool {
        use std::io::Write as _;
        std::fs::write(self.0.path().join("allowed"), format!("alice {key}\n")).unwrap();
        std::fs::write(self.0.path().join("judged.sig"), signature).unwrap();
        let mut verify = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-f", "allowed", "-I", "alice", "-n", namespace, "-s", "judged.sig"])
            .current_dir(self.0.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        verify.stdin.take().unwrap().write_all(message).unwrap();
        verify.wait().unwrap().success()
    }

    fn sign(&self, name: &str, namespace: &str, message: &[u8]) -> String {
        let file: &Path = &self.0.path().join("message");
        std::fs::write(file, message).unwrap();
        let _ = std::fs::remove_file(self.0.path().join("message.sig"));
        self.run(&["-q", "-Y", "sign", "-f", name, "-n", namespace, "message"]);
        self.read("message.sig")
    }
}

fn person(name: &str, keys: &[&str]) -> PersonConfig {
    PersonConfig { name: name.to_owned(), keys: keys.iter().map(|key| (*key).to_owned()).collect() }
}

#[test]
fn enough_persons_with_keys_of_every_kind() {
    let ssh = Ssh::new();
    let (a, b) = (ssh.key("a", &["-t", "ed25519"]), ssh.key("b", &["-t", "ecdsa", "-b", "256"]));
    let c = ssh.key("c", &["-t", "ecdsa", "-b", "384"]);
    let d = ssh.key("d", &["-t", "ecdsa", "-b", "521"]);
    let e = ssh.key("e", &["-t", "rsa", "-b", "2048"]);
    let persons = [("alice", &a), ("bob", &b), ("carol", &c), ("dave", &d), ("erin", &e)];
    let persons = persons.map(|(name, key)| person(name, &[key])).into();
    let roster = Roster::new(RosterConfig { quorum: 5, persons }).unwrap();
    let approvals: Vec<_> = ["a", "b", "c", "d", "e"].map(|key| ssh.sign(key, NAMESPACE, MESSAGE)).into();
    assert_eq!(roster.verify(MESSAGE, &approvals).unwrap(), ["alice", "bob", "carol", "dave", "erin"]);
    let refused = roster.verify(MESSAGE, &approvals[..4]).unwrap_err();
    assert!(matches!(refused, ApprovalError::TooFew { needed: 5, .. }), "{refused}");
}

#[test]
fn nothing_else_counts() {
    let ssh = Ssh::new();
    let (a, a2) = (ssh.key("a", &["-t", "ed25519"]), ssh.key("a2", &["-t", "ed25519"]));
    let b = ssh.key("b", &["-t", "ed25519"]);
    ssh.key("stranger", &["-t", "ed25519"]);
    let persons = vec![person("alice", &[&a, &a2]), person("bob", &[&b])];
    let roster = Roster::new(RosterConfig { quorum: 2, persons }).unwrap();
    let sign = |key: &str| ssh.sign(key, NAMESPACE, MESSAGE);
    let refused = |approvals: &[String]| roster.verify(MESSAGE, approvals).unwrap_err().to_string();
    // One person counts once, with however many keys.
    assert!(refused(&[sign("a"), sign("a2")]).contains("1 of the 2 persons"));
    assert!(refused(&[sign("a"), sign("a")]).contains("1 of the 2 persons"));
    assert!(refused(&[sign("a"), sign("b"), sign("stranger")]).contains("nobody on the roster"));
    assert!(refused(&[sign("a"), ssh.sign("b", "file", MESSAGE)]).contains("something else"));
    assert!(refused(&[sign("a"), ssh.sign("b", NAMESPACE, b"another")]).contains("does not verify"));
    assert!(refused(&[sign("a"), "no signature".to_owned()]).contains("approval 2 is no SSHSIG"));
    assert!(refused(&[]).contains("0 of the 2"));
    // A signature that was changed anywhere.
    let good = sign("b");
    assert!(roster.verify(MESSAGE, &[sign("a"), good.clone()]).is_ok());
    let lines: Vec<_> = good.lines().collect();
    let last = lines[lines.len() - 2];
    let swapped = good.replace(last, &last.chars().rev().collect::<String>());
    assert!(roster.verify(MESSAGE, &[sign("a"), swapped]).is_err());
}

#[test]
fn a_roster_that_contradicts_itself_is_none() {
    let ssh = Ssh::new();
    let (a, b) = (ssh.key("a", &["-t", "ed25519"]), ssh.key("b", &["-t", "ed25519"]));
    let roster = |quorum, persons| Roster::new(RosterConfig { quorum, persons }).map(drop);
    assert!(roster(1, vec![person("alice", &[&a]), person("bob", &[&b])]).is_ok());
    for (quorum, persons, what) in [
        (0, vec![person("alice", &[&a])], "quorum 0"),
        (2, vec![person("alice", &[&a])], "quorum 2"),
        (1, vec![person("alice", &[&a]), person("bob", &[&a])], "stands twice"),
        (1, vec![person("alice", &[&a, &a])], "stands twice"),
        (1, vec![person("alice", &[&a]), person("alice", &[&b])], "alice stands twice"),
        (1, vec![person("alice", &["ssh-ed25519 nonsense"])], "a key of alice"),
    ] {
        let refused = roster(quorum, persons).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
}

fn statement(roster: &Roster, requester: &str) -> Statement {
    let wanted =
        Wanted { action: Action::CeremonyPlan, object: Digest::of(b"plan"), origin: "ca.example/x/1" };
    Statement::new(wanted, roster, requester.to_owned(), "2026-11-23T00:00:00Z".parse().unwrap(), [7; 16])
}

#[test]
fn what_is_approved_is_what_is_wanted() {
    let ssh = Ssh::new();
    let (a, b) = (ssh.key("a", &["-t", "ed25519"]), ssh.key("b", &["-t", "ed25519"]));
    let roster = |quorum| {
        let persons = vec![person("alice", &[&a]), person("bob", &[&b])];
        Roster::new(RosterConfig { quorum, persons }).unwrap()
    };
    let (two, one) = (roster(2), roster(1));
    let text = statement(&two, "carol").text().unwrap();
    let signed: Vec<_> = ["a", "b"].map(|key| ssh.sign(key, NAMESPACE, text.as_bytes())).into();
    let now = "2026-11-22T00:00:00Z".parse().unwrap();
    let wanted =
        Wanted { action: Action::CeremonyPlan, object: Digest::of(b"plan"), origin: "ca.example/x/1" };
    let approved = two.approve(wanted, &text, &signed, now).unwrap();
    assert_eq!(approved.entry().by, ["alice", "bob"]);

    let refused = |roster: &Roster, wanted: Wanted<'_>, now: &str| {
        roster.approve(wanted, &text, &signed, now.parse().unwrap()).unwrap_err().to_string()
    };
    for (wanted, now, part) in [
        (
            Wanted { action: Action::CeremonyResult, ..wanted },
            "2026-11-22T00:00:00Z",
            "`ceremony-result` is wanted",
        ),
        (Wanted { object: Digest::of(b"plam"), ..wanted }, "2026-11-22T00:00:00Z", "it is about"),
        (Wanted { origin: "ca.example/y/1", ..wanted }, "2026-11-22T00:00:00Z", "it is for ca.example/x/1"),
        (wanted, "2026-11-23T00:00:01Z", "it was good until"),
    ] {
        let told = refused(&two, wanted, now);
        assert!(told.contains(part), "{told}");
    }
    let told = refused(&one, wanted, "2026-11-22T00:00:00Z");
    assert!(told.contains("it names the roster"), "{told}");
    let changed = text.replace("carol", "dave");
    let told = two.approve(wanted, &changed, &signed, now).unwrap_err().to_string();
    assert!(told.contains("something else was signed"), "{told}");
    let again = [signed[0].clone(), signed[0].clone()];
    let told = two.approve(wanted, &text, &again, now).unwrap_err();
    assert!(matches!(told, ApprovalError::TooFew { .. }), "one person counts once: {told}");
}

#[test]
fn who_asks_does_not_approve() {
    let ssh = Ssh::new();
    let a = ssh.key("a", &["-t", "ed25519"]);
    let roster = Roster::new(RosterConfig { quorum: 1, persons: vec![person("alice", &[&a])] }).unwrap();
    let text = statement(&roster, "alice").text().unwrap();
    let signed = [ssh.sign("a", NAMESPACE, text.as_bytes())];
    let wanted =
        Wanted { action: Action::CeremonyPlan, object: Digest::of(b"plan"), origin: "ca.example/x/1" };
    let refused =
        roster.approve(wanted, &text, &signed, "2026-11-22T00:00:00Z".parse().unwrap()).unwrap_err();
    assert_eq!(refused, ApprovalError::Requester("alice".into()));
}

#[test]
fn one_roster_has_one_digest() {
    let ssh = Ssh::new();
    let (a, b) = (ssh.key("a", &["-t", "ed25519"]), ssh.key("b", &["-t", "ed25519"]));
    let roster = |quorum, persons| Roster::new(RosterConfig { quorum, persons }).unwrap().digest();
    let one = roster(1, vec![person("alice", &[&a]), person("bob", &[&b])]);
    assert_eq!(one, roster(1, vec![person("bob", &[&b]), person("alice", &[&a])]));
    assert_ne!(one, roster(2, vec![person("alice", &[&a]), person("bob", &[&b])]));
    assert_ne!(one, roster(1, vec![person("alice", &[&b]), person("bob", &[&a])]));
    assert_ne!(one, roster(1, vec![person("alice", &[&a, &b])]));
}
