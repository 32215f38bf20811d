//! Checkpoints (C2SP tlog-checkpoint): a log's signed word for its size and root.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::note::{KeyName, Note, NoteError, VerifierKey};
use crate::tree::Hash;

/// What a checkpoint says: the log, its size and its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's origin, which is also its key's name.
    pub origin: KeyName,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed: origin, size and root, a line each. We write no extension lines, since ML-DSA
    /// cosignatures do not cover them.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Parses the text of a note. Extension lines are allowed and ignored.
    ///
    /// # Errors
    /// It is no checkpoint.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Lines);
        }
        let canonical = size.parse::<u64>().ok().filter(|value| value.to_string() == size);
        Ok(Self {
            origin: origin.parse().map_err(|_| CheckpointError::Origin(origin.to_owned()))?,
            size: canonical.ok_or_else(|| CheckpointError::Size(size.to_owned()))?,
            root: root.parse().map_err(|_| CheckpointError::Root)?,
        })
    }

    /// Verifies a signed checkpoint of the log whose key is `key`.
    ///
    /// # Errors
    /// It is not signed by the key, or is a checkpoint of another log.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(Note::parse(note)?.verify(key)?)?;
        if checkpoint.origin != *key.name() {
            return Err(CheckpointError::OtherLog {
                expected: key.name().to_string(),
                found: checkpoint.origin.to_string(),
            });
        }
        Ok(checkpoint)
    }
}

/// A checkpoint and its note, the log's own line first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Arc<str>,
}

impl SignedCheckpoint {
    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note, as it is served and stored.
    pub fn note(&self) -> &Arc<str> {
        &self.note
    }

    /// The same checkpoint with more signature lines, each with its final newline.
    pub fn with_lines(&self, lines: &[String]) -> Self {
        Self { checkpoint: self.checkpoint.clone(), note: format!("{}{}", self.note, lines.concat()).into() }
    }

    /// Signs a checkpoint, and verifies the signature: the one time that it is verified on our side.
    ///
    /// # Errors
    /// Those of the signer, or that its signature does not verify under its own key.
    pub async fn sign(checkpoint: Checkpoint, signer: &dyn CheckpointSigner) -> Result<Self, SigningError> {
        let text = checkpoint.text();
        let key = signer.key();
        let signature = signer.sign(text.as_bytes()).await?;
        let second = signer.second_line(&text).await?.unwrap_or_default();
        let note = format!("{text}\n{}{second}", key.line(&signature));
        match Checkpoint::open(&note, key) {
            Ok(_) => Ok(Self { checkpoint, note: note.into() }),
            Err(error) => Err(SigningError(format!("the log key signed wrongly: {error}"))),
        }
    }
}

/// Signs checkpoints with a log key in a token. The joint between this crate and key managers.
#[async_trait]
pub trait CheckpointSigner: Send + Sync {
    /// The key that verifies the signatures; its name is the log's origin.
    fn key(&self) -> &VerifierKey;

    /// A raw Ed25519 signature over `message`.
    ///
    /// # Errors
    /// The token is not available, or refuses.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;

    /// The line of a second key under the text of a checkpoint, if the log has one ([`SecondKey`]).
    ///
    /// A log that has one shows no checkpoint without it, or nobody could tell a thief's from ours.
    ///
    /// [`SecondKey`]: crate::second_key::SecondKey
    ///
    /// # Errors
    /// Its token is not available, or refuses.
    async fn second_line(&self, _text: &str) -> Result<Option<String>, SigningError> {
        Ok(None)
    }
}

/// Why a checkpoint could not be signed now. The entries are durable all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningError(pub String);

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SigningError {}

