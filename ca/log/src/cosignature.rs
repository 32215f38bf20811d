//! Cosignatures (C2SP tlog-cosignature): a witness's word that, as of a time, a checkpoint is of the largest tree that
//! it has seen of a log, and consistent with all that it saw before.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use undercroft_keys::{MlDsa44Key, PublicKey, SignatureAlgorithm};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{KeyName, Note, NoteError, key_id, line, parse_vkey, write_vkey};

/// The signature type of an Ed25519 cosignature with a time (`cosignature/v1`).
const TYPE_ED25519: u8 = 0x04;

/// The signature type of an ML-DSA-44 cosignature of a subtree.
const TYPE_ML_DSA_44: u8 = 0x06;

/// A witness's key, written as a vkey of type 0x04 or 0x06.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: KeyName,
    id: [u8; 4],
    key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Ed25519(PublicKey),
    MlDsa44(MlDsa44Key),
}

impl WitnessKey {
    /// The key of a witness that cosigns with Ed25519.
    ///
    /// # Errors
    /// The key is of another kind.
    pub fn ed25519(name: KeyName, key: PublicKey) -> Result<Self, NoteError> {
        let bytes = key.ed25519_bytes().ok_or(NoteError::KeyType)?;
        Ok(Self { id: key_id(&name, TYPE_ED25519, &bytes), name, key: Key::Ed25519(key) })
    }

    /// The key of a witness that cosigns with ML-DSA-44.
    pub fn ml_dsa_44(name: KeyName, key: MlDsa44Key) -> Self {
        Self { id: key_id(&name, TYPE_ML_DSA_44, key.as_bytes()), name, key: Key::MlDsa44(key) }
    }

    /// Whether another name stands for the same key: a witness counts once, whatever it is called.
    pub fn has_the_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The witness's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// What the witness signs when it cosigns a checkpoint at `time`. `text` is the whole text of the checkpoint's
    /// note, with extension lines; Ed25519 covers those and ML-DSA-44 does not.
    ///
    /// # Errors
    /// The text is no checkpoint, or has more bytes in a name than the format holds.
    pub fn message(&self, text: &str, time: Timestamp) -> Result<Vec<u8>, CheckpointError> {
        let seconds = time.as_second();
        match self.key {
            Key::Ed25519(_) => Ok(format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes()),
            Key::MlDsa44(_) => {
                let checkpoint = Checkpoint::parse(text)?;
                let mut message = b"subtree/v1\n\0".to_vec();
                push_name(&mut message, &self.name);
                message.extend(seconds.to_be_bytes());
                push_name(&mut message, &checkpoint.origin);
                message.extend(0u64.to_be_bytes());
                message.extend(checkpoint.size.to_be_bytes());
                message.extend(checkpoint.root.as_bytes());
                Ok(message)
            }
        }
    }

    /// The line of a signature over [`WitnessKey::message`].
    pub fn line(&self, time: Timestamp, signature: &[u8]) -> String {
        let bytes = [&time.as_second().to_be_bytes()[..], signature].concat();
        line(&self.name, self.id, &bytes)
    }

    /// Whether a note has a line that says that it is this witness's.
    pub fn claims(&self, note: &Note<'_>) -> bool {
        note.lines_of(&self.name, self.id).next().is_some()
    }

    /// Verifies this witness's cosignature of a checkpoint, and gives the newest time that it vouches for.
    ///
    /// # Errors
    /// No line is the witness's, or one that says it is does not verify.
    pub fn verify(&self, note: &Note<'_>) -> Result<Timestamp, CheckpointError> {
        let mut newest = None;
        for bytes in note.lines_of(&self.name, self.id) {
            let bad = || NoteError::BadSignature(self.name.to_string());
            let (seconds, signature) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
            let time = i64::try_from(u64::from_be_bytes(*seconds)).map_err(|_| bad())?;
            // A time of zero is for subtrees, which say nothing of freshness.
            let time = Timestamp::from_second(time).ok().filter(|_| time > 0).ok_or_else(bad)?;
            let message = self.message(note.unverified_text(), time)?;
            match &self.key {
                Key::Ed25519(key) => key.verify(SignatureAlgorithm::Ed25519, &message, signature),
                Key::MlDsa44(key) => key.verify(&message, signature),
            }
            .map_err(|_| bad())?;
            newest = newest.max(Some(time));
        }
        newest.ok_or_else(|| NoteError::NotSignedBy(self.name.to_string()).into())
    }
}

/// `opaque name<1..255>` (RFC 8446 section 3.4); key names are no longer than that.
fn push_name(message: &mut Vec<u8>, name: &KeyName) {
    message.push(name.as_str().len() as u8);
    message.extend(name.as_str().as_bytes());
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vkey = match &self.key {
            Key::Ed25519(key) => {
                write_vkey(&self.name, TYPE_ED25519, &key.ed25519_bytes().unwrap_or_default())
            }
            Key::MlDsa44(key) => write_vkey(&self.name, TYPE_ML_DSA_44, key.as_bytes()),
        };
        f.write_str(&vkey)
    }
}

