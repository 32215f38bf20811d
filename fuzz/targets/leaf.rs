#![no_main]
//! Entries of the log.
use undercroft_fuzz::entry;
use undercroft_log::leaf::{Draft, Leaf};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(leaf) = Leaf::parse(bytes) else { return };
    // What was understood can be written, and says the same.
    let again = entry(&leaf, Draft::new(&leaf.body).unwrap().body());
    assert_eq!(Leaf::parse(again.as_bytes()).unwrap(), leaf);
    assert!(Leaf::raw_body(bytes).is_ok());
});
