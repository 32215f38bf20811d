//! What the offline quorum says of the roots that the bundle of a trust domain may hold (`docs/ceremony.md`, "Statements about
//! roots"). It is a text: a ceremony writes it, its quorum approves the digest of it, and whoever publishes a bundle reads it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::leaf::Digest;

use crate::certificate::AuthorityCertificate;
use crate::names::{TrustDomain, parse_trust_domain};
use crate::time::Validity;

const FORMAT: &str = "undercroft-roots-v1";

/// The statement: JSON with these members in this order, indented by two spaces, and a line feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootsStatement {
    format: String,
    /// The trust domain.
    pub domain: String,
    /// From 1. Of several statements about a domain the one with the greatest number counts.
    pub number: u64,
    /// In the order of their digests, each once.
    pub roots: Vec<StatedRoot>,
    /// Not before.
    pub begins: Timestamp,
    /// Not after.
    pub ends: Timestamp,
}

/// A root that the bundle may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedRoot {
    /// Its subject, for whoever reads the text.
    pub subject: String,
    /// SHA-256 of its certificate's DER.
    pub sha256: Digest,
}

/// A text that is no such statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no statement about roots ({FORMAT}): {0}")]
pub struct NoRootsStatement(String);

impl RootsStatement {
    /// The statement about these roots.
    pub fn new(
        domain: &TrustDomain,
        number: u64,
        roots: &[&AuthorityCertificate],
        validity: Validity,
    ) -> Self {
        let root = |root: &&AuthorityCertificate| StatedRoot {
            subject: root.subject().to_string(),
            sha256: Digest::of(root.der()),
        };
        let mut roots: Vec<_> = roots.iter().map(root).collect();
        roots.sort_by_key(|root| root.sha256.0);
        Self {
            format: FORMAT.to_owned(),
            domain: domain.as_str().to_owned(),
            number,
            roots,
            begins: validity.not_before(),
            ends: validity.not_after(),
        }
    }

    /// Reads a statement: its text to the byte, so that one statement has one digest.
    ///
    /// # Errors
    /// It is none, or is written otherwise than [`RootsStatement::text`] writes it.
    pub fn parse(text: &str) -> Result<Self, NoRootsStatement> {
        let wrong = |what: String| Err(NoRootsStatement(what));
        let read: Self = serde_json::from_str(text).map_err(|error| NoRootsStatement(error.to_string()))?;
        if read.format != FORMAT {
            return wrong(format!("its format is `{}`", read.format));
        }
        if let Err(error) = parse_trust_domain(&read.domain) {
            return wrong(error.to_string());
        }
        if read.number == 0 {
            return wrong("its number is 0, and the first is 1".into());
        }
        if read.roots.is_empty() || !read.roots.is_sorted_by(|a, b| a.sha256.0 < b.sha256.0) {
            return wrong("its roots are none, or are not in the order of their digests, each once".into());
        }
        if read.begins >= read.ends {
            return wrong(format!("it ends ({}) before it begins ({})", read.ends, read.begins));
        }
        match read.text()? == text {
            true => Ok(read),
            false => wrong("it is written otherwise than a ceremony writes it".into()),
        }
    }

    /// The text, of which the quorum approves the digest.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, NoRootsStatement> {
        let text = serde_json::to_string_pretty(self).map_err(|error| NoRootsStatement(error.to_string()))?;
        Ok(text + "\n")
    }

    /// Whether a bundle of this domain may hold these roots at this time, and no others.
    ///
    /// # Errors
    /// Why not, as what stands behind "the statement".
    pub fn allows(&self, domain: &str, roots: &[AuthorityCertificate], now: Timestamp) -> Result<(), String> {
        if self.domain != domain {
            return Err(format!("is about `{}`, and this is `{domain}`", self.domain));
        }
        if !(self.begins..=self.ends).contains(&now) {
            return Err(format!("is good from {} to {}, and it is {now}", self.begins, self.ends));
        }
        let is_named = |root: &AuthorityCertificate| {
            let sha256 = Digest::of(root.der());
            self.roots.iter().any(|stated| stated.sha256 == sha256)
        };
        match roots.iter().find(|root| !is_named(root)) {
            None => Ok(()),
            Some(root) => {
                Err(format!("does not name the root {} (SHA-256 {})", root.subject(), Digest::of(root.der())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
