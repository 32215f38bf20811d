#![no_main]
//! WebAuthn attestation objects, as an ACME challenge is answered with them.
use undercroft_attestors::chain::Anchors;
use undercroft_attestors::webauthn::{Expected, MAX_OBJECT, Statement};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(statement) = Statement::read(bytes) else { return };
    assert!(bytes.len() <= MAX_OBJECT);
    // Nothing is read past, and nothing left over.
    assert!(Statement::read(&[bytes, &[0]].concat()).is_err());
    assert!(Statement::read(&bytes[..bytes.len() - 1]).is_err());
    let nobody = Anchors::default();
    let expected = Expected {
        anchors: &nobody,
        directly: false,
        key_authorization: "token.thumbprint",
        identifier: "device",
    };
    assert!(statement.verify(expected, jiff::Timestamp::UNIX_EPOCH).is_err());
});
