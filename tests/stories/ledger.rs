//! A TPM that attests to what it did, and remembers that the log moved.

use std::fs;
use std::process::Command;

use e2e::{Caller, Daemon};
use serde_json::Value;

use crate::gate::Gated;
use crate::judges::judge_entries;

/// An installation whose gated TPM keeps a ledger.
struct Ledgered {
    gated: Gated,
    _gates: Vec<Daemon>,
}

impl Ledgered {
    fn new() -> Self {
        let gated = Gated::new();
        let provision = || gated.tool("undercroft").args(["keys", "provision", "prod"]).done().unwrap();
        let said = provision().stdout;
        // What is there stays: the counter is not counted up again.
        assert_eq!(provision().stdout, said);
        let (_, table) = said.split_once("[domain.ledger]").unwrap();
        let config = gated.site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (head, devices) = text.split_once("\n[[device]]").unwrap();
        let text = format!("{head}\n[domain.ledger]{table}epoch = \"1h\"\n\n[[device]]{devices}");
        fs::write(config, text).unwrap();
        let gates = gated.gates();
        Self { gated, _gates: gates }
    }

    fn start(&self) -> Daemon {
        self.gated.site.start().unwrap()
    }

    fn issue(&self, daemon: &Daemon, caller: &Caller) {
        self.gated.svid(daemon, caller).expect(0).unwrap();
    }

    /// Exports the log and has it audited, which finds nothing: the epochs of the ledger.
    fn epochs(&self) -> Vec<Value> {
        let domain = &self.gated.site.domains()[1];
        self.gated.site.export(domain).unwrap().done().unwrap();
        fs::copy(self.gated.site.path("prod.vkey"), self.gated.site.path("prod.example/log.vkey")).unwrap();
        let audit = self.gated.site.audit(domain).unwrap().args(["--output", "json"]);
        judge_entries(&[self.gated.site.path("prod.example/log")]);
        let report: Value = serde_json::from_str(&audit.done().unwrap().stdout).unwrap();
        report["ledger"].as_array().unwrap().clone()
    }

    fn tcti(&self) -> String {
        format!("swtpm:path={}", self.gated.site.path("devices/tpm-prod/sock").display())
    }

    /// What somebody does with the TPM behind the daemon's back.
    fn thief(&self, script: &str) {
        let shell = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.gated.site.folder())
            .env("TPM2TOOLS_TCTI", self.tcti())
            .output()
            .unwrap();
        assert!(shell.status.success(), "{shell:?}");
    }
}

fn covered(epochs: &[Value], what: &str) -> usize {
    epochs.iter().filter(|epoch| epoch["covered"] == what).count()
}

#[test]
fn what_the_tpm_did_is_what_stands_in_the_log() {
    let place = Ledgered::new();
    // A TPM that signed checkpoints would do what can stand in no log.
    let config = place.gated.site.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let at = text.rfind("log-key = ").unwrap();
    let second = "second-log-key = \"tpm:handle=0x81000020\"\n";
    fs::write(&config, format!("{}{second}{}", &text[..at], &text[at..])).unwrap();
    let refused = place.gated.site.serve().unwrap().run().unwrap().expect(2).unwrap();
    refused.says("must sign no checkpoints").unwrap();
    fs::write(&config, text).unwrap();
    let daemon = place.start();
    let alice = place.gated.site.enrolled(&daemon, "/operator/alice").unwrap();
    place.issue(&daemon, &alice);
    place.issue(&daemon, &alice);
    assert_eq!(daemon.stop().unwrap(), 0);

    // The next start closes what was left, and finds nothing that it does not know.
    let daemon = place.start();
    place.issue(&daemon, &alice);
    let epochs = place.epochs();
    assert_eq!(covered(&epochs, "uncovered"), 1, "{epochs:?}");
    assert_eq!(epochs[0]["covered"], "uncovered");
    assert!(epochs[0]["reason"].as_str().unwrap().contains("what came before"), "{epochs:?}");
    assert!(covered(&epochs, "complete") >= 2, "{epochs:?}");
    daemon.kill().unwrap();

    // A kill loses nothing of the ledger: what the TPM did is still in it, and in the log.
    let daemon = place.start();
    let epochs = place.epochs();
    assert_eq!(covered(&epochs, "uncovered"), 1, "{epochs:?}");
    assert_eq!(daemon.stop().unwrap(), 0);

    // Whoever uses the TPM beside us is seen, and the gates bound what it can have signed.
    place.thief("tpm2_quote -c 0x81010100 -l sha256:0 -g sha256 -m quote -s signature");
    let daemon = place.start();
    let epochs = place.epochs();
    assert_eq!(covered(&epochs, "uncovered"), 2, "{epochs:?}");
    let caught = epochs.iter().rfind(|epoch| epoch["covered"] == "uncovered").unwrap();
    assert!(caught["reason"].as_str().unwrap().contains("did something"), "{caught}");
    assert_eq!(caught["hidden"], 0, "{caught}");
    assert_eq!(daemon.stop().unwrap(), 0);
}

#[test]
fn a_log_behind_its_counter_does_not_start() {
    let place = Ledgered::new();
    let site = &place.gated.site;
    let daemon = place.start();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    let saved = site.path("saved.db");
    fs::copy(site.path("daemon/undercroft.db"), &saved).unwrap();
    let daemon = place.start();
    place.issue(&daemon, &alice);
    assert_eq!(daemon.stop().unwrap(), 0);
    let newest = site.path("newest.db");
    fs::copy(site.path("daemon/undercroft.db"), &newest).unwrap();

    // Older than the newest anchor: the gates are not even asked.
    fs::copy(&saved, site.path("daemon/undercroft.db")).unwrap();
    let refused = site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("counter").unwrap().says("the log went back").unwrap();
    // No database at all is the oldest.
    fs::remove_file(site.path("daemon/undercroft.db")).unwrap();
    let refused = site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("has no anchor").unwrap();
    // A row that was changed to agree does not help: it must be what the entry says.
    fs::copy(&saved, site.path("daemon/undercroft.db")).unwrap();
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('update anchor set value = value + 1'); c.commit()";
    let change = e2e::Tool::foreign("python3").args(["-c", script]).arg(site.path("daemon/undercroft.db"));
    change.done().unwrap();
    site.serve().unwrap().run().unwrap().expect(5).unwrap().says("another counter").unwrap();

    fs::copy(&newest, site.path("daemon/undercroft.db")).unwrap();
    let daemon = place.start();
    place.issue(&daemon, &alice);
    assert_eq!(daemon.stop().unwrap(), 0);
    // A counter that was counted up behind our back stops it, too: whoever did that wants to be found.
    place.thief("tpm2_nvincrement -C 0x01800100 0x01800100; tpm2_nvincrement -C 0x01800100 0x01800100");
    site.serve().unwrap().run().unwrap().expect(5).unwrap().says("the log went back").unwrap();
}
