#![no_main]
//! The texts of checkpoints.
use undercroft_log::checkpoint::Checkpoint;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(checkpoint) = Checkpoint::parse(text) else { return };
    assert_eq!(Checkpoint::parse(&checkpoint.text()).unwrap(), checkpoint);
    // Extension lines, which are ignored, are all that may follow.
    assert!(text.starts_with(&checkpoint.text()));
});
