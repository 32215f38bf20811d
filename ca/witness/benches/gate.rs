//! The gate's own time for one word: checking, keeping (with its fsync), signing. Its key is in this process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, for people to read"
)]
#![allow(dead_code, reason = "the site serves the tests of the gate, too")]

#[path = "../tests/gate/site.rs"]
mod site;

use std::time::{Duration, Instant};

use futures::executor::block_on;

use site::Site;

const WORDS: usize = 90;

fn main() {
    let mut site = Site::new();
    let indices: Vec<_> = (0..WORDS).map(|_| site.log_svid()).collect();
    let gate = site.gate();
    site.show(&gate, 0);
    let size = site.log.size();
    let mut times: Vec<Duration> = indices
        .into_iter()
        .map(|index| {
            let application = site.log.application(index, size);
            let began = Instant::now();
            block_on(gate.authorise(&application)).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "a gate's word: {:?} (median of {WORDS}), {:?} (99th of 100), fsync included (aim 2 ms)",
        times[WORDS / 2],
        times[WORDS * 99 / 100]
    );
}
