//! What was booted, as far as the quoted PCRs tell.

use super::content::{Content, Gpt, Measured, Opaque};
use super::refusal::{EventLogError, Rule};
use super::verify::VerifiedLog;

/// Images of boot managers, boot loaders and kernels.
const IMAGES: u8 = 4;
/// The partition table, and the way out of the firmware.
const CONFIGURATION: u8 = 5;
/// Commands of the boot loader.
const COMMANDS: u8 = 8;
/// What shim was told by the machine's owner.
const MOK: u8 = 14;
/// What firmware measures when ExitBootServices has worked (PFP section 10.4.4).
const EXITED: &str = "Exit Boot Services Returned with Success";

/// What was booted. A PCR that was not quoted gives `None`: nothing is known.
///
/// What runs after the firmware may have extended more: these are at least the images, tables and commands of the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Each image of PCR 4, in order.
    pub images: Option<Vec<Image>>,
    /// The partition tables of PCR 5.
    pub tables: Option<Vec<Gpt>>,
    /// Whether PCR 5 shows that the firmware was left, after which nothing is extended there. Some firmware does not
    /// measure it.
    pub exited: Option<bool>,
    /// The texts of PCR 8 that are verified, in order, with the log's word of what each is.
    pub commands: Option<Vec<(String, String)>>,
    /// What shim measured into PCR 14, in order.
    pub mok: Option<Vec<MokMeasurement>>,
}

/// An image that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Authenticode's digest of it, in the bank's algorithm.
    pub digest: Vec<u8>,
    /// Where the log says that it came from. It is not measured.
    pub says: Option<String>,
}

/// A list or state of shim's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MokMeasurement {
    /// The digest of it.
    pub digest: Vec<u8>,
    /// What the log says that it is, such as `MokList`. It is not measured.
    pub says: Option<String>,
}

impl Boot {
    /// Reads what was booted.
    ///
    /// # Errors
    /// PCR 5 was extended after the firmware had been left.
    pub fn read(log: &VerifiedLog) -> Result<Self, EventLogError> {
        let of = |pcr| log.of_pcr(pcr).ok().map(Iterator::collect::<Vec<_>>);
        let configuration = of(CONFIGURATION);
        Ok(Self {
            images: of(IMAGES).map(|events| events.into_iter().filter_map(image).collect()),
            exited: configuration.as_deref().map(exited).transpose()?,
            tables: configuration.map(|events| events.into_iter().filter_map(table).collect()),
            commands: of(COMMANDS).map(|events| events.into_iter().filter_map(command).collect()),
            mok: of(MOK).map(|events| {
                let mok =
                    |event: &Measured| MokMeasurement { digest: event.digest.clone(), says: says(event) };
                events.into_iter().map(mok).collect()
            }),
        })
    }
}

/// Whatever is neither separator nor action is an image, also if the log says that it is something else.
fn image(event: &Measured) -> Option<Image> {
    match event.content {
        Content::Separator | Content::Action(_) => None,
        _ => Some(Image { digest: event.digest.clone(), says: says(event) }),
    }
}

fn table(event: &Measured) -> Option<Gpt> {
    match &event.content {
        Content::Gpt(table) => Some(table.clone()),
        _ => None,
    }
}

fn command(event: &Measured) -> Option<(String, String)> {
    match &event.content {
        Content::Text { says, text } => Some((says.clone(), text.clone())),
        _ => None,
    }
}

fn says(event: &Measured) -> Option<String> {
    match &event.content {
        Content::Opaque(Opaque { says }) => says.clone(),
        _ => None,
    }
}

fn exited(events: &[&Measured]) -> Result<bool, EventLogError> {
    let is_exit = |event: &&Measured| matches!(&event.content, Content::Action(text) if text == EXITED);
    match events.iter().position(is_exit) {
        None => Ok(false),
        Some(place) => match events.get(place + 1) {
            None => Ok(true),
            Some(event) => {
                let what = "PCR 5 was extended after the firmware had been left";
                Err(EventLogError::at(Rule::AfterExit, event.number, what))
            }
        },
    }
}
