//! Rotations of roots and intermediates (`docs/rotation.md`).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Caller;
use crate::leaf::encoding::{Base64Bytes, Digest, HexKeyId, integer, utc_seconds};

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationPhase {
    /// The new root is published beside the old one, and signs nothing.
    PrePublish,
    /// Each root is certified by the other.
    CrossSign,
    /// The new authorities sign.
    Switch,
    /// The old root is tainted, and what stands under it runs out.
    Drain,
    /// The old root is not published any more, and its authorities never sign again.
    Retire,
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How much time a rotation takes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationSchedule {
    /// Nothing is wrong.
    Planned,
    /// Soon: an algorithm or a token is not trusted much longer.
    Accelerated,
    /// The old key is in the wrong hands.
    Emergency,
}

impl fmt::Display for RotationSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What happened to a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationEvent {
    /// It was planned, or planned anew.
    Planned,
    /// It is in its phase from here on.
    Advanced,
    /// It was to go on, and it was too early; or to be abandoned, and it was too late.
    Refused,
    /// It was given up: from here on everything is as it was before it was planned.
    Abandoned,
}

/// An authority, and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The name of the old one.
    pub old: String,
    /// The key of the old one: from `retire` on it signs no certificate.
    pub old_key: HexKeyId,
    /// The name of the new one.
    pub new: String,
}

/// The roots of a root's rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotatedRoots {
    /// The old root, DER.
    pub old: Base64Bytes,
    /// The new root, DER.
    pub new: Base64Bytes,
    /// The new root's name and key, certified by the old root; DER.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new_by_old: Option<Base64Bytes>,
    /// The old root's name and key, certified by the new root; DER.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old_by_new: Option<Base64Bytes>,
}

/// A phase that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnteredPhase {
    /// Which.
    pub phase: RotationPhase,
    /// When.
    #[serde(with = "utc_seconds")]
    pub since: Timestamp,
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationBlocker {
    /// The rule.
    pub rule: String,
    /// What is missing, in words, as the caller was told.
    pub text: String,
    /// From when on it blocks no longer, if time alone does it.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "optional_seconds")]
    pub until: Option<Timestamp>,
}

/// A rotation, whole, as it is from here on; or that it may not go on yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// What happened.
    pub event: RotationEvent,
    /// The trust domain.
    pub domain: String,
    /// The how-manieth of the domain it is, from 1.
    #[serde(deserialize_with = "integer::deserialize")]
    pub number: u64,
    /// Its schedule.
    pub schedule: RotationSchedule,
    /// When it was first planned.
    #[serde(with = "utc_seconds")]
    pub planned: Timestamp,
    /// The phases that it has entered, the one that it is in last; none if it has not begun.
    pub phases: Vec<EnteredPhase>,
    /// The authorities that are replaced.
    pub authorities: Vec<Replacement>,
    /// The roots; absent if an intermediate alone is rotated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roots: Option<RotatedRoots>,
    /// Who asked.
    pub caller: Caller,
    /// For [`RotationEvent::Refused`]: what it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blockers: Vec<RotationBlocker>,
    /// SHA-256 of the approved statement, where the phase, or the end of it, changes the set of roots.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approval: Option<Digest>,
}

mod optional_seconds {
    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    use super::utc_seconds;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => utc_seconds::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        utc_seconds::deserialize(deserializer).map(Some)
    }
}
