//! `tpm2_eventlog` of tpm2-tools, the foreign judge.

use std::collections::BTreeMap;
use std::process::Command;

/// What it says that the PCRs of a bank come to.
pub(crate) fn replayed(log: &[u8], bank: &str) -> BTreeMap<u8, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    std::fs::write(&file, log).unwrap();
    let output = Command::new("tpm2_eventlog").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut values = BTreeMap::new();
    let mut within = None;
    for line in text.lines().skip_while(|line| *line != "pcrs:").skip(1) {
        match line.trim().split_once(':') {
            Some((name, "")) => within = Some(name.to_owned()),
            Some((pcr, value)) if within.as_deref() == Some(bank) => {
                let value = hex::decode(value.trim().trim_start_matches("0x")).unwrap();
                values.insert(pcr.trim().parse().unwrap(), value);
            }
            _ => {}
        }
    }
    assert!(!values.is_empty(), "{text}");
    values
}