impl FromStr for WitnessKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, id, signature_type, key) = parse_vkey(text)?;
        let malformed = || NoteError::VerifierKey(text.chars().take(80).collect());
        let key = match signature_type {
            TYPE_ED25519 => Key::Ed25519(PublicKey::from_ed25519(&key).map_err(|_| malformed())?),
            TYPE_ML_DSA_44 => Key::MlDsa44(MlDsa44Key::from_bytes(&key).ok_or_else(malformed)?),
            _ => return Err(NoteError::NoWitness { name: name.to_string() }),
        };
        Ok(Self { name, id, key })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};
    use proptest::prelude::*;

    use super::*;

    /// audit-log.md §1.3 and §1.4.
    const WITNESS: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
    const NOTE: &str = "ca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAKWO139Xp03BsJF9QP51hAdVSHg+erDnIp0EpEwk82iMUbYteqih+WsRG2Vr+Yv+95qbSiuUlTMs7byTY+8Z4Ag==\n";
    const SUBTREE_MESSAGE: &str = "737562747265652f76310a00127769746e6573732e6578616d706c652f7731000000006553f1001263612e6578616d706c652f61756469742f31000000000000000000000000000000079139601cc1ca8ab2a7a0c2c134c04845f2b1ba549a83d6c845cfcda439cc585d";

    fn time() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn witness() -> WitnessKey {
        WITNESS.parse().unwrap()
    }

    fn ml_dsa() -> (PqdsaKeyPair, WitnessKey) {
        let pair = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let key = MlDsa44Key::from_bytes(pair.public_key().as_ref()).unwrap();
        (pair, WitnessKey::ml_dsa_44("witness.example/w1".parse().unwrap(), key))
    }

    #[test]
    fn the_reference_cosignature_verifies_and_is_made_again_to_the_byte() {
        assert_eq!(witness().to_string(), WITNESS);
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(witness().verify(&note).unwrap(), time());
        let seed: [u8; 32] = std::array::from_fn(|n| 0x20 + n as u8);
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let message = witness().message(note.unverified_text(), time()).unwrap();
        let line = witness().line(time(), pair.sign(&message).as_ref());
        assert!(NOTE.ends_with(&line), "{line}");
    }

    #[test]
    fn the_subtree_message_is_that_of_the_reference() {
        let (pair, key) = ml_dsa();
        let note = Note::parse(NOTE).unwrap();
        let message = key.message(note.unverified_text(), time()).unwrap();
        assert_eq!(hex::encode(&message), SUBTREE_MESSAGE);
        let mut signature = vec![0; 2420];
        pair.sign(&message, &mut signature).unwrap();
        let text = format!("{NOTE}{}", key.line(time(), &signature));
        let note = Note::parse(&text).unwrap();
        assert_eq!(key.verify(&note).unwrap(), time());
        assert_eq!(key.to_string().parse::<WitnessKey>().unwrap(), key);
        // Both kinds stand side by side under one name.
        assert_eq!(witness().verify(&note).unwrap(), time());
        let later = Timestamp::from_second(1_700_000_001).unwrap();
        let other_time = format!("{NOTE}{}", key.line(later, &signature));
        assert!(key.verify(&Note::parse(&other_time).unwrap()).is_err());
    }

    #[test]
    fn what_the_witness_has_not_signed_is_refused() {
        for (from, to) in [
            ("\n7\n", "\n8\n"),
            ("kTlg", "kTlh"),
            ("ca.example/audit/1\n", "ca.example/audit/2\n"),
            ("WF0=\n", "WF0=\nextension\n"),
            // Another time.
            ("AABlU/EA", "AABlU/EB"),
            // Time zero, which is a subtree's.
            ("gAAAABlU/EA", "gAAAAAAAAAA"),
            // A time that no clock shows.
            ("IDJKvgAAAABlU/EA", "IDJKvv////9lU/EA"),
        ] {
            let changed = NOTE.replacen(from, to, 1);
            assert_ne!(changed, NOTE, "{from}");
            let refused = Note::parse(&changed).map(|note| witness().verify(&note).is_err());
            assert_ne!(refused, Ok(false), "{from} -> {to}");
        }
        let alone: String = NOTE.lines().take(5).map(|line| format!("{line}\n")).collect();
        let refused = witness().verify(&Note::parse(&alone).unwrap());
        assert_eq!(refused, Err(NoteError::NotSignedBy("witness.example/w1".into()).into()));
        // One good line beside a bad one does not do.
        let line = NOTE.lines().last().unwrap().replace("AABlU/EA", "AABlU/EB");
        assert!(witness().verify(&Note::parse(&format!("{NOTE}{line}\n")).unwrap()).is_err());
    }

    #[test]
    fn a_logs_key_is_no_witness() {
        let log = "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
        let refused = log.parse::<WitnessKey>();
        assert_eq!(refused, Err(NoteError::NoWitness { name: "ca.example/audit/1".into() }));
        assert!(WITNESS.replace("20324abe", "20324abf").parse::<WitnessKey>().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(blob in proptest::collection::vec(any::<u8>(), 0..100)) {
            let line = line(witness().name(), witness().id, &blob);
            let text = format!("{}{line}", NOTE.lines().take(5).map(|l| format!("{l}\n")).collect::<String>());
            prop_assert!(witness().verify(&Note::parse(&text).unwrap()).is_err());
        }
    }
}
