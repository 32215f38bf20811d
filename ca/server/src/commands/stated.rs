//! `undercroft bundle --stated`: whoever asks for a bundle holds it to what the offline quorum has said of its roots, and
//! believes the daemon no further (`docs/ceremony.md`, "Statements about roots").

use std::path::PathBuf;

use undercroft_ca::approval::{Action, Roster, RosterConfig, Statement, Wanted};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::log_key::{CEREMONY, ORIGIN_PART};
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::strict_toml;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Failure, read_text};
use undercroft_log::Clock as _;
use undercroft_log::leaf::Digest;

/// By what a bundle is judged.
#[derive(Debug, clap::Args)]
pub(super) struct StatedArgs {
    /// What the quorum has stated about the roots of the domain: the output of a ceremony. The bundle is printed if every
    /// root in it stands there.
    #[arg(long, requires_all = ["statement", "approvals", "roster"])]
    stated: Option<PathBuf>,
    /// The statement that the quorum has signed of it: statement-<name>.json of the ceremony's approvals.
    #[arg(long, requires = "stated")]
    statement: Option<PathBuf>,
    /// A signature over that; one for each person.
    #[arg(long = "approval", requires = "stated")]
    approvals: Vec<PathBuf>,
    /// Who may approve, from somebody whom you trust: TOML with `quorum` and a `[[person]]` for each, as in a plan.
    #[arg(long, requires = "stated")]
    roster: Option<PathBuf>,
}

impl StatedArgs {
    /// Judges the roots of a domain's bundle; gives the number of the statement that allows them, if one is to be asked.
    ///
    /// # Errors
    /// Status 2: a file is none of what it should be. Status 5: the quorum has not said it, or has not said it of these roots.
    pub(super) fn judge(&self, domain: &str, roots: &[Vec<u8>]) -> Result<Option<u64>, Failure> {
        let (Some(stated), Some(statement), Some(roster)) = (&self.stated, &self.statement, &self.roster)
        else {
            return Ok(None);
        };
        let text = read_text(stated)?;
        let parsed = RootsStatement::parse(&text)
            .map_err(|error| Failure::usage(error.to_string()).during(stated.display()))?;
        let file = roster.display().to_string();
        let config: RosterConfig = strict_toml::parse(&file, &read_text(roster)?)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let roster = Roster::new(config).map_err(|error| Failure::usage(error.to_string()).during(&file))?;
        let signed = read_text(statement)?;
        let wrong = |what: String| Failure::tampered(what).during(statement.display());
        let origin = Statement::parse(&signed)
            .map_err(|error| Failure::usage(error.to_string()).during(statement.display()))?
            .origin;
        // A rehearsal approves nothing, and no other log has such statements.
        if !matches!(&origin.split('/').collect::<Vec<_>>()[..], [_, ORIGIN_PART, CEREMONY, ..]) {
            return Err(wrong(format!("it is of {origin}, which is the transcript of no ceremony")));
        }
        let signatures = self.approvals.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
        let object = Digest::of(text.as_bytes());
        let wanted = Wanted { action: Action::BundleRoots, object, origin: &origin };
        let now = SystemClock.now();
        roster.approve(wanted, &signed, &signatures, now).map_err(|error| wrong(error.to_string()))?;
        let roots = roots.iter().map(|root| AuthorityCertificate::from_der(root));
        let roots = roots.collect::<Result<Vec<_>, _>>().map_err(|error| {
            Failure::tampered(format!("the daemon's bundle of `{domain}` has a root that is none: {error}"))
        })?;
        parsed.allows(domain, &roots, now).map_err(|what| {
            Failure::tampered(format!(
                "the daemon's bundle of `{domain}` is not to be used: statement number {} {what}",
                parsed.number
            ))
        })?;
        Ok(Some(parsed.number))
    }
}
