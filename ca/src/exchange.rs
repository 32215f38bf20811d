//! Files that cross the air gap: requests to a ceremony, and its responses (`docs/ceremony.md`, "Across the air gap").
//!
//! A file is a signed note whose text, the *terms*, names everything that the file carries by length and SHA-256, whose
//! it is, under which policy and plan, until when; and then the parts themselves. Whoever opens one gives the key that
//! must have signed it and what it must be about, and gets a [`Message`] or a [`Refusal`] that has a name.

mod container;
mod difference;
mod refusal;
mod response;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use undercroft_log::checkpoint::CheckpointSigner;
use undercroft_log::leaf::Digest;
use undercroft_log::note::{KeyName, VerifierKey};

pub use difference::{Change, Difference, State};
pub use refusal::Refusal;
pub use response::{Asked, Response, is_rehearsal, operator};

use crate::csr::Csr;
use crate::time::Lifetime;

/// The most bytes that a file may have.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most parts that a file may have: the terms, which name them all, are a note of 64 KiB at most.
pub const MAX_PARTS: usize = 256;

/// The longest that a file may be good for.
pub const LONGEST: Lifetime = Lifetime::days(90);

/// How much the clocks of two machines may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the installation to the offline machine.
    Request,
    /// Back.
    Response,
}

impl Direction {
    /// The first line of a file.
    pub fn format(self) -> &'static str {
        match self {
            Self::Request => "undercroft-request-v1",
            Self::Response => "undercroft-response-v1",
        }
    }
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A request for a certificate, PEM.
    Csr,
    /// What a device says of the key in it: a custody file.
    Custody,
    /// The signed head of a log: of the control log in a request, of the transcript in a response.
    Checkpoint,
    /// What the next CRLs should say: text, for whoever writes the plan.
    Revocations,
    /// A certificate, PEM.
    Certificate,
    /// A CRL, DER.
    Crl,
    /// A file of the transcript's folder.
    Transcript,
}

impl Kind {
    fn goes(self, direction: Direction) -> bool {
        match self {
            Self::Csr | Self::Custody | Self::Revocations => direction == Direction::Request,
            Self::Certificate | Self::Crl | Self::Transcript => direction == Direction::Response,
            Self::Checkpoint => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The name of a part: a path below a folder, of ASCII letters, digits, `.`, `_`, `-` and `/`, that leads nowhere else on
/// any file system. No component begins with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartName(String);

impl PartName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PartName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let component = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
        match text.len() <= 200 && text.split('/').all(component) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::Malformed(format!(
                "`{}` cannot be the name of a part: a path of letters, digits, `.`, `_` and `-`, no component of which begins with a dot",
                text.chars().take(80).filter(|c| !c.is_control()).collect::<String>()
            ))),
        }
    }
}

impl TryFrom<String> for PartName {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<PartName> for String {
    fn from(name: PartName) -> Self {
        name.0
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: PartName,
    /// What it is.
    pub kind: Kind,
    /// Its bytes: some.
    pub bytes: Vec<u8>,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The origin of the installation's control log.
    pub origin: KeyName,
    /// SHA-256 of the installation's policy.
    pub policy: Digest,
    /// SHA-256 of the plan; a request may be older than it.
    pub plan: Option<Digest>,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// When it was made, in whole seconds.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// In a response: what it answers.
    pub answers: Option<Answers>,
}

/// What a response answers, and who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// SHA-256 of the request's file.
    pub request: Digest,
    /// The origin of the ceremony's transcript, whose key signs the response.
    pub ceremony: KeyName,
}

/// What whoever opens a file wants it to be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The origin of the installation's control log.
    pub origin: &'a KeyName,
    /// SHA-256 of the policy.
    pub policy: Digest,
    /// SHA-256 of the plan, if there is one yet.
    pub plan: Option<Digest>,
    /// The time.
    pub now: Timestamp,
}

/// A request or a response that contradicts itself nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    terms: Terms,
    parts: Vec<Part>,
}

/// A message and SHA-256 of the file that it was read from: what people compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    message: Message,
    digest: Digest,
}

