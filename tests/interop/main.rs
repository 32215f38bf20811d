//! Foreign transparency log tools: on our exports, and as a witness. `make interop`: Go's modules come from its proxy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod witness;

use std::fs;
use std::path::Path;

use e2e::{Domain, Issue, Site, Tool, request};

/// Tessera's checker of whole logs.
const FSCK: &str = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4";

/// A log of some hundred entries, so that it has full tiles: most of them refusals, which are the quickest to get.
const ENTRIES: usize = 260;

#[test]
fn foreign_tools_accept_the_export_and_what_comes_of_its_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::built(folder.path(), vec![Domain::softhsm("prod.example", "ecdsa-p256")]).unwrap();
    let daemon = site.start().unwrap();
    let alice = site.enrolled(&daemon, "/operator/alice").unwrap();
    let out = site.path("out");
    let (_, csr) = request(&out, "leaf", "P-256", Some("spiffe://prod.example/ns/pay/sa/ledger")).unwrap();
    let issue = |more| Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more };
    site.issue(&daemon, &alice, &issue(&[])).unwrap().done().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ENTRIES / 4 {
                    let refused = site.issue(&daemon, &alice, &issue(&["--lifetime", "48h"])).unwrap();
                    refused.run().unwrap().expect(4).unwrap();
                }
            });
        }
    });
    for domain in site.domains() {
        let key = site.administer(&["domain", "show", &domain.name]).unwrap();
        let shown = key.args(["--output", "json"]).done().unwrap().stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let key = site.path(&domain.folder).join("log.vkey");
        fs::write(&key, format!("{}\n", shown["log-key"].as_str().unwrap())).unwrap();
        site.export(domain).unwrap().done().unwrap();
        judge(&site.path(&domain.folder).join("log"), &key);
    }
    assert_eq!(daemon.stop().unwrap(), 0);

    // Go finds what was changed, too, or its word would be worth nothing. (fsck says so, and then does not always end.)
    let log = site.path("prod.example/log");
    let key = site.path("prod.example/log.vkey");
    let tile = log.join("tile/0/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[100] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert_ne!(go(&log, &key).run().unwrap().status, 0);
}

fn judge(log: &Path, key: &Path) {
    go(log, key).done().unwrap().says("1000 inclusion proofs, 100 consistency proofs").unwrap();
    fsck(log, key).done().unwrap().says("Successfully fsck'd").unwrap();
}

/// `golang.org/x/mod/sumdb`.
fn go(log: &Path, key: &Path) -> Tool {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/go");
    Tool::foreign("go").args(["run", "-C"]).arg(program).arg(".").arg(log).arg(key)
}

fn fsck(log: &Path, key: &Path) -> Tool {
    let origin = fs::read_to_string(log.join("checkpoint")).unwrap().lines().next().unwrap().to_owned();
    Tool::foreign("go")
        .args(["run", FSCK, "--ui=false", "--origin", &origin])
        .arg(format!("--storage_url=file://{}/", log.display()))
        .arg(format!("--public_key={}", key.display()))
}
