//! How often somebody of whom nothing is known may fill the log with a refusal.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Refusals that may come at once.
const BURST: i64 = 20;

/// How long it takes until one more may come.
const EACH: Duration = Duration::from_secs(1);

/// A bucket that fills with time (a leaky bucket as a meter: one instant says all).
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Option<Timestamp>>);

impl Strangers {
    /// Counts one more. Gives when to come back if there are too many.
    pub(super) fn are_too_many(&self, now: Timestamp) -> Option<Duration> {
        let mut empty_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = empty_at.unwrap_or(now).max(now);
        let ahead = from.duration_since(now).as_secs();
        if ahead >= BURST {
            return Some(EACH);
        }
        *empty_at = Some(from.checked_add(EACH).unwrap_or(from));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_the_log_no_faster_than_once_a_second() {
        let at = |second: i64| Timestamp::from_second(1_000 + second).unwrap();
        let strangers = Strangers::default();
        let taken = |second| (0..100).filter(|_| strangers.are_too_many(at(second)).is_none()).count();
        assert_eq!(taken(0), 20);
        assert_eq!(taken(0), 0);
        assert_eq!(taken(1), 1);
        assert_eq!(taken(5), 4);
        assert_eq!(taken(1_000), 20);
        // A clock that went back lets nobody in who would not have been.
        assert_eq!(taken(900), 0);
    }
}
