#![no_main]
//! Requests in DER, by their own signature.
use undercroft_ca::{certificate::to_pem, csr::Csr};

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let Ok(csr) = Csr::from_der(der) else { return };
    let again = Csr::from_pem(&to_pem("CERTIFICATE REQUEST", der).unwrap()).unwrap();
    assert_eq!((again.digest(), again.public_key()), (csr.digest(), csr.public_key()));
    assert_eq!(again.wishes(), csr.wishes());
});
