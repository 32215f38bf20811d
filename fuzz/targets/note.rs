#![no_main]
//! Signed notes and checkpoints.
use undercroft_fuzz::LOG_KEY;
use undercroft_log::{checkpoint::Checkpoint, note::Note};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(note) = Note::parse(text) else { return };
    assert!(text.starts_with(note.unverified_text()));
    assert_eq!(
        note.verify(&LOG_KEY).ok().and_then(|text| Checkpoint::parse(text).ok()),
        Checkpoint::open(text, &LOG_KEY).ok()
    );
});
