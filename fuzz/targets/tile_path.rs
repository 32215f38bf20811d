#![no_main]
//! Paths of tiles.
use undercroft_log::tile::TilePath;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(path) = text.parse::<TilePath>() else { return };
    assert_eq!(path.to_string(), text);
    assert!((1..=256).contains(&path.width()) && !text.contains(".."));
});
