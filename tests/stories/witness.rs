//! A witness on the side: CA certificates wait for it, leaves do not, and a log that went back does not get past it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use e2e::{Caller, Daemon, Domain, Issue, Listen, Ran, Site, Tool, request};
use sha2::{Digest as _, Sha256};
use undercroft_log::leaf::{Body, OutcomeResult};
use undercroft_log::proof::TlogProof;
use undercroft_log::witnesses::WitnessPolicy;

use crate::faults::Faults;
use crate::judges::verify_py;
use crate::place::bodies;

struct Watched {
    site: Site,
    policy: WitnessPolicy,
    _folder: tempfile::TempDir,
}

impl Watched {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec![Domain::softhsm("prod.example", "ecdsa-p256")];
        let site = Site::new(folder.path(), domains, Listen::Anywhere).unwrap();
        site.hsm_sim_up().unwrap().args(["--softhsm", "witness"]).done().unwrap();
        site.write_plan().unwrap();
        site.create_keys().unwrap().into_iter().for_each(|tool| drop(tool.done().unwrap()));
        site.ceremony().unwrap().done().unwrap();
        site.write_configuration().unwrap();
        let policy = configure_witness(&site);
        Self { site, policy, _folder: folder }
    }

    fn witness(&self) -> Daemon {
        self.witness_with(&[])
    }

    fn witness_with(&self, variables: &[(String, String)]) -> Daemon {
        let run = tool(&self.site, "undercroft-witness").args(["run", "--config"]);
        let run = run.arg(self.site.path("witness/witness.toml"));
        let notify = self.site.path("witness/n");
        Daemon::start(run.with(variables), &notify, self.site.path("witness/witness.log")).unwrap()
    }

    fn spire_ca(&self, daemon: &Daemon, caller: &Caller, out: &str) -> Ran {
        self.ask(daemon, caller, "spire-ca", "spiffe://prod.example", out)
    }

    fn ask(&self, daemon: &Daemon, caller: &Caller, profile: &str, id: &str, out: &str) -> Ran {
        let out = self.site.path(out);
        let (_, csr) = request(&out, "leaf", "P-256", Some(id)).unwrap();
        let issue = Issue { domain: "prod.example", profile, csr: &csr, out: &out, more: &[] };
        self.site.issue(daemon, caller, &issue).unwrap().run().unwrap()
    }

    /// Waits until the witness has kept the head under which the domain's last outcome stands, which is shown to it
    /// when the answer has been given.
    fn is_shown(&self, kept: &Path) {
        let domain = self.site.domains().iter().find(|domain| domain.name == "prod.example").unwrap();
        let size = |folder: &Path| {
            let note = fs::read_to_string(folder.join("checkpoint")).unwrap();
            note.lines().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let is_shown = (0..500).any(|_| {
            self.site.export(domain).unwrap().done().unwrap();
            size(&self.site.path(&domain.folder).join("log")) == size(kept)
        });
        assert!(is_shown, "the last head is not shown to the witness");
    }

    fn proof(&self, out: &str) -> TlogProof {
        fs::read_to_string(self.site.path(out).join("leaf.tlog-proof")).unwrap().parse().unwrap()
    }
}

fn tool(site: &Site, name: &str) -> Tool {
    let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), site.devices().display().to_string());
    Tool::ours(name).unwrap().with(&site.variables()).with(&[environment])
}

