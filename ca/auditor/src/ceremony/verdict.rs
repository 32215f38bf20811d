//! The verdict: every check, what was compared, and what was found.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use undercroft_ca::approval::DeviationKind;
use undercroft_ca::plan::{Mode, Plan};
use undercroft_log::leaf::Digest;

use super::clauses;
use crate::Finding;

/// What a check is about, in the order of the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The log.
    Transcript,
    /// The plan.
    Plan,
    /// Entries and steps.
    Order,
    /// The window.
    Time,
    /// What the quorum has signed.
    Approvals,
    /// Leave from the plan or its rules.
    Deviations,
    /// The rehearsal.
    Rehearsal,
    /// The ceremony before.
    Previous,
    /// The rehearsal of the ceremony after.
    Next,
    /// The devices.
    Devices,
    /// Where the keys live.
    Custody,
    /// The bytes that were signed.
    ToBeSigned,
    /// Lint.
    Lint,
    /// Signatures.
    Signatures,
    /// What the quorum says of roots.
    Statements,
    /// Files that came out.
    Outputs,
    /// Files that went in.
    Evidence,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Transcript,
        Self::Plan,
        Self::Order,
        Self::Time,
        Self::Approvals,
        Self::Deviations,
        Self::Rehearsal,
        Self::Previous,
        Self::Next,
        Self::Devices,
        Self::Custody,
        Self::ToBeSigned,
        Self::Lint,
        Self::Signatures,
        Self::Statements,
        Self::Outputs,
        Self::Evidence,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transcript => "transcript",
            Self::Plan => "plan",
            Self::Order => "order",
            Self::Time => "time",
            Self::Approvals => "approvals",
            Self::Deviations => "deviations",
            Self::Rehearsal => "rehearsal",
            Self::Previous => "previous",
            Self::Next => "next",
            Self::Devices => "devices",
            Self::Custody => "custody",
            Self::ToBeSigned => "to-be-signed",
            Self::Lint => "lint",
            Self::Signatures => "signatures",
            Self::Statements => "statements",
            Self::Outputs => "outputs",
            Self::Evidence => "evidence",
        }
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is as it must be.
    Ok,
    /// Something is wrong.
    Failed,
    /// The plan has no such thing.
    NotApplicable,
    /// What it needs was not given, or could not be read.
    NotLookedAt,
}

impl Status {
    /// As people read it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::NotApplicable => "not applicable",
            Self::NotLookedAt => "not looked at",
        }
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// What it is about.
    pub check: Subject,
    /// How it came out.
    pub status: Status,
    /// What was compared, or why nothing was.
    pub compared: String,
    /// The clauses that it serves.
    pub clauses: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A leave from the plan or its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviationTold {
    /// The entry.
    pub entry: u64,
    /// What is left. None where its text cannot be read.
    pub kind: Option<DeviationKind>,
    /// What was expected, what happened, what was decided.
    pub reason: String,
    /// Who approved it.
    pub approved_by: Vec<String>,
}

impl DeviationTold {
    pub(crate) fn kind_in_words(&self) -> String {
        self.kind.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string())
    }
}

/// What the verdict is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A ceremony, and everything that was looked at is as it must be.
    Accepted,
    /// Something is wrong.
    Refused,
    /// Sound, but a rehearsal.
    Rehearsal,
    /// Sound, but a trial: by a plan without terms, or with keys in software.
    Development,
}

/// The verdict on a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// Whether that is what was asked for: the exit status is 0 if so, and 5 if not.
    pub passed: bool,
    /// The plan's title.
    pub title: String,
    /// The transcript.
    pub origin: String,
    /// SHA-256 of the plan.
    pub plan: Digest,
    /// How many entries the transcript has.
    pub entries: u64,
    /// The root over them, base64.
    pub root: String,
    /// When the first entry was stamped.
    pub first: Option<Timestamp>,
    /// When the last entry was stamped.
    pub last: Option<Timestamp>,
    /// The checks, in a fixed order.
    pub checks: Vec<Check>,
    /// Leaves from the plan.
    pub deviations: Vec<DeviationTold>,
}

