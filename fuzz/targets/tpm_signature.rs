#![no_main]
//! TPMT_SIGNATURE, and the same signature as X.509 carries it.
use undercroft_tpm_wire::{Curve, HashAlgorithm, Scheme, Signature};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for (scheme, curve) in [
        (Scheme::Ecdsa(HashAlgorithm::Sha256), Curve::P256),
        (Scheme::Ecdsa(HashAlgorithm::Sha384), Curve::P384),
    ] {
        // What is taken for a signature is given back byte for byte.
        let Ok(signature) = Signature::from_x509(scheme, Some(curve), bytes) else { continue };
        assert_eq!(signature.to_x509().unwrap(), bytes);
        let _ = Signature::parse(&signature.encode());
    }
    let Ok(signature) = Signature::parse(bytes) else { return };
    assert_eq!(signature.encode(), bytes);
    let _ = signature.to_x509();
});