/// The witness's key and configuration, the logs that it knows, and the policy of the daemon and of auditors.
fn configure_witness(site: &Site) -> WitnessPolicy {
    let folder = site.path("witness");
    let create = tool(site, "undercroft").args(["keys", "create", "pkcs11:token=witness;object=witness"]);
    create.args(["--algorithm", "ed25519", "--name", "witness", "--out"]).arg(&folder).done().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let devices = fs::read_to_string(site.devices()).unwrap();
    let device = devices.split("[[device]]").find(|table| table.contains("name = \"witness\"")).unwrap();
    let config = folder.join("witness.toml");
    let text = format!(
        "name = \"witness.example/w1\"\nkey = \"pkcs11:token=witness;object=witness\"\nstate = \"state\"\nlisten = \"127.0.0.1:{port}\"\n\n[[device]]{device}"
    );
    fs::write(&config, text).unwrap();
    let key = tool(site, "undercroft-witness").args(["key", "--config"]).arg(&config).done().unwrap();
    let logs = vkeys(site);
    assert_eq!(logs.len(), 2);
    for (number, vkey) in logs.iter().enumerate() {
        let file = folder.join(format!("{number}.vkey"));
        fs::write(&file, format!("{vkey}\n")).unwrap();
        let add = tool(site, "undercroft-witness").args(["add-log", "--config"]).arg(&config).arg(&file);
        add.done().unwrap().says("is known to the witness").unwrap();
    }
    let lines: String = logs.iter().map(|vkey| format!("log {vkey}\n")).collect();
    let policy = format!("{lines}witness w1 {} http://127.0.0.1:{port}/\nquorum w1\n", key.stdout.trim_end());
    fs::write(site.path("daemon/witnesses.policy"), &policy).unwrap();
    let daemon = site.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&daemon).unwrap();
    fs::write(&daemon, text.replace("database =", "witness-policy = \"witnesses.policy\"\ndatabase ="))
        .unwrap();
    policy.parse().unwrap()
}

/// The logs' keys, as `doctor` tells them before the first start.
fn vkeys(site: &Site) -> Vec<String> {
    let doctor =
        tool(site, "undercroft").args(["doctor", "--config"]).arg(site.path("daemon/undercroft.toml"));
    let said = doctor.done().unwrap().stdout;
    said.lines().filter_map(|line| line.split("; vkey ").nth(1)).map(str::to_owned).collect()
}

fn copy(from: PathBuf, to: PathBuf) {
    fs::copy(from, to).unwrap();
}

#[test]
fn authorities_wait_for_witnesses_leaves_do_not_and_a_log_that_went_back_stops() {
    let watched = Watched::new();
    let site = &watched.site;
    // Without its witnesses the daemon publishes no roots, and so does not start.
    site.serve().unwrap().run().unwrap().expect(3).unwrap().says("witness").unwrap();

    let witness = watched.witness();
    let daemon = site.start().unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    watched.spire_ca(&daemon, &server, "one").expect(0).unwrap();
    let (_, cosigned) = watched.policy.open(&watched.proof("one").checkpoint).unwrap();
    assert!(cosigned.contains("w1"));
    // To somebody else's eyes, too: with this policy, and not with one that wants more.
    let file = |name: &str| site.path("one").join(name);
    let files = ["leaf.pem", "leaf.entry", "leaf.tlog-proof", "log.vkey"].map(file);
    let policy = site.path("daemon/witnesses.policy");
    let verify = |policy: &Path| {
        let mut arguments = vec![Path::new("certificate")];
        arguments.extend(files.iter().map(PathBuf::as_path));
        arguments.push(policy);
        verify_py(&arguments)
    };
    verify(&policy).expect(0).unwrap().says("\"w1\"").unwrap();
    let stricter = site.path("stricter.policy");
    let text = fs::read_to_string(&policy).unwrap();
    let line = text.lines().find(|line| line.starts_with("witness w1")).unwrap();
    let unknown = "witness w2 witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
    fs::write(&stricter, format!("{line}\n{unknown}\ngroup both all w1 w2\nquorum both\n")).unwrap();
    verify(&stricter).expect(5).unwrap().says("too few witnesses").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    copy(site.path("daemon/undercroft.db"), site.path("daemon/old.db"));

    let daemon = site.start().unwrap();
    witness.kill().unwrap();
    let workload = "spiffe://prod.example/ns/pay/sa/ledger";
    watched.ask(&daemon, &alice, "svid", workload, "leaf").expect(0).unwrap();
    watched.spire_ca(&daemon, &server, "two").expect(3).unwrap().says("too few witnesses").unwrap();
    assert!(!site.path("two/leaf.pem").exists());
    let witness = watched.witness();
    watched.spire_ca(&daemon, &server, "three").expect(0).unwrap();
    assert!(watched.policy.open(&watched.proof("three").checkpoint).is_ok());

    // What was not witnessed was not signed, and the log says so.
    for domain in site.domains() {
        site.export(domain).unwrap().done().unwrap();
    }
    let abandoned = |body: &&Body| matches!(body, Body::Outcome(outcome) if matches!(outcome.result, OutcomeResult::Abandoned(_)));
    assert_eq!(bodies(&site.path("prod.example/log")).iter().filter(abandoned).count(), 1);
    audit(site, "prod.example");
    assert_eq!(daemon.stop().unwrap(), 0);

    // Somebody puts the database of before back: our own files agree with each other, and the witness remembers.
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(site.path(&format!("daemon/undercroft.db{ending}")));
    }
    copy(site.path("daemon/old.db"), site.path("daemon/undercroft.db"));
    let refused = site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("the log went back").unwrap().says("w1").unwrap();
    assert_eq!(witness.stop().unwrap(), 0);
}

