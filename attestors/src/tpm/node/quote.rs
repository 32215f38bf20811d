//! TPM2_Quote: what is in the PCRs, and what the clock of the TPM says.

use std::cmp::Ordering;

use undercroft_tpm_wire::HashAlgorithm;
use undercroft_tpm_wire::attest::{Attest, Attested as Said};
use undercroft_tpm_wire::pcr::PcrSelection;

use super::Purpose;
use super::candidate::{Bound, weakness_of};
use super::refusal::{Code, Refusal, of_attest};
use crate::tpm::attestation_key;
use crate::tpm::event_log::{EventLogError, PcrValues};

/// What a node sends.
#[derive(Clone, Debug)]
pub struct Quote<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
    /// The values of the PCRs that were asked for, in their order.
    pub values: &'a [Vec<u8>],
}

/// The clock of a TPM at an attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds with power since the TPM was cleared.
    pub milliseconds: u64,
    /// How often it was reset; outside the endorsement hierarchy, plus a number that never changes.
    pub resets: u32,
    /// How often it was restarted or resumed since.
    pub restarts: u32,
    /// Whether `milliseconds` was never as high before.
    pub safe: bool,
    /// The version of its firmware.
    pub firmware: u64,
}

/// What happened since the quote before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// There was none.
    First,
    /// Nothing.
    Running,
    /// It was suspended, or restarted.
    Resumed,
    /// It was reset: another boot, another event log.
    Rebooted,
}

impl<'p> Bound<'p> {
    /// Checks a quote of exactly the PCRs that were asked for, in this exchange.
    ///
    /// `last` is the clock that was last seen of this attestation key.
    ///
    /// # Errors
    /// `attest-*`, `ak-hierarchy`, `quote-*`, `clock-*`, `firmware-weak`.
    pub fn quoted(
        self,
        quote: &Quote<'_>,
        asked: &PcrSelection,
        last: Option<&Clock>,
    ) -> Result<Quoted<'p>, Refusal> {
        let (attest, firmware_known) = self.attest(quote.attest, quote.signature, Purpose::Quote)?;
        let Said::Quote { selection, digest } = &attest.attested else {
            return Err(Refusal::new(Code::AttestType, "the attestation is no quote"));
        };
        if selection != asked {
            return Err(Refusal::new(Code::QuoteSelection, "other PCRs are quoted than were asked for"));
        }
        let pcrs: Vec<_> = asked.iter().zip(quote.values).collect();
        let whole = pcrs.len() == asked.iter().count() && pcrs.len() == quote.values.len();
        if !whole || pcrs.iter().any(|((bank, _), value)| value.len() != bank.size()) {
            return Err(Refusal::new(
                Code::QuoteValues,
                "not one value is given for each PCR that was asked for",
            ));
        }
        // By the hash of the signature, not of the bank (Part 3, section 18.4).
        let hash = self.scheme_hash();
        if hash.map(|hash| hash.digest(&quote.values.concat())).as_ref() != Some(digest) {
            return Err(Refusal::new(Code::QuoteDigest, "the PCRs do not have these values"));
        }
        let clock = Clock::of(&attest);
        if !clock.safe && !self.genuine.policy.unsafe_clock {
            return Err(Refusal::new(
                Code::ClockUnsafe,
                "the clock of the TPM may have gone back (safe is 0)",
            ));
        }
        let since = clock.since(last)?;
        let pcrs = pcrs.into_iter().map(|((bank, pcr), value)| (bank, pcr, value.clone())).collect();
        let version = match firmware_known {
            true => Some((attest.firmware >> 32) as u32),
            false => self.genuine.certified_version(),
        };
        let weakness = weakness_of(&self.area);
        self.genuine.policy.is_not_weak(self.genuine.manufacturer(), version, weakness)?;
        Ok(Quoted { bound: self, pcrs, clock, since, firmware_known, version })
    }

    /// Checks who signed an attestation, and for which exchange; and tells whether its counters are in clear.
    pub(super) fn attest(
        &self,
        attest: &[u8],
        signature: &[u8],
        purpose: Purpose,
    ) -> Result<(Attest, bool), Refusal> {
        let read = Attest::parse(attest).map_err(of_attest)?;
        attestation_key::verify(&self.area, attest, signature)?;
        let in_clear = self.is_signer(&read.signer)?;
        if read.qualifying != purpose.qualifying(&self.transcript) {
            return Err(Refusal::new(
                Code::AttestQualifying,
                "the attestation was made for another exchange, or for another purpose (extraData)",
            ));
        }
        Ok((read, in_clear))
    }
}

