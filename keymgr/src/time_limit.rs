//! How long a call may take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// How long a device may take for a call, from being asked to the answer: `500ms`, `10s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(Duration);

impl TimeLimit {
    /// The shortest that is accepted: less than a token on a network takes on a bad day.
    pub const LEAST: Duration = Duration::from_millis(50);
    /// The longest that is accepted: nobody waits for longer.
    pub const MOST: Duration = Duration::from_secs(600);
    /// For what tokens take long for, the making of keys: an HSM has been seen to take minutes for RSA-4096.
    pub const TO_MAKE_KEYS: Duration = Self::MOST;

    /// The limit as a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Ten seconds.
impl Default for TimeLimit {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl FromStr for TimeLimit {
    type Err = NoTimeLimit;

    fn from_str(text: &str) -> Result<Self, NoTimeLimit> {
        let refused = || NoTimeLimit(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let milliseconds = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            _ => None,
        };
        let limit = Duration::from_millis(milliseconds.ok_or_else(refused)?);
        if !(Self::LEAST..=Self::MOST).contains(&limit) {
            return Err(refused());
        }
        Ok(Self(limit))
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A text that is no [`TimeLimit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time limit; write 50ms to 10m, like 500ms, 10s or 2m")]
pub struct NoTimeLimit(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_everything_else_is_refused() {
        for (text, milliseconds) in
            [("50ms", 50), ("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("10m", 600_000)]
        {
            assert_eq!(text.parse::<TimeLimit>().unwrap().duration(), Duration::from_millis(milliseconds));
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1.5s",
            "0s",
            "49ms",
            "601s",
            "11m",
            "1h",
            "10S",
            "99999999999999999999s",
            "18446744073709551615m",
            "１s",
        ] {
            let refusal = text.parse::<TimeLimit>().unwrap_err().to_string();
            assert!(refusal.contains(&format!("`{text}`")) && refusal.contains("10s"), "{refusal}");
        }
    }
}
