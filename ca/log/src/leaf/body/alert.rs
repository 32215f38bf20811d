//! Alerts: what is abnormal, and when it ended.

use serde::{Deserialize, Serialize};

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertEvent {
    /// It was raised.
    Raised,
    /// What it was about is over.
    Ended,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// What happened to it.
    pub event: AlertEvent,
    /// The rule, by a name that never changes its meaning.
    pub rule: String,
    /// What it is about, in words.
    pub text: String,
}
