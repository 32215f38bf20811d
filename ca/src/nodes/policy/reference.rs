//! `[[reference]]`: sets of PCR values that are taken, with what they were measured from.

use serde::{Deserialize, Serialize};
use undercroft_attestors::exchange::BankName;
use undercroft_attestors::tpm::event_log::{Change, Named, changes_since};
use undercroft_tpm_wire::HashAlgorithm;

use crate::nodes::claims::{Claims, name_of};
use crate::strict_toml;

/// How many changes of a PCR are told.
const TOLD: usize = 3;

/// A set in the policy: a name, and a file of it or its PCRs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ReferenceConfig {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pcr: Option<Vec<ReferencePcr>>,
}

/// A set of reference values, as `undercroft attest learn` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferenceSet {
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub learnt: Option<Learnt>,
    /// The PCRs, each once.
    pub pcr: Vec<ReferencePcr>,
}

impl ReferenceSet {
    /// The text of its file.
    ///
    /// # Errors
    /// Never, as far as is known: what TOML's library says.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
    }
}

/// Where a set comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Learnt {
    /// The log.
    pub from: String,
    /// The time of the last entry that was looked at.
    pub at: jiff::Timestamp,
    /// How many nodes there were.
    pub nodes: u64,
}

/// A PCR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferencePcr {
    /// Its bank.
    pub bank: BankName,
    /// Its index, 0 to 23.
    pub index: u8,
    /// What it may be.
    pub value: Vec<ReferenceValue>,
}

/// A value of a PCR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferenceValue {
    /// It, hexadecimal.
    pub digest: String,
    /// How many nodes stood behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nodes: Option<u64>,
    /// What was measured into it. It explains, and decides nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub events: Vec<ReferenceEvent>,
}

/// Something that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferenceEvent {
    /// What the PCR was extended with, hexadecimal.
    pub digest: String,
    /// What it is, in words.
    pub of: String,
}

/// A set whose parts are what they should be.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    name: String,
    pcrs: Vec<Pcr>,
}

#[derive(Clone, Debug)]
struct Pcr {
    bank: HashAlgorithm,
    index: u8,
    values: Vec<(Vec<u8>, Vec<Named>)>,
}

impl Reference {
    /// Reads a set. `file` gives the content of the file that it names.
    pub(super) fn new<'a>(
        config: ReferenceConfig,
        file: impl Fn(&str) -> Result<&'a [u8], String>,
    ) -> Result<Self, String> {
        let pcrs = match (config.file, config.pcr) {
            (Some(name), None) => {
                let text = std::str::from_utf8(file(&name)?).map_err(|_| format!("{name} is no text"))?;
                strict_toml::parse::<ReferenceSet>(&name, text).map_err(|error| error.to_string())?.pcr
            }
            (None, Some(pcrs)) => pcrs,
            _ => return Err("it has either `file` or `pcr`".to_owned()),
        };
        if pcrs.is_empty() {
            return Err("it has no PCR, so that everything would fit".to_owned());
        }
        let mut own = Self { name: config.name, pcrs: Vec::new() };
        for pcr in pcrs {
            let bank = HashAlgorithm::from(pcr.bank);
            let place = format!("PCR {} of {}", pcr.index, name_of(bank));
            if own.pcrs.iter().any(|other| (other.bank, other.index) == (bank, pcr.index)) {
                return Err(format!("{place} is there twice"));
            }
            if pcr.value.is_empty() {
                return Err(format!("{place} has no value, so that nothing would fit"));
            }
            let values = pcr.value.iter().map(|value| {
                let events = value.events.iter().map(|event| {
                    let digest = digest(&event.digest, bank, &place)?;
                    Ok(Named { component: event.of.clone(), digest })
                });
                Ok((digest(&value.digest, bank, &place)?, events.collect::<Result<_, String>>()?))
            });
            let values = values.collect::<Result<_, String>>()?;
            own.pcrs.push(Pcr { bank, index: pcr.index, values });
        }
        Ok(own)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A PCR of it that is not quoted.
    pub(super) fn unquoted(&self, quoted: impl Fn(HashAlgorithm, u8) -> bool) -> Option<String> {
        let pcr = self.pcrs.iter().find(|pcr| !quoted(pcr.bank, pcr.index))?;
        Some(format!("PCR {} of {}", pcr.index, name_of(pcr.bank)))
    }

    /// The PCRs that differ, each in words. None if it fits.
    pub(super) fn differences(&self, claims: &Claims) -> Vec<String> {
        self.pcrs.iter().filter_map(|pcr| pcr.difference(claims)).collect()
    }
}

impl Pcr {
    fn difference(&self, claims: &Claims) -> Option<String> {
        let is =
            |(bank, index, _): &&(HashAlgorithm, u8, Vec<u8>)| (*bank, *index) == (self.bank, self.index);
        let quoted = claims.attested.pcrs().iter().find(is);
        let Some((_, _, value)) = quoted else {
            return Some(format!("PCR {} of {} was not quoted", self.index, name_of(self.bank)));
        };
        // Nothing but values decides.
        if self.values.iter().any(|(known, _)| known == value) {
            return None;
        }
        let log = claims.boot.as_ref().map(|boot| &boot.log).filter(|log| log.values().bank() == self.bank);
        let log = log.filter(|log| log.values().get(self.index).is_some());
        let told = log.and_then(|log| {
            let told = self.values.iter().filter(|(_, events)| !events.is_empty());
            let told = told.map(|(_, events)| changes_since(self.index, events, log));
            told.filter(|changes| !changes.is_empty()).min_by_key(Vec::len)
        });
        Some(match told {
            Some(changes) => in_words(&changes),
            None => format!(
                "PCR {} of {} is {}, which is none of {} known values",
                self.index,
                name_of(self.bank),
                hex::encode(value),
                self.values.len()
            ),
        })
    }
}

fn in_words(changes: &[Change]) -> String {
    let mut words: Vec<_> = changes.iter().take(TOLD).map(ToString::to_string).collect();
    if changes.len() > TOLD {
        words.push(format!("and {} changes more", changes.len() - TOLD));
    }
    words.join(", ")
}

fn digest(text: &str, bank: HashAlgorithm, place: &str) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() == bank.size());
    bytes.ok_or_else(|| format!("{place}: `{text}` is not {} bytes in hexadecimal", bank.size()))
}
