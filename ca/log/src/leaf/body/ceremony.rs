//! What happens in ceremonies, and that they are known to the installation.

use serde::{Deserialize, Serialize};

use crate::leaf::encoding::{Digest, integer};

/// What happened in or to a ceremony.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CeremonyEvent {
    /// The plan and the environment were read.
    Opened,
    /// The rehearsal of the same plan was verified.
    Rehearsed,
    /// The ceremony before was verified, with the key of its transcript.
    Continues,
    /// A device was recognised.
    Device,
    /// A step is about to be done.
    Step,
    /// It is done.
    Done,
    /// The program was started again after an interruption.
    Resumed,
    /// Somebody in the room had this written down.
    Note,
    /// The ceremony was stopped for a while, on purpose.
    Paused,
    /// The quorum allowed to leave the plan or its rules.
    Deviation,
    /// A rehearsal of the next ceremony, from what this one has made, was verified.
    NextRehearsed,
    /// Every step was done, and the quorum is to approve the result.
    Awaiting,
    /// Nothing is left to do.
    Closed,
    /// It was given up.
    Aborted,
    /// The online log takes note of a transcript.
    Adopted,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeremonyStep {
    /// From 1, in the order of the plan.
    #[serde(deserialize_with = "integer::deserialize")]
    pub number: u64,
    /// The artefact's name in the plan.
    pub artefact: String,
    /// Once it is done: SHA-256 of what was written, where the step writes something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<Digest>,
}

/// The head of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptHead {
    /// The key that verifies it.
    pub verifier_key: String,
    /// Its last checkpoint.
    pub checkpoint: String,
}

/// Something that happened in or to a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// What happened.
    pub event: CeremonyEvent,
    /// SHA-256 of the plan.
    pub plan: Digest,
    /// In words.
    pub text: String,
    /// For [`CeremonyEvent::Step`] and [`CeremonyEvent::Done`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<CeremonyStep>,
    /// For [`CeremonyEvent::Rehearsed`], [`CeremonyEvent::Continues`], [`CeremonyEvent::NextRehearsed`] and [`CeremonyEvent::Adopted`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transcript: Option<TranscriptHead>,
}

impl Ceremony {
    /// An event that is told in words alone.
    pub fn told(event: CeremonyEvent, plan: Digest, text: impl Into<String>) -> Self {
        Self { event, plan, text: text.into(), step: None, transcript: None }
    }
}
