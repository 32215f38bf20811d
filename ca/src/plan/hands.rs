//! What people do in a ceremony, and the end of keys.

use jiff::Timestamp;
use serde::Deserialize;
use undercroft_keys::KeyId;

use super::PlannedKey;
use super::config::{DestructionConfig, DeviceConfig, ManualConfig, WindowConfig};
use super::terms::{follows, timestamp};

/// Something that people do, and that the transcript keeps: a backup, a transport, sealing a safe.
#[derive(Clone, Debug)]
pub struct Manual {
    pub(super) name: String,
    instruction: String,
    at: When,
    evidence: Option<String>,
    pub(super) minutes: u32,
    pub(super) follows: String,
}

/// When people do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before anything is made.
    Begin,
    /// After everything was made, and before keys are destroyed.
    #[default]
    End,
}

/// A key that is destroyed at the end of the ceremony.
#[derive(Clone, Debug)]
pub struct Destruction {
    pub(super) name: String,
    key: PlannedKey,
    id: KeyId,
    pub(super) follows: String,
}

/// A device that the ceremony uses, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDevice {
    /// Its name in plan and environment.
    pub name: String,
    /// Its model.
    pub model: String,
    /// The version of its firmware.
    pub firmware: String,
}

/// The time in which a ceremony may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Not before.
    pub begins: Timestamp,
    /// Not after.
    pub ends: Timestamp,
}

impl Manual {
    pub(super) fn new(config: ManualConfig) -> Result<Self, String> {
        if config.instruction.trim().is_empty() {
            return Err("instruction is empty; say what is to be done".into());
        }
        Ok(Self {
            name: config.name,
            instruction: config.instruction,
            at: config.at,
            evidence: config.evidence.map(super::terms::output).transpose()?,
            minutes: config.minutes.unwrap_or(5),
            follows: follows(config.follows)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be done, in words.
    pub fn instruction(&self) -> &str {
        &self.instruction
    }

    /// When.
    pub fn at(&self) -> When {
        self.at
    }

    /// A file below the requests folder whose digest is kept: a wrapped key, a photograph of a seal.
    pub fn evidence(&self) -> Option<&str> {
        self.evidence.as_deref()
    }
}

impl Destruction {
    pub(super) fn new(config: DestructionConfig) -> Result<Self, String> {
        let id = config.key_id.parse().map_err(|error| format!("key-id: {error}"))?;
        Ok(Self { name: config.name, key: config.key.into(), id, follows: follows(config.follows)? })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the key is.
    pub fn key(&self) -> &PlannedKey {
        &self.key
    }

    /// SHA-256 of its SubjectPublicKeyInfo: no other key is destroyed.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl PlannedDevice {
    pub(super) fn new(config: DeviceConfig) -> Self {
        Self { name: config.name, model: config.model, firmware: config.firmware }
    }
}

impl Window {
    pub(super) fn new(config: &WindowConfig) -> Result<Self, String> {
        let (begins, ends) = (timestamp(&config.begins)?, timestamp(&config.ends)?);
        match begins < ends {
            true => Ok(Self { begins, ends }),
            false => Err(format!("it ends ({ends}) before it begins ({begins})")),
        }
    }

    /// Whether the ceremony may run now.
    pub fn contains(&self, now: Timestamp) -> bool {
        (self.begins..=self.ends).contains(&now)
    }
}
