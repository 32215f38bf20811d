//! The log as firmware writes it: one TCG_PCR_EVENT, then TCG_PCR_EVENT2s, all little-endian (PFP section 10.2).

use undercroft_tpm_wire::HashAlgorithm;

use super::cursor::Cursor;
use super::event_type::EventType;
use super::refusal::{EventLogError, Rule};

/// The longest log, in bytes. Real ones have 10 to 150 kB.
pub const MAX_LOG: usize = 4 << 20;
/// The most events, with the header.
pub const MAX_EVENTS: usize = 1 << 16;
/// The longest data of an event, in bytes.
pub const MAX_DATA: usize = 1 << 20;

/// The highest PCR of a PC Client TPM.
const LAST_PCR: u32 = 23;
/// How the data of every Spec ID event begins, of whatever version.
const ANY_SPEC_ID: &[u8] = b"Spec ID Event";
/// How that of a crypto-agile log begins.
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";

/// The algorithm of a PCR bank. A log may have digests of more algorithms than we would believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bank {
    /// SHA-1, which is carried along and never compared.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SM3-256.
    Sm3,
    /// SHA3-256.
    Sha3x256,
    /// SHA3-384.
    Sha3x384,
    /// SHA3-512.
    Sha3x512,
}

impl Bank {
    const ALL: [Self; 8] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sm3,
        Self::Sha3x256,
        Self::Sha3x384,
        Self::Sha3x512,
    ];

    /// TPM_ALG_ID.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
            Self::Sm3 => 0x0012,
            Self::Sha3x256 => 0x0027,
            Self::Sha3x384 => 0x0028,
            Self::Sha3x512 => 0x0029,
        }
    }

    /// The length of its digests in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 | Self::Sha3x256 => 32,
            Self::Sha384 | Self::Sha3x384 => 48,
            Self::Sha512 | Self::Sha3x512 => 64,
        }
    }

    fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }
}

impl From<HashAlgorithm> for Bank {
    fn from(hash: HashAlgorithm) -> Self {
        match hash {
            HashAlgorithm::Sha256 => Self::Sha256,
            HashAlgorithm::Sha384 => Self::Sha384,
            HashAlgorithm::Sha512 => Self::Sha512,
        }
    }
}

/// A TCG_PCR_EVENT2. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The PCR that it says it extended: 0 to 23, or anything if it extends none.
    pub pcr: u32,
    /// What it says that it is.
    pub kind: EventType,
    /// One digest for each algorithm of the log, in the order of the event.
    pub digests: Vec<(Bank, Vec<u8>)>,
    /// Its data.
    pub data: Vec<u8>,
}

impl Event {
    /// Whether it extended a PCR.
    pub fn extends(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }

    /// Its digest for a bank. Parsed events have one for each algorithm of their log.
    pub fn digest(&self, bank: Bank) -> Option<&[u8]> {
        self.digests.iter().find(|(of, _)| *of == bank).map(|(_, digest)| digest.as_slice())
    }
}

/// A crypto-agile log, parsed and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    platform_class: u32,
    /// Minor, major and errata of the specification, and the size of UINTN.
    version: [u8; 4],
    banks: Vec<Bank>,
    vendor: Vec<u8>,
    events: Vec<Event>,
}

