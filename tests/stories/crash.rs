//! The power goes at any moment: what was told stays true, and nothing stays open.

use std::fs;
use std::thread;

use e2e::Issue;
use undercroft_log::leaf::Body;

use crate::place::{Place, bodies};

#[test]
fn what_was_issued_before_a_kill_is_in_the_log_and_nothing_stays_open() {
    let mut place = Place::prod();
    let mut issued = Vec::new();
    for round in 0..3 {
        // Requests are under way when it is killed. Those that were answered must be found.
        let tools: Vec<_> = (0..4)
            .map(|n| {
                let out = place.path(&format!("round-{round}-{n}"));
                let id = Some("spiffe://prod.example/ns/pay/sa/ledger");
                let (_, csr) = e2e::request(&out, "leaf", "P-256", id).unwrap();
                let issue =
                    Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more: &[] };
                (place.site.issue(place.daemon(), &place.operator, &issue).unwrap(), out)
            })
            .collect();
        let clients: Vec<_> =
            tools.into_iter().map(|(tool, out)| thread::spawn(move || (tool.run().unwrap(), out))).collect();
        let mut clients = clients.into_iter();
        // One is answered for certain; the others race with the kill.
        let first = clients.next().unwrap().join().unwrap();
        place.daemon.take().unwrap().kill().unwrap();
        for (ran, out) in clients.map(|client| client.join().unwrap()).chain([first]) {
            match ran.status {
                0 => issued.push(out),
                3 => assert!(!out.join("leaf.pem").exists(), "half an answer"),
                _ => panic!("{ran:?}"),
            }
        }
        place.start();
    }
    assert!(issued.len() >= 3);
    place.export_and_audit();
    let log = bodies(&place.path("prod.example/log"));
    let intents = log.iter().filter(|body| matches!(body, Body::Intent(_))).count();
    let outcomes = log.iter().filter(|body| matches!(body, Body::Outcome(_))).count();
    assert_eq!(intents, outcomes, "an intent stays open");
    // Each certificate that somebody holds stands in the log as it is now, by its old proof and by a new one.
    for out in &issued {
        let entry = fs::read(out.join("leaf.entry")).unwrap();
        let leaf = undercroft_log::leaf::Leaf::parse(&entry).unwrap();
        assert_eq!(log[usize::try_from(leaf.index).unwrap()], leaf.body);
    }
    place.stop();
}

#[test]
fn a_log_that_lost_its_newest_entries_does_not_start() {
    let mut place = Place::prod();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    place.stop();
    // Somebody puts an older state of one table back: entries are gone which the stored head counts.
    let database = place.path("daemon/undercroft.db");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  t = [r[0] for r in c.execute(\"select name from sqlite_master where type = 'table' and name like '%entr%'\")]; \
                  [c.execute(f'delete from {n} where rowid = (select max(rowid) from {n})') for n in t]; \
                  assert t; c.commit()";
    e2e::Tool::foreign("python3").args(["-c", script]).arg(&database).done().unwrap();
    let refused = place.site.serve().unwrap().run().unwrap();
    refused.expect(5).unwrap().says("damaged").unwrap();
}

/// What docs/log.md says of it. With a witness it does not start: `tests/stories/witness.rs`.
#[test]
fn a_database_that_was_put_back_whole_starts_without_a_witness_and_an_older_export_knows_better() {
    let mut place = Place::prod();
    place.stop();
    let (database, old) = (place.path("daemon/undercroft.db"), place.path("daemon/old.db"));
    fs::copy(&database, &old).unwrap();
    place.start();
    for out in ["one", "two", "three"] {
        place.issue("prod.example", out, &[]).expect(0).unwrap();
    }
    place.export_and_audit();
    place.stop();
    fs::copy(&old, &database).unwrap();
    place.start();
    place.issue("prod.example", "another", &[]).expect(0).unwrap();
    let prod = &place.site.domains()[1];
    place.site.export(prod).unwrap().run().unwrap().expect(5).unwrap();
    // What was exported before is still there, and whole: it is the proof.
    place.site.audit(prod).unwrap().done().unwrap();
    place.stop();
}

/// Opening a log looks at its end. What is older is read again while the daemon runs.
#[test]
fn an_old_entry_that_is_changed_under_a_running_daemon_stops_it() {
    let mut place = Place::prod();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  n = c.execute(\"update entry set leaf = cast(leaf || ' ' as blob) where id & 0xffffffffff = 1\").rowcount; \
                  assert n; c.commit()";
    let database = place.path("daemon/undercroft.db");
    e2e::Tool::foreign("python3").args(["-c", script]).arg(&database).done().unwrap();
    let mut daemon = place.daemon.take().unwrap();
    assert_eq!(daemon.ended().unwrap(), 5);
}
