#![no_main]
//! TPMT_PUBLIC.
use undercroft_tpm_wire::PublicArea;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(area) = PublicArea::parse(bytes) else { return };
    assert_eq!(area.encode(), bytes);
    assert!(area.name().as_bytes().len() > 32);
    let _ = (area.public_key(), area.attributes.to_string());
});
