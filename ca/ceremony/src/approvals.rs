//! What the quorum has signed, in one folder: a statement `<name>.json` and signatures `<name>.<person>.sig`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use undercroft_ca::approval::{
    Action, Approved, Deviation, DeviationError, DeviationKind, Roster, Statement, Wanted,
};
use undercroft_ca::plan::{Plan, Terms};
use undercroft_ca::serial::Entropy as _;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_cli::{ExitStatus, Failure, read_text, write_file};
use undercroft_log::Clock as _;
use undercroft_log::leaf::Digest;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Approvals(PathBuf);

impl Approvals {
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where the statement of that name is.
    pub(crate) fn statement(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Writes a statement to be signed, for `days` days. One that is there is left as it is.
    pub(crate) fn ask(
        &self,
        plan: &Plan,
        name: &str,
        action: Action,
        object: Digest,
        days: u16,
    ) -> Result<PathBuf, Failure> {
        self.ask_of(&terms(plan)?.roster, plan, name, action, object, in_days(days))
    }

    /// The same, for as long as what it is about is good.
    pub(crate) fn ask_until(
        &self,
        plan: &Plan,
        name: &str,
        action: Action,
        object: Digest,
        until: Timestamp,
    ) -> Result<PathBuf, Failure> {
        self.ask_of(&terms(plan)?.roster, plan, name, action, object, until)
    }

    /// Writes the statement that the roster of the plan takes the place of `before`, for the persons of that to sign.
    pub(crate) fn ask_for_roster(&self, plan: &Plan, before: &Roster, days: u16) -> Result<PathBuf, Failure> {
        self.ask_of(before, plan, "roster", Action::Roster, terms(plan)?.roster.digest(), in_days(days))
    }

    fn ask_of(
        &self,
        roster: &Roster,
        plan: &Plan,
        name: &str,
        action: Action,
        object: Digest,
        expires: Timestamp,
    ) -> Result<PathBuf, Failure> {
        let terms = terms(plan)?;
        let path = self.statement(name);
        if path.exists() {
            let standing = Statement::parse(&read_text(&path)?).map_err(refused)?;
            return match standing.object == object && standing.action == action {
                true => Ok(path),
                false => Err(Failure::usage(format!(
                    "{} is about something else; move it away to have a new one written",
                    path.display()
                ))),
            };
        }
        let mut nonce = [0; 16];
        SystemEntropy.fill(&mut nonce).map_err(|error| Failure::failed(error.to_string()))?;
        let wanted = Wanted { action, object, origin: plan.origin().as_str() };
        let statement = Statement::new(wanted, roster, terms.requester.clone(), expires, nonce);
        write_file(&path, statement.text().map_err(refused)?.as_bytes())?;
        Ok(path)
    }

    /// Whether anybody has signed the statement of that name.
    pub(crate) fn is_signed(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.statement(name).exists() && !self.signatures(name)?.is_empty())
    }

    /// The quorum's approval.
    ///
    /// # Errors
    /// Status 4: it is not there, or does not count.
    pub(crate) fn get(
        &self,
        plan: &Plan,
        name: &str,
        action: Action,
        object: Digest,
        now: Timestamp,
    ) -> Result<Approved, Failure> {
        self.get_of(&terms(plan)?.roster, plan, name, action, object, now)
    }

    /// The approval of a quorum that may be that of the ceremony before.
    ///
    /// # Errors
    /// As [`Approvals::get`].
    pub(crate) fn get_of(
        &self,
        roster: &Roster,
        plan: &Plan,
        name: &str,
        action: Action,
        object: Digest,
        now: Timestamp,
    ) -> Result<Approved, Failure> {
        let path = self.statement(name);
        if !path.exists() {
            return Err(Failure::refused(format!(
                "{} is missing: `undercroft-ceremony {}` writes it, and {} of {} sign it with ssh-keygen -Y sign -n {}",
                path.display(),
                written_by(action),
                roster.quorum(),
                roster.names().collect::<Vec<_>>().join(", "),
                undercroft_ca::approval::NAMESPACE,
            )));
        }
        let wanted = Wanted { action, object, origin: plan.origin().as_str() };
        let approved = roster.approve(wanted, &read_text(&path)?, &self.signatures(name)?, now);
        approved.map_err(|error| refused(error).during(path.display()))
    }

    /// Writes a deviation and the statement about it; the number that they have.
    pub(crate) fn ask_to_deviate(
        &self,
        plan: &Plan,
        kind: DeviationKind,
        reason: &str,
        days: u16,
    ) -> Result<PathBuf, Failure> {
        let usage = |error: DeviationError| Failure::usage(error.to_string());
        let text = Deviation::new(kind, reason.to_owned()).map_err(usage)?.text().map_err(usage)?;
        let number = (1..).find(|number| !self.deviation_path(*number).exists()).unwrap_or(1);
        write_file(&self.deviation_path(number), text.as_bytes())?;
        self.ask(
            plan,
            &format!("deviation-{number}"),
            Action::CeremonyDeviation,
            Digest::of(text.as_bytes()),
            days,
        )
    }

    /// Every deviation that the quorum has approved, with its text.
    pub(crate) fn deviations(
        &self,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Vec<(Deviation, String, Approved)>, Failure> {
        let mut deviations = Vec::new();
        for number in 1.. {
            let path = self.deviation_path(number);
            if !path.exists() {
                break;
            }
            let text = read_text(&path)?;
            let deviation = Deviation::parse(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            let object = Digest::of(text.as_bytes());
            let approved =
                self.get(plan, &format!("deviation-{number}"), Action::CeremonyDeviation, object, now)?;
            deviations.push((deviation, text, approved));
        }
        Ok(deviations)
    }

    fn deviation_path(&self, number: u32) -> PathBuf {
        self.0.join(format!("deviation-{number}.txt"))
    }

    fn signatures(&self, name: &str) -> Result<Vec<String>, Failure> {
        let unreadable =
            |error: std::io::Error| Failure::usage(format!("{} cannot be read: {error}", self.0.display()));
        let prefix = format!("{name}.");
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_one = path.file_name().and_then(|name| name.to_str()).is_some_and(|file| {
                file.strip_prefix(&prefix).is_some_and(|rest| rest.ends_with(".sig") || rest == "sig")
            });
            if is_one {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path: &PathBuf| read_text(Path::new(path))).collect()
    }
}

/// So many days from now, to the second.
fn in_days(days: u16) -> Timestamp {
    let expires = SystemClock.now() + jiff::SignedDuration::from_hours(i64::from(days) * 24);
    Timestamp::from_second(expires.as_second()).unwrap_or(expires)
}

/// The command that writes a statement.
fn written_by(action: Action) -> &'static str {
    match action {
        Action::CeremonyDeviation => "statement deviation",
        Action::Roster => "statement roster",
        Action::CeremonyResult | Action::BundleRoots => "run",
        _ => "statement plan",
    }
}

/// The terms of a plan that must have some.
pub(crate) fn terms(plan: &Plan) -> Result<&Terms, Failure> {
    plan.terms().ok_or_else(|| {
        Failure::usage(
            "the plan has no roster, so that nobody can approve anything; add [roster], requester, window and [[device]]",
        )
    })
}

fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitStatus::Refused, error.to_string())
}
