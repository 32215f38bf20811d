#![no_main]
//! TPML_PCR_SELECTION and TPML_DIGEST.
use undercroft_tpm_wire::pcr::{PcrSelection, digests, encode_digests};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(selection) = PcrSelection::parse(bytes) {
        assert_eq!(selection.encode(), bytes);
        assert!(selection.iter().count() > 0);
    }
    if let Ok(read) = digests(bytes) {
        assert_eq!(encode_digests(&read), bytes);
    }
});
