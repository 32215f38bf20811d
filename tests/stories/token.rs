//! A token that goes away while it is asked to sign, and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use e2e::{Domain, Tool};
use undercroft_log::leaf::{Body, OutcomeResult};

use crate::place::{Place, bodies};

/// Callers at once.
const CALLERS: usize = 3;

/// Ends the callers when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_tpm_that_dies_in_the_middle_and_comes_back_is_survived_without_a_restart() {
    let mut place = Place::new(vec![Domain::tpm("edge.example", "ecdsa-p256")]);
    let enough = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // Whatever happens here, the callers end.
        let end = End(&enough);
        for caller in 0..CALLERS {
            let (place, enough, tell) = (&place, &enough, tell.clone());
            scope.spawn(move || {
                for n in 0.. {
                    let out = format!("out/{caller}-{n}");
                    let ran = place.issue("edge.example", &out, &[]);
                    assert!([0, 3].contains(&ran.status), "{ran:?}");
                    assert_eq!(ran.status == 0, place.path(&out).join("leaf.pem").exists(), "{ran:?}");
                    tell.send((ran.status, ran.stderr)).unwrap();
                    if enough.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let until = |status| {
            let mut seen = 0;
            for (told, stderr) in told.iter().take(200) {
                assert!(status == 0 || told != 3 || stderr.contains("cannot do it now"), "{stderr}");
                seen += usize::from(told == status);
                if seen == 2 * CALLERS {
                    return;
                }
            }
            panic!("status {status} was wanted, and came {seen} times");
        };
        until(0);
        let pid = std::fs::read_to_string(place.path("devices/tpm-edge/swtpm.pid")).unwrap();
        Tool::foreign("kill").args(["-KILL", pid.trim()]).done().unwrap();
        until(3);
        // What is not in the TPM goes on.
        place.json(&["domain", "show", "edge.example"]);
        place.site.hsm_sim_up().unwrap().done().unwrap();
        until(0);
        drop(end);
    });
    place.export_and_audit();
    let log = bodies(&place.path("edge.example/log"));
    let count = |wanted: fn(&Body) -> bool| log.iter().filter(|body| wanted(body)).count();
    let intents = count(|body| matches!(body, Body::Intent(_)));
    let abandoned = count(
        |body| matches!(body, Body::Outcome(outcome) if matches!(outcome.result, OutcomeResult::Abandoned(_))),
    );
    let outcomes = count(|body| matches!(body, Body::Outcome(_)));
    assert!(abandoned >= 2 * CALLERS, "{abandoned}");
    assert_eq!(intents, outcomes, "an intent waits for a restart");
    place.stop();
}
