#![no_main]
//! Evidence of where a key lives.
use jiff::Timestamp;
use undercroft_attestors::custody::{Grade, judge};
use undercroft_attestors::trust::Trust;
use undercroft_fuzz::TPM_KEY;

libfuzzer_sys::fuzz_target!(|evidence: &[u8]| {
    for format in [
        "pkcs11-attributes-v1",
        "smartcard-hsm-v1",
        "tpm2-public-v1",
        "tpm2-certify-v1",
        "aws-kms-v1",
        "google-kms-v1",
        "azure-key-v1",
    ] {
        let custody = judge(format, evidence, &TPM_KEY, &Trust::default(), Timestamp::UNIX_EPOCH);
        // Nobody is believed, so that nothing is proven.
        assert!(custody.grade < Grade::Proven && !custody.findings.is_empty());
    }
});