impl Clock {
    pub(super) fn of(attest: &Attest) -> Self {
        let Attest { clock, resets, restarts, safe, firmware, .. } = *attest;
        Self { milliseconds: clock, resets, restarts, safe, firmware }
    }

    /// What happened since `last`.
    ///
    /// # Errors
    /// `clock-back`: what only goes forward in a TPM went back.
    pub fn since(&self, last: Option<&Self>) -> Result<Since, Refusal> {
        let Some(last) = last else { return Ok(Since::First) };
        let back =
            |what| Refusal::new(Code::ClockBack, format!("{what} went back since the last attestation"));
        match self.resets.cmp(&last.resets) {
            Ordering::Less => Err(back("resetCount")),
            Ordering::Greater => Ok(Since::Rebooted),
            Ordering::Equal if self.restarts < last.restarts => Err(back("restartCount")),
            Ordering::Equal if self.milliseconds <= last.milliseconds => Err(back("clock")),
            Ordering::Equal if self.restarts > last.restarts => Ok(Since::Resumed),
            Ordering::Equal => Ok(Since::Running),
        }
    }
}

/// A node whose PCRs are known.
#[derive(Clone, Debug)]
pub struct Quoted<'p> {
    pub(super) bound: Bound<'p>,
    pub(super) pcrs: Vec<(HashAlgorithm, u8, Vec<u8>)>,
    pub(super) clock: Clock,
    pub(super) since: Since,
    pub(super) firmware_known: bool,
    pub(super) version: Option<u32>,
}

impl Quoted<'_> {
    /// The quoted PCRs: bank, index, value. An event log is replayed to these.
    pub fn pcrs(&self) -> &[(HashAlgorithm, u8, Vec<u8>)] {
        &self.pcrs
    }

    /// The quoted PCRs of a bank that the firmware's event log accounts for: 0 to 9 and 14. The operating system extends the
    /// others as long as it runs.
    ///
    /// # Errors
    /// None of them was quoted in this bank.
    pub fn boot_pcrs(&self, bank: HashAlgorithm) -> Result<PcrValues, EventLogError> {
        let of_boot = |pcr: u8| pcr <= 9 || pcr == 14;
        let quoted = self.pcrs.iter().filter(|(of, pcr, _)| *of == bank && of_boot(*pcr));
        PcrValues::new(bank, quoted.map(|(_, pcr, value)| (*pcr, value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_goes_forward_does_not_go_back() {
        let clock = |resets, restarts, milliseconds| Clock {
            milliseconds,
            resets,
            restarts,
            safe: true,
            firmware: 0,
        };
        let last = clock(5, 3, 1000);
        let since = |now: Clock| now.since(Some(&last)).map_err(|refusal| refusal.code());
        for (now, expected) in [
            (clock(5, 3, 1001), Ok(Since::Running)),
            (clock(5, 4, 1001), Ok(Since::Resumed)),
            (clock(6, 0, 1001), Ok(Since::Rebooted)),
            (clock(6, 0, 10), Ok(Since::Rebooted)),
            (clock(5, 3, 1000), Err(Code::ClockBack)),
            (clock(5, 3, 999), Err(Code::ClockBack)),
            (clock(5, 4, 999), Err(Code::ClockBack)),
            (clock(5, 2, 2000), Err(Code::ClockBack)),
            (clock(4, 9, 2000), Err(Code::ClockBack)),
            (clock(0, 0, 2000), Err(Code::ClockBack)),
        ] {
            assert_eq!(since(now), expected, "{now:?}");
        }
        assert_eq!(clock(0, 0, 0).since(None), Ok(Since::First));
    }
}