/// Our own files agree with each other, and the witness has seen what came after them.
#[test]
fn a_backup_that_a_witness_has_seen_beyond_is_not_restored() {
    let watched = Watched::new();
    let site = &watched.site;
    let witness = watched.witness();
    let daemon = site.start().unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();
    watched.spire_ca(&daemon, &server, "before").expect(0).unwrap();
    let backup = |name: &str| {
        let to = site.path(name);
        site.administer(&["backup", "--out"]).unwrap().arg(&to).done().unwrap();
        to
    };
    let old = backup("old");
    // Signed, so that the witness has seen it.
    watched.spire_ca(&daemon, &server, "after").expect(0).unwrap();
    let new = backup("new");
    assert_eq!(daemon.stop().unwrap(), 0);
    let database = site.path("daemon/undercroft.db");
    let lose = || {
        for ending in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(site.path(&format!("daemon/undercroft.db{ending}")));
        }
    };
    let restore = |from: &Path| {
        let restore = tool(site, "undercroft").args(["restore", "--config"]);
        restore.arg(site.path("daemon/undercroft.toml")).arg("--from").arg(from)
    };
    lose();
    restore(&old).arg("--dry-run").run().unwrap().expect(5).unwrap().says("nothing was written").unwrap();
    assert!(!database.exists());
    let refused = restore(&old).run().unwrap().expect(5).unwrap();
    let refused = refused.says("DISAGREES: witness `w1` of ca.example/undercroft/prod.example/1").unwrap();
    let refused = refused.says("nothing was written").unwrap().says("--behind").unwrap();
    let told = restore(&old).args(["--output", "json"]).run().unwrap().expect(5).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&told["restored"], &told["behind"]), (&false.into(), &true.into()), "{refused:?}");
    // It was only refused: the newest one is taken, and the daemon goes on with it.
    lose();
    restore(&new)
        .done()
        .unwrap()
        .says("agrees: witness `w1` of ca.example/undercroft/prod.example/1")
        .unwrap();
    let daemon = site.start().unwrap();
    watched.spire_ca(&daemon, &server, "restored").expect(0).unwrap();
    for domain in site.domains() {
        site.export(domain).unwrap().done().unwrap();
    }
    assert_eq!(daemon.stop().unwrap(), 0);

    // A witness that does not answer is named, and the daemon's start asks it again.
    lose();
    assert_eq!(witness.stop().unwrap(), 0);
    restore(&old).done().unwrap().says("not reached: witness `w1`").unwrap();
    let witness = watched.witness();
    site.serve().unwrap().run().unwrap().expect(5).unwrap().says("w1").unwrap();
    // Whoever knows it restores what there is, and puts the rest back.
    lose();
    restore(&new).run().unwrap().expect(5).unwrap();
    restore(&new).arg("--behind").done().unwrap().says("DISAGREES: witness `w1`").unwrap();
    site.serve().unwrap().run().unwrap().expect(5).unwrap();
    for domain in site.domains() {
        let refill =
            tool(site, "undercroft").args(["recover", "refill", "--domain", &domain.name, "--config"]);
        let refill = refill.arg(site.path("daemon/undercroft.toml")).arg("--from");
        refill.arg(site.path(&domain.folder).join("log")).done().unwrap().says("were put back").unwrap();
    }
    let daemon = site.start().unwrap();
    watched.spire_ca(&daemon, &server, "refilled").expect(0).unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    assert_eq!(witness.stop().unwrap(), 0);
}

