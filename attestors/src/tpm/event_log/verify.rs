//! Replays a log to the PCR values that a quote signs.

use std::collections::{BTreeMap, BTreeSet};

use undercroft_tpm_wire::HashAlgorithm;

use super::content::{Content, Measured};
use super::event_type::EventType;
use super::refusal::{EventLogError, Rule};
use super::wire::{Bank, Event, EventLog};

/// The last PCR that only a reset of the whole TPM resets.
const LAST_STATIC: u8 = 15;
/// The PCRs that firmware ends with a separator (PFP section 10.4.1, EV_SEPARATOR).
const SEPARATED: std::ops::RangeInclusive<u8> = 0..=7;
/// TCG_EfiStartupLocalityEvent (PFP section 10.4.5.3): this, and one byte.
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// Where PCR 0 starts if a H-CRTM was measured: locality 4 (Library, part 1, section 34.3).
const H_CRTM_LOCALITY: u8 = 4;

/// The values of PCRs of one bank, as a quote signs them. Whoever makes one has verified the quote: its signature, its
/// selection, which is these PCRs of this bank and nothing else, and its digest over these values.
///
/// Those are left out that something else than the log's writers extends, such as PCR 10 by IMA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    bank: HashAlgorithm,
    values: BTreeMap<u8, Vec<u8>>,
}

impl PcrValues {
    /// Values by PCR.
    ///
    /// # Errors
    /// There are none, one is of another size than the bank's, or of a PCR above 15, which can be reset without a reboot.
    pub fn new(bank: HashAlgorithm, values: BTreeMap<u8, Vec<u8>>) -> Result<Self, EventLogError> {
        if values.is_empty() {
            return Err(EventLogError::new(
                Rule::NoPcr,
                "the quote is over no PCR that the log accounts for",
            ));
        }
        for (pcr, value) in &values {
            if *pcr > LAST_STATIC {
                let what = format!("PCR {pcr} can be reset without a reboot: no log accounts for it");
                return Err(EventLogError::new(Rule::PcrResettable, what));
            }
            if value.len() != bank.size() {
                let what =
                    format!("the value of PCR {pcr} has {} bytes and not {}", value.len(), bank.size());
                return Err(EventLogError::new(Rule::ValueSize, what));
            }
        }
        Ok(Self { bank, values })
    }

    /// The bank.
    pub fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// The value of a PCR.
    pub fn get(&self, pcr: u8) -> Option<&[u8]> {
        self.values.get(&pcr).map(Vec::as_slice)
    }

    /// What the first entry of Linux's IMA log must be, `boot_aggregate`: the digest over PCRs 0 to 9 (Linux 5.8 and later).
    /// None if one of them is not here. It ties the log of files to this boot: without it there is a gap between the two.
    pub fn boot_aggregate(&self) -> Option<Vec<u8>> {
        let values = (0..=9).map(|pcr| self.get(pcr)).collect::<Option<Vec<_>>>()?;
        Some(self.bank.digest(&values.concat()))
    }
}

/// A log that replays to quoted values, in each of their PCRs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLog {
    values: PcrValues,
    locality: u8,
    measured: Vec<Measured>,
    unquoted: BTreeSet<u8>,
}

impl VerifiedLog {
    /// The values that it replays to.
    pub fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The locality that TPM2_Startup came from, which PCR 0 starts with: 0 or 3, or 4 with a H-CRTM.
    pub fn startup_locality(&self) -> u8 {
        self.locality
    }

    /// Its events in quoted PCRs, in the order of the log. Only the order inside a PCR is measured.
    pub fn measured(&self) -> &[Measured] {
        &self.measured
    }

    /// Those of one PCR.
    ///
    /// # Errors
    /// The PCR was not quoted, so that nothing is known of it.
    pub fn of_pcr(&self, pcr: u8) -> Result<impl Iterator<Item = &Measured>, EventLogError> {
        if self.values.get(pcr).is_none() {
            return Err(EventLogError::new(Rule::PcrNotQuoted, format!("PCR {pcr} was not quoted")));
        }
        Ok(self.measured.iter().filter(move |event| event.pcr == pcr))
    }

    /// PCRs that the log has events of and that were not quoted.
    pub fn unquoted(&self) -> &BTreeSet<u8> {
        &self.unquoted
    }
}

/// An event that extends a PCR.
struct Extension<'a> {
    number: usize,
    pcr: u8,
    event: &'a Event,
    digest: &'a [u8],
}

impl EventLog {
    /// Replays the log, and compares.
    ///
    /// # Errors
    /// A quoted PCR has another value, with or without events; data is not what was measured; or the log is not as
    /// firmware writes it. See [`Rule`].
    pub fn verify(&self, values: &PcrValues) -> Result<VerifiedLog, EventLogError> {
        let hash = values.bank;
        let bank = Bank::from(hash);
        if !self.banks().contains(&bank) {
            let what = format!("the quote is of the bank of {bank:?}, and the log has no digests of it");
            return Err(EventLogError::new(Rule::BankNotInLog, what));
        }
        let locality = self.startup_locality()?;
        let extensions = self.extended(bank)?;
        self.replays(&extensions, values, locality)?;
        let mut measured = Vec::new();
        let mut unquoted = BTreeSet::new();
        for Extension { number, pcr, event, digest } in extensions {
            if values.get(pcr).is_none() {
                unquoted.insert(pcr);
                continue;
            }
            let content = Content::read(pcr, event, digest, hash).map_err(|error| error.in_event(number))?;
            measured.push(Measured { number, pcr, kind: event.kind, digest: digest.to_vec(), content });
        }
        let log = VerifiedLog { values: values.clone(), locality, measured, unquoted };
        log.is_separated()?;
        Ok(log)
    }

