#![no_main]
//! To-be-signed certificates, as an auditor lints them.
use undercroft_ca::{lint::certificate_alone, signed::Signed};

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let tbs = Signed::from_der(der).map_or(der.to_vec(), |signed| signed.tbs);
    if let Err(findings) = certificate_alone(&tbs) {
        assert!(findings.iter().all(|finding| !finding.to_string().is_empty()) && !findings.is_empty());
    }
});
