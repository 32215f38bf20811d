//! Drills: what the compromise of an authority would need, rehearsed and measured (`docs/recovery.md`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::leaf::HexKeyId;

pub use live::{Live, LiveCertificates};
pub use reissue::{Successors, revocation_list};

mod live;
mod reissue;

/// The format of a summary.
const FORMAT: &str = "undercroft-drill-v1";

/// What a drill found, as the control log keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Summary {
    format: String,
    /// The trust domain.
    pub domain: String,
    /// The authority that was taken for compromised: its name.
    pub authority: String,
    /// And its key.
    pub key_id: HexKeyId,
    /// When the drill began.
    pub begun: Timestamp,
    /// How many certificates of it were live then.
    pub live: u64,
    /// The steps, each with the milliseconds that it took on simulated tokens.
    pub steps: Vec<Step>,
    /// How many signatures a second the attached token made, if it was measured.
    pub attached_rate: Option<f64>,
    /// The milliseconds that recovery would take at that speed.
    pub recovery_ms: Option<u64>,
}

/// A step of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// What was done, in words.
    pub step: String,
    /// Signatures of authorities' keys that it took.
    pub signatures: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Summary {
    /// A summary of nothing yet.
    pub fn new(domain: String, authority: String, key_id: HexKeyId, begun: Timestamp, live: u64) -> Self {
        let format = FORMAT.to_owned();
        let (steps, attached_rate, recovery_ms) = (Vec::new(), None, None);
        Self { format, domain, authority, key_id, begun, live, steps, attached_rate, recovery_ms }
    }

    /// Reads a summary.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let summary: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match summary.format == FORMAT {
            true => Ok(summary),
            false => Err(format!("its format is `{}` and not {FORMAT}", summary.format)),
        }
    }

    /// The time to recover at a rate of signatures a second: what does not sign takes as long as in the drill.
    pub fn estimate(&mut self, rate: f64) {
        let signing: u64 = self.steps.iter().map(|step| step.signatures).sum();
        let other: u64 = self.steps.iter().filter(|step| step.signatures == 0).map(|step| step.ms).sum();
        self.attached_rate = Some(rate);
        self.recovery_ms = (rate > 0.0).then(|| other + (signing as f64 * 1e3 / rate).ceil() as u64);
    }
}

#[cfg(test)]
mod tests;
