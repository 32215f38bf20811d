//! What PCR 7 says of Secure Boot (PFP section 3.3.4.8), and whether that will do.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::boot::Boot;
use super::content::{Content, Measured};
use super::refusal::{EventLogError, Rule};
use super::signature_database::{Guid, SignatureDatabase, SignatureEntry};
use super::variable::Variable;
use super::verify::VerifiedLog;

/// The PCR of Secure Boot.
const PCR: u8 = 7;
/// The variables that must be there, with whose they are.
const DEMANDED: [(&str, Guid); 5] = [
    ("SecureBoot", Guid::GLOBAL),
    ("PK", Guid::GLOBAL),
    ("KEK", Guid::GLOBAL),
    ("db", Guid::IMAGE_SECURITY),
    ("dbx", Guid::IMAGE_SECURITY),
];
/// Modes in which signatures are not enforced (UEFI specification 2.10, section 32.3). Where firmware measures them, they
/// are off.
const MODES: [&str; 2] = ["SetupMode", "AuditMode"];
/// The firmware's list of what may run.
const DB: &str = "db";
/// The list that a shim was built with. It is measured as if it were the firmware's, and stands in no variable.
const VENDOR_DB: &str = "vendor_db";
/// What shim measures its revocation level as.
const SBAT: &str = "SbatLevel";
const DEBUGGED: &str = "UEFI Debug Mode";
const DMA_OFF: &str = "DMA Protection Disabled";

/// What PCR 7 says of Secure Boot, from verified events alone.
///
/// The databases and modes stand before the separator, so that nobody but firmware wrote them. Authorities behind it, and
/// the SBAT level, are at least those of the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureBoot {
    /// Whether signatures of images were checked.
    pub enabled: bool,
    /// Who may change KEK.
    pub platform_key: SignatureDatabase,
    /// Who may change db and dbx.
    pub key_exchange: SignatureDatabase,
    /// What may run.
    pub allowed: SignatureDatabase,
    /// What may not.
    pub forbidden: SignatureDatabase,
    /// Whether the platform says that devices could write into the firmware's memory.
    pub dma_protection_disabled: bool,
    /// What vouched for drivers, before the separator.
    pub driver_authorities: Vec<Authority>,
    /// What vouched for boot loaders and kernels.
    pub authorities: Vec<Authority>,
    /// The revocation level that shim enforced; none if it measures none.
    pub sbat: Option<SbatLevel>,
    /// Whether an event is verifiable only without its last byte: it is of a shim before 15.3.
    pub old_shim: bool,
}

/// What vouched for an image that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// From which variable: `db`, or `Shim`, `MokList` and the like.
    pub variable: String,
    /// What it is.
    pub vouched: Vouched,
}

/// A key or hash that vouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// An entry of db, or of shim's own `vendor_db`.
    Entry {
        /// Who put it there; none as a shim before 15.3 measures it.
        owner: Option<Guid>,
        /// The certificate's DER, or a hash.
        data: Vec<u8>,
    },
    /// What shim says: a certificate's DER, without the owner that an entry of MokList has.
    Shim(Vec<u8>),
}

impl Authority {
    /// What allow-lists name it by: SHA-256 of the certificate, or the hash.
    pub fn fingerprint(&self) -> [u8; 32] {
        let (Vouched::Entry { data, .. } | Vouched::Shim(data)) = &self.vouched;
        <[u8; 32]>::try_from(data.as_slice()).unwrap_or_else(|_| Sha256::digest(data).into())
    }
}

/// Which generation of each component is the first that is not revoked (shim, `SBAT.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SbatLevel(pub BTreeMap<String, u32>);

impl SbatLevel {
    /// Parses lines of `component,generation`, the first of them `sbat,1,<date>`.
    ///
    /// # Errors
    /// It is not so.
    pub fn parse(text: &[u8]) -> Result<Self, EventLogError> {
        let wrong = || EventLogError::new(Rule::Sbat, "SbatLevel is no list of components and generations");
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let mut levels = BTreeMap::new();
        for line in text.trim_end_matches(['\0', '\n']).lines() {
            let mut fields = line.split(',');
            let component = fields.next().filter(|component| !component.is_empty()).ok_or_else(wrong)?;
            let generation = fields.next().and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
            if levels.insert(component.to_owned(), generation).is_some() {
                return Err(wrong());
            }
        }
        if levels.contains_key("sbat") { Ok(Self(levels)) } else { Err(wrong()) }
    }
}