impl Verdict {
    /// Every finding.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.checks.iter().flat_map(|check| &check.findings)
    }

    /// The check about something.
    pub fn check(&self, subject: Subject) -> Option<&Check> {
        self.checks.iter().find(|check| check.check == subject)
    }

    /// The last line: what it comes to.
    pub fn conclusion(&self) -> String {
        let skipped = self.checks.iter().filter(|check| check.status == Status::NotLookedAt).count();
        let skipped = match skipped {
            0 => String::new(),
            1 => "; 1 check was not looked at".to_owned(),
            more => format!("; {more} checks were not looked at"),
        };
        match self.outcome {
            Outcome::Accepted => format!("ACCEPTED: the ceremony did what its plan says{skipped}"),
            Outcome::Refused => match self.findings().count() {
                1 => format!("REFUSED: 1 finding{skipped}"),
                more => format!("REFUSED: {more} findings{skipped}"),
            },
            Outcome::Rehearsal => {
                format!("REHEARSAL: it went through as its plan says, and nothing of it counts{skipped}")
            }
            Outcome::Development => {
                format!(
                    "DEVELOPMENT: a trial, whose plan has no terms or whose keys are worth less than it demands{skipped}"
                )
            }
        }
    }

    /// One page of text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\n  {}: {} entries, root {}\n  plan {}\n",
            self.title,
            self.origin,
            self.entries,
            self.root,
            grouped(&self.plan.to_string())
        );
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let _ = writeln!(text, "  from {first} to {last}");
        }
        text.push('\n');
        for check in &self.checks {
            let (status, name) = (check.status.in_words(), check.check.name());
            let _ = writeln!(text, "  {status:<14}  {name:<12}  {}", check.compared);
            if !check.clauses.is_empty() {
                let _ = writeln!(text, "  {:<14}  {:<12}  [{}]", "", "", check.clauses.join("; "));
            }
            for finding in &check.findings {
                let _ = writeln!(text, "    {finding}");
            }
        }
        for deviation in &self.deviations {
            let _ = writeln!(
                text,
                "\n  deviation (entry {}, {}): {}\n    approved by {}",
                deviation.entry,
                deviation.kind_in_words(),
                deviation.reason,
                match deviation.approved_by.is_empty() {
                    true => "nobody".to_owned(),
                    false => deviation.approved_by.join(", "),
                }
            );
        }
        let _ = writeln!(text, "\n{}", self.conclusion());
        text
    }
}

/// Hexadecimal digits in groups of four, as they are read aloud.
pub(crate) fn grouped(hex: &str) -> String {
    let groups: Vec<_> = hex.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// Checks while they are made.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    compared: std::collections::BTreeMap<Subject, String>,
    skipped: std::collections::BTreeMap<Subject, Status>,
    findings: Vec<(Subject, Finding)>,
}

impl Checks {
    /// What a check compared.
    pub(crate) fn compared(&mut self, subject: Subject, what: impl Into<String>) {
        self.compared.insert(subject, what.into());
    }

    /// The plan has no such thing.
    pub(crate) fn not_applicable(&mut self, subject: Subject, why: impl Into<String>) {
        self.skipped.insert(subject, Status::NotApplicable);
        self.compared(subject, why);
    }

    /// What it needs is not there.
    pub(crate) fn not_looked_at(&mut self, subject: Subject, why: impl Into<String>) {
        self.skipped.insert(subject, Status::NotLookedAt);
        self.compared(subject, why);
    }

    /// An entry is wrong.
    pub(crate) fn entry(
        &mut self,
        subject: Subject,
        entry: u64,
        rule: &'static str,
        what: impl Into<String>,
    ) {
        self.findings.push((subject, Finding::of_entry(entry, rule, what)));
    }

    /// Something else is wrong.
    pub(crate) fn wrong(&mut self, subject: Subject, rule: &'static str, what: impl Into<String>) {
        self.findings.push((subject, Finding::of_log(rule, what)));
    }

    /// What the audit of the log has found.
    pub(crate) fn found(&mut self, subject: Subject, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings.into_iter().map(|finding| (subject, finding)));
    }

    /// The first thing that is wrong.
    pub(crate) fn first(&self) -> Option<&Finding> {
        self.findings.first().map(|(_, finding)| finding)
    }

    /// Whether something of that name is wrong.
    pub(crate) fn has(&self, rule: &str) -> bool {
        self.findings.iter().any(|(_, finding)| finding.rule == rule)
    }

    /// The checks, in order.
    pub(crate) fn conclude(mut self) -> Vec<Check> {
        let mut checks = Vec::new();
        for subject in Subject::ALL {
            let findings: Vec<_> =
                self.findings.iter().filter(|(of, _)| *of == subject).map(|(_, it)| it.clone()).collect();
            let status = match (findings.is_empty(), self.skipped.get(&subject)) {
                (false, _) => Status::Failed,
                (true, Some(skipped)) => *skipped,
                (true, None) if self.compared.contains_key(&subject) => Status::Ok,
                // Nothing says that it was ever looked at.
                (true, None) => Status::NotLookedAt,
            };
            let compared = self.compared.remove(&subject).unwrap_or_else(|| "nothing".to_owned());
            checks.push(Check { check: subject, status, compared, clauses: clauses::of(subject), findings });
        }
        checks
    }
}

/// What a sound transcript of this plan and mode comes to.
pub(crate) fn sound(plan: &Plan) -> Outcome {
    match (plan.mode(), plan.terms()) {
        (Mode::Rehearsal, _) => Outcome::Rehearsal,
        (Mode::Production, None) => Outcome::Development,
        (Mode::Production, Some(_)) => Outcome::Accepted,
    }
}
