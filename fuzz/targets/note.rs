#![no_main]
//! Signed notes and checkpoints.
use undercroft_fuzz::{LOG_KEY, WITNESS_KEY};
use undercroft_log::{checkpoint::Checkpoint, note::Note};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(note) = Note::parse(text) else { return };
    assert!(text.starts_with(note.unverified_text()));
    let verified = note.verify(&LOG_KEY).ok().and_then(|text| Checkpoint::parse(text).ok());
    assert_eq!(Checkpoint::open(text, &LOG_KEY).ok(), verified);
    assert_eq!(Checkpoint::open(&note.only(&LOG_KEY), &LOG_KEY).ok(), verified);
    // The one cosignature that there is, or none.
    let _ = WITNESS_KEY.verify(&note).map(|time| assert_eq!(time.as_second(), 1_700_000_000));
});
