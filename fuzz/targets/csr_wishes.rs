#![no_main]
//! What requests ask for, behind a signature that verifies.
use undercroft_ca::csr::Csr;
use undercroft_fuzz::request;

libfuzzer_sys::fuzz_target!(|attributes: &[u8]| {
    let Ok(csr) = Csr::from_der(&request(attributes)) else { return };
    let wishes = csr.wishes();
    assert_eq!(wishes.in_words().len(), wishes.uris.len() + wishes.dns_names.len() + wishes.others.len());
});
