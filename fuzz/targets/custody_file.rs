#![no_main]
//! Custody files, which travel beside requests.
use jiff::Timestamp;
use undercroft_attestors::custody::{Grade, judge};
use undercroft_attestors::trust::Trust;
use undercroft_ca::custody::CustodyFile;
use undercroft_fuzz::TPM_KEY;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(file) = serde_json::from_slice::<CustodyFile>(json) else { return };
    assert_eq!(serde_json::from_slice::<CustodyFile>(&serde_json::to_vec(&file).unwrap()).unwrap(), file);
    let judged = judge(&file.format, &file.evidence.0, &TPM_KEY, &Trust::default(), Timestamp::UNIX_EPOCH);
    assert_ne!(judged.grade, Grade::Proven);
});
