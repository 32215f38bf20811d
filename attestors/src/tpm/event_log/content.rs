//! What an event's data is worth: verified by its digest, or opaque.

use undercroft_tpm_wire::HashAlgorithm;

use super::cursor::Cursor;
use super::device_path::{of_image, printable};
use super::event_type::EventType;
use super::refusal::{EventLogError, Rule};
use super::signature_database::Guid;
use super::variable::Variable;
use super::wire::Event;

/// The PCR of Secure Boot.
const SECURE_BOOT: u8 = 7;
/// The PCR of the boot loader's commands.
const COMMANDS: u8 = 8;
/// The last PCR of the firmware's own.
const LAST_FIRMWARE: u8 = 7;
/// What firmware writes that went on without error.
const SEPARATOR: [u8; 4] = [0; 4];
/// Where nothing else has its digest. In PCR 0 something may: a recorded laptop measures four zero bytes there before it
/// measures anything else, and nothing is read from that PCR.
const DELIMITED: std::ops::RangeInclusive<u8> = 1..=LAST_FIRMWARE;
/// The bytes that an old shim may append to a variable: those of the padding of a C structure.
const MAX_PADDING: usize = 8;
/// What GRUB writes before the text that it measures. The label is not measured.
const LABELS: [&str; 3] = ["grub_cmd", "kernel_cmdline", "module_cmdline"];

/// An event of a quoted PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Its number in the log.
    pub number: usize,
    /// The PCR that it extended.
    pub pcr: u8,
    /// What the log says that it is. For what is opaque this is a hint, too.
    pub kind: EventType,
    /// What was extended.
    pub digest: Vec<u8>,
    /// What is known of its data.
    pub content: Content,
}

/// What an event's digest vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The firmware went on without error.
    Separator,
    /// A variable, whole.
    Variable(Variable),
    /// The value of a variable. Its name is not measured.
    VariableValue {
        /// What the log says is its name.
        says: String,
        /// Its value.
        value: Vec<u8>,
    },
    /// What vouched for an image.
    Authority {
        /// The variable that it is from, with the one entry of it.
        variable: Variable,
        /// A shim before 15.3 logged more bytes than there are, and left the last of them out when it measured.
        padded: bool,
    },
    /// Something that the firmware or the boot loader says that it does.
    Action(String),
    /// The partition table that was booted from.
    Gpt(Gpt),
    /// A command or command line.
    Text {
        /// What the log says that it is: `grub_cmd`, `kernel_cmdline` or `module_cmdline`. It is not measured.
        says: String,
        /// It.
        text: String,
    },
    /// Data that was measured, of some other type.
    Bytes(Vec<u8>),
    /// The digest is of something that is not in the log.
    Opaque(Opaque),
}

/// Data that is not measured: anybody may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// What the log says that was measured: a path or name, printable and short. None if it says nothing readable.
    pub says: Option<String>,
}

impl Content {
    /// Reads an event whose digest is known to have been extended.
    pub(super) fn read(
        pcr: u8,
        event: &Event,
        digest: &[u8],
        hash: HashAlgorithm,
    ) -> Result<Self, EventLogError> {
        let Event { kind, data, .. } = event;
        let is_of = |bytes: &[u8]| hash.digest(bytes) == digest;
        if kind.name().is_none() {
            return Err(EventLogError::new(Rule::EventType, format!("its type {kind} is not defined")));
        }
        if DELIMITED.contains(&pcr) && *kind != EventType::SEPARATOR && is_of(&SEPARATOR) {
            let what = format!("it is the separator of PCR {pcr} by its digest, and claims to be {kind}");
            return Err(EventLogError::new(Rule::DisguisedSeparator, what));
        }
        let of_data = is_of(data);
        let demanded = || match of_data {
            true => Ok(()),
            false => {
                let what = format!("the digest of {kind} in PCR {pcr} is not that of its data");
                Err(EventLogError::new(Rule::DigestOfData, what))
            }
        };
        match *kind {
            EventType::SEPARATOR => {
                demanded()?;
                match pcr {
                    0..=LAST_FIRMWARE if *data == SEPARATOR => Ok(Self::Separator),
                    0..=LAST_FIRMWARE => {
                        let what =
                            format!("the separator of PCR {pcr} is not 4 zero bytes: the firmware failed");
                        Err(EventLogError::new(Rule::SeparatorValue, what))
                    }
                    _ => Ok(Self::Bytes(data.clone())),
                }
            }
            EventType::EFI_VARIABLE_DRIVER_CONFIG if pcr == SECURE_BOOT => {
                demanded()?;
                Ok(Self::Variable(Variable::parse(data)?))
            }
            EventType::EFI_VARIABLE_AUTHORITY => authority(data, of_data, is_of, demanded),
            EventType::EFI_ACTION => {
                demanded()?;
                Ok(action(data))
            }
            _ if pcr == SECURE_BOOT => {
                let what = format!("{kind} has no business in PCR {pcr}");
                Err(EventLogError::new(Rule::EventType, what))
            }
            EventType::ACTION => {
                demanded()?;
                Ok(action(data))
            }
            EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => {
                demanded()?;
                Ok(Self::Gpt(Gpt::parse(data)?))
            }
            EventType::S_CRTM_VERSION => {
                demanded()?;
                Ok(Self::Bytes(data.clone()))
            }
            EventType::EFI_VARIABLE_DRIVER_CONFIG
            | EventType::EFI_VARIABLE_BOOT
            | EventType::EFI_VARIABLE_BOOT2 => Ok(variable(data, of_data, is_of)),
            EventType::IPL if pcr == COMMANDS => Ok(command(data, of_data, is_of)),
            _ if of_data => Ok(Self::Bytes(data.clone())),
            _ => Ok(opaque(*kind, data)),
        }
    }
}