impl Message {
    /// A message. It is a response if its terms say what it answers.
    ///
    /// # Errors
    /// A part goes the other way or has a name that another has, on some file system; there are none, or too many; it
    /// ends before it begins, or is good for longer than [`LONGEST`].
    pub fn new(terms: Terms, parts: Vec<Part>) -> Result<Self, Refusal> {
        let malformed = |what: String| Err(Refusal::Malformed(what));
        let message = Self { terms, parts };
        let direction = message.direction();
        let Terms { created, expires, .. } = message.terms;
        if expires <= created || expires.duration_since(created).unsigned_abs() > LONGEST.0 {
            return malformed(format!(
                "it is good from {created} to {expires}; a file is good for {LONGEST} at most"
            ));
        }
        if message.parts.is_empty() || message.parts.len() > MAX_PARTS {
            let count = message.parts.len();
            return malformed(format!("it has {count} parts; a file has some, and {MAX_PARTS} at most"));
        }
        let mut names = BTreeSet::new();
        for part in &message.parts {
            if !part.kind.goes(direction) {
                return malformed(format!("`{}` is a {}, which goes the other way", part.name, part.kind));
            }
            if part.bytes.is_empty() {
                return malformed(format!("`{}` is empty", part.name));
            }
            // USB sticks have file systems that do not tell cases apart.
            if !names.insert(part.name.as_str().to_ascii_lowercase()) {
                return malformed(format!("`{}` stands twice", part.name));
            }
        }
        Ok(message)
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        if self.terms.answers.is_some() { Direction::Response } else { Direction::Request }
    }

    /// What it is about.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The file: signed by the control log's key or, for a response, by the transcript's.
    ///
    /// # Errors
    /// The key does not sign, or the file would be longer than [`MAX_BYTES`].
    pub async fn seal(&self, signer: &dyn CheckpointSigner) -> Result<String, SealError> {
        let text = container::text(self)?;
        let signature = signer.sign(text.as_bytes()).await.map_err(|error| SealError(error.to_string()))?;
        let file = container::file(&text, &signer.key().line(&signature), &self.parts);
        // Whoever opens it must be able to: a token that signs wrongly is noticed here.
        container::open(file.as_bytes(), self.direction(), signer.key())
            .map_err(|error| SealError(error.to_string()))?;
        Ok(file)
    }

    /// For a request: the ids of the keys that it asks certificates for, and the CSR of each.
    ///
    /// # Errors
    /// A CSR cannot be read, or its signature does not verify.
    pub fn keys(&self) -> Result<BTreeMap<Digest, PartName>, Refusal> {
        let requests = self.parts.iter().filter(|part| part.kind == Kind::Csr);
        requests
            .map(|part| {
                let wrong = |what: String| Refusal::Malformed(format!("`{}`: {what}", part.name));
                let pem = std::str::from_utf8(&part.bytes).map_err(|error| wrong(error.to_string()))?;
                let csr = Csr::from_pem(pem).map_err(|error| wrong(error.to_string()))?;
                Ok((response::key_id(csr.public_key()), part.name.clone()))
            })
            .collect()
    }
}

impl Opened {
    /// Opens a file that `key` must have signed and that must be what is expected.
    ///
    /// # Errors
    /// See [`Refusal`]. That it was answered or imported before, and what a response says, is for the caller to see to.
    pub fn open(
        file: &[u8],
        direction: Direction,
        key: &VerifierKey,
        expected: &Expected<'_>,
    ) -> Result<Self, Refusal> {
        let opened = container::open(file, direction, key)?;
        let terms = opened.message.terms();
        let signs_for = terms.answers.as_ref().map_or(&terms.origin, |answers| &answers.ceremony);
        for (origin, wanted) in [(signs_for, key.name()), (&terms.origin, expected.origin)] {
            if origin != wanted {
                return Err(Refusal::OtherOrigin { found: origin.to_string(), expected: wanted.to_string() });
            }
        }
        if terms.policy != expected.policy {
            return Err(Refusal::OtherPolicy { found: terms.policy, expected: expected.policy });
        }
        if let (Some(found), Some(expected)) = (terms.plan, expected.plan)
            && found != expected
        {
            return Err(Refusal::OtherPlan { found, expected });
        }
        if expected.now + LEEWAY < terms.created {
            return Err(Refusal::ClockBeforeCreated { now: expected.now, created: terms.created });
        }
        if expected.now > terms.expires {
            return Err(Refusal::Expired { now: expected.now, expires: terms.expires });
        }
        Ok(opened)
    }

    /// The policy that a request names which `key` has signed: for who compared it before.
    ///
    /// # Errors
    /// As [`Opened::open`], as far as form and signature go.
    pub fn policy_of(file: &[u8], key: &VerifierKey) -> Result<Digest, Refusal> {
        Ok(container::open(file, Direction::Request, key)?.message.terms.policy)
    }

    /// What it says.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Why a message cannot become a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be made: {0}")]
pub struct SealError(String);

impl From<Refusal> for SealError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.to_string())
    }
}

#[cfg(test)]
mod tests;
