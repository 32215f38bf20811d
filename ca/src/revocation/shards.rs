//! Shards of a CRL: which certificate is in which.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::serial::SerialNumber;

/// The most shards: each is a CRL that is signed again and again.
const MOST: u16 = 1024;

/// The first two bytes of a serial number are one of so many, from [`FIRST`] on.
const VALUES: u32 = 0x7f00;

/// The smallest value of the first two bytes of a serial number.
const FIRST: u32 = 0x0100;

/// Into how many shards a CRL is cut. Serial numbers are random, so that shards are ranges of them of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards(NonZeroU16);

impl Shards {
    /// How many there are.
    pub fn count(self) -> u16 {
        self.0.get()
    }

    /// The shard of a certificate.
    pub fn of(self, serial: &SerialNumber) -> u16 {
        let [first, second, ..] = *serial.as_bytes();
        let value = u32::from(u16::from_be_bytes([first, second])).saturating_sub(FIRST);
        // Less than the number of shards, since the value is less than that of all values.
        u16::try_from(value * u32::from(self.count()) / VALUES).unwrap_or(u16::MAX)
    }

    /// The serial numbers of a shard: the smallest, and what is more than the largest, if anything is.
    pub fn range(self, shard: u16) -> (SerialNumber, Option<SerialNumber>) {
        let begin = |shard: u16| {
            let value = FIRST + (u32::from(shard) * VALUES).div_ceil(u32::from(self.count()));
            let [.., first, second] = value.to_be_bytes();
            let mut bytes = [0; 16];
            bytes[0] = first;
            bytes[1] = second;
            SerialNumber::from_bytes(bytes)
        };
        (begin(shard).unwrap_or(SerialNumber::SMALLEST), begin(shard.saturating_add(1)))
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count: u16 = text.parse().map_err(|_| format!("`{text}` is no number of shards"))?;
        Self::try_from(count)
    }
}

impl TryFrom<u16> for Shards {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        match NonZeroU16::new(count) {
            Some(count) if (2..=MOST).contains(&count.get()) => Ok(Self(count)),
            _ => Err(format!("a CRL has 2 to {MOST} shards, or is left whole; {count} is neither")),
        }
    }
}

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_shards_that_make_no_sense_are_refused() {
        for text in ["", "0", "1", "1025", "-2", "65536"] {
            assert!(text.parse::<Shards>().is_err(), "{text}");
        }
        assert_eq!("1024".parse::<Shards>().unwrap().count(), 1024);
    }

    proptest! {
        #[test]
        fn each_serial_number_is_in_the_range_of_its_shard_and_in_no_other(
            count in 2..=MOST,
            bytes in any::<[u8; 16]>(),
            first in 0x01..=0x7f_u8,
        ) {
            let shards = Shards::try_from(count).unwrap();
            let mut bytes = bytes;
            bytes[0] = first;
            let serial = SerialNumber::from_bytes(bytes).unwrap();
            let holds = |shard| {
                let (begin, end) = shards.range(shard);
                begin <= serial && end.is_none_or(|end| serial < end)
            };
            let own: Vec<_> = (0..count).filter(|shard| holds(*shard)).collect();
            prop_assert_eq!(own, vec![shards.of(&serial)]);
        }
    }
}
