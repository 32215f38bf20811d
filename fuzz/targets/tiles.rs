#![no_main]
//! Tiles and bundles, of a width that the first byte says.
use undercroft_log::tile::{decode_entries, decode_hashes, encode_hashes, push_entry};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((width, bytes)) = data.split_first() else { return };
    let (width, mut bundle) = (usize::from(*width) + 1, Vec::new());
    decode_hashes(bytes, width).into_iter().for_each(|hashes| assert_eq!(encode_hashes(&hashes), bytes));
    let Ok(entries) = decode_entries(bytes, width) else { return };
    entries.iter().for_each(|entry| push_entry(&mut bundle, entry).unwrap());
    assert_eq!((entries.len(), &*bundle), (width, bytes));
});
