#![no_main]
//! Signed DER, whatever it says.
use undercroft_ca::signed::Signed;
use undercroft_fuzz::TPM_KEY;

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let Ok(signed) = Signed::from_der(der) else { return };
    // What is taken apart is there as it was: the to-be-signed bytes first, the signature last.
    assert!(der.ends_with(&signed.signature));
    assert!((2..=6).any(|header| der[header..].starts_with(&signed.tbs)));
    let _ = signed.verify(&TPM_KEY);
});
