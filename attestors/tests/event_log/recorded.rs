//! Logs of real machines: see vectors/event-logs/README.md.

use std::collections::BTreeMap;

use undercroft_attestors::tpm::event_log::{
    Boot, Content, EventLog, PcrValues, Rule, SbatLevel, SecureBoot, VerifiedLog,
};
use undercroft_tpm_wire::HashAlgorithm;

use crate::tools;

struct Recorded {
    name: &'static str,
    log: &'static [u8],
    /// What its TPM said.
    values: &'static str,
}

macro_rules! recorded {
    ($name:literal) => {
        Recorded {
            name: $name,
            log: include_bytes!(concat!("../vectors/event-logs/", $name, ".bin")),
            values: include_str!(concat!("../vectors/event-logs/", $name, ".pcrs")),
        }
    };
}

const RHEL: Recorded = recorded!("rhel8-uefi");
const UBUNTU: Recorded = recorded!("ubuntu-2404-amd-sevsnp");
const LAPTOP: Recorded = recorded!("glinux-alex");
const ARCH: Recorded = recorded!("arch-linux-workstation");
const COS: Recorded = recorded!("cos-101-amd-sev");
const OLD_SHIM: &[u8] = include_bytes!("../vectors/event-logs/sb-cert.bin");
const SHA1_ONLY: &[u8] = include_bytes!("../vectors/event-logs/sha1-only.bin");

impl Recorded {
    fn values(&self) -> PcrValues {
        let value = |line: &str| {
            let (pcr, value) = line.split_once(' ').unwrap();
            (pcr.parse().unwrap(), hex::decode(value).unwrap())
        };
        PcrValues::new(HashAlgorithm::Sha256, self.values.lines().map(value).collect()).unwrap()
    }

    fn verified(&self) -> VerifiedLog {
        EventLog::parse(self.log).unwrap().verify(&self.values()).unwrap()
    }
}

#[test]
fn recorded_logs_replay_to_what_their_tpms_said() {
    for recorded in [RHEL, UBUNTU, LAPTOP, ARCH, COS] {
        let log = EventLog::parse(recorded.log).unwrap();
        assert_eq!(log.encode(), recorded.log, "{}", recorded.name);
        let verified = log.verify(&recorded.values()).unwrap();
        assert!(verified.unquoted().is_empty(), "{}", recorded.name);
        // And tpm2_eventlog says the same, save for PCR 0 where StartupLocality is, which it extends.
        let locality = verified.startup_locality();
        assert_eq!(locality, if recorded.name == LAPTOP.name { 3 } else { 0 });
        for (pcr, value) in tools::replayed(recorded.log, "sha256") {
            let same = verified.values().get(pcr).unwrap() == value;
            assert_eq!(same, pcr != 0 || locality == 0, "PCR {pcr} of {}", recorded.name);
        }
    }
}

#[test]
fn a_changed_value_or_digest_of_a_recorded_log_is_refused() {
    for recorded in [RHEL, UBUNTU, LAPTOP, ARCH, COS] {
        let log = EventLog::parse(recorded.log).unwrap();
        let values = recorded.values();
        for pcr in (0..16).filter(|pcr| values.get(*pcr).is_some()) {
            let mut other: BTreeMap<u8, Vec<u8>> =
                (0..16).filter_map(|pcr| Some((pcr, values.get(pcr)?.to_vec()))).collect();
            other.get_mut(&pcr).unwrap()[31] ^= 1;
            let other = PcrValues::new(HashAlgorithm::Sha256, other).unwrap();
            assert_eq!(log.verify(&other).unwrap_err().rule, Rule::PcrMismatch, "{pcr} {}", recorded.name);
        }
    }
}

