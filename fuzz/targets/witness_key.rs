#![no_main]
//! Keys of witnesses.
use undercroft_log::cosignature::WitnessKey;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(key) = text.parse::<WitnessKey>() else { return };
    assert_eq!(key.to_string(), text);
});
