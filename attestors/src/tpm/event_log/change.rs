//! What differs between two boots, in words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::content::{Content, Measured, Opaque};
use super::device_path::printable;
use super::event_type::EventType;
use super::signature_database::{Guid, SignatureDatabase, SignatureEntry};
use super::variable::Variable;
use super::verify::VerifiedLog;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The PCR in which it was measured.
    pub pcr: u8,
    /// The event in words: what it is, and where the log says that it came from.
    pub component: String,
    /// How it differs.
    pub kind: ChangeKind,
    /// More about it, in words; empty if there is no more to say.
    pub detail: String,
}

/// How something differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not measured before.
    Added {
        /// Its digest now.
        new: Vec<u8>,
    },
    /// It is not measured any more.
    Removed {
        /// Its digest before.
        old: Vec<u8>,
    },
    /// It is another one.
    Changed {
        /// Its digest before.
        old: Vec<u8>,
        /// Its digest now.
        new: Vec<u8>,
    },
    /// The same events came in another order.
    Reordered,
    /// The PCR was quoted one time only, so that nothing can be said.
    NotCompared,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pcr, component, kind, detail } = self;
        write!(f, "PCR {pcr}: {component} ")?;
        match kind {
            ChangeKind::Added { new } => write!(f, "is new, with {}", hex::encode(new))?,
            ChangeKind::Removed { old } => write!(f, "is gone, which had {}", hex::encode(old))?,
            ChangeKind::Changed { old, new } => {
                write!(f, "changed from {} to {}", hex::encode(old), hex::encode(new))?;
            }
            ChangeKind::Reordered => f.write_str("came in another order")?,
            ChangeKind::NotCompared => f.write_str("cannot be compared: it was quoted in one boot only")?,
        }
        if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
    }
}

/// What differs between an earlier boot and a later one, by PCR. Nothing, if each PCR was extended with the same.
///
/// What is opaque is named by what each log says of it, which nobody vouches for; the digests are what was measured. Logs
/// of different banks have nothing in common, so that everything is said to have changed.
pub fn changes(before: &VerifiedLog, after: &VerifiedLog) -> Vec<Change> {
    let mut changes = Vec::new();
    for pcr in 0..=u8::MAX {
        match (before.values().get(pcr), after.values().get(pcr)) {
            (None, None) => {}
            (Some(old), Some(new)) if old == new => {}
            (Some(_), Some(_)) => changes.extend(of_pcr(pcr, before, after)),
            _ => changes.push(whole(pcr, "all of it", ChangeKind::NotCompared)),
        }
    }
    changes
}

fn whole(pcr: u8, component: &str, kind: ChangeKind) -> Change {
    Change { pcr, component: component.into(), kind, detail: String::new() }
}

/// What was measured once, as far as a list of reference values keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The event in words ([`Measured::component`]). Nobody vouches for them.
    pub component: String,
    /// What was extended.
    pub digest: Vec<u8>,
}

/// What differs in a PCR between what was measured once and a verified log. Nothing, if it is the same.
pub fn changes_since(pcr: u8, before: &[Named], after: &VerifiedLog) -> Vec<Change> {
    let new: Vec<_> = after.measured().iter().filter(|event| event.pcr == pcr).collect();
    let same =
        before.len() == new.len() && before.iter().zip(&new).all(|(old, new)| old.digest == new.digest);
    if same {
        return Vec::new();
    }
    let old = before.iter().map(|named| (named.component.clone(), named.digest.as_slice(), None)).collect();
    let mut changes = paired(pcr, old, &new);
    if changes.is_empty() {
        changes.push(whole(pcr, "the events", ChangeKind::Reordered));
    }
    changes
}

fn of_pcr(pcr: u8, before: &VerifiedLog, after: &VerifiedLog) -> Vec<Change> {
    let of = |log| -> Vec<&Measured> {
        VerifiedLog::measured(log).iter().filter(|event| event.pcr == pcr).collect()
    };
    let (old, new) = (of(before), of(after));
    let old =
        old.into_iter().map(|event| (event.component(), event.digest.as_slice(), Some(event))).collect();
    let mut changes = paired(pcr, old, &new);
    if changes.is_empty() {
        let started = before.startup_locality() != after.startup_locality() && pcr == 0;
        let mut change = whole(pcr, "the events", ChangeKind::Reordered);
        if started {
            change.component = "TPM2_Startup".into();
            change.detail =
                format!("locality {} before, {} now", before.startup_locality(), after.startup_locality());
        }
        changes.push(change);
    }
    changes
}

/// An event of before: what it is of, its digest, and itself if it is still there.
type Old<'a> = (String, &'a [u8], Option<&'a Measured>);

