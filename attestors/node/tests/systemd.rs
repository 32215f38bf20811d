//! The unit is one that systemd takes, and holds the daemon tightly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;
use std::process::Command;

#[test]
fn systemd_takes_the_unit_and_finds_it_tight() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // There is no systemd here, and nothing to judge by.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("undercroft-node.service");
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/undercroft-node.service"),
    );
    // The program as it was built: where it is installed, there is nothing yet. Man pages neither.
    let text = text.unwrap().replace("/usr/bin/undercroft-node", env!("CARGO_BIN_EXE_undercroft-node"));
    let text = text.replace("Documentation=man:undercroft-node(1)\n", "");
    let users =
        text.replace("User=undercroft-node", "User=daemon").replace("Group=undercroft-node", "Group=daemon");
    std::fs::write(&unit, users.replace("SupplementaryGroups=tss", "SupplementaryGroups=daemon")).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (taken, said) = analyze(&["verify"]);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("undercroft-node")).collect();
    assert!(taken && ours.is_empty(), "{said}");
    // Exposure from 0 (none) to 10, in tenths.
    let (tight, said) = analyze(&["security", "--offline=true", "--threshold=25"]);
    assert!(tight, "{said}");
}
