#![no_main]
//! The event log of a measured boot, in a TPM that was extended with whatever it says.
use std::collections::BTreeMap;

use undercroft_attestors::tpm::event_log::{Bank, Boot, EventLog, PcrValues, SecureBoot, changes};
use undercroft_tpm_wire::HashAlgorithm;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = EventLog::parse(bytes) else { return };
    assert_eq!(log.encode(), bytes);
    let hash = HashAlgorithm::Sha256;
    for pcrs in [0..16_u8, 7..8] {
        let mut values: BTreeMap<u8, Vec<u8>> = pcrs.map(|pcr| (pcr, vec![0; 32])).collect();
        for event in log.events().iter().filter(|event| event.extends()) {
            let Some(digest) = event.digest(Bank::Sha256) else { return };
            let Some(value) = u8::try_from(event.pcr).ok().and_then(|pcr| values.get_mut(&pcr)) else {
                continue;
            };
            *value = hash.digest(&[value.as_slice(), digest].concat());
        }
        let Ok(verified) = log.verify(&PcrValues::new(hash, values).unwrap()) else { continue };
        assert!(changes(&verified, &verified).is_empty());
        let _ = (SecureBoot::read(&verified), Boot::read(&verified));
    }
});
