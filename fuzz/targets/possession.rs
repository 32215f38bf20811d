#![no_main]
//! Signatures of requests and of others: algorithm, then signature, by the length that the first byte says.
use undercroft_fuzz::{CSR, TPM_KEY};
use undercroft_keys::{SignatureAlgorithm, verify_possession};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (algorithm, signature) = rest.split_at(rest.len().min((*length).into()));
    for key in [&*TPM_KEY, CSR.public_key()] {
        assert!(verify_possession(key, algorithm, b"request", signature).is_err(), "forged");
        SignatureAlgorithm::from_der(algorithm)
            .into_iter()
            .for_each(|it| assert!(key.verify(it, b"request", signature).is_err()));
    }
});
