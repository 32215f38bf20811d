#![no_main]
//! Evidence of where a key lives.
use undercroft_attestors::custody::{Grade, judge};
use undercroft_fuzz::TPM_KEY;

libfuzzer_sys::fuzz_target!(|evidence: &[u8]| {
    for format in ["pkcs11-attributes-v1", "tpm2-public-v1"] {
        let custody = judge(format, evidence, &TPM_KEY);
        // Neither format holds anything that a vendor has signed.
        assert!(custody.grade < Grade::Proven && !custody.findings.is_empty());
    }
});
