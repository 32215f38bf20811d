//! Validity periods and lifetimes: whole seconds, UTC.

use std::fmt;
use std::time::Duration;

use der::asn1::{GeneralizedTime, UtcTime};
use jiff::{Span, SpanRelativeTo, Timestamp};
use serde::{Deserialize, Deserializer};
use x509_cert::time::Time;

/// How far `notBefore` lies in the past, for peers whose clocks are behind. SPIRE does the same.
pub const BACKDATE: Duration = Duration::from_secs(10);

/// A validity period, both ends included (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Validity {
    /// The period between two times, whose fractions of a second are cut off.
    ///
    /// # Errors
    /// The end is not after the beginning.
    pub fn new(not_before: Timestamp, not_after: Timestamp) -> Result<Self, EmptyValidity> {
        let (not_before, not_after) = (whole(not_before), whole(not_after));
        if not_before < not_after {
            Ok(Self { not_before, not_after })
        } else {
            Err(EmptyValidity { not_before, not_after })
        }
    }

    /// The period from shortly before `now` until `lifetime` after it, cut to the issuer's at both ends: a
    /// certificate never outlives its issuer.
    ///
    /// # Errors
    /// Nothing is left: the issuer has expired or is not valid yet.
    pub fn within(issuer: &Self, now: Timestamp, lifetime: Lifetime) -> Result<Self, EmptyValidity> {
        let not_before = (now - BACKDATE).max(issuer.not_before);
        let not_after = (now + lifetime.0).min(issuer.not_after);
        // Cut to the issuer's period, but never valid only in the future or only in the past.
        if now < issuer.not_before || not_after <= now {
            return Err(EmptyValidity { not_before, not_after });
        }
        Self::new(not_before, not_after)
    }

    /// The first second.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` lies in the period.
    pub fn contains(&self, now: Timestamp) -> bool {
        let now = whole(now);
        self.not_before <= now && now <= self.not_after
    }

    /// Whether the whole of `other` lies in the period.
    pub fn covers(&self, other: &Self) -> bool {
        self.not_before <= other.not_before && other.not_after <= self.not_after
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.not_before, self.not_after)
    }
}

/// A period that ends before it begins, or that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is left of a validity from {not_before} to {not_after}")]
pub struct EmptyValidity {
    not_before: Timestamp,
    not_after: Timestamp,
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A time as X.509 writes it: UTCTime until 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
pub(crate) fn x509_time(time: Timestamp) -> Result<Time, der::Error> {
    let seconds = u64::try_from(time.as_second()).map_err(|_| der::ErrorKind::DateTime)?;
    let seconds = Duration::from_secs(seconds);
    match UtcTime::from_unix_duration(seconds) {
        Ok(until_2049) => Ok(Time::UtcTime(until_2049)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_unix_duration(seconds)?)),
    }
}

/// How long something is good for, in whole seconds. Written `90d`, `24h`, `1h 30m` and so on; a day has 24 hours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(pub Duration);

impl Lifetime {
    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self(Duration::from_secs(days * 24 * 3600))
    }

    /// So many hours.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In seconds.
    pub const fn as_seconds(self) -> u64 {
        self.0.as_secs()
    }
}

/// In the largest units that leave no rest.
impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_seconds();
        for (unit, length) in [("d", 24 * 3600), ("h", 3600), ("m", 60)] {
            if seconds >= length && seconds.is_multiple_of(length) {
                return write!(f, "{}{unit}", seconds / length);
            }
        }
        write!(f, "{seconds}s")
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lifetime({self})")
    }
}

/// The longest lifetime that can be written: nothing is good for more than a century.
const LONGEST: Lifetime = Lifetime::days(36_525);

impl std::str::FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no lifetime; write 90d, 24h, 30m or 60s");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        let duration = Duration::try_from(span).map_err(|_| wrong())?;
        if duration.subsec_nanos() != 0 || duration.is_zero() {
            return Err(wrong());
        }
        if duration > LONGEST.0 {
            return Err(format!("`{text}` is longer than any lifetime ({LONGEST} at most)"));
        }
        Ok(Self(duration))
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn lifetimes_are_read_and_written() {
        for (text, seconds, written) in
            [("90d", 7_776_000, "90d"), ("1h 30m", 5400, "90m"), ("24h", 86_400, "1d"), ("61s", 61, "61s")]
        {
            let lifetime: Lifetime = text.parse().unwrap();
            assert_eq!((lifetime.as_seconds(), lifetime.to_string().as_str()), (seconds, written));
        }
        // What can be read can be written and read again; longer spans could not, written in seconds.
        assert_eq!("36525d".parse(), Ok(LONGEST));
        for text in ["36526d", "36525d 1s", "7000000d", "3155760001s"] {
            assert!(text.parse::<Lifetime>().unwrap_err().contains("36525d at most"), "{text}");
        }
        for text in ["", "0s", "-1h", "1", "1y", "1.5s", "forever"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_certificate_never_outlives_its_issuer() {
        let issuer = Validity::new(at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z")).unwrap();
        let within = |now, lifetime| Validity::within(&issuer, at(now), lifetime).map(|v| v.to_string());
        assert_eq!(
            within("2026-01-01T12:00:00.9Z", Lifetime::hours(1)).unwrap(),
            "2026-01-01T11:59:50Z to 2026-01-01T13:00:00Z"
        );
        assert_eq!(
            within("2026-01-01T23:30:00Z", Lifetime::hours(1)).unwrap(),
            "2026-01-01T23:29:50Z to 2026-01-02T00:00:00Z"
        );
        assert_eq!(
            within("2026-01-01T00:00:03Z", Lifetime::hours(1)).unwrap(),
            "2026-01-01T00:00:00Z to 2026-01-01T01:00:03Z"
        );
        assert!(within("2026-01-02T00:00:00Z", Lifetime::hours(1)).is_err());
        assert!(within("2025-12-31T23:59:59Z", Lifetime::hours(1)).is_err());
    }

    #[test]
    fn times_change_their_encoding_in_2050() {
        use der::Encode as _;
        assert_eq!(
            x509_time(at("2049-12-31T23:59:59Z")).unwrap().to_der().unwrap(),
            b"\x17\x0d491231235959Z"
        );
        assert_eq!(
            x509_time(at("2050-01-01T00:00:00Z")).unwrap().to_der().unwrap(),
            b"\x18\x0f20500101000000Z"
        );
        assert!(x509_time(at("1969-12-31T23:59:59Z")).is_err());
    }
}
