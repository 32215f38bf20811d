//! Why a file from across the air gap is refused.

use jiff::Timestamp;
use undercroft_log::leaf::Digest;

use super::MAX_BYTES;

/// A refusal. Its name ([`Refusal::name`]) stands in front of its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than any.
    #[error(
        "too-large: the file, or its signed text, has {0} bytes; a file has {MAX_BYTES} at most, and its signed text 65536"
    )]
    TooLarge(usize),
    /// Another format, or another version of it.
    #[error(
        "unknown-version: the file begins with `{found}` and not with `{expected}`; this program reads no other"
    )]
    UnknownVersion {
        /// Its first line.
        found: String,
        /// The line that was wanted.
        expected: &'static str,
    },
    /// A member of the terms that this version does not have.
    #[error("unknown-member: {0}; whoever made the file has another version of this program")]
    UnknownMember(String),
    /// No such file.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It ends early.
    #[error("truncated: the file ends before it is whole; copy it again")]
    Truncated,
    /// Signed by another key.
    #[error(
        "not-signed: the key of {0} that was given has not signed the file; compare the keys of both sides"
    )]
    NotSigned(String),
    /// Something is not what was signed.
    #[error("altered: {0} is not what was signed; somebody, or a bad stick, has changed the file")]
    Altered(String),
    /// Too late.
    #[error("expired: the file was good until {expires}, and it is {now}; have a new one made")]
    Expired {
        /// The time.
        now: Timestamp,
        /// When it ended.
        expires: Timestamp,
    },
    /// Made in the future.
    #[error(
        "clock-before-created: the file was made at {created}, and this machine says it is {now}; set the clock that is wrong"
    )]
    ClockBeforeCreated {
        /// The time.
        now: Timestamp,
        /// When the file says that it was made.
        created: Timestamp,
    },
    /// Another installation's, or another ceremony's.
    #[error("other-origin: the file is of {found}, and this is {expected}")]
    OtherOrigin {
        /// What it names.
        found: String,
        /// What was wanted.
        expected: String,
    },
    /// Made under another policy.
    #[error(
        "other-policy: the file was made under the policy {found}, and the policy here is {expected}; both sides must have reviewed the same one"
    )]
    OtherPolicy {
        /// What it names.
        found: Digest,
        /// What was wanted.
        expected: Digest,
    },
    /// Made for another plan.
    #[error("other-plan: the file is for the plan {found}, and this one is {expected}")]
    OtherPlan {
        /// What it names.
        found: Digest,
        /// What was wanted.
        expected: Digest,
    },
    /// Used already.
    #[error("replayed: {0}; a file is used once")]
    Replayed(String),
    /// A response to something else.
    #[error("other-request: {0}")]
    OtherRequest(String),
    /// Signed by a root that nobody here knows.
    #[error("other-root: {0}")]
    OtherRoot(String),
    /// Made in a rehearsal.
    #[error("rehearsal: {0} is a rehearsal, and nothing that it made may be used; run the ceremony")]
    Rehearsal(String),
}

impl Refusal {
    /// The name of the rule: it never changes its meaning.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too-large",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::UnknownMember(_) => "unknown-member",
            Self::Malformed(_) => "malformed",
            Self::Truncated => "truncated",
            Self::NotSigned(_) => "not-signed",
            Self::Altered(_) => "altered",
            Self::Expired { .. } => "expired",
            Self::ClockBeforeCreated { .. } => "clock-before-created",
            Self::OtherOrigin { .. } => "other-origin",
            Self::OtherPolicy { .. } => "other-policy",
            Self::OtherPlan { .. } => "other-plan",
            Self::Replayed(_) => "replayed",
            Self::OtherRequest(_) => "other-request",
            Self::OtherRoot(_) => "other-root",
            Self::Rehearsal(_) => "rehearsal",
        }
    }
}
