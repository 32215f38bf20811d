#![no_main]
//! Custody files, which travel beside requests.
use undercroft_attestors::custody::{Grade, judge};
use undercroft_ca::custody::CustodyFile;
use undercroft_fuzz::TPM_KEY;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(file) = serde_json::from_slice::<CustodyFile>(json) else { return };
    assert_eq!(serde_json::from_slice::<CustodyFile>(&serde_json::to_vec(&file).unwrap()).unwrap(), file);
    assert_ne!(judge(&file.format, &file.evidence.0, &TPM_KEY).grade, Grade::Proven);
});
