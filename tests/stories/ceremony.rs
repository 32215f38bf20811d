//! A ceremony with terms: approved, rehearsed, run, approved again. And the next one, which continues it.

mod formal;
mod interrupted;
mod ocsp;
mod resumed;
mod year;

pub(crate) use formal::faketime;

use formal::Formal;

#[test]
fn nothing_is_made_before_the_quorum_has_approved_the_plan() {
    let site = Formal::new();
    let refused = |says: &str| site.run().expect(4).unwrap().says(says).unwrap();
    refused("plan.json is missing");
    site.statement("plan");
    refused("0 of the 2 persons");
    site.sign("plan", "alice");
    refused("1 of the 2 persons");
    // Who asks does not approve, whoever else does.
    site.sign("plan", "carol");
    refused("carol asked for it");
    site.take_back("plan", "carol");
    site.sign_as("plan", "alice", "alice-again");
    refused("1 of the 2 persons");
    site.take_back("plan", "alice-again");
    site.sign_as("plan", "mallory", "mallory");
    refused("nobody on the roster");
    site.take_back("plan", "mallory");
    site.sign("plan", "bob");
    refused("was not rehearsed");
    site.change_plan("First ceremony", "First Ceremony");
    refused("it is about");
    site.change_plan("First Ceremony", "First ceremony");
    assert!(!site.has_made_anything());
}

#[test]
fn a_ceremony_is_rehearsed_run_and_approved_again() {
    let site = Formal::new();
    site.approved("plan");
    let rehearsed = site.rehearse().expect(0).unwrap();
    assert!(!rehearsed.stdout.is_empty());
    let root = site.rehearsal("out/control/REHEARSAL-root.pem");
    assert!(std::fs::read_to_string(&root).unwrap().starts_with("REHEARSAL"));

    // The rehearsal of this plan and no other, and one that went through.
    let other = site.rehearsal("out/transcript");
    site.change_plan("First ceremony", "First Ceremony");
    site.move_away("plan");
    site.approved("plan");
    site.run_after(&other).expect(4).unwrap().says("another plan was rehearsed").unwrap();
    site.change_plan("First Ceremony", "First ceremony");
    site.put_back("plan");
    site.run_after(&site.path("nowhere")).expect(2).unwrap();

    let waiting = site.run_after(&other).expect(6).unwrap().says("have").unwrap();
    assert!(waiting.stderr.contains("result.json"), "{}", waiting.stderr);
    // The same bytes save the keys: the serial numbers are those of the rehearsal.
    assert_eq!(formal::serial(&root), formal::serial(&site.path("control/root.pem")));
    site.run_after(&other).expect(6).unwrap();
    site.sign("result", "alice");
    site.run_after(&other).expect(4).unwrap().says("1 of the 2 persons").unwrap();
    site.sign("result", "bob");
    site.run_after(&other).expect(0).unwrap();
    site.audited();
    site.run_after(&other).expect(2).unwrap().says("has ended").unwrap();
}

#[test]
fn terms_hold_or_the_quorum_lets_go_of_them() {
    let site = Formal::new();
    // The device of the plan, with its serial number in the environment.
    site.change_plan("firmware = \"2.6\"", "firmware = \"9.9\"");
    site.approved("plan");
    site.run().expect(4).unwrap().says("and the plan says SoftHSM v2, firmware 9.9").unwrap();
    site.change_plan("firmware = \"9.9\"", "firmware = \"2.6\"");
    site.move_away("plan");
    site.approved("plan");
    site.without_serial().expect(2).unwrap().says("must name its serial number").unwrap();
    site.with_another_serial().expect(3).unwrap();
    // A clock outside the window.
    let begun = site.at("2026-01-01 00:00:00", &[]).expect(6).unwrap();
    assert!(begun.stderr.contains("the plan's window is"), "{}", begun.stderr);
    site.at("2099-01-01 00:00:00", &[]).expect(4).unwrap().says("the plan's window is").unwrap();

    site.deviation("not-rehearsed", "the simulators were stolen; decided by the board on 2026-11-20");
    site.run().expect(4).unwrap().says("deviation-1.json").unwrap();
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
    site.run().expect(6).unwrap();
    site.approved_result();
    site.run().expect(0).unwrap();
    site.audited();
    assert!(site.transcript().contains("the simulators were stolen"));
}

#[test]
fn people_note_pause_and_abort() {
    let site = Formal::new();
    site.add_to_plan(
        "\n[[manual]]\nname = \"seal\"\ninstruction = \"put the smart cards into bags 17 and 18\"\nfollows = \"CP 1.0 section 6.2.4\"\nevidence = \"bags.txt\"\n",
    );
    site.approved("plan");
    site.deviation("not-rehearsed", "a test");
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
    site.answering("note the clock on the wall is a minute fast\nyes\npause\n")
        .expect(6)
        .unwrap()
        .says("paused before step 2")
        .unwrap();
    // Standard input ends in the middle: that is an interruption as any other.
    site.answering("maybe\nyes\n").expect(6).unwrap().says("that is none of the answers").unwrap();
    site.note("the second holder came back").expect(0).unwrap();
    // People have done what the program cannot, and show it.
    site.run().expect(6).unwrap().says("--done seal").unwrap();
    site.run_with(&["--done", "seal"]).expect(2).unwrap().says("bags.txt").unwrap();
    site.write("ceremony/requests/bags.txt", "17: AB1234\n18: AB1235\n");
    site.run_with(&["--done", "seal"]).expect(6).unwrap().says("result.json").unwrap();
    let told = site.transcript();
    for text in ["a minute fast", "came back", "before step 2", "put the smart cards"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    site.note("too late").expect(2).unwrap().says("nothing more is noted").unwrap();
    site.abort("the second holder was not who she said").expect(1).unwrap();
    assert!(!site.has_made_anything());
    assert!(site.transcript().contains("was destroyed"));
    site.audited();
    site.run().expect(2).unwrap().says("has ended").unwrap();
}

/// What it links is looked at in `walls`; this is what it does, with the module of its tokens.
#[test]
fn a_ceremony_asks_for_no_socket_of_a_network() {
    let site = Formal::new();
    site.approved("plan");
    site.deviation("not-rehearsed", "a test");
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
    let (ran, trace) = site.sockets();
    ran.expect(6).unwrap().says("result.json").unwrap();
    assert!(trace.contains("+++ exited with 6 +++"), "nothing was traced: {trace}");
    let asked: Vec<_> =
        trace.lines().filter(|line| line.contains("AF_") && !line.contains("AF_UNIX")).collect();
    assert!(asked.is_empty(), "{asked:?}");
}
