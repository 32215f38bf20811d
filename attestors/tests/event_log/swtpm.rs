use std::path::Path;
use std::process::Command;

use hsm_sim::measured_boot::{MeasuredBoot, SimBank};
use hsm_sim::swtpm::{Manufacture, Swtpm};
use undercroft_attestors::tpm::event_log::Rule;

use crate::{PCRS, judge, quoted, requirements};

fn tool(tpm: &Swtpm, folder: &Path, name: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(name);
    command.current_dir(folder).arg("--tcti").arg(tpm.tcti()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const SELECTION: &str = "sha256:0,1,2,3,4,5,6,7,8,9,14";

/// The values of PCRS, and a quote over them.
fn quote(tpm: &Swtpm, folder: &Path) -> (Vec<Vec<u8>>, Vec<u8>) {
    tool(tpm, folder, "tpm2_pcrread", &["-Q", "-o", "values", SELECTION]);
    tool(
        tpm,
        folder,
        "tpm2_quote",
        &["-Q", "-c", "ak.ctx", "-l", SELECTION, "-m", "attest", "-s", "signature"],
    );
    let read = std::fs::read(folder.join("values")).unwrap();
    assert_eq!(read.len(), PCRS.len() * 32);
    let mut values = vec![Vec::new(); 16];
    for (pcr, value) in PCRS.iter().zip(read.chunks(32)) {
        values[usize::from(*pcr)] = value.to_vec();
    }
    (values, std::fs::read(folder.join("attest")).unwrap())
}

#[test]
fn a_boot_in_a_real_tpm_is_quoted_and_replays_and_another_boot_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::manufacture(&folder.path().join("tpm"), Manufacture::Bare).unwrap();
    let _running = tpm.start().unwrap();
    let folder = folder.path();
    let boot = MeasuredBoot::honest();
    let extends: Vec<_> = boot.extends();
    // Only banks that are allocated can be extended.
    let banks = String::from_utf8(tool(&tpm, folder, "tpm2_getcap", &["pcrs"])).unwrap();
    let allocated = |line: &str| banks.lines().any(|other| other.contains(line) && other.contains("0, 1"));
    assert!(allocated("sha256"), "{banks}");
    let extends: Vec<String> = if allocated("sha1") {
        extends
    } else {
        MeasuredBoot { banks: vec![SimBank::Sha256], ..boot.clone() }.extends()
    };
    for some in extends.chunks(40) {
        let some: Vec<_> = some.iter().map(String::as_str).collect();
        tool(&tpm, folder, "tpm2_pcrextend", &some);
    }
    tool(
        &tpm,
        folder,
        "tpm2_createprimary",
        &[
            "-Q",
            "-C",
            "e",
            "-G",
            "ecc256:ecdsa-sha256:null",
            "-a",
            "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign",
            "-c",
            "ak.ctx",
        ],
    );
    let (values, attest) = quote(&tpm, folder);
    assert_eq!(values[..10], boot.values(SimBank::Sha256, 0)[..10]);
    // TPMS_QUOTE_INFO ends with the digest over the values, in the hash of the scheme.
    let signed: Vec<u8> = PCRS.iter().flat_map(|pcr| values[usize::from(*pcr)].clone()).collect();
    assert!(attest.ends_with(&SimBank::Sha256.digest(&signed)));

    let own = quoted(&values, &PCRS).unwrap();
    judge(&boot.log(), &own, &requirements()).unwrap();

    // Somebody measures something more: the log has it not.
    tool(&tpm, folder, "tpm2_pcrextend", &[&format!("4:sha256={}", "22".repeat(32))]);
    let (values, _) = quote(&tpm, folder);
    let refused = judge(&boot.log(), &quoted(&values, &PCRS).unwrap(), &requirements()).unwrap_err();
    assert_eq!(refused.rule, Rule::PcrMismatch);
    assert!(refused.what.contains("PCR 4 "), "{refused}");
}