impl EventLog {
    /// Parses a log.
    ///
    /// # Errors
    /// It is no crypto-agile log, or above a limit. See [`Rule`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LOG {
            let what = format!("the log has {} bytes, more than {MAX_LOG}", bytes.len());
            return Err(EventLogError::new(Rule::TooLarge, what));
        }
        let mut cursor = Cursor::new(bytes, Rule::Truncated);
        let mut log = Self::header(&mut cursor).map_err(|error| error.in_event(0))?;
        while !cursor.is_empty() {
            let number = log.events.len() + 1;
            if number >= MAX_EVENTS {
                let what = format!("there are more than {MAX_EVENTS} events");
                return Err(EventLogError::at(Rule::TooLarge, number, what));
            }
            let event = log.event(&mut cursor).map_err(|error| error.in_event(number))?;
            log.events.push(event);
        }
        Ok(log)
    }

    /// The algorithms that each event has a digest of.
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// The events after the header, which is number 0, so that the first of these is number 1.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The log's bytes: those that were parsed.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = SPEC_ID.to_vec();
        data.extend(self.platform_class.to_le_bytes());
        data.extend(self.version);
        data.extend(length(&self.banks));
        for bank in &self.banks {
            data.extend(bank.id().to_le_bytes());
            data.extend(u16::try_from(bank.size()).unwrap_or(u16::MAX).to_le_bytes());
        }
        data.push(u8::try_from(self.vendor.len()).unwrap_or(u8::MAX));
        data.extend(&self.vendor);
        let mut out = [[0; 4], EventType::NO_ACTION.0.to_le_bytes()].concat();
        out.extend([0; 20]);
        out.extend(length(&data));
        out.extend(data);
        for event in &self.events {
            out.extend(event.pcr.to_le_bytes());
            out.extend(event.kind.0.to_le_bytes());
            out.extend(length(&event.digests));
            for (bank, digest) in &event.digests {
                out.extend(bank.id().to_le_bytes());
                out.extend(digest);
            }
            out.extend(length(&event.data));
            out.extend(&event.data);
        }
        out
    }

    /// TCG_PCR_EVENT with a TCG_EfiSpecIDEvent (PFP section 10.4.5.1).
    fn header(cursor: &mut Cursor<'_>) -> Result<Self, EventLogError> {
        let pcr = cursor.u32("PCRIndex")?;
        let kind = EventType(cursor.u32("EventType")?);
        let digest = cursor.take(20, "Digest")?;
        let data = data(cursor)?;
        if kind != EventType::NO_ACTION || !data.starts_with(SPEC_ID) {
            let what = "it does not begin with \"Spec ID Event03\", so it has SHA-1 digests alone; \
                        a TPM 2.0 with a SHA-256 bank and firmware that logs for it are needed";
            return Err(EventLogError::new(Rule::LegacyFormat, what));
        }
        let spec_id = |what: &str| EventLogError::new(Rule::SpecId, what);
        if pcr != 0 || digest != [0; 20] {
            return Err(spec_id("its PCR and digest are not zero"));
        }
        let mut fields = Cursor::new(data, Rule::SpecId);
        fields.take(SPEC_ID.len(), "signature")?;
        let platform_class = fields.u32("platformClass")?;
        let version = fields.array("specVersion")?;
        if version[1] != 2 || version[0] != 0 {
            return Err(spec_id("its specification is not of version 2.0"));
        }
        let count = fields.u32("numberOfAlgorithms")?;
        let mut banks = Vec::new();
        for _ in 0..count {
            let id = fields.u16("algorithmId")?;
            let size = fields.u16("digestSize")?;
            let bank = Bank::from_id(id).ok_or_else(|| {
                EventLogError::new(Rule::Algorithm, format!("the algorithm {id:#06x} is not known"))
            })?;
            if usize::from(size) != bank.size() {
                let what = format!("digests of {bank:?} have {} bytes and not {size}", bank.size());
                return Err(EventLogError::new(Rule::DigestSize, what));
            }
            if banks.contains(&bank) {
                return Err(EventLogError::new(Rule::Algorithm, format!("{bank:?} is named twice")));
            }
            banks.push(bank);
        }
        if banks.is_empty() {
            return Err(spec_id("it names no algorithm"));
        }
        let vendor = fields.u8("vendorInfoSize")?;
        let vendor = fields.take(vendor.into(), "vendorInfo")?.to_vec();
        if !fields.is_empty() {
            return Err(spec_id("something follows its vendorInfo"));
        }
        Ok(Self { platform_class, version, banks, vendor, events: Vec::new() })
    }

    fn event(&self, cursor: &mut Cursor<'_>) -> Result<Event, EventLogError> {
        let pcr = cursor.u32("PCRIndex")?;
        let kind = EventType(cursor.u32("EventType")?);
        let count = cursor.u32("Digests.count")?;
        if usize::try_from(count) != Ok(self.banks.len()) {
            let what = format!("it has {count} digests, and the log has {} algorithms", self.banks.len());
            return Err(EventLogError::new(Rule::Digests, what));
        }
        let mut digests: Vec<(Bank, Vec<u8>)> = Vec::with_capacity(self.banks.len());
        for _ in 0..count {
            let id = cursor.u16("hashAlg")?;
            let bank = self.banks.iter().copied().find(|bank| bank.id() == id);
            let bank =
                bank.filter(|bank| digests.iter().all(|(other, _)| other != bank)).ok_or_else(|| {
                    let what =
                        format!("the digest of algorithm {id:#06x} is not of the log, or a second one");
                    EventLogError::new(Rule::Digests, what)
                })?;
            digests.push((bank, cursor.take(bank.size(), "digest")?.to_vec()));
        }
        let data = data(cursor)?.to_vec();
        let event = Event { pcr, kind, digests, data };
        if event.extends() && pcr > LAST_PCR {
            return Err(EventLogError::new(Rule::PcrIndex, format!("there is no PCR {pcr}")));
        }
        if !event.extends() && event.data.starts_with(ANY_SPEC_ID) {
            return Err(EventLogError::new(Rule::SpecIdTwice, "there is another Spec ID event"));
        }
        Ok(event)
    }
}

/// EventSize and Event.
fn data<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], EventLogError> {
    let size = cursor.u32("EventSize")?;
    let data = cursor.sized(size.into(), "Event")?;
    if data.len() > MAX_DATA {
        let what = format!("its data has {size} bytes, more than {MAX_DATA}");
        return Err(EventLogError::new(Rule::TooLarge, what));
    }
    Ok(data)
}

/// What was parsed had a length of 32 bits.
fn length<T>(of: &[T]) -> [u8; 4] {
    u32::try_from(of.len()).unwrap_or(u32::MAX).to_le_bytes()
}
