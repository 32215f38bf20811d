#![no_main]
//! Keys of logs.
use undercroft_log::note::VerifierKey;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(key) = text.parse::<VerifierKey>() else { return };
    assert_eq!(key.to_string(), text);
});
