//! A node with a TPM: it attests, gets a certificate whose key stays in the TPM, and keeps it fresh.

mod machine;
mod tls;

use std::fs;

use e2e::{Daemon, Tool};
use hsm_sim::measured_boot::{MeasuredBoot, SimEvent};
use serde_json::Value;

use machine::Machine;

/// A boot in which another image was loaded.
fn changed() -> MeasuredBoot {
    let mut boot = MeasuredBoot::honest();
    let image = SimEvent::of(4, hsm_sim::measured_boot::BOOT_SERVICES_APPLICATION, *b"rootkit", *b"rootkit");
    boot.events.push(image);
    boot
}

#[test]
fn a_node_attests_once_with_a_challenge_and_from_then_on_in_one_round_trip() {
    let mut machine = Machine::new("1h");
    // Nothing is sent and nothing written before somebody wants it.
    let shown = machine.node(&["attest", "--dry-run"]).done().unwrap();
    let shown = shown.says("Nothing was sent").unwrap().says("replays to these PCRs").unwrap();
    assert!(shown.stdout.contains("Secure Boot"), "{}", shown.stdout);
    let json: Value = machine.json(&["attest", "--dry-run"]);
    let hash = json["endorsement-keys"][0]["pub-hash"].as_str().unwrap().to_owned();
    assert!(machine.node(&["fetch"]).run().unwrap().expect(6).unwrap().stderr.contains("no certificate yet"));
    assert!(!machine.path("svid").exists());

    let first = machine.json(&["attest"]);
    assert_eq!(first["at-once"], false);
    assert_eq!(first["spiffe-id"], format!("spiffe://prod.example/node/{hash}"));
    machine.openssl_verifies();
    let second = machine.json(&["attest"]);
    assert_eq!(second["at-once"], true, "{second}");
    assert_ne!(first["folder"], second["folder"]);
    // The one before stays for slow readers; older ones go.
    machine.json(&["attest"]);
    assert!(!fs::exists(first["folder"].as_str().unwrap()).unwrap());
    assert!(fs::exists(second["folder"].as_str().unwrap()).unwrap());
    machine.openssl_verifies();
    let fetched = machine.json(&["fetch", "--out", machine.path("copy").to_str().unwrap()]);
    assert_eq!(fetched["uris"][0], first["spiffe-id"]);
    assert_eq!(machine.read("copy/svid.key"), machine.read("svid/current/svid.key"));
    assert_ne!(machine.read("copy/svid.key"), "");

    // What is remembered is lost, or damaged: a round trip more, and no harm.
    fs::write(machine.path("state/state.json"), "{").unwrap();
    assert_eq!(machine.json(&["attest"])["at-once"], false);
    assert_eq!(machine.json(&["attest"])["at-once"], true);
    // So is a key that is damaged, and the files are whole again.
    let key = machine.path("svid/current/svid.key");
    fs::write(&key, &machine.read("svid/current/svid.key")[..200]).unwrap();
    machine.node(&["fetch"]).run().unwrap().expect(5).unwrap().says("svid.key is damaged").unwrap();
    machine.json(&["attest"]);
    machine.openssl_verifies();

    // A reboot with the same measurements is taken.
    machine.reboot(&MeasuredBoot::honest(), &MeasuredBoot::honest());
    machine.json(&["attest"]);
}

#[test]
fn another_boot_is_refused_by_its_code_and_what_was_there_stays() {
    let mut machine = Machine::new("1h");
    machine.json(&["attest"]);
    let before = fs::read_link(machine.path("svid/current")).unwrap();
    for (boot, log, code) in [
        (changed(), changed(), "node-selector"),
        // The log says what should have been, and the PCRs what was.
        (changed(), MeasuredBoot::honest(), "log-pcr-mismatch"),
    ] {
        machine.reboot(&boot, &log);
        // With what is remembered, and from the beginning.
        for _ in 0..2 {
            let refused = machine.node(&["attest"]).run().unwrap().expect(4).unwrap();
            assert!(refused.stderr.contains(code), "{code}: {}", refused.stderr);
            assert_eq!(fs::read_link(machine.path("svid/current")).unwrap(), before);
        }
    }
    // Refusals are told in JSON, too, and stand in the log.
    let refused = machine.node(&["--output", "json", "attest"]).run().unwrap().expect(4).unwrap();
    let told: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(told["status"], 4);
    machine.reboot(&MeasuredBoot::honest(), &MeasuredBoot::honest());
    machine.json(&["attest"]);
    assert_ne!(fs::read_link(machine.path("svid/current")).unwrap(), before);
}

#[test]
fn a_frozen_node_gets_nothing_and_a_daemon_that_is_away_is_waited_for() {
    let mut machine = Machine::new("1h");
    let id = machine.json(&["attest"])["spiffe-id"].as_str().unwrap().to_owned();
    let site = machine.site();
    site.administer(&["freeze", "caller", &id, "--reason", "a test"]).unwrap().done().unwrap();
    let frozen = machine.node(&["attest"]).run().unwrap().expect(4).unwrap();
    assert!(frozen.stderr.contains("frozen"), "{}", frozen.stderr);

    // Away: one attempt fails at once, and the files are still there.
    let address = machine.stop_daemon();
    machine.node(&["attest"]).run().unwrap().expect(3).unwrap().says(&address).unwrap();
    machine.node(&["fetch"]).done().unwrap();
}

#[test]
fn the_node_waits_for_the_daemon_attests_renews_and_never_mixes_files() {
    let mut machine = Machine::new("20s");
    // Nobody is there yet, and the node's daemon goes on trying.
    let address = machine.stop_daemon();
    let run = machine.node(&["run"]);
    let (notify, log) = (machine.path("n"), machine.path("node.log"));
    let starting = std::thread::spawn(move || Daemon::start(run, &notify, log).unwrap());
    machine.until(|machine| machine.read("node.log").contains("cannot attest"));
    assert!(!machine.path("svid/current").exists());
    machine.start_daemon_at(&address);
    machine.until(|machine| machine.path("svid/current").exists());
    let node = starting.join().unwrap();
    // Whoever opens the link once never sees a certificate with another's key.
    let mut seen = Vec::new();
    machine.until(|machine| {
        let Ok(folder) = fs::canonicalize(machine.path("svid/current")) else { return false };
        if seen.last() != Some(&folder) {
            machine.openssl_verifies_in(&folder);
            seen.push(folder);
        }
        seen.len() == 3
    });
    // A word now is followed at once.
    let pid = node.process().to_string();
    Tool::foreign("kill").args(["-HUP", &pid]).done().unwrap();
    machine.until(|machine| machine.read("node.log").contains("asked to attest now"));
    assert_eq!(node.stop().unwrap(), 0);
    machine.node(&["fetch"]).run().unwrap();
}
