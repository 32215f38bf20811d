//! What a rule wants of a boot, and of the TPM's firmware.

use std::collections::{BTreeMap, BTreeSet};

use undercroft_attestors::tpm::event_log::{EventLogError, Guid, Requirements, SbatLevel, SignatureDatabase};
use undercroft_attestors::tpm::node::Attested;
use undercroft_log::leaf::Digest;

use crate::nodes::claims::Claims;
use crate::policy::Refusal;

/// What a rule wants of a boot.
#[derive(Clone, Debug, Default)]
pub(super) struct BootWishes {
    requirements: Requirements,
    /// Whether PCR 7 is looked at.
    secure_boot: bool,
}

/// The same as a rule says it.
pub(super) struct BootConfig<'a> {
    pub(super) secure_boot: bool,
    /// The content of a file.
    pub(super) dbx: Option<&'a [u8]>,
    pub(super) db: Option<&'a [Digest]>,
    pub(super) authorities: Option<&'a [Digest]>,
    pub(super) sbat: &'a BTreeMap<String, u32>,
    pub(super) dma_protection: bool,
    pub(super) exited: bool,
}

impl BootWishes {
    pub(super) fn new(config: &BootConfig<'_>) -> Result<Self, String> {
        let set = |list: &[Digest]| list.iter().map(|digest| digest.0).collect::<BTreeSet<_>>();
        let requirements = Requirements {
            secure_boot: config.secure_boot,
            forbidden: config.dbx.map(forbidden).transpose()?.unwrap_or_default(),
            allowed: config.db.map(set),
            authorities: config.authorities.map(set),
            sbat: SbatLevel(config.sbat.clone()),
            dma_protection: config.dma_protection,
            exited: config.exited,
        };
        let secure_boot = config.secure_boot
            || config.dbx.is_some()
            || config.db.is_some()
            || config.authorities.is_some()
            || !config.sbat.is_empty()
            || config.dma_protection;
        Ok(Self { requirements, secure_boot })
    }

    /// The PCRs without which nothing could satisfy them.
    pub(super) fn pcrs(&self) -> Vec<u8> {
        let exited = self.requirements.exited.then_some(5);
        exited.into_iter().chain(self.secure_boot.then_some(7)).collect()
    }

    pub(super) fn admit(&self, rule: &str, claims: &Claims) -> Result<(), Refusal> {
        if self.pcrs().is_empty() {
            return Ok(());
        }
        let refuse =
            |error: EventLogError| Refusal::new(error.rule.code(), format!("rule `{rule}`: {error}"));
        let Some(boot) = &claims.boot else {
            return Err(Refusal::new(
                "log-missing",
                format!("rule `{rule}` wants to know how the node booted"),
            ));
        };
        let checked = match (self.secure_boot, &boot.secure_boot) {
            (false, _) => self.requirements.check_exit(&boot.boot),
            (true, Ok(secure_boot)) => self.requirements.check(secure_boot, &boot.boot),
            (true, Err(error)) => Err(error.clone()),
        };
        checked.map_err(refuse)
    }
}

/// The hashes of a dbx file: what the UEFI forum publishes, or a text with one in each line.
fn forbidden(content: &[u8]) -> Result<BTreeSet<[u8; 32]>, String> {
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'));
    let hashes = match text {
        Some(text) => {
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            lines.filter(|line| !line.is_empty()).map(hash).collect::<Result<BTreeSet<_>, _>>()?
        }
        None => {
            let database = SignatureDatabase::of_update(content).map_err(|error| error.to_string())?;
            if let Some(other) = database.entries().iter().find(|entry| entry.kind != Guid::CERT_SHA256) {
                return Err(format!("it has an entry of type {}, which is no SHA-256 hash", other.kind));
            }
            database.hashes()
        }
    };
    match hashes.is_empty() {
        true => Err("it has no hash".to_owned()),
        false => Ok(hashes),
    }
}

fn hash(line: &str) -> Result<[u8; 32], String> {
    let bytes = hex::decode(line).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("`{line}` is no SHA-256 in hexadecimal"))
}

/// The least versions of TPMs' firmware, by manufacturer: major in the upper 16 bits.
#[derive(Clone, Debug, Default)]
pub(super) struct FirmwareFloors(BTreeMap<String, u32>);

impl FirmwareFloors {
    pub(super) fn new(config: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut floors = BTreeMap::new();
        for (manufacturer, version) in config {
            let parts = version.split_once('.').and_then(|(major, minor)| {
                Some(u32::from(major.parse::<u16>().ok()?) << 16 | u32::from(minor.parse::<u16>().ok()?))
            });
            let floor = parts.ok_or_else(|| {
                format!(
                    "firmware-at-least: `{version}` is no version such as \"7.85\" (two numbers up to 65535)"
                )
            })?;
            if floors.insert(manufacturer.to_ascii_lowercase(), floor).is_some() {
                return Err(format!("firmware-at-least: `{manufacturer}` is there twice"));
            }
        }
        Ok(Self(floors))
    }

    pub(super) fn admit(&self, rule: &str, attested: &Attested) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let refuse = |what: String| Err(Refusal::new("node-firmware", format!("rule `{rule}`: {what}")));
        let [manufacturer, ..] = attested.names();
        let Some(floor) = self.0.get(&manufacturer.to_ascii_lowercase()) else {
            return refuse(format!("firmware-at-least says nothing of TPMs of `{manufacturer}`"));
        };
        let (version, source) = match (attested.firmware(), attested.certified_version()) {
            (Some(firmware), _) => ((firmware >> 32) as u32, "as its quote says"),
            (None, Some(version)) => (version, "as its certificate says, since its quote hides it"),
            (None, None) => return refuse("nothing says which firmware the TPM has".to_owned()),
        };
        match version >= *floor {
            true => Ok(()),
            false => refuse(format!(
                "the TPM's firmware is {} ({source}), and {} is wanted; update it",
                shown(version),
                shown(*floor)
            )),
        }
    }
}

fn shown(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}
