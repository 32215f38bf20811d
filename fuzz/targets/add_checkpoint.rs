#![no_main]
//! What a log asks of a witness.
use undercroft_fuzz::LOG_KEY;
use undercroft_log::add_checkpoint::{AddCheckpoint, Seen};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(request) = text.parse::<AddCheckpoint>() else { return };
    assert_eq!(request.to_string().parse::<AddCheckpoint>().unwrap(), request);
    let _ = request.origin();
    let Ok(checkpoint) = request.judge(&LOG_KEY, &Seen::default()) else { return };
    // Of a log that was never seen, anything that its key has signed is taken: nothing else is.
    assert_eq!((checkpoint.size, request.old), (7, 0));
});
