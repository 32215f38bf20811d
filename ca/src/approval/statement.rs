//! What an approval says. It is signed as text, so that whoever signs can read it with any pager.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::leaf::Digest;

use super::{ApprovalError, NAMESPACE, Roster};

/// What can be approved. Names are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A ceremony may run: the object is its plan.
    CeremonyPlan,
    /// A ceremony did what its plan says: the object is the head of its transcript.
    CeremonyResult,
    /// A ceremony may leave its plan or its rules: the object is the deviation's text.
    CeremonyDeviation,
    /// Something that was frozen may sign again: the object is what the freeze says.
    Unfreeze,
    /// A compromised authority is replaced: the object is the plan of its recovery.
    Recover,
    /// A rotation goes on: the object is its plan.
    Rotation,
    /// The roots of a domain change: the object is the bundle statement.
    Bundle,
    /// The bundle of a domain may hold these roots: the object is the statement about them
    /// ([`crate::roots_statement::RootsStatement`]).
    BundleRoots,
    /// The roster changes: the object is the new one, and the old one approves.
    Roster,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// What persons sign: JSON with these members in this order, indented by two spaces, and a line feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    format: String,
    /// What is approved.
    pub action: Action,
    /// SHA-256 of what it is about.
    pub object: Digest,
    /// [`Roster::digest`] of those who may approve.
    pub roster: Digest,
    /// The installation or ceremony: the origin of the log that the approval will stand in.
    pub origin: String,
    /// Who asks. A person of the roster who asks does not approve.
    pub requester: String,
    /// Until when it may be carried out.
    pub expires: Timestamp,
    /// 16 random bytes, hexadecimal: what is carried out once is not carried out twice.
    pub nonce: String,
}

/// What must be approved, as the one who will carry it out sees it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The action.
    pub action: Action,
    /// SHA-256 of its object.
    pub object: Digest,
    /// The origin of the log that the approval will stand in.
    pub origin: &'a str,
}

/// An approval that was verified. Only [`Roster::approve`] makes one.
#[derive(Clone, Debug)]
pub struct Approved {
    statement: Statement,
    text: String,
    signatures: Vec<String>,
    who: BTreeSet<String>,
}

impl Statement {
    /// A statement for `roster` to sign.
    pub fn new(
        wanted: Wanted<'_>,
        roster: &Roster,
        requester: String,
        expires: Timestamp,
        nonce: [u8; 16],
    ) -> Self {
        Self {
            format: NAMESPACE.to_owned(),
            action: wanted.action,
            object: wanted.object,
            roster: roster.digest(),
            origin: wanted.origin.to_owned(),
            requester,
            expires,
            nonce: hex::encode(nonce),
        }
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, ApprovalError> {
        let wrong = |what: String| ApprovalError::Statement(what);
        let statement: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if statement.format != NAMESPACE {
            return Err(wrong(format!("its format is `{}` and not {NAMESPACE}", statement.format)));
        }
        statement.nonce_bytes()?;
        Ok(statement)
    }

    /// The nonce's bytes.
    ///
    /// # Errors
    /// It is not 16 bytes in hexadecimal.
    pub fn nonce_bytes(&self) -> Result<[u8; 16], ApprovalError> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(&self.nonce, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(ApprovalError::Statement("its nonce is not 16 bytes in hexadecimal".into())),
        }
    }

    /// The text that is signed.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, ApprovalError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| ApprovalError::Statement(error.to_string()))?;
        Ok(text + "\n")
    }
}

impl Roster {
    /// Verifies that enough persons have signed the statement `text`, that it is about what is wanted, and that it is
    /// still good at `now`. That its nonce was not carried out before is for the caller to see to.
    ///
    /// # Errors
    /// See [`ApprovalError`]: each names what was signed and what is wanted.
    pub fn approve(
        &self,
        wanted: Wanted<'_>,
        text: &str,
        signatures: &[String],
        now: Timestamp,
    ) -> Result<Approved, ApprovalError> {
        let statement = Statement::parse(text)?;
        let wrong = |what: String| Err(ApprovalError::Statement(what));
        if statement.action != wanted.action {
            return wrong(format!("it approves `{}`, and `{}` is wanted", statement.action, wanted.action));
        }
        if statement.object != wanted.object {
            return wrong(format!("it is about {}, and this is {}", statement.object, wanted.object));
        }
        if statement.origin != wanted.origin {
            return wrong(format!("it is for {}, and this is {}", statement.origin, wanted.origin));
        }
        if statement.roster != self.digest() {
            return wrong(format!(
                "it names the roster {}, and this one is {}",
                statement.roster,
                self.digest()
            ));
        }
        if now > statement.expires {
            return wrong(format!("it was good until {}; have a new one signed", statement.expires));
        }
        let who = self.signers(text.as_bytes(), signatures)?;
        if who.contains(&statement.requester) {
            return Err(ApprovalError::Requester(statement.requester));
        }
        self.are_enough(&who)?;
        Ok(Approved { statement, text: text.to_owned(), signatures: signatures.to_vec(), who })
    }
}

impl Approved {
    /// What was approved.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The text that was signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, armoured.
    pub fn signatures(&self) -> &[String] {
        &self.signatures
    }

    /// Who approved.
    pub fn who(&self) -> &BTreeSet<String> {
        &self.who
    }

    /// The entry that keeps it.
    pub fn entry(&self) -> undercroft_log::leaf::Approval {
        undercroft_log::leaf::Approval {
            statement: self.text.clone(),
            signatures: self.signatures.clone(),
            by: self.who.iter().cloned().collect(),
            about: None,
        }
    }

    /// The same, with the text that it is about.
    pub fn entry_about(&self, text: &str) -> undercroft_log::leaf::Approval {
        undercroft_log::leaf::Approval { about: Some(text.to_owned()), ..self.entry() }
    }
}