/// The witness comes back when the daemon has long gone on from a database that was put back.
#[test]
fn a_log_that_went_back_while_nobody_looked_stops_as_soon_as_somebody_does() {
    let watched = Watched::new();
    let site = &watched.site;
    let witness = watched.witness();
    let daemon = site.start().unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    copy(site.path("daemon/undercroft.db"), site.path("daemon/old.db"));
    let daemon = site.start().unwrap();
    for n in 0..3 {
        watched.spire_ca(&daemon, &server, &format!("seen-{n}")).expect(0).unwrap();
    }
    assert_eq!(daemon.stop().unwrap(), 0);
    copy(site.path("daemon/old.db"), site.path("daemon/undercroft.db"));

    witness.kill().unwrap();
    let mut daemon = site.start().unwrap();
    let workload = "spiffe://prod.example/ns/pay/sa/ledger";
    watched.ask(&daemon, &alice, "svid", workload, "unseen").expect(0).unwrap();
    let _witness = watched.witness();
    // Whether it is answered or not, the checkpoint over it is shown to the witness.
    watched.ask(&daemon, &alice, "svid", workload, "shown");
    assert_eq!(daemon.ended().unwrap(), 5, "{}", daemon.logged());
    let logged = daemon.logged();
    assert!(logged.contains("A WITNESS HAS SEEN ANOTHER HISTORY"), "{logged}");
    assert!(logged.contains("nothing may be issued") && logged.contains("the log went back"), "{logged}");
    // Nor does it start again, whichever log is looked at first: one went back, the other has forked by now.
    site.serve()
        .unwrap()
        .run()
        .unwrap()
        .expect(5)
        .unwrap()
        .says("A WITNESS HAS SEEN ANOTHER HISTORY")
        .unwrap();
}

/// What it cosigned it has kept, and what it kept without being able to say so is no reason for an alarm.
#[test]
fn a_witness_that_dies_at_a_write_or_whose_disk_fails_is_missed_and_comes_back() {
    let watched = Watched::new();
    let site = &watched.site;
    // Only what is kept of the domain's log: the control log shows its heads at times of its own.
    let vkey = vkeys(site).into_iter().find(|vkey| vkey.contains("prod.example")).unwrap();
    let origin = vkey.split('+').next().unwrap();
    let kept = format!("witness/state/{}", hex::encode(Sha256::digest(origin)));
    let faults = Faults::new(&site.path("faults"), format!("/{kept}"));
    let witness = watched.witness();
    let daemon = site.start().unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();
    witness.kill().unwrap();
    // Its state is a file that is replaced whole: an fsync of the new one, and one of the folder.
    for at in [1, -1, 2, -2] {
        let mut dying = watched.witness_with(&faults.killing(at));
        watched.spire_ca(&daemon, &server, &format!("dying-{at}")).expect(3).unwrap();
        assert!(dying.ended().is_err(), "no signal has ended it at {at}");
        let witness = watched.witness();
        watched.spire_ca(&daemon, &server, &format!("back-{at}")).expect(0).unwrap();
        witness.kill().unwrap();
    }
    let witness = watched.witness_with(&faults.variables());
    watched.spire_ca(&daemon, &server, "back").expect(0).unwrap();
    for fault in ["fsync-once", "fsync", "read-only"] {
        watched.is_shown(&site.path(&kept));
        faults.begin(fault);
        watched
            .spire_ca(&daemon, &server, &format!("{fault}-broken"))
            .expect(3)
            .unwrap()
            .says("503")
            .unwrap();
        if faults.is_on(fault) {
            faults.end(fault);
        }
        watched.spire_ca(&daemon, &server, &format!("{fault}-well")).expect(0).unwrap();
    }
    assert_eq!(witness.stop().unwrap(), 0);
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn audit(site: &Site, folder: &str) {
    let log = site.path(folder).join("log");
    let vkey = vkeys(site).into_iter().find(|vkey| vkey.contains(folder)).unwrap();
    let key: &Path = &site.path("log.vkey");
    fs::write(key, vkey + "\n").unwrap();
    let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(log).arg("--key").arg(key);
    audit.done().unwrap().says("Everything is as it must be").unwrap();
}
