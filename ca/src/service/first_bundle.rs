//! The first bundle of a domain: its roots are those of configuration, and where they come from a ceremony with a roster, the
//! quorum has said so before anybody is told of them (`docs/ceremony.md`, "Statements about roots"; invariant 11).

use jiff::Timestamp;
use undercroft_log::leaf::{Approval, Digest, TranscriptHead};

use super::StartError;
use crate::approval::{Action, Roster, Wanted};
use crate::certificate::AuthorityCertificate;
use crate::names::TrustDomain;
use crate::roots_statement::RootsStatement;

/// A ceremony whose transcript the installation knows.
#[derive(Clone, Debug)]
pub struct KnownCeremony {
    /// SHA-256 of its plan.
    pub plan: Digest,
    /// The head of its transcript.
    pub transcript: TranscriptHead,
    /// The transcript's origin.
    pub origin: String,
    /// The domains that its plan has a root for, where the plan has a roster; none where it has not.
    pub formal_for: Vec<TrustDomain>,
    /// Approvals that stand in the transcript with a text: what its quorum has said of the roots of domains.
    pub stated: Vec<Approval>,
}

/// A statement about a domain's roots, and where it stands.
struct Stated<'a> {
    statement: RootsStatement,
    text: &'a str,
    approval: &'a Approval,
    origin: &'a str,
}

/// The quorum's word on the roots of a domain's first bundle, which is to stand in front of it; nothing where none is needed.
///
/// Nobody is needed where there is no roster, or where no ceremony with a roster has made or used a root of that domain.
///
/// # Errors
/// It is needed, and is not there, or says something else.
pub(super) fn quorum_on(
    domain: &TrustDomain,
    roots: &[AuthorityCertificate],
    ceremonies: &[KnownCeremony],
    roster: Option<&Roster>,
    now: Timestamp,
) -> Result<Option<Approval>, StartError> {
    let formal = ceremonies.iter().find(|ceremony| ceremony.formal_for.contains(domain));
    let (Some(roster), Some(formal)) = (roster, formal) else { return Ok(None) };
    let name = domain.as_str();
    let refused = |what: String| {
        StartError::Unstated(format!(
            "the first bundle of `{name}` is not published: {what}. The roots of its domain come from a ceremony with a roster ({}): have a plan with a [[bundle-statement]] about them carried out, and name its transcript in a [[ceremony]] (docs/ceremony.md, \"Statements about roots\")",
            formal.origin
        ))
    };
    let mut all: Vec<_> = ceremonies.iter().flat_map(of).filter(|it| it.statement.domain == name).collect();
    all.sort_by_key(|it| it.statement.number);
    let Some(Stated { statement, text, approval, origin }) = all.pop() else {
        return Err(refused("no transcript of a ceremony has the quorum's statement about its roots".into()));
    };
    let number = statement.number;
    if all.last().is_some_and(|other| other.statement.number == number && other.text != text) {
        return Err(refused(format!("two statements about its roots have the number {number}")));
    }
    let object = Digest::of(text.as_bytes());
    let wanted = Wanted { action: Action::BundleRoots, object, origin };
    let approved = roster.approve(wanted, &approval.statement, &approval.signatures, now);
    let approved = approved
        .map_err(|error| refused(format!("statement number {number} about its roots ({origin}): {error}")))?;
    statement
        .allows(name, roots, now)
        .map_err(|what| refused(format!("statement number {number} about its roots ({origin}) {what}")))?;
    Ok(Some(approved.entry_about(text)))
}

/// What a ceremony has stated, as far as it can be read.
fn of(ceremony: &KnownCeremony) -> impl Iterator<Item = Stated<'_>> {
    ceremony.stated.iter().filter_map(|approval| {
        let text = approval.about.as_deref()?;
        let statement = RootsStatement::parse(text).ok()?;
        Some(Stated { statement, text, approval, origin: &ceremony.origin })
    })
}
