//! Lint: what was built is read back by another library, and every rule is checked on what it read.
//!
//! The builder encodes with the `der` family of crates; here `x509-parser` decodes. A bug of either shows as a finding
//! before anything is signed. There are no warnings: a finding of any rule refuses the bytes.

mod certificate;
mod crl;
mod ocsp;
mod read;

use std::fmt;

pub use certificate::{certificate, certificate_alone};
pub use crl::crl;
pub use ocsp::{Told, ocsp_responses, ocsp_responses_alone};

/// A rule that the bytes break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the rule.
    pub rule: &'static str,
    /// The clause that it implements.
    pub clause: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.rule, self.clause, self.what)
    }
}

/// A rule, and the clause that it implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which never changes its meaning.
    pub name: &'static str,
    /// The standard and clause.
    pub clause: &'static str,
}

impl Rule {
    const fn new(name: &'static str, clause: &'static str) -> Self {
        Self { name, clause }
    }

    fn judge(self, checked: Result<(), String>) -> Option<Finding> {
        let what = checked.err()?;
        Some(Finding { rule: self.name, clause: self.clause, what })
    }
}

/// Every rule that there is.
pub fn rules() -> impl Iterator<Item = Rule> {
    let certificate = certificate::RULES.iter().map(|(rule, _)| *rule);
    certificate
        .chain(certificate::GRANT_RULES.iter().map(|(rule, _)| *rule))
        .chain(crl::RULES.iter().map(|(rule, _)| *rule))
        .chain(ocsp::RULES.iter().map(|(rule, _)| *rule))
}

/// The bytes cannot be read back at all.
pub(crate) fn unreadable(what: impl fmt::Display) -> Vec<Finding> {
    vec![Finding { rule: "readable", clause: "X.690", what: what.to_string() }]
}

/// `Ok` if `held`, else what `wrong` says.
fn hold(held: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if held { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests;
