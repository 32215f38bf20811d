//! What is answered, without how it travels.

use serde_json::Value;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON.
    pub body: Value,
    /// The header Location.
    pub location: Option<String>,
    /// A link of the relation "up".
    pub up: Option<String>,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body, location: None, up: None }
    }

    pub(super) fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    pub(super) fn up(self, up: String) -> Self {
        Self { up: Some(up), ..self }
    }
}
