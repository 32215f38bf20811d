//! A disk that lies, breaks or cannot be written; and a clock that was set back.

use std::path::Path;

use e2e::Tool;
use undercroft_log::leaf::{Body, Leaf};

use crate::faults::Faults;
use crate::place::{Place, bodies};

fn place() -> (Place, Faults) {
    let mut place = Place::prod();
    place.stop();
    let faults = Faults::new(&place.path("faults"), "/daemon/undercroft.db");
    (place, faults)
}

/// What was issued into `out` stands in the exported log, and nothing stays open there.
fn is_kept(place: &Place, out: &str) {
    let log = bodies(&place.path("prod.example/log"));
    let leaf = Leaf::parse(&std::fs::read(place.path(out).join("leaf.entry")).unwrap()).unwrap();
    assert_eq!(log[usize::try_from(leaf.index).unwrap()], leaf.body);
    let count = |wanted: fn(&Body) -> bool| log.iter().filter(|body| wanted(body)).count();
    let intents = count(|body| matches!(body, Body::Intent(_)));
    assert_eq!(intents, count(|body| matches!(body, Body::Outcome(_))));
}

/// After a failed fsync nobody knows what the disk has, and asking the page cache tells nothing (fsync(2)).
#[test]
fn a_disk_that_fails_stops_the_daemon_and_loses_nothing_that_was_told() {
    let (mut place, faults) = place();
    for fault in ["fsync-once", "fsync", "read-only"] {
        let (before, during, after) =
            (format!("{fault}-before"), format!("{fault}-during"), format!("{fault}-after"));
        place.daemon = Some(place.site.start_with(&faults.variables()).unwrap());
        place.issue("prod.example", &before, &[]).expect(0).unwrap();
        faults.begin(fault);
        place.issue("prod.example", &during, &[]).expect(3).unwrap();
        assert!(!place.path(&during).join("leaf.pem").exists(), "{fault}");
        // It does not go on, not even where the next fsync would succeed.
        let mut daemon = place.daemon.take().unwrap();
        assert_eq!(daemon.ended().unwrap(), 1, "{fault}: {}", daemon.logged());
        let logged = daemon.logged();
        assert!(logged.contains("it is not known whether the batch is durable"), "{fault}: {logged}");
        match fault {
            "fsync-once" => assert!(!faults.is_on(fault)),
            _ => {
                // Nothing is read, let alone signed, from such a disk.
                let refused = place.site.serve().unwrap().with(&faults.variables()).run().unwrap();
                refused.expect(3).unwrap().says("undercroft.db").unwrap();
                faults.end(fault);
            }
        }
        place.daemon = Some(place.site.start_with(&faults.variables()).unwrap());
        place.issue("prod.example", &after, &[]).expect(0).unwrap();
        place.export_and_audit();
        is_kept(&place, &before);
        is_kept(&place, &after);
        place.stop();
    }
}

#[test]
fn a_database_that_cannot_be_written_is_told_at_the_start() {
    if !Tool::foreign("unshare").args(["-rm", "true"]).run().is_ok_and(|ran| ran.status == 0) {
        // Where namespaces are forbidden.
        return;
    }
    let (mut place, _) = place();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let serve = place.site.serve().unwrap().into_command();
    let run = Tool::foreign("unshare").args(["-rm", "bash", "-c", script, "bash"]).arg(place.path("daemon"));
    let run = run.arg(serve.get_program()).args(serve.get_args()).with(&place.site.variables());
    run.run().unwrap().expect(3).unwrap().says("undercroft.db").unwrap();
    // Nothing was changed by trying.
    place.start();
    place.export_and_audit();
    place.stop();
}

#[test]
fn a_clock_that_was_set_back_an_hour_stops_issuance_and_the_start_and_nothing_else() {
    let (mut place, faults) = place();
    place.daemon = Some(place.site.start_with(&faults.variables()).unwrap());
    place.issue("prod.example", "before", &[]).expect(0).unwrap();
    let token = |place: &Place, name: &str| {
        let token: &Path = &place.path(name);
        place.site.create_enrolment("spiffe://control.example/operator/bob", token).unwrap().run().unwrap()
    };
    faults.begin("slow-clock");
    token(&place, "token").expect(3).unwrap().says("set the clock right").unwrap();
    assert!(!place.path("token").exists());
    faults.end("slow-clock");
    token(&place, "token").expect(0).unwrap();
    place.issue("prod.example", "between", &[]).expect(0).unwrap();
    place.stop();
    faults.begin("slow-clock");
    let refused = place.site.serve().unwrap().with(&faults.variables()).run().unwrap();
    refused.expect(3).unwrap().says("set the clock right").unwrap();
    faults.end("slow-clock");
    place.start();
    place.issue("prod.example", "after", &[]).expect(0).unwrap();
    place.export_and_audit();
    is_kept(&place, "before");
    is_kept(&place, "after");
    place.stop();
}
