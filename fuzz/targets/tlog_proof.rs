#![no_main]
//! `.tlog-proof` files.
use undercroft_fuzz::LOG_KEY;
use undercroft_log::proof::TlogProof;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(proof) = text.parse::<TlogProof>() else { return };
    assert_eq!(proof.to_string().parse::<TlogProof>().unwrap(), proof);
    let _ = proof.verify(b"entry-4", &LOG_KEY);
});