impl SecureBoot {
    /// Reads PCR 7.
    ///
    /// # Errors
    /// It was not quoted, or what stands there is not what firmware writes. Secure Boot being off is no error here.
    pub fn read(log: &VerifiedLog) -> Result<Self, EventLogError> {
        let mut variables = BTreeMap::new();
        let mut separated = false;
        let mut dma_protection_disabled = false;
        let (mut driver_authorities, mut authorities) = (Vec::new(), Vec::new());
        let mut sbat = None;
        let mut old_shim = false;
        for event in log.of_pcr(PCR)? {
            let at = |error: EventLogError| error.in_event(event.number);
            match &event.content {
                Content::Separator => separated = true,
                Content::Variable(variable) => configured(&mut variables, event, variable, separated)?,
                Content::Action(text) if text == DMA_OFF => dma_protection_disabled = true,
                Content::Action(text) if text == DEBUGGED => {
                    let what = "a firmware debugger was attached";
                    return Err(EventLogError::at(Rule::DebugMode, event.number, what));
                }
                Content::Authority { variable, padded } => {
                    old_shim |= padded;
                    if variable.vendor == Guid::SHIM_LOCK && variable.name == SBAT {
                        let level = SbatLevel::parse(&variable.value).map_err(at)?;
                        if sbat.replace(level).is_some() {
                            let what = "there is a second SbatLevel";
                            return Err(EventLogError::at(Rule::Sbat, event.number, what));
                        }
                        continue;
                    }
                    let authority = authority(variable).map_err(at)?;
                    if separated { &mut authorities } else { &mut driver_authorities }.push(authority);
                }
                _ => {
                    let what = "PCR 7 has an action that no specification knows";
                    return Err(EventLogError::at(Rule::Action, event.number, what));
                }
            }
        }
        let enabled = enabled(&variables)?;
        let database = |name: &str| match variables.get(name) {
            Some((number, value)) => SignatureDatabase::parse(value).map_err(|error| error.in_event(*number)),
            None => Err(missing(name)),
        };
        let own = Self {
            enabled,
            platform_key: database("PK")?,
            key_exchange: database("KEK")?,
            allowed: database("db")?,
            forbidden: database("dbx")?,
            dma_protection_disabled,
            driver_authorities,
            authorities,
            sbat,
            old_shim,
        };
        if own.enabled {
            own.is_enforced()?;
        }
        Ok(own)
    }

    /// What must hold where signatures were checked: there is something to check them with, and it was used.
    fn is_enforced(&self) -> Result<(), EventLogError> {
        for (name, database) in
            [("PK", &self.platform_key), ("KEK", &self.key_exchange), ("db", &self.allowed)]
        {
            if database.is_empty() {
                let what = format!("Secure Boot was on, and {name} is empty");
                return Err(EventLogError::new(Rule::EmptyDatabase, what));
            }
        }
        if self.authorities.is_empty() {
            let what = "Secure Boot was on, and nothing vouched for what was booted";
            return Err(EventLogError::new(Rule::NoAuthority, what));
        }
        for authority in self.driver_authorities.iter().chain(&self.authorities) {
            let Vouched::Entry { owner, data } = &authority.vouched else { continue };
            let stands = |known: &SignatureEntry| {
                known.data == *data && owner.is_none_or(|owner| owner == known.owner)
            };
            if authority.variable == DB && !self.allowed.entries().iter().any(stands) {
                let what = format!(
                    "what vouched for an image ({}) is not in the measured db",
                    hex::encode(authority.fingerprint())
                );
                return Err(EventLogError::new(Rule::AuthorityNotInDb, what));
            }
        }
        Ok(())
    }
}

fn missing(name: &str) -> EventLogError {
    EventLogError::new(Rule::VariableMissing, format!("the variable {name} was not measured"))
}

/// Takes a variable of the configuration in.
fn configured<'a>(
    variables: &mut BTreeMap<&'a str, (usize, &'a [u8])>,
    event: &Measured,
    variable: &'a Variable,
    separated: bool,
) -> Result<(), EventLogError> {
    let name = variable.name.as_str();
    let refuse = |rule, what: String| Err(EventLogError::at(rule, event.number, what));
    if separated {
        return refuse(Rule::VariableAfterSeparator, format!("{name:?} comes after the separator"));
    }
    let of_another = |(known, vendor): &(&str, Guid)| *known == name && *vendor != variable.vendor;
    if DEMANDED.iter().any(of_another) {
        return refuse(Rule::VariableName, format!("{name} is of {} here", variable.vendor));
    }
    if variables.insert(name, (event.number, &variable.value)).is_some() {
        return refuse(Rule::VariableTwice, format!("{name:?} was measured twice"));
    }
    Ok(())
}

/// Whether the variables say that signatures were checked.
fn enabled(variables: &BTreeMap<&str, (usize, &[u8])>) -> Result<bool, EventLogError> {
    if let Some((name, _)) = DEMANDED.iter().find(|(name, _)| !variables.contains_key(name)) {
        return Err(missing(name));
    }
    let flag = |name: &str| match variables.get(name) {
        None => Ok(None),
        Some((_, [value @ (0 | 1)])) => Ok(Some(*value == 1)),
        Some((number, value)) => {
            let what = format!("{name} is not 0 or 1, but {} bytes", value.len());
            Err(EventLogError::at(Rule::SecureBootValue, *number, what))
        }
    };
    for mode in MODES {
        if flag(mode)? == Some(true) {
            return Err(EventLogError::new(Rule::SetupMode, format!("{mode} was on: nothing is enforced")));
        }
    }
    flag("SecureBoot")?.ok_or_else(|| missing("SecureBoot"))
}

