//! What a log asks of a witness, and how a witness decides (C2SP tlog-witness, `add-checkpoint`).
//!
//! ```text
//! old 3
//! BJ19zbVr…          the consistency proof from 3, a hash a line
//!
//! ca.example/audit/1
//! 7
//! kTlgHMHK…
//!
//! — ca.example/audit/1 rUBIrC4e…
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{KeyName, Note, NoteError, VerifierKey};
use crate::tree::{Hash, verify_consistency};

/// The most bytes of a request: a proof and a note.
pub const MAX_REQUEST: usize = 72 * 1024;

/// A tree of 2^63 entries has proofs no longer than this.
const MAX_PROOF: usize = 63;

/// A request, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness has seen last, as far as the log knows.
    pub old: u64,
    /// The proof that the new checkpoint is consistent with that one.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, with all of its lines.
    pub checkpoint: Arc<str>,
}

/// What a witness has seen last of a log. Of a log that it has never seen, an empty tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The size.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

impl Default for Seen {
    fn default() -> Self {
        Self { size: 0, root: Hash::empty_root() }
    }
}

impl AddCheckpoint {
    /// The origin that the request speaks of, of which nothing is known yet.
    ///
    /// # Errors
    /// It carries no checkpoint.
    pub fn origin(&self) -> Result<KeyName, CheckpointError> {
        Ok(Checkpoint::parse(Note::parse(&self.checkpoint)?.unverified_text())?.origin)
    }

    /// Decides as a witness must: whether the checkpoint is `key`'s, and consistent with what was `seen` last. What is
    /// returned is to be kept durably, in place of `seen`, before anything is cosigned.
    ///
    /// # Errors
    /// See [`AddRefusal`].
    pub fn judge(&self, key: &VerifierKey, seen: &Seen) -> Result<Checkpoint, AddRefusal> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key).map_err(|error| match error {
            CheckpointError::Note(NoteError::NotSignedBy(_) | NoteError::BadSignature(_)) => {
                AddRefusal::NotSigned(error.to_string())
            }
            CheckpointError::OtherLog { .. } => AddRefusal::UnknownLog(key.name().to_string()),
            other => AddRefusal::Malformed(other.to_string()),
        })?;
        if self.old > checkpoint.size {
            return Err(AddRefusal::Malformed(format!(
                "old is {} and the size {}",
                self.old, checkpoint.size
            )));
        }
        if self.old != seen.size {
            return Err(AddRefusal::Conflict { size: seen.size });
        }
        if checkpoint.size == 0 && checkpoint.root != Hash::empty_root() {
            return Err(AddRefusal::Inconsistent("an empty tree has another root".into()));
        }
        verify_consistency(seen.size, checkpoint.size, &seen.root, &checkpoint.root, &self.proof)
            .map_err(|error| AddRefusal::Inconsistent(error.to_string()))?;
        Ok(checkpoint)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = AddRefusal;

    fn from_str(text: &str) -> Result<Self, AddRefusal> {
        let malformed = |what: &str| AddRefusal::Malformed(what.to_owned());
        if text.len() > MAX_REQUEST {
            return Err(malformed("the request is too long"));
        }
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or_else(|| malformed("there is no checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(|digits| digits.parse::<u64>().ok().filter(|old| old.to_string() == digits))
            .ok_or_else(|| malformed("the first line is not `old` and a size"))?;
        let proof = lines
            .map(|line| line.parse().map_err(|_| malformed("a hash is not 32 bytes in base64")))
            .collect::<Result<Vec<Hash>, _>>()?;
        if proof.len() > MAX_PROOF {
            return Err(malformed("the proof has more than 63 hashes"));
        }
        Ok(Self { old, proof, checkpoint: checkpoint.into() })
    }
}

/// Why a witness does not cosign. Each has its HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddRefusal {
    /// No request.
    #[error("the request is malformed: {0}")]
    Malformed(String),
    /// Not signed by the log's key.
    #[error("{0}")]
    NotSigned(String),
    /// A log that the witness does not know.
    #[error("the log `{0}` is not known here")]
    UnknownLog(String),
    /// The log believes that the witness has seen another size. It tries again from this one; if this one is more than
    /// it has, the log went back.
    #[error("the last size that was seen here is {size}")]
    Conflict {
        /// What the witness has seen.
        size: u64,
    },
    /// The log has forked, or lies about its past.
    #[error("it is not consistent with what was seen before: {0}")]
    Inconsistent(String),
}