    /// The events that extend something.
    fn extended(&self, bank: Bank) -> Result<Vec<Extension<'_>>, EventLogError> {
        let events = self.events().iter().zip(1..).filter(|(event, _)| event.extends());
        events
            .map(|(event, number)| {
                let pcr =
                    u8::try_from(event.pcr).ok().filter(|pcr| *pcr <= LAST_STATIC).ok_or_else(|| {
                        let what =
                            format!("firmware extends no PCR that can be reset, such as {}", event.pcr);
                        EventLogError::at(Rule::PcrResettable, number, what)
                    })?;
                let digest = event.digest(bank).ok_or_else(|| {
                    EventLogError::at(Rule::Digests, number, format!("there is no digest of {bank:?}"))
                })?;
                if digest.iter().all(|byte| *byte == 0) {
                    let what =
                        format!("the digest of {bank:?} is zero: firmware measured nothing into this bank");
                    return Err(EventLogError::at(Rule::ZeroDigest, number, what));
                }
                Ok(Extension { number, pcr, event, digest })
            })
            .collect()
    }

    fn replays(
        &self,
        extensions: &[Extension<'_>],
        values: &PcrValues,
        locality: u8,
    ) -> Result<(), EventLogError> {
        let hash = values.bank;
        let mut replayed: BTreeMap<u8, Vec<u8>> =
            values.values.keys().map(|pcr| (*pcr, vec![0; hash.size()])).collect();
        if let Some(last) = replayed.get_mut(&0).and_then(|value| value.last_mut()) {
            *last = locality;
        }
        for Extension { pcr, digest, .. } in extensions {
            if let Some(value) = replayed.get_mut(pcr) {
                value.extend(*digest);
                *value = hash.digest(value);
            }
        }
        match values.values.iter().find(|(pcr, value)| replayed.get(pcr) != Some(value)) {
            None => Ok(()),
            Some((pcr, _)) => {
                let count = self.events().iter().filter(|event| event.pcr == u32::from(*pcr)).count();
                let what = format!(
                    "PCR {pcr} is not what the log's {count} events of it come to: \
                     it is the log of another boot, or was changed"
                );
                Err(EventLogError::new(Rule::PcrMismatch, what))
            }
        }
    }

    /// What PCR 0 starts with. The log only claims it; a wrong claim does not replay.
    fn startup_locality(&self) -> Result<u8, EventLogError> {
        let refuse = |number, what: &str| Err(EventLogError::at(Rule::StartupLocality, number, what));
        let mut claimed = None;
        let mut first = None;
        for (event, number) in self.events().iter().zip(1..) {
            if event.extends() && event.pcr == 0 {
                first.get_or_insert(event.kind);
            }
            if event.extends() || !event.data.starts_with(STARTUP_LOCALITY) {
                continue;
            }
            let locality = match event.data[STARTUP_LOCALITY.len()..] {
                [locality @ (0 | 3 | 4)] => locality,
                _ => return refuse(number, "it is not one byte of 0, 3 or 4"),
            };
            if event.pcr != 0 || first.is_some() {
                return refuse(number, "it does not come before what extends PCR 0");
            }
            if claimed.replace(locality).is_some() {
                return refuse(number, "there are two");
            }
        }
        let measured = (first == Some(EventType::EFI_HCRTM_EVENT)).then_some(H_CRTM_LOCALITY);
        match (claimed, measured) {
            (Some(claimed), Some(measured)) if claimed != measured => {
                let what = "a H-CRTM was measured, which is locality 4, and another one is claimed";
                Err(EventLogError::new(Rule::StartupLocality, what))
            }
            (claimed, measured) => Ok(claimed.or(measured).unwrap_or(0)),
        }
    }
}

impl VerifiedLog {
    /// Each of PCRs 0 to 7 has one separator: without it, whatever was extended may have been by somebody after the
    /// firmware, and with two, the same.
    fn is_separated(&self) -> Result<(), EventLogError> {
        for pcr in SEPARATED.filter(|pcr| self.values.get(*pcr).is_some()) {
            let mut separators =
                self.measured.iter().filter(|event| event.pcr == pcr && event.content == Content::Separator);
            match (separators.next(), separators.next()) {
                (Some(_), None) => {}
                (None, _) => {
                    let what = format!("PCR {pcr} has no separator");
                    return Err(EventLogError::new(Rule::Separator, what));
                }
                (_, Some(second)) => {
                    let what = format!("PCR {pcr} has a second separator");
                    return Err(EventLogError::at(Rule::Separator, second.number, what));
                }
            }
        }
        Ok(())
    }
}
