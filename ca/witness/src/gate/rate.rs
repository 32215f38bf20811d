//! How much a key may sign in a time, whatever policy says.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use undercroft_ca::policy::Refusal;
use undercroft_ca::time::Lifetime;

/// A rate as it is written: `rate = { most = 1000, per = "1m" }`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RateConfig {
    /// How many.
    pub most: usize,
    /// In which time.
    pub per: Lifetime,
}

/// How many CRLs a key may sign: all shards that there can be, with their deltas, twice. A rate of their own, so that
/// certificates, however many are asked for, do not keep a revocation from being told.
pub const CRL_RATE: RateConfig = RateConfig { most: 4096, per: Lifetime::seconds(3600) };

/// A rate, and what was taken of it. It is forgotten when the gate stops.
#[derive(Debug)]
pub struct Rate {
    config: RateConfig,
    taken: Mutex<VecDeque<Timestamp>>,
}

impl Rate {
    /// A rate of which nothing was taken yet.
    pub fn new(config: RateConfig) -> Self {
        Self { config, taken: Mutex::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// There were as many already.
    pub fn take(&self, now: Timestamp) -> Result<(), Refusal> {
        let RateConfig { most, per } = self.config;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.front().is_some_and(|first| *first + per.0 <= now) {
            taken.pop_front();
        }
        if taken.len() >= most {
            return Err(Refusal::new("rate", format!("the gate lets {most} pass in {per}, and has")));
        }
        taken.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_time_and_no_more() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let rate = Rate::new(RateConfig { most: 2, per: Lifetime::seconds(60) });
        assert!(rate.take(at(0)).is_ok());
        assert!(rate.take(at(59)).is_ok());
        assert_eq!(rate.take(at(59)).unwrap_err().rule, "rate");
        assert!(rate.take(at(60)).is_ok());
        assert!(rate.take(at(60)).is_err());
        // A clock that goes back frees nothing.
        assert!(rate.take(at(0)).is_err());
        assert!(rate.take(at(119)).is_ok());
    }
}
