//! Signed notes (C2SP signed-note) and the keys that verify them.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use sha2::{Digest as _, Sha256};
use undercroft_keys::{PublicKey, SignatureAlgorithm};

/// The most bytes that a note may have: sixteen ML-DSA-44 lines fit (audit-log.md §1.2).
const MAX_NOTE: usize = 64 * 1024;

/// The most signature lines that are read; the specification wants at least 16 to be accepted.
const MAX_SIGNATURES: usize = 64;

/// How each signature line begins: an em dash and a blank.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// The signature type of an Ed25519 key (C2SP signed-note).
const TYPE_ED25519: u8 = 0x01;

/// The name of a key: not empty, without blanks and without `+`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let sound = !text.is_empty()
            && text.len() <= 255
            && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
        if sound { Ok(Self(text.to_owned())) } else { Err(NoteError::KeyName(text.to_owned())) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that verifies notes, written `name+hash+base64(type ‖ key)`: a *vkey*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: [u8; 4],
    key: PublicKey,
}

impl VerifierKey {
    /// The vkey of an Ed25519 key under `name`.
    ///
    /// # Errors
    /// The key is of another kind: those are extra lines and never a log's own (`docs/log.md`).
    pub fn new(name: KeyName, key: PublicKey) -> Result<Self, NoteError> {
        let bytes = key.ed25519_bytes().ok_or(NoteError::KeyType)?;
        let id = key_id(&name, TYPE_ED25519, &bytes);
        Ok(Self { name, id, key })
    }

    /// The name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The signature line that a raw signature by this key makes.
    pub fn line(&self, signature: &[u8]) -> String {
        line(&self.name, self.id, signature)
    }
}

/// The recommended key ID: SHA-256(name ‖ 0x0A ‖ type ‖ public key), first four bytes.
pub(crate) fn key_id(name: &KeyName, signature_type: u8, key: &[u8]) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', signature_type])
        .chain_update(key)
        .finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A vkey in its parts: name, id, signature type and key. The id is that of the rest.
///
/// # Errors
/// It is no vkey, or its id is that of another key.
pub(crate) fn parse_vkey(text: &str) -> Result<(KeyName, [u8; 4], u8, Vec<u8>), NoteError> {
    let malformed = || NoteError::VerifierKey(text.chars().take(80).collect());
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let typed = Base64::decode_vec(key).map_err(|_| malformed())?;
    let (signature_type, key) = typed.split_first().ok_or_else(malformed)?;
    let name: KeyName = name.parse()?;
    // The id is redundant in a vkey; a wrong one means that somebody mixed two keys up.
    let own = key_id(&name, *signature_type, key);
    if hex::encode(own) != id {
        return Err(NoteError::KeyId { name: name.to_string() });
    }
    Ok((name, own, *signature_type, key.to_vec()))
}

/// A vkey as text.
pub(crate) fn write_vkey(name: &KeyName, signature_type: u8, key: &[u8]) -> String {
    let typed = [&[signature_type][..], key].concat();
    format!("{name}+{}+{}", hex::encode(key_id(name, signature_type, key)), Base64::encode_string(&typed))
}

/// A signature line.
pub(crate) fn line(name: &KeyName, id: [u8; 4], signature: &[u8]) -> String {
    let blob = [&id[..], signature].concat();
    format!("{SIGNATURE_PREFIX}{name} {}\n", Base64::encode_string(&blob))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_vkey(&self.name, TYPE_ED25519, &self.key.ed25519_bytes().unwrap_or_default()))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, _, signature_type, key) = parse_vkey(text)?;
        if signature_type != TYPE_ED25519 {
            return Err(NoteError::KeyType);
        }
        let malformed = |_| NoteError::VerifierKey(text.chars().take(80).collect());
        Self::new(name, PublicKey::from_ed25519(&key).map_err(malformed)?)
    }
}

