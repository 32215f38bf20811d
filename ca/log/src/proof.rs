//! `.tlog-proof` files (C2SP tlog-proof): that one entry stands in a log, for anyone and offline.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::VerifierKey;
use crate::tree::{Hash, ProofError, leaf_hash, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most bytes of a proof that are read: 64 hashes and a note.
const MAX_PROOF: usize = 72 * 1024;

/// A proof, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// The index of the entry.
    pub index: u64,
    /// The inclusion proof, leaf to root.
    pub path: Vec<Hash>,
    /// The signed checkpoint, with all of its lines.
    pub checkpoint: Arc<str>,
}

impl TlogProof {
    /// Verifies that `entry` stands in the log whose key is `key`, and gives the checkpoint that says so.
    ///
    /// # Errors
    /// The checkpoint is not the log's, or the entry is not where the proof says.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        verify_inclusion(self.index, checkpoint.size, &leaf_hash(entry), &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nindex {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        if text.len() > MAX_PROOF {
            return Err(TlogProofError::TooLong(text.len()));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(TlogProofError::Malformed("no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(TlogProofError::Malformed("the first line is not c2sp.org/tlog-proof@v1"));
        }
        // Extra data is not covered by anything; we skip it as the specification allows.
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Base64::decode_vec(extra)
                .map_err(|_| TlogProofError::Malformed("the extra line is not base64"))?;
            lines.next();
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(|digits| digits.parse::<u64>().ok().filter(|index| index.to_string() == digits))
            .ok_or(TlogProofError::Malformed("no index line"))?;
        let path = lines
            .map(|line| {
                line.parse().map_err(|_| TlogProofError::Malformed("a hash is not 32 bytes in base64"))
            })
            .collect::<Result<Vec<Hash>, _>>()?;
        if path.len() > 63 {
            return Err(TlogProofError::Malformed("more than 63 hashes"));
        }
        Ok(Self { index, path, checkpoint: checkpoint.into() })
    }
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// More bytes than a proof can have.
    #[error("the proof has {0} bytes, more than {MAX_PROOF}")]
    TooLong(usize),
    /// Not a `.tlog-proof` file.
    #[error("the file is no tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it.
    #[error("the checkpoint in the proof: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path in it.
    #[error("the entry does not stand where the proof says: {0}")]
    Inclusion(#[from] ProofError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// audit-log.md §1.8.
    const PROOF: &str = "c2sp.org/tlog-proof@v1\nindex 4\nUUFYUnUVBkx7vTW0TJ8Rrdz8OLQ5VU/Juw2LfGYcPo8=\nDP2ldv9LKeozw6/a7tG9Y362VLKKBDAvyrX9fbB4Acw=\nJWueiCXl03CkrgBdCQHqKRl34pJ/XPjj5yZg3QlRnts=\n\nca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAKWO139Xp03BsJF9QP51hAdVSHg+erDnIp0EpEwk82iMUbYteqih+WsRG2Vr+Yv+95qbSiuUlTMs7byTY+8Z4Ag==\n";

    fn key() -> VerifierKey {
        "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4".parse().unwrap()
    }

    fn verify(text: &str, entry: &[u8]) -> Result<u64, TlogProofError> {
        text.parse::<TlogProof>()?.verify(entry, &key()).map(|checkpoint| checkpoint.size)
    }

    #[test]
    fn the_reference_proof_verifies_and_is_written_as_it_was_read() {
        assert_eq!(verify(PROOF, b"entry-4"), Ok(7));
        assert_eq!(PROOF.parse::<TlogProof>().unwrap().to_string(), PROOF);
        let with_extra = PROOF.replace("\nindex", "\nextra AAAA\nindex");
        assert_eq!(verify(&with_extra, b"entry-4"), Ok(7));
    }

    #[test]
    fn every_change_is_refused() {
        assert!(matches!(verify(PROOF, b"entry-5"), Err(TlogProofError::Inclusion(ProofError::WrongRoot))));
        for (from, to) in [
            ("index 4", "index 5"),
            ("index 4", "index 7"),
            ("UUFY", "UUFZ"),
            ("UUFYUnUVBkx7vTW0TJ8Rrdz8OLQ5VU/Juw2LfGYcPo8=\n", ""),
            ("\n7\n", "\n8\n"),
            ("kTlg", "kTlh"),
            ("audit/1\n7", "audit/2\n7"),
            ("rUBIrC4e", "rUBIrC4f"),
            ("rUBIrC4e", "rUBIrS4e"),
        ] {
            assert!(verify(&PROOF.replacen(from, to, 1), b"entry-4").is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn malformed_proofs_are_refused() {
        for (from, to) in [
            ("@v1", "@v2"),
            ("index 4", "index 04"),
            ("index 4", "index -4"),
            ("index 4\n", ""),
            ("UUFY", "!UFY"),
            ("\nindex", "\nextra !\nindex"),
            ("\n\nca", "\nca"),
        ] {
            let refused = verify(&PROOF.replacen(from, to, 1), b"entry-4");
            assert!(matches!(refused, Err(TlogProofError::Malformed(_))), "{from} -> {to}: {refused:?}");
        }
        let long = PROOF.replace("\nDP2l", &"\nDP2ldv9LKeozw6/a7tG9Y362VLKKBDAvyrX9fbB4Acw=".repeat(70));
        assert!(verify(&long, b"entry-4").is_err());
        assert_eq!(verify(&"a".repeat(80_000), b""), Err(TlogProofError::TooLong(80_000)));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(\\PC|\n){0,300}") {
            let _ = verify(&text, b"entry-4");
            let _ = verify(&format!("{HEADER}\nindex 4\n{text}"), b"entry-4");
        }
    }
}
