#![no_main]
//! Certificates of authorities and of others.
use undercroft_ca::certificate::{AuthorityCertificate, to_pem};
use undercroft_ca::verify::{chain, holder};

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let Ok(certificate) = AuthorityCertificate::from_der(der) else { return drop(holder(der)) };
    assert_eq!(certificate.der(), der);
    assert_eq!(AuthorityCertificate::from_pem(&to_pem("CERTIFICATE", der).unwrap()).unwrap(), certificate);
    assert_eq!(holder(der).unwrap().public_key, *certificate.public_key());
    let _ = (certificate.is_self_signed(), format!("{certificate:?}"));
    let _ = chain(&[der, der], std::slice::from_ref(&certificate), certificate.validity().not_before());
});