fn authority(
    data: &[u8],
    of_data: bool,
    is_of: impl Fn(&[u8]) -> bool,
    demanded: impl Fn() -> Result<(), EventLogError>,
) -> Result<Content, EventLogError> {
    // Shim before 15.3 wrote a few bytes too many, and measured all of them but the last.
    if let Some((_, measured)) = data.split_last().filter(|(_, measured)| !of_data && is_of(measured)) {
        let (variable, padding) = Variable::parse_front(measured)?;
        let of_shim = [Guid::SHIM_LOCK, Guid::IMAGE_SECURITY].contains(&variable.vendor);
        if of_shim && padding.len() < MAX_PADDING {
            return Ok(Content::Authority { variable, padded: true });
        }
    }
    demanded()?;
    Ok(Content::Authority { variable: Variable::parse(data)?, padded: false })
}

/// A variable outside PCR 7: measured as a whole, by its value alone, or not at all.
fn variable(data: &[u8], of_data: bool, is_of: impl Fn(&[u8]) -> bool) -> Content {
    match Variable::parse(data) {
        Ok(variable) if of_data => Content::Variable(variable),
        Ok(variable) if is_of(&variable.value) => {
            Content::VariableValue { says: printable(&variable.name), value: variable.value }
        }
        Ok(variable) => Content::Opaque(Opaque { says: Some(printable(&variable.name)) }),
        Err(_) if of_data => Content::Bytes(data.to_vec()),
        Err(_) => Content::Opaque(Opaque { says: None }),
    }
}

fn action(data: &[u8]) -> Content {
    match std::str::from_utf8(data) {
        Ok(text) => Content::Action(text.to_owned()),
        Err(_) => Content::Bytes(data.to_vec()),
    }
}

/// What GRUB measures of `label: text\0` is the text.
fn command(data: &[u8], of_data: bool, is_of: impl Fn(&[u8]) -> bool) -> Content {
    let whole = std::str::from_utf8(data).ok();
    let labelled = whole.and_then(|text| {
        let (label, text) = text.split_once(": ").filter(|(label, _)| LABELS.contains(label))?;
        let bare = text.strip_suffix('\0').unwrap_or(text);
        let measured = [bare, text].into_iter().find(|text| is_of(text.as_bytes()))?;
        Some(Content::Text { says: label.to_owned(), text: measured.to_owned() })
    });
    match labelled {
        Some(text) => text,
        None if of_data => Content::Bytes(data.to_vec()),
        None => opaque(EventType::IPL, data),
    }
}

fn opaque(kind: EventType, data: &[u8]) -> Content {
    let says = match kind {
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => of_image(data),
        _ => std::str::from_utf8(data).ok().map(printable).filter(|text| !text.is_empty()),
    };
    Content::Opaque(Opaque { says })
}

/// UEFI_GPT_DATA (PFP section 10.4.2.4): the table that the machine booted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// The disk. Zeros in EV_EFI_GPT_EVENT2.
    pub disk: Guid,
    /// Its partitions in use.
    pub partitions: Vec<Partition>,
}

/// An entry of a GUID partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Which one it is. Zeros in EV_EFI_GPT_EVENT2.
    pub unique: Guid,
    /// Its first block.
    pub first: u64,
    /// Its last block.
    pub last: u64,
}

impl Gpt {
    fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        let wrong = |what: &str| EventLogError::new(Rule::Gpt, what);
        let mut cursor = Cursor::new(bytes, Rule::Gpt);
        if cursor.take(8, "Signature")? != b"EFI PART" {
            return Err(wrong("it does not begin with \"EFI PART\""));
        }
        cursor.take(48, "header")?;
        let disk = Guid(cursor.array("DiskGUID")?);
        cursor.take(12, "header")?;
        let size = cursor.u32("SizeOfPartitionEntry")?;
        cursor.take(4, "header")?;
        if size < 128 {
            return Err(wrong("entries of partitions have 128 bytes at least"));
        }
        let count = cursor.u64("NumberOfPartitions")?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let mut entry = Cursor::new(cursor.sized(size.into(), "an entry")?, Rule::Gpt);
            partitions.push(Partition {
                kind: Guid(entry.array("PartitionTypeGUID")?),
                unique: Guid(entry.array("UniquePartitionGUID")?),
                first: entry.u64("StartingLBA")?,
                last: entry.u64("EndingLBA")?,
            });
        }
        if !cursor.is_empty() {
            return Err(wrong("something follows its entries"));
        }
        Ok(Self { disk, partitions })
    }
}