/// A text and the signature lines under it, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The signed text, with its final newline.
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Splits a note into its text and its signature lines.
    ///
    /// # Errors
    /// It is too long, has control characters, or no well-formed signature line.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong(note.len()));
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::ControlCharacter);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..split + 1], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let signatures = lines.split('\n').map(Signature::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures(signatures.len()));
        }
        Ok(Self { text, signatures })
    }

    /// The text, once a signature by `key` over it has verified. Lines of other keys are ignored.
    ///
    /// # Errors
    /// No line is `key`'s, or one that says it is does not verify.
    pub fn verify(&self, key: &VerifierKey) -> Result<&'a str, NoteError> {
        let mut own = self
            .signatures
            .iter()
            .filter(|line| line.name == key.name.as_str() && line.id == key.id)
            .peekable();
        if own.peek().is_none() {
            return Err(NoteError::NotSignedBy(key.name.to_string()));
        }
        for line in own {
            key.key
                .verify(SignatureAlgorithm::Ed25519, self.text.as_bytes(), &line.bytes)
                .map_err(|_| NoteError::BadSignature(key.name.to_string()))?;
        }
        Ok(self.text)
    }

    /// What the lines carry behind the id, that name a key of this name and id. Not verified.
    pub(crate) fn lines_of(&self, name: &KeyName, id: [u8; 4]) -> impl Iterator<Item = &[u8]> {
        let own = self.signatures.iter().filter(move |line| line.name == name.as_str() && line.id == id);
        own.map(|line| &*line.bytes)
    }

    /// The note with the lines of `key` alone.
    pub fn only(&self, key: &VerifierKey) -> String {
        let lines = self.lines_of(&key.name, key.id).map(|bytes| line(&key.name, key.id, bytes));
        format!("{}\n{}", self.text, lines.collect::<String>())
    }

    /// The text, of which nothing is known.
    pub fn unverified_text(&self) -> &'a str {
        self.text
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Result<Self, NoteError> {
        let malformed = || NoteError::SignatureLine(line.chars().take(80).collect());
        let (name, blob) = line
            .strip_prefix(SIGNATURE_PREFIX)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(malformed)?;
        name.parse::<KeyName>().map_err(|_| malformed())?;
        let blob = Base64::decode_vec(blob).map_err(|_| malformed())?;
        let (id, bytes) = blob.split_first_chunk::<4>().ok_or_else(malformed)?;
        Ok(Self { name, id: *id, bytes: bytes.to_vec() })
    }
}

