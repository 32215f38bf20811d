#![no_main]
//! Signed requests to the ACME server, and the keys in them.
use undercroft_ca::acme::{Jws, MAX_JWS, Signer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(jws) = Jws::read(bytes) else { return };
    assert!(bytes.len() <= MAX_JWS);
    if let Signer::Key(key) = jws.signer() {
        // Whatever it says, it is decided without a panic.
        let _ = jws.verify(key);
        assert_ne!(key.thumbprint(), [0; 32]);
    }
});
