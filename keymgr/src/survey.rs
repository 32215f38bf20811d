//! What key hardware a machine has, before anybody has configured any.

/// Something that a backend came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What it is and where.
    pub what: String,
    /// The URI that a `[[device]]` table would name it by; or what is missing, and how to get it.
    pub usable: Result<String, String>,
}

impl Sighting {
    /// Something that can be used as it is.
    pub fn usable(what: impl Into<String>, uri: impl ToString) -> Self {
        Self { what: what.into(), usable: Ok(uri.to_string()) }
    }

    /// Something that cannot be used yet.
    pub fn wanting(what: impl Into<String>, missing: impl Into<String>) -> Self {
        Self { what: what.into(), usable: Err(missing.into()) }
    }
}
