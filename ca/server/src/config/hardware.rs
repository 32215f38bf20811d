//! What devices remember of a domain's log.

use undercroft_ca::ledger::CounterStart;
use undercroft_ca::time::Lifetime;
use undercroft_cli::Failure;
use undercroft_keymgr::LedgerPlaces;

use super::raw::{AnchorConfig, LedgerConfig};

/// The shortest time between two anchors: a counter's flash wears out (500,000 cycles on a common part).
const SPARING: Lifetime = Lifetime::seconds(10);

/// How a domain's log is kept honest by a device.
#[derive(Clone, Debug)]
pub enum Hardware {
    /// A TPM attests to what it did, and counts.
    Ledger {
        /// The device.
        device: String,
        /// Where its attestation key and counter are.
        places: LedgerPlaces,
        /// Where the counter began.
        start: CounterStart,
        /// How long an epoch lasts.
        epoch: Lifetime,
        /// How often the log is anchored.
        every: Lifetime,
    },
    /// A token notes the log's head.
    Note {
        /// The device.
        device: String,
        /// How often.
        every: Lifetime,
    },
}

impl Hardware {
    /// The device.
    pub fn device(&self) -> &str {
        match self {
            Self::Ledger { device, .. } | Self::Note { device, .. } => device,
        }
    }

    pub(super) fn ledger(config: LedgerConfig) -> Result<Self, Failure> {
        let places = LedgerPlaces {
            attestation_key: hexadecimal("attestation-key", &config.attestation_key)?,
            counter: hexadecimal("counter", &config.counter)?,
        };
        is_sparing(config.every)?;
        Ok(Self::Ledger {
            device: config.device,
            places,
            start: CounterStart { index: places.counter, from: config.counter_from },
            epoch: config.epoch,
            every: config.every,
        })
    }

    pub(super) fn note(config: AnchorConfig) -> Result<Self, Failure> {
        is_sparing(config.every)?;
        Ok(Self::Note { device: config.device, every: config.every })
    }
}

fn is_sparing(every: Lifetime) -> Result<(), Failure> {
    match every < SPARING {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "every = {every} wears the device's memory out; {SPARING} is the shortest, 2m a good choice"
        ))),
    }
}

/// A handle or index as TPM tools write them.
pub(crate) fn hexadecimal(field: &str, text: &str) -> Result<u32, Failure> {
    let digits = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    digits.ok_or_else(|| Failure::usage(format!("{field}: `{text}` is no handle such as 0x81010100")))
}
