//! The event log of a measured boot: an honest one, forgeries of it, recorded ones, and one in a real swtpm.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "event_log/changes.rs"]
mod changes;
#[path = "event_log/forgeries.rs"]
mod forgeries;
#[path = "event_log/honest.rs"]
mod honest;
#[path = "event_log/properties.rs"]
mod properties;
#[path = "event_log/recorded.rs"]
mod recorded;
#[path = "event_log/swtpm.rs"]
mod swtpm;
#[path = "event_log/tools.rs"]
mod tools;
#[path = "event_log/vectors.rs"]
mod vectors;

use std::collections::{BTreeMap, BTreeSet};

use hsm_sim::measured_boot::{MeasuredBoot, SimBank, certificate, revoked};
use sha2::{Digest as _, Sha256};
use undercroft_attestors::tpm::event_log::{
    Boot, EventLog, EventLogError, PcrValues, Requirements, SbatLevel, SecureBoot, VerifiedLog,
};
use undercroft_tpm_wire::HashAlgorithm;

/// The PCRs that firmware and boot loader extend, and the boot leaves alone later.
const PCRS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

/// Values of some PCRs of the SHA-256 bank, as a quote over them has.
fn quoted(values: &[Vec<u8>], pcrs: &[u8]) -> Result<PcrValues, EventLogError> {
    let values: BTreeMap<u8, Vec<u8>> = pcrs
        .iter()
        .map(|pcr| (*pcr, values.get(usize::from(*pcr)).cloned().unwrap_or(vec![0; 32])))
        .collect();
    PcrValues::new(HashAlgorithm::Sha256, values)
}

/// The values of a TPM that was extended with a boot.
fn values(boot: &MeasuredBoot) -> PcrValues {
    quoted(&boot.values(SimBank::Sha256, 0), &PCRS).unwrap()
}

fn verified(boot: &MeasuredBoot) -> VerifiedLog {
    EventLog::parse(&boot.log()).unwrap().verify(&values(boot)).unwrap()
}

fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// All that can be wanted, and that the honest boot has.
fn requirements() -> Requirements {
    let level = |(component, generation): &(&str, u32)| ((*component).to_owned(), *generation);
    Requirements {
        secure_boot: true,
        forbidden: revoked(10).into_iter().map(|hash| hash.try_into().unwrap()).collect(),
        allowed: Some(["windows", "uefi"].map(|name| fingerprint(&certificate(name))).into()),
        authorities: Some(["uefi", "vendor"].map(|name| fingerprint(&certificate(name))).into()),
        sbat: SbatLevel([("shim", 2), ("grub", 3)].iter().map(level).collect()),
        dma_protection: true,
        exited: true,
    }
}

/// The whole way.
fn judge(log: &[u8], values: &PcrValues, wanted: &Requirements) -> Result<(SecureBoot, Boot), EventLogError> {
    let log = EventLog::parse(log)?.verify(values)?;
    let secure_boot = SecureBoot::read(&log)?;
    let boot = Boot::read(&log)?;
    wanted.check(&secure_boot, &boot)?;
    Ok((secure_boot, boot))
}

fn hashes(count: usize) -> BTreeSet<[u8; 32]> {
    revoked(count).into_iter().map(|hash| hash.try_into().unwrap()).collect()
}