#[test]
fn secure_boot_of_recorded_logs_is_read() {
    let rhel = SecureBoot::read(&RHEL.verified()).unwrap();
    assert!(rhel.enabled);
    // Of 11,974 bytes of dbx.
    assert_eq!(
        rhel.forbidden.hashes().len()
            + rhel.forbidden.entries().iter().filter(|entry| entry.data.len() > 32).count(),
        rhel.forbidden.entries().len()
    );
    assert!(rhel.forbidden.hashes().len() > 100, "{}", rhel.forbidden.hashes().len());
    let vouched: Vec<_> = rhel.authorities.iter().map(|authority| authority.variable.as_str()).collect();
    assert_eq!(vouched, ["db", "Shim"]);
    assert!(!rhel.old_shim && rhel.sbat.is_none());

    let cos = SecureBoot::read(&COS.verified()).unwrap();
    assert!(cos.enabled && cos.authorities.len() == 2, "{:?}", cos.authorities);

    let ubuntu = SecureBoot::read(&UBUNTU.verified()).unwrap();
    assert!(!ubuntu.enabled);
    assert_eq!(ubuntu.sbat, Some(SbatLevel([("sbat".to_owned(), 1)].into())));
    assert!(!SecureBoot::read(&LAPTOP.verified()).unwrap().enabled);

    // This firmware has Secure Boot off and its variable empty.
    let refused = SecureBoot::read(&ARCH.verified()).unwrap_err();
    assert_eq!(refused.rule, Rule::SecureBootValue, "{refused}");
}

#[test]
fn boots_of_recorded_logs_are_read() {
    let images = |recorded: &Recorded| Boot::read(&recorded.verified()).unwrap().images.unwrap();
    // As go-eventlog says, in ExpectedEFIAppDigests.
    assert_eq!(
        images(&RHEL).iter().map(|image| hex::encode(&image.digest)).collect::<Vec<_>>(),
        [
            "40d6cae02973789080cf4c3a9ad11b5a0a4d8bba4438ab96e276cc784454dee7",
            "e8a268c431da72caaae407f729f602b9dbf5d1d43492d4a51cc2b688a08586e3",
            "e4c0382f98feaebfd43923a85fd6da9a20e1a48524a4d5928c31850ca1a96a6e",
        ]
    );
    assert!(images(&RHEL)[0].says.as_deref().unwrap().ends_with("shimx64.efi"), "{:?}", images(&RHEL));
    let ubuntu = Boot::read(&UBUNTU.verified()).unwrap();
    assert_eq!(ubuntu.exited, Some(true));
    assert_eq!(ubuntu.tables.as_ref().unwrap()[0].partitions.len(), 4);
    let lines = ubuntu.commands.unwrap();
    let line = "/vmlinuz-6.8.0-1010-gcp root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f ro console=ttyS0,115200 panic=-1";
    assert!(lines.iter().any(|(says, text)| says == "kernel_cmdline" && text == line), "{lines:?}");
    // Firmware that does not measure that it was left.
    assert_eq!(Boot::read(&LAPTOP.verified()).unwrap().exited, Some(false));
}

/// PCRs 7 as `tpm2_eventlog` computes it; the log is cut down to what go-eventlog tests with.
#[test]
fn an_old_shims_padded_is_told() {
    let value = tools::replayed(OLD_SHIM, "sha256").remove(&7).unwrap();
    let values = PcrValues::new(HashAlgorithm::Sha256, [(7, value)].into()).unwrap();
    let log = EventLog::parse(OLD_SHIM).unwrap().verify(&values).unwrap();
    let secure_boot = SecureBoot::read(&log).unwrap();
    assert!(secure_boot.enabled && secure_boot.old_shim);
    let shims: Vec<_> = log
        .measured()
        .iter()
        .filter_map(|event| match &event.content {
            Content::Authority { variable, padded: true } => Some(&variable.value),
            _ => None,
        })
        .collect();
    assert_eq!(shims.len(), 2);
    for certificate in shims {
        // SEQUENCE, and as long as it says.
        assert_eq!(certificate[..2], [0x30, 0x82]);
        assert_eq!(usize::from(u16::from_be_bytes([certificate[2], certificate[3]])) + 4, certificate.len());
    }
}

#[test]
fn a_log_of_sha1_alone_is_refused() {
    let refused = EventLog::parse(SHA1_ONLY).unwrap_err();
    assert_eq!((refused.rule, refused.event), (Rule::LegacyFormat, Some(0)));
}