/// Why a text is no checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Fewer than three lines, or empty ones.
    #[error("a checkpoint has at least three lines, none of them empty: origin, size, root")]
    Lines,
    /// The origin is no key name.
    #[error("`{0}` cannot be the origin of a log")]
    Origin(String),
    /// The size is no decimal number without leading zeros.
    #[error("`{0}` is no size of a log")]
    Size(String),
    /// The root is not 32 bytes in base64.
    #[error("the root is not 32 bytes in base64")]
    Root,
    /// Not enough of the witnesses that a policy names have cosigned it.
    #[error("too few witnesses have cosigned the checkpoint: {0} of those that the policy knows")]
    TooFewWitnesses(usize),
    /// Signed by the right key, for another log.
    #[error("it is a checkpoint of `{found}` and not of `{expected}`")]
    OtherLog {
        /// The log that was wanted.
        expected: String,
        /// The log that it is of.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// audit-log.md §1.3, log seed 00..1f.
    pub(crate) const KEY: &str = "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const SIZE_7: &str = "ca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAKWO139Xp03BsJF9QP51hAdVSHg+erDnIp0EpEwk82iMUbYteqih+WsRG2Vr+Yv+95qbSiuUlTMs7byTY+8Z4Ag==\n";
    const SIZE_3: &str = "ca.example/audit/1\n3\npkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs=\n\n\u{2014} ca.example/audit/1 rUBIrCeeUBojr17IFzmJUe8xW/ck+79ZTNW3jbrA7QDq/RD9kzB1+3ujhDAn1cX+eTAxXYyjdVNLXPCwvu3+kGgM0w8=\n";
    /// C2SP issue #99: the name holds the SHA-256 of the key, and the body has size 10.
    const SIGSUM_KEY_SEED: [u8; 32] = {
        let mut seed = [0; 32];
        seed[0] = 0x11;
        seed
    };
    const SIGSUM: &str = "sigsum.org/v1/tree/e796172b92befd62d9dc67e41c2f5bc9d3100a3023b20b1ca40288dd1c679e69\n10\nHA5HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} sigsum.org/v1/tree/e796172b92befd62d9dc67e41c2f5bc9d3100a3023b20b1ca40288dd1c679e69 gJ2ho0n8F8olcerUF1FFdv235A/5as/coWrpLrtE7ovMeP5whgwouYExowG/lTznxu6OUGjjt5yJQ6bXtTcf718MqAQ=\n";

    struct Signer(VerifierKey, aws_lc_rs::signature::Ed25519KeyPair);

    impl Signer {
        fn new(name: &str, seed: &[u8; 32]) -> Self {
            use aws_lc_rs::signature::KeyPair as _;
            let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
            let key = undercroft_keys::PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
            Self(VerifierKey::new(name.parse().unwrap(), key).unwrap(), pair)
        }
    }

    #[async_trait]
    impl CheckpointSigner for Signer {
        fn key(&self) -> &VerifierKey {
            &self.0
        }

        async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
            Ok(self.1.sign(message).as_ref().to_vec())
        }
    }

    fn key() -> VerifierKey {
        KEY.parse().unwrap()
    }

    #[test]
    fn foreign_checkpoints_open() {
        for (note, size, root) in [
            (SIZE_7, 7, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0="),
            (SIZE_3, 3, "pkvybgkSj2/i/m+LLYyAHhZrV8BHp82bK4Ceepai8cs="),
        ] {
            let checkpoint = Checkpoint::open(note, &key()).unwrap();
            assert_eq!((checkpoint.size, checkpoint.root.to_string().as_str()), (size, root));
        }
    }

    #[test]
    fn our_signatures_are_those_of_the_vectors() {
        let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
        for (name, seed, note) in
            [("ca.example/audit/1", seed, SIZE_3), (SIGSUM.lines().next().unwrap(), SIGSUM_KEY_SEED, SIGSUM)]
        {
            let checkpoint = Checkpoint::parse(Note::parse(note).unwrap().unverified_text()).unwrap();
            let signer = Signer::new(name, &seed);
            let signed = futures::executor::block_on(SignedCheckpoint::sign(checkpoint, &signer)).unwrap();
            assert_eq!(&**signed.note(), note);
        }
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        let root = "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=";
        let parse = |text: String| Checkpoint::parse(&text).unwrap_err();
        assert_eq!(parse("log\n7\n".into()), CheckpointError::Lines);
        assert_eq!(parse(format!("log\n7\n{root}")), CheckpointError::Lines);
        assert_eq!(parse(format!("log\n7\n{root}\n\n")), CheckpointError::Lines);
        assert_eq!(parse(format!("a b\n7\n{root}\n")), CheckpointError::Origin("a b".into()));
        for size in ["07", "-1", "+7", "7 ", "", "18446744073709551616"] {
            assert_eq!(parse(format!("log\n{size}\n{root}\n")), CheckpointError::Size(size.into()), "{size}");
        }
        for root in ["", "AAAA", "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF1="] {
            let error = parse(format!("log\n7\n{root}\nx\n"));
            assert!(matches!(error, CheckpointError::Root | CheckpointError::Lines), "{root}: {error}");
        }
        assert_eq!(Checkpoint::parse(&format!("log\n7\n{root}\nextension\n")).unwrap().size, 7);
    }

    #[test]
    fn a_key_that_signs_for_two_logs_does_not_mix_them_up() {
        let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
        let signer = Signer::new("ca.example/audit/1", &seed);
        let other =
            Checkpoint { origin: "ca.example/audit/2".parse().unwrap(), size: 0, root: Hash::empty_root() };
        let refused = futures::executor::block_on(SignedCheckpoint::sign(other, &signer)).unwrap_err();
        assert!(refused.to_string().contains("`ca.example/audit/2`"), "{refused}");
    }
}