/// What is wrong with a note or a vkey.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than any note that we accept.
    #[error("the note has {0} bytes, more than {MAX_NOTE}")]
    TooLong(usize),
    /// A byte below a blank that is no newline.
    #[error("the note has control characters")]
    ControlCharacter,
    /// No empty line, or nothing after it.
    #[error("the note has no signature lines after an empty line")]
    NoSignatures,
    /// More signature lines than anyone needs.
    #[error("the note has {0} signature lines, more than {MAX_SIGNATURES}")]
    TooManySignatures(usize),
    /// Not `— name base64`.
    #[error("`{0}` is no signature line")]
    SignatureLine(String),
    /// Not a key name.
    #[error("`{0}` cannot be the name of a key: no blanks, no `+`, at most 255 bytes")]
    KeyName(String),
    /// Not `name+hash+base64`.
    #[error("`{0}` is no verifier key; it should read name+hash+base64")]
    VerifierKey(String),
    /// The hash in a vkey is not that of its name and key.
    #[error("the verifier key of `{name}` carries the hash of another key")]
    KeyId {
        /// The name in the vkey.
        name: String,
    },
    /// The key of a log, or of something else, where a witness's was wanted.
    #[error("the key of `{name}` is no witness's: those have type 0x04 (Ed25519) or 0x06 (ML-DSA-44)")]
    NoWitness {
        /// The name in the vkey.
        name: String,
    },
    /// Not Ed25519.
    #[error("the key is not an Ed25519 key, which a log's own line must be made with")]
    KeyType,
    /// Not ECDSA on P-256.
    #[error("a log's second key is an ECDSA key on P-256 (signature type 0x02), which this is not")]
    SecondKeyType,
    /// No line of the wanted key.
    #[error("the note is not signed by {0}")]
    NotSignedBy(String),
    /// A line of the wanted key that does not verify.
    #[error("the signature of {0} does not verify")]
    BadSignature(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of C2SP signed-note, as the reference page recomputed it.
    const SPEC_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const SPEC_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    /// The test key of Go's `x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key(text: &str) -> VerifierKey {
        text.parse().unwrap()
    }

    #[test]
    fn foreign_notes_verify() {
        for (key_text, note) in [(SPEC_KEY, SPEC_NOTE), (GO_KEY, GO_NOTE)] {
            assert_eq!(key(key_text).to_string(), key_text);
            let text = Note::parse(note).unwrap().verify(&key(key_text)).unwrap();
            assert_eq!(Some(text), note.find("\n\n").map(|at| &note[..at + 1]));
        }
    }

    #[test]
    fn a_note_of_another_key_or_text_is_refused() {
        let note = Note::parse(SPEC_NOTE).unwrap();
        assert_eq!(note.verify(&key(GO_KEY)), Err(NoteError::NotSignedBy("PeterNeumann".into())));
        let changed = SPEC_NOTE.replace("message", "massage");
        let refused = Note::parse(&changed).unwrap().verify(&key(SPEC_KEY));
        assert_eq!(refused, Err(NoteError::BadSignature("example.com/foo".into())));
        // A good line beside a bad one of the same key does not save the note.
        let line = SPEC_NOTE.lines().last().unwrap();
        let twice = format!("{SPEC_NOTE}{}\n", line.replace("kn8s", "kn8t"));
        let refused = Note::parse(&twice).unwrap().verify(&key(SPEC_KEY));
        assert_eq!(refused, Err(NoteError::BadSignature("example.com/foo".into())));
    }

    #[test]
    fn lines_of_unknown_keys_are_ignored() {
        let with_witness = format!("{SPEC_NOTE}\u{2014} witness.example/w1 IDJKvgAAAABlU/EA\n");
        Note::parse(&with_witness).unwrap().verify(&key(SPEC_KEY)).unwrap();
    }

    #[test]
    fn malformed_notes_are_refused() {
        for (note, error) in [
            ("", NoteError::NoSignatures),
            ("text\n", NoteError::NoSignatures),
            ("text\n\n", NoteError::NoSignatures),
            ("text\n\n\u{2014} a AAAAAAA=", NoteError::NoSignatures),
            ("te\rxt\n\n\u{2014} a AAAAAAA=\n", NoteError::ControlCharacter),
            ("text\n\n- a AAAAAAA=\n", NoteError::SignatureLine("- a AAAAAAA=".into())),
            ("text\n\n\u{2014} a AAAA\n", NoteError::SignatureLine("\u{2014} a AAAA".into())),
            ("text\n\n\u{2014} a AAAAAAB=\n", NoteError::SignatureLine("\u{2014} a AAAAAAB=".into())),
        ] {
            assert_eq!(Note::parse(note), Err(error), "{note:?}");
        }
        assert_eq!(Note::parse(&"a".repeat(70_000)), Err(NoteError::TooLong(70_000)));
        let many = format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(65));
        assert_eq!(Note::parse(&many), Err(NoteError::TooManySignatures(65)));
    }

    #[test]
    fn malformed_keys_are_refused() {
        for text in
            ["", "a+b", "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "a+530d903a+AQ=="]
        {
            assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        }
        let mixed = SPEC_KEY.replace("530d903a", "530d903b");
        assert_eq!(mixed.parse::<VerifierKey>(), Err(NoteError::KeyId { name: "example.com/foo".into() }));
        // Type 0x04 is a witness's key and no log's.
        let witness = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
        assert_eq!(witness.parse::<VerifierKey>(), Err(NoteError::KeyType));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(\\PC|\n|\u{2014}){0,200}") {
            let _ = Note::parse(&text).map(|note| note.verify(&key(SPEC_KEY)));
            let _ = text.parse::<VerifierKey>();
        }
    }
}
