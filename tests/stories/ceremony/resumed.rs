//! What holds for a ceremony that goes on: no check is passed by stopping and starting again.

use e2e::Tool;
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;

use super::formal::Formal;
use crate::faults::Faults;

#[test]
fn the_quorum_takes_its_time_after_the_window() {
    let site = Formal::new();
    let tomorrow =
        SystemClock.now().round(jiff::Unit::Second).unwrap() + jiff::SignedDuration::from_hours(24);
    site.change_plan("ends = 2098-12-31T00:00:00Z", &format!("ends = {tomorrow}"));
    site.approved("plan");
    not_rehearsed(&site);
    site.answering("yes\npause\n").expect(6).unwrap().says("paused before step 2").unwrap();
    let later = (tomorrow + jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%d %H:%M:%S").to_string();
    // Steps are done inside the window alone.
    site.at(&later, &[]).expect(4).unwrap().says("the plan's window is").unwrap();
    site.run().expect(6).unwrap().says("result.json").unwrap();
    site.at(&later, &[]).expect(6).unwrap().says("result.json").unwrap();
    site.approved_result();
    site.at(&later, &[]).expect(0).unwrap();
    site.audited();
}

/// A run that was cut off before its first step has approved nothing for the next one.
#[test]
fn a_ceremony_that_was_only_opened_is_not_begun_without_its_rehearsal() {
    let site = Formal::new();
    site.approved("plan");
    site.rehearse().expect(0).unwrap();
    let rehearsal = site.rehearsal("out/transcript");
    let faults = Faults::new(&site.path("faults"), "");
    for at in 1.. {
        let killed = site.tool("run").arg("--rehearsal").arg(&rehearsal).with(&faults.killing(at)).run();
        assert_eq!(killed.unwrap().status, -1, "the opening was never cut off behind `rehearsed`");
        if site.path("ceremony/transcript/checkpoint").exists()
            && site.transcript().contains(r#""event":"rehearsed""#)
        {
            break;
        }
    }
    assert!(!site.transcript().contains(r#""event":"step""#));
    site.run().expect(4).unwrap().says("the plan was not rehearsed").unwrap();
    // Leave to begin without it is another opening than the one that stands there.
    not_rehearsed(&site);
    site.run().expect(4).unwrap().says("was begun with another rehearsal").unwrap();
    assert!(!site.has_made_anything());
    // Leave that comes on top of what stands there is no other opening.
    site.run_after(&rehearsal).expect(6).unwrap().says("result.json").unwrap();
    site.approved_result();
    site.run_after(&rehearsal).expect(0).unwrap();
    site.audited();
}

/// What is not there cannot be destroyed, neither at the first time nor when it is run again.
#[test]
fn a_key_that_is_not_there_is_not_destroyed() {
    let site = Formal::new();
    site.add_to_plan(&format!(
        "\n[[destruction]]\nname = \"end\"\nkey = {{ device = \"roots\", label = \"gone\", algorithm = \"ecdsa-p384\" }}\nkey-id = \"{}\"\nfollows = \"CP 1.0 section 6.2.10\"\n",
        "ab".repeat(32)
    ));
    site.approved("plan");
    not_rehearsed(&site);
    for _ in 0..2 {
        site.run().expect(3).unwrap().says("which the plan destroys, is not in its token").unwrap();
        assert!(!site.has_made_anything());
    }
}

/// Who may approve at the daemon is who the ceremony says.
#[test]
fn an_installation_has_the_roster_of_its_ceremony() {
    let site = Formal::new();
    site.approved("plan");
    not_rehearsed(&site);
    site.run().expect(6).unwrap();
    site.approved_result();
    site.run().expect(0).unwrap();
    for (quorum, persons, what) in [
        (1, &["alice", "bob", "carol"][..], "quorum 1 instead of 2"),
        (2, &["alice", "bob", "mallory"], "carol goes; mallory comes"),
    ] {
        site.configure(quorum, persons);
        let refused = site.serve().unwrap_err().to_string();
        assert!(
            refused.contains("is not the roster that the ceremony") && refused.contains(what),
            "{refused}"
        );
    }
    // The right one, which has not said that the root may be published.
    site.configure(2, &["carol", "bob", "alice"]);
    let refused = site.serve().unwrap_err().to_string();
    assert!(refused.contains("exit status: 4"), "{refused}");
    for part in ["the first bundle of `control.example` is not published", "[[bundle-statement]]"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

/// What the quorum says of roots is approved with the result, and is what the daemon publishes by.
#[test]
fn a_first_bundle_is_published_by_the_quorums_word() {
    let site = Formal::new();
    site.state_roots(&[]);
    site.approved("plan");
    not_rehearsed(&site);
    let waiting = site.run().expect(6).unwrap();
    for name in ["statement-control-roots.json", "result.json", "statement-control-roots.<person>.sig"] {
        assert!(waiting.stderr.contains(name), "{name}: {waiting:?}");
    }
    // The result alone is not enough, and neither is one person's word.
    site.sign("result", "alice");
    site.sign("result", "bob");
    let waiting = site.run().expect(6).unwrap();
    assert!(!waiting.stderr.contains("result.json"), "{waiting:?}");
    site.sign("statement-control-roots", "alice");
    site.run().expect(4).unwrap().says("1 of the 2 persons").unwrap();
    assert!(!site.transcript().contains("bundle-roots"));
    site.sign("statement-control-roots", "bob");
    // What was written is what they sign.
    site.change("control/roots.json", "\"number\": 1", "\"number\": 9");
    site.run().expect(5).unwrap().says("is not what the transcript says was written").unwrap();
    site.change("control/roots.json", "\"number\": 9", "\"number\": 1");
    site.run().expect(0).unwrap();
    site.audited();
    let root = Tool::foreign("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let root = root.arg(site.path("control/root.pem")).done().unwrap().stdout;
    let root = root.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert!(std::fs::read_to_string(site.path("control/roots.json")).unwrap().contains(&root), "{root}");

    site.configure(2, &["alice", "bob", "carol"]);
    let _daemon = site.serve().unwrap();
    // Whoever asks believes the quorum, and not the daemon.
    let roster = &["alice", "bob", "carol"][..];
    let told = site.stated_bundle(&["alice", "bob"], roster).expect(0).unwrap();
    assert_eq!(told.stdout, std::fs::read_to_string(site.path("control/root.pem")).unwrap());
    site.stated_bundle(&["alice"], roster).expect(5).unwrap().says("1 of the 2 persons").unwrap();
    let others = site.stated_bundle(&["alice", "bob"], &["alice", "bob", "mallory"]);
    others.expect(5).unwrap().says("it names the roster").unwrap();
    site.change("control/roots.json", "\"number\": 1", "\"number\": 9");
    site.stated_bundle(&["alice", "bob"], roster).expect(5).unwrap().says("it is about").unwrap();
    site.change("control/roots.json", "\"number\": 9", "\"numbers\": 1");
    site.stated_bundle(&["alice", "bob"], roster).expect(2).unwrap().says("unknown field").unwrap();
}

/// A statement that allows another root, well signed: the daemon does not publish by it, and nobody believes it by it.
#[test]
fn a_root_that_the_quorum_has_not_stated_is_published_by_nobody() {
    let site = Formal::with(vec![e2e::Domain::softhsm("prod.example", "ecdsa-p256")]);
    site.state_roots(&["prod.example"]);
    site.change_plan(
        "domain = \"control.example\"\nnumber = 1\nroots = [\"control-root\"]",
        &format!(
            "domain = \"control.example\"\nnumber = 1\ncertificates = [\"\"\"{}\"\"\"]",
            other_root(&site)
        ),
    );
    site.approved("plan");
    not_rehearsed(&site);
    site.run().expect(6).unwrap();
    site.approved_result();
    site.run().expect(0).unwrap();
    site.audited();
    site.configure(2, &["alice", "bob", "carol"]);
    let refused = site.serve().unwrap_err().to_string();
    assert!(refused.contains("exit status: 4") && refused.contains("does not name the root"), "{refused}");
}

/// The certificate of somebody's root.
fn other_root(site: &Formal) -> String {
    let path = site.path("other.pem");
    let tool = Tool::foreign("openssl").args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    let tool = tool.args(["ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=Other"]);
    tool.arg("-out").arg(&path).done().unwrap();
    std::fs::read_to_string(path).unwrap()
}

/// Wherever it is cut off, each of the quorum's approvals stands there once.
#[test]
fn the_quorums_word_is_taken_in_once_wherever_that_is_cut_off() {
    let site = Formal::new();
    site.state_roots(&[]);
    site.approved("plan");
    not_rehearsed(&site);
    site.run().expect(6).unwrap();
    site.approved_result();
    let faults = Faults::new(&site.path("faults"), "");
    let mut was_between = false;
    for at in 1.. {
        let ran = site.tool("run").with(&faults.killing(at)).run().unwrap();
        if ran.status == 0 {
            break;
        }
        assert_eq!(ran.status, -1, "{ran:?}");
        let told = site.transcript();
        was_between |= told.contains("bundle-roots") && !told.contains("ceremony-result");
        if told.contains(r#""event":"closed""#) {
            break;
        }
    }
    assert!(was_between, "it was never cut off behind the one approval and in front of the other");
    site.audited();
    let approvals = site.transcript().lines().filter(|line| line.contains("bundle-roots")).count();
    assert_eq!(approvals, 1);
}

fn not_rehearsed(site: &Formal) {
    site.deviation("not-rehearsed", "a test");
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
}
