#![no_main]
//! What comes with a certificate: it, its entry and its proof, apart by two empty lines and in base64 or not.
use undercroft_ca::{certificate::certificates_from_pem, verify::standing};
use undercroft_fuzz::LOG_KEY;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, "\n\n\n");
    let (Some(pem), Some(entry), Some(proof)) = (parts.next(), parts.next(), parts.next()) else { return };
    let Ok(ders) = certificates_from_pem(pem) else { return };
    assert!(standing(&ders[0], entry.as_bytes(), proof, &LOG_KEY).is_err(), "forged");
});
