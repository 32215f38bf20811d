//! The system's clock and randomness. This is the one file that reads them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use undercroft_ca::serial::{Entropy, NoEntropy};
use undercroft_log::Clock;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Time that passes, for those who measure: it never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// One that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(buffer).map_err(|error| NoEntropy(error.to_string()))
    }
}
