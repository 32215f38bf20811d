#![no_main]
//! Requests in PEM.
use undercroft_ca::csr::{Csr, der_from_pem};

libfuzzer_sys::fuzz_target!(|pem: &str| {
    let der = der_from_pem(pem);
    assert_eq!(
        Csr::from_pem(pem).ok().map(|csr| csr.digest()),
        der.ok().and_then(|der| Some(Csr::from_der(&der).ok()?.digest()))
    );
});