fn authority(variable: &Variable) -> Result<Authority, EventLogError> {
    let name = variable.name.as_str();
    let vouched = match variable.vendor {
        // EFI_SIGNATURE_DATA.
        Guid::IMAGE_SECURITY if name == DB || name == VENDOR_DB => {
            match variable.value.split_first_chunk::<16>() {
                _ if is_certificate(&variable.value) => {
                    Vouched::Entry { owner: None, data: variable.value.clone() }
                }
                Some((owner, data)) if !data.is_empty() => {
                    Vouched::Entry { owner: Some(Guid(*owner)), data: data.to_vec() }
                }
                _ => {
                    let what = format!("an authority of {name} has an owner and a key or hash");
                    return Err(EventLogError::new(Rule::AuthorityForm, what));
                }
            }
        }
        Guid::SHIM_LOCK if !variable.value.is_empty() => {
            Vouched::Shim(without_owner(&variable.value).to_vec())
        }
        Guid::SHIM_LOCK => {
            return Err(EventLogError::new(Rule::AuthorityForm, format!("the authority {name:?} is empty")));
        }
        _ => {
            let what = format!("{name:?} of {} vouches for nothing", variable.vendor);
            return Err(EventLogError::new(Rule::VariableName, what));
        }
    };
    Ok(Authority { variable: name.to_owned(), vouched })
}

/// Shim measures its own certificate as it is, and one of MokList behind the GUID of its owner.
fn without_owner(value: &[u8]) -> &[u8] {
    match value.split_first_chunk::<16>() {
        Some((_, behind)) if !is_certificate(value) && is_certificate(behind) => behind,
        _ => value,
    }
}

/// A certificate is a SEQUENCE that is as long as it says, in two bytes. An owner's GUID is 16 bytes more.
fn is_certificate(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// What an installation wants of a boot. The default wants nothing.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// Secure Boot is on.
    pub secure_boot: bool,
    /// dbx has at least these SHA-256 hashes of images.
    pub forbidden: BTreeSet<[u8; 32]>,
    /// db has no entries but these, by fingerprint.
    pub allowed: Option<BTreeSet<[u8; 32]>>,
    /// Nothing else has vouched than these, by fingerprint.
    pub authorities: Option<BTreeSet<[u8; 32]>>,
    /// The SBAT level is this at least, in each component named.
    pub sbat: SbatLevel,
    /// DMA protection was not disabled.
    pub dma_protection: bool,
    /// The log shows that the firmware was left.
    pub exited: bool,
}

impl Requirements {
    /// Compares.
    ///
    /// # Errors
    /// The first that is not met.
    pub fn check(&self, secure_boot: &SecureBoot, boot: &Boot) -> Result<(), EventLogError> {
        let refuse = |rule, what: String| Err(EventLogError::new(rule, what));
        if self.secure_boot && !secure_boot.enabled {
            return refuse(Rule::SecureBootOff, "Secure Boot was off; turn it on in the firmware".into());
        }
        if let Some(hash) = self.forbidden.difference(&secure_boot.forbidden.hashes()).next() {
            let what = format!("dbx does not forbid {}; update dbx on the machine", hex::encode(hash));
            return refuse(Rule::DbxLacks, what);
        }
        if let Some(allowed) = &self.allowed {
            let all = secure_boot.allowed.entries().iter().map(SignatureEntry::fingerprint);
            if let Some(other) = all.into_iter().find(|entry| !allowed.contains(entry)) {
                let what = format!("db has {}, which is not among what may be there", hex::encode(other));
                return refuse(Rule::DbNotAllowed, what);
            }
        }
        if let Some(authorities) = &self.authorities {
            let all = secure_boot.driver_authorities.iter().chain(&secure_boot.authorities);
            let other = all.map(Authority::fingerprint).find(|authority| !authorities.contains(authority));
            if let Some(other) = other {
                let what = format!("{} vouched for an image, and may not", hex::encode(other));
                return refuse(Rule::AuthorityNotAllowed, what);
            }
        }
        for (component, demanded) in &self.sbat.0 {
            let level = secure_boot.sbat.as_ref().and_then(|level| level.0.get(component));
            if level.is_none_or(|level| level < demanded) {
                let has = level.map_or("none".into(), u32::to_string);
                let what = format!("the SBAT level of {component} is {has}, and {demanded} is wanted");
                return refuse(Rule::SbatTooLow, what);
            }
        }
        if self.dma_protection && secure_boot.dma_protection_disabled {
            return refuse(
                Rule::DmaProtection,
                "DMA protection was disabled; enable it in the firmware".into(),
            );
        }
        self.check_exit(boot)
    }

    /// Compares what has nothing to do with Secure Boot.
    ///
    /// # Errors
    /// The firmware was not seen to be left, and that is wanted.
    pub fn check_exit(&self, boot: &Boot) -> Result<(), EventLogError> {
        let refuse = |rule, what: String| Err(EventLogError::new(rule, what));
        match (self.exited, boot.exited) {
            (true, None) => refuse(Rule::PcrNotQuoted, "PCR 5 was not quoted".into()),
            (true, Some(false)) => {
                refuse(Rule::NoExit, "PCR 5 does not show that the firmware was left".into())
            }
            _ => Ok(()),
        }
    }
}
