#![no_main]
//! Files across the air gap: as they are, and with terms and parts that the right key has signed.
use std::path::{Component, Path};

use undercroft_ca::exchange::{Direction, Expected, Opened};
use undercroft_fuzz::{EXCHANGE_KEY, sign};
use undercroft_log::leaf::Digest;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let key = &*EXCHANGE_KEY;
    let (terms, parts) = text.split_once("\n\n").unwrap_or((text, ""));
    for (direction, format) in [(Direction::Request, "request"), (Direction::Response, "response")] {
        let signed = format!("undercroft-{format}-v1\n{terms}\n");
        let file = format!("{signed}\n{}\n{parts}", key.line(&sign(signed.as_bytes())));
        for file in [text, &file] {
            let expected = Expected {
                origin: key.name(),
                policy: Digest::of(b"policy"),
                plan: None,
                now: "2026-11-23T00:00:00Z".parse().unwrap(),
            };
            let Ok(opened) = Opened::open(file.as_bytes(), direction, key, &expected) else { continue };
            for part in opened.message().parts() {
                let path = Path::new(part.name.as_str());
                assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
            }
            let _ = opened.message().keys();
        }
    }
});
