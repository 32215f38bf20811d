//! Leaves from a ceremony's plan or its rules, which the quorum allows one by one.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

const FORMAT: &str = "undercroft-deviation-v1";

/// What the text of a deviation says: JSON, whose digest is the object of its approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    format: String,
    /// What is left.
    pub kind: DeviationKind,
    /// What was expected, what happened and what was decided. Never empty.
    pub reason: String,
}

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviationKind {
    /// The plan was not rehearsed.
    NotRehearsed,
    /// The ceremony runs outside the window of the plan.
    OutsideWindow,
    /// The next ceremony is not rehearsed, though the plan asks for it.
    NextNotRehearsed,
    /// Something that the program does not know of.
    Other,
}

/// A text that is no deviation, or says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no {FORMAT} with a kind and a reason: {0}")]
pub struct DeviationError(String);

impl Deviation {
    /// A deviation.
    ///
    /// # Errors
    /// The reason is empty.
    pub fn new(kind: DeviationKind, reason: String) -> Result<Self, DeviationError> {
        match reason.trim().is_empty() {
            false => Ok(Self { format: FORMAT.to_owned(), kind, reason }),
            true => Err(DeviationError(
                "the reason is empty; say what was expected, what happened and what was decided".into(),
            )),
        }
    }

    /// Reads the text of one.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, DeviationError> {
        let read: Self = serde_json::from_str(text).map_err(|error| DeviationError(error.to_string()))?;
        match read.format == FORMAT {
            true => Self::new(read.kind, read.reason),
            false => Err(DeviationError(format!("its format is `{}`", read.format))),
        }
    }

    /// The text, of which the quorum approves the digest.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, DeviationError> {
        serde_json::to_string(self).map_err(|error| DeviationError(error.to_string()))
    }
}

impl DeviationKind {
    /// Each kind.
    pub const ALL: [Self; 4] = [Self::NotRehearsed, Self::OutsideWindow, Self::NextNotRehearsed, Self::Other];
}

impl FromStr for DeviationKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(Self::to_string).collect();
            format!("`{text}` is no kind of deviation; say {}", known.join(", "))
        })
    }
}

impl std::fmt::Display for DeviationKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
