//! When a node attests again. Chances are arguments, from 0 to 1.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use undercroft_ca::time::Validity;

/// When a certificate is renewed: at half of its life, give or take a tenth of the life, so that nodes which began together do not
/// stay together.
pub fn due(validity: Validity, chance: f64) -> Timestamp {
    let life = validity.not_after().duration_since(validity.not_before()).as_secs_f64();
    let after = life * (0.4 + 0.2 * chance.clamp(0.0, 1.0));
    let after = SignedDuration::try_from_secs_f64(after).unwrap_or(SignedDuration::ZERO);
    validity.not_before().checked_add(after).unwrap_or(validity.not_after())
}

/// How long to wait after so many failures in a row: twice as long each time, from `least` to `most`, of which at least half.
pub fn pause(failures: u32, (least, most): (Duration, Duration), chance: f64) -> Duration {
    let doubled = least.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(most).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// A chance from eight random bytes.
pub fn chance(random: [u8; 8]) -> f64 {
    (u64::from_be_bytes(random) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_about_the_middle_of_its_life() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let hour = Validity::new(at("2026-11-23T10:00:00Z"), at("2026-11-23T11:00:00Z")).unwrap();
        assert_eq!(due(hour, 0.0), at("2026-11-23T10:24:00Z"));
        assert_eq!(due(hour, 0.5), at("2026-11-23T10:30:00Z"));
        assert_eq!(due(hour, 1.0), at("2026-11-23T10:36:00Z"));
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_never_less_than_half() {
        let bounds = (Duration::from_secs(5), Duration::from_secs(600));
        for (failures, longest) in
            [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (32, 600), (33, 600), (u32::MAX, 600)]
        {
            assert_eq!(pause(failures, bounds, 1.0), Duration::from_secs(longest), "{failures}");
            assert_eq!(pause(failures, bounds, 0.0), Duration::from_secs(longest) / 2, "{failures}");
        }
    }

    #[test]
    fn chances_are_from_nought_to_less_than_one() {
        assert_eq!(chance([0; 8]), 0.0);
        assert!(chance([0xff; 8]) < 1.0 && chance([0xff; 8]) > 0.999);
        assert_eq!(chance([0x80, 0, 0, 0, 0, 0, 0, 0]), 0.5);
    }
}
