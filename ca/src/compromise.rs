//! What is done when the key of an authority is in other hands, as the quorum approves it (`docs/recovery.md`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::leaf::{Base64Bytes, Digest, HexKeyId};

use crate::certificate::AuthorityCertificate;
use crate::tbs::RevocationReason;

/// Why what a compromised authority has signed is revoked, as its CRL says it: another certificate takes its place. RFC 5280
/// section 5.3.1 keeps cACompromise for the certificate of the authority itself, whose own key it is about.
pub const ISSUER_COMPROMISED: RevocationReason = RevocationReason::Superseded;

/// The format of a plan.
const FORMAT: &str = "undercroft-compromise-v1";

/// The plan of a recovery: what the quorum approves by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompromisePlan {
    format: String,
    /// The trust domain.
    pub domain: String,
    /// The key of the authority that is compromised.
    pub compromised: HexKeyId,
    /// The certificate of the authority that replaces it, DER: a ceremony has made it.
    pub replacement: Base64Bytes,
    /// The key ids of the domain's roots that are compromised with it; mostly none.
    pub tainted_roots: Vec<HexKeyId>,
    /// Why, in words.
    pub reason: String,
    /// When it was written.
    pub written: Timestamp,
}

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recovery plan: {0}")]
pub struct CompromisePlanError(String);

/// How far a recovery is. Each step can be done again, and does nothing then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Who has approved the plan.
    pub approved_by: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<(RecoveryStep, Standing)>,
}

/// A step of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryStep {
    /// The compromised authority signs no certificates.
    Freeze,
    /// The approval and the plan stand in the control log.
    Record,
    /// The replacement is an authority of the running daemon, and stands before the compromised one.
    Replace,
    /// The compromised authority is in the configuration no more.
    Retire,
}

impl RecoveryStep {
    /// Its name, which never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Record => "record",
            Self::Replace => "replace",
            Self::Retire => "retire",
        }
    }
}

/// Whether a step is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Done,
    /// It is not, and this is what to do.
    Open(String),
}

impl CompromisePlan {
    /// A plan.
    pub fn new(
        domain: String,
        compromised: HexKeyId,
        replacement: &AuthorityCertificate,
        tainted_roots: Vec<HexKeyId>,
        reason: String,
        written: Timestamp,
    ) -> Self {
        let replacement = Base64Bytes(replacement.der().to_vec());
        Self { format: FORMAT.to_owned(), domain, compromised, replacement, tainted_roots, reason, written }
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// It is none, or its replacement is no replacement.
    pub fn parse(text: &str) -> Result<Self, CompromisePlanError> {
        let plan: Self =
            serde_json::from_str(text).map_err(|error| CompromisePlanError(error.to_string()))?;
        let wrong = |what: String| Err(CompromisePlanError(what));
        if plan.format != FORMAT {
            return wrong(format!("its format is `{}` and not {FORMAT}", plan.format));
        }
        if plan.reason.trim().is_empty() {
            return wrong("it gives no reason".to_owned());
        }
        let replacement = plan.replacement()?;
        if replacement.public_key().id() == plan.compromised.0 {
            return wrong("its replacement has the compromised key".to_owned());
        }
        if replacement.is_self_signed() {
            return wrong("its replacement is a root, and roots stay offline".to_owned());
        }
        let id = format!("spiffe://{}", plan.domain);
        if replacement.uris() != [id] {
            return wrong(format!(
                "its replacement is for {:?} and not for {}",
                replacement.uris(),
                plan.domain
            ));
        }
        Ok(plan)
    }

    /// The text that is written, and whose SHA-256 is approved.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, CompromisePlanError> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| CompromisePlanError(error.to_string()))?;
        Ok(text + "\n")
    }

    /// What an approval of the plan with this text is about.
    pub fn object(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// The certificate of the replacement.
    ///
    /// # Errors
    /// It is no certificate of an authority.
    pub fn replacement(&self) -> Result<AuthorityCertificate, CompromisePlanError> {
        AuthorityCertificate::from_der(&self.replacement.0)
            .map_err(|error| CompromisePlanError(format!("its replacement: {error}")))
    }
}