/// Events are paired by what they are of, in their order. Those that have no partner are gone or new.
fn paired(pcr: u8, old: Vec<Old<'_>>, new: &[&Measured]) -> Vec<Change> {
    let mut waiting: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (place, (component, ..)) in old.iter().enumerate() {
        waiting.entry(component).or_default().push_back(place);
    }
    let mut changes = Vec::new();
    let mut found = BTreeSet::new();
    for event in new {
        let component = event.component();
        let partner = waiting.get_mut(component.as_str()).and_then(VecDeque::pop_front);
        found.extend(partner);
        let digest = event.digest.clone();
        let (kind, detail) = match partner.and_then(|place| old.get(place)) {
            Some((_, before, _)) if *before == event.digest => continue,
            Some((_, before, partner)) => {
                let detail = partner.map_or(String::new(), |partner| detail(partner, event));
                (ChangeKind::Changed { old: before.to_vec(), new: digest }, detail)
            }
            None => (ChangeKind::Added { new: digest }, String::new()),
        };
        changes.push(Change { pcr, component, kind, detail });
    }
    for (place, (component, digest, _)) in old.into_iter().enumerate() {
        if !found.contains(&place) {
            let kind = ChangeKind::Removed { old: digest.to_vec() };
            changes.push(Change { pcr, component, kind, detail: String::new() });
        }
    }
    changes
}

impl Measured {
    /// What it is of, in words. Two events are of the same thing if this is the same.
    pub fn component(&self) -> String {
        component(self)
    }
}

/// What an event is of. Two events are of the same thing if this is the same.
fn component(event: &Measured) -> String {
    let kind = event.kind;
    match &event.content {
        Content::Separator => "the separator".into(),
        Content::Variable(variable) => format!("the variable {}", printable(&variable.name)),
        Content::VariableValue { says, .. } => format!("the variable that the log calls {says}"),
        Content::Authority { variable, .. } if variable.vendor == Guid::SHIM_LOCK => {
            format!("what shim vouches with, {}", printable(&variable.name))
        }
        Content::Authority { variable, .. } => {
            format!("the entry of {} that vouched for an image", printable(&variable.name))
        }
        Content::Action(text) => format!("the action {:?}", printable(text)),
        Content::Gpt(_) => "the partition table".into(),
        // There is one command line, and it changes; there are many commands, and they come and go.
        Content::Text { says, .. } if says == "kernel_cmdline" => {
            "the text that the log calls the kernel's command line".into()
        }
        Content::Text { says, text } => format!("the text {:?} ({says})", printable(text)),
        Content::Bytes(_) => named(kind).into(),
        Content::Opaque(Opaque { says: Some(says) }) => {
            format!("{} that the log calls {says}", named(kind))
        }
        Content::Opaque(Opaque { says: None }) => named(kind).into(),
    }
}

fn named(kind: EventType) -> &'static str {
    match kind {
        EventType::EFI_BOOT_SERVICES_APPLICATION => "the boot image",
        EventType::EFI_BOOT_SERVICES_DRIVER | EventType::EFI_RUNTIME_SERVICES_DRIVER => "the driver",
        EventType::EFI_PLATFORM_FIRMWARE_BLOB | EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => "firmware",
        EventType::S_CRTM_CONTENTS => "the first code that ran",
        EventType::S_CRTM_VERSION => "the version of the firmware",
        EventType::POST_CODE | EventType::POST_CODE2 => "firmware's code or tables",
        EventType::CPU_MICROCODE => "microcode",
        EventType::EFI_HANDOFF_TABLES | EventType::EFI_HANDOFF_TABLES2 => "firmware's tables",
        EventType::PLATFORM_CONFIG_FLAGS => "the platform's configuration",
        EventType::IPL => "what the boot loader measured",
        kind => match kind.name() {
            Some(name) => name,
            None => "an event",
        },
    }
}

/// What a change is about, where both sides are verified.
fn detail(old: &Measured, new: &Measured) -> String {
    match (&old.content, &new.content) {
        (Content::Variable(old), Content::Variable(new)) => of_variable(old, new),
        (Content::Authority { variable: old, .. }, Content::Authority { variable: new, .. })
            if old.name == "SbatLevel" =>
        {
            let text =
                |variable: &Variable| printable(&String::from_utf8_lossy(&variable.value).replace('\n', " "));
            format!("from {:?} to {:?}", text(old).trim_end(), text(new).trim_end())
        }
        (Content::Text { text: old, .. }, Content::Text { text: new, .. }) => {
            format!("from {:?} to {:?}", printable(old), printable(new))
        }
        (Content::Gpt(old), Content::Gpt(new)) => {
            format!("{} partitions before, {} now", old.partitions.len(), new.partitions.len())
        }
        _ => String::new(),
    }
}

fn of_variable(old: &Variable, new: &Variable) -> String {
    if let ([old], [new]) = (old.value.as_slice(), new.value.as_slice()) {
        return format!("from {old} to {new}");
    }
    if !matches!(new.name.as_str(), "PK" | "KEK" | "db" | "dbx") {
        return String::new();
    }
    let entries = |variable: &Variable| -> Option<BTreeSet<SignatureEntry>> {
        Some(SignatureDatabase::parse(&variable.value).ok()?.entries().iter().cloned().collect())
    };
    match (entries(old), entries(new)) {
        (Some(old), Some(new)) => {
            let (more, less) = (new.difference(&old).count(), old.difference(&new).count());
            format!("{more} entries more, {less} entries less")
        }
        _ => String::new(),
    }
}
