#![no_main]
//! PEM with certificates in it.
use undercroft_ca::certificate::{certificates_from_pem, to_pem};

libfuzzer_sys::fuzz_target!(|pem: &str| {
    let Ok(ders) = certificates_from_pem(pem) else { return };
    let again: String = ders.iter().map(|der| to_pem("CERTIFICATE", der).unwrap()).collect();
    assert_eq!(certificates_from_pem(&again).unwrap(), ders);
});