impl AddRefusal {
    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent(_) => 422,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// audit-log.md §1.3 and §1.7.
    const KEY: &str = "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const REQUEST: &str = "old 3\nBJ19zbVrz+vTEzBMmDnxlqPUtu873AsIKY+TrIGR8Kg=\nJ0ebarMh0u5HdFL2i6UndI6GPK/o+9HfK/idFXDRtpc=\nLyelCCwdQq+kiKw1Cp/EOQwIT1T3Hs3/hZ6Y24QptHk=\n5CnFtcyqlSPDcpfxhGdm+QMTfoIZXFGZ5r5XEw0QBsg=\n\nca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n";

    fn seen(size: u64, root: &str) -> Seen {
        Seen { size, root: root.parse().unwrap() }
    }

    fn at_3() -> Seen {
        seen(3, "pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs=")
    }

    fn at_7() -> Seen {
        seen(7, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=")
    }

    fn judge(request: &str, seen: &Seen) -> Result<u64, u16> {
        let judged =
            request.parse::<AddCheckpoint>().and_then(|request| request.judge(&KEY.parse().unwrap(), seen));
        judged.map(|checkpoint| checkpoint.size).map_err(|refusal| refusal.status())
    }

    fn without_proof(old: u64) -> String {
        let note = REQUEST.split_once("\n\n").unwrap().1;
        format!("old {old}\n\n{note}")
    }

    #[test]
    fn the_reference_request_is_accepted_and_written_as_it_was_read() {
        assert_eq!(judge(REQUEST, &at_3()), Ok(7));
        let request: AddCheckpoint = REQUEST.parse().unwrap();
        assert_eq!(request.to_string(), REQUEST);
        assert_eq!(request.origin().unwrap().as_str(), "ca.example/audit/1");
        // The first checkpoint of a log, and the same one again.
        assert_eq!(judge(&without_proof(0), &Seen::default()), Ok(7));
        assert_eq!(judge(&without_proof(7), &at_7()), Ok(7));
    }

    #[test]
    fn each_refusal_has_the_status_of_the_specification() {
        let other_root = seen(3, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=");
        let forked = seen(7, "pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs=");
        let table = [
            (400, "", Seen::default()),
            (400, "old 3\n", at_3()),
            (400, &REQUEST.replace("old 3", "old 03"), at_3()),
            (400, &REQUEST.replace("old 3", "old -3"), at_3()),
            (400, &REQUEST.replace("old 3", "old 8"), at_3()),
            (400, &REQUEST.replace("BJ19", "!J19"), at_3()),
            (400, &REQUEST.replace("\u{2014} ca", "- ca"), at_3()),
            (403, &REQUEST.replace("rUBIrC4e", "rUBIrC4f"), at_3()),
            (403, &REQUEST.replace("rUBIrC4e", "rUBIrS4e"), at_3()),
            (403, &REQUEST.replace("\n7\n", "\n8\n"), at_3()),
            (403, &REQUEST.replace("\n7\n", "\n07\n"), at_3()),
            (409, REQUEST, Seen::default()),
            (409, REQUEST, at_7()),
            (409, &without_proof(0), at_3()),
            (422, &REQUEST.replace("BJ19", "CJ19"), at_3()),
            (422, &without_proof(3), at_3()),
            (422, REQUEST, other_root),
            (422, &without_proof(7), forked),
            (422, &REQUEST.replace("old 3", "old 0"), Seen::default()),
        ];
        for (status, request, seen) in table {
            assert_eq!(judge(request, &seen), Err(status), "{request}");
        }
        let long = REQUEST.replace("\nJ0eb", &"\nJ0ebarMh0u5HdFL2i6UndI6GPK/o+9HfK/idFXDRtpc=".repeat(70));
        assert_eq!(judge(&long, &at_3()), Err(400));
        assert_eq!(judge(&"x".repeat(MAX_REQUEST + 1), &at_3()), Err(400));
    }

    #[test]
    fn a_key_that_signs_for_another_log_is_not_this_logs() {
        let request: AddCheckpoint = REQUEST.parse().unwrap();
        let key: VerifierKey = KEY.parse().unwrap();
        let other = VerifierKey::new("ca.example/audit/2".parse().unwrap(), key.key().clone()).unwrap();
        assert_eq!(request.judge(&other, &at_3()).unwrap_err().status(), 403);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(old [0-9]{1,20}\n)?(\\PC|\n){0,200}") {
            let _ = judge(&text, &at_3());
        }

        #[test]
        fn a_changed_byte_is_never_accepted(at in 0..REQUEST.len(), to in any::<u8>()) {
            let mut bytes = REQUEST.as_bytes().to_vec();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(judge(&text, &at_3()).is_err());
            }
        }
    }
}
