#![no_main]
//! TPMS_CREATION_DATA.
use undercroft_tpm_wire::creation::CreationData;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(creation) = CreationData::parse(bytes) else { return };
    assert_eq!(creation.encode(), bytes);
});
