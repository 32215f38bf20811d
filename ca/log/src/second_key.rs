//! The second line of a log's own: an ECDSA signature, such as a TPM makes, beside the Ed25519 one.
//!
//! Whoever steals the log key from its token still lacks it, so that an auditor who knows both keys finds heads that the
//! thief has signed. Readers who know Ed25519 alone pass over it.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use sha2::{Digest as _, Sha256};
use undercroft_keys::{KeyType, PublicKey, SignatureAlgorithm};

use crate::note::{KeyName, Note, NoteError, line};

/// The signature type of an ECDSA key (C2SP signed-note; its form is that of transparency-dev's witnesses).
const TYPE_ECDSA: u8 = 0x02;

/// An ECDSA P-256 key that signs checkpoints beside the log key, under the log's origin.
///
/// As text it is a vkey: `origin+id+base64(0x02 ‖ SubjectPublicKeyInfo)`. Its id is the first four bytes of SHA-256
/// over the SubjectPublicKeyInfo, without name and type, as keys of this type have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondKey {
    origin: KeyName,
    key: PublicKey,
}

impl SecondKey {
    /// The second key of the log with this origin.
    ///
    /// # Errors
    /// The key is not on P-256.
    pub fn new(origin: KeyName, key: PublicKey) -> Result<Self, NoteError> {
        match key.key_type() {
            KeyType::P256 => Ok(Self { origin, key }),
            _ => Err(NoteError::SecondKeyType),
        }
    }

    /// The signature line that a signature by this key makes: ECDSA with SHA-256 over the note's text, DER.
    ///
    /// # Errors
    /// The signature is not that.
    pub fn line(&self, text: &str, signature: &[u8]) -> Result<String, NoteError> {
        self.check(text, signature)?;
        Ok(line(&self.origin, self.id(), signature))
    }

    /// That this key has signed the note.
    ///
    /// # Errors
    /// No line is this key's, or one that says it is does not verify.
    pub fn verify(&self, note: &Note<'_>) -> Result<(), NoteError> {
        let mut lines = note.lines_of(&self.origin, self.id()).peekable();
        if lines.peek().is_none() {
            return Err(NoteError::NotSignedBy(format!("the second key of {}", self.origin)));
        }
        lines.try_for_each(|signature| self.check(note.unverified_text(), signature))
    }

    fn check(&self, text: &str, signature: &[u8]) -> Result<(), NoteError> {
        self.key
            .verify(SignatureAlgorithm::EcdsaP256Sha256, text.as_bytes(), signature)
            .map_err(|_| NoteError::BadSignature(format!("the second key of {}", self.origin)))
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::digest(self.key.spki());
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Display for SecondKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[TYPE_ECDSA][..], self.key.spki()].concat();
        write!(f, "{}+{}+{}", self.origin, hex::encode(self.id()), Base64::encode_string(&typed))
    }
}

impl FromStr for SecondKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let malformed = || NoteError::VerifierKey(text.chars().take(80).collect());
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let typed = Base64::decode_vec(typed).map_err(|_| malformed())?;
        let Some((&TYPE_ECDSA, spki)) = typed.split_first() else {
            return Err(NoteError::SecondKeyType);
        };
        let key = Self::new(name.parse()?, PublicKey::from_spki(spki).map_err(|_| malformed())?)?;
        match hex::encode(key.id()) == id {
            true => Ok(key),
            false => Err(NoteError::KeyId { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;
    use crate::note::VerifierKey;

    /// Rekor's key, under the id that transparency-dev's witnesses know it by.
    const REKOR: &str = "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=";
    /// The example of C2SP signed-note.
    const ED25519: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const TEXT: &str = "ca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n";

    fn signer() -> (EcdsaKeyPair, SecondKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = PublicKey::from_ec_point(KeyType::P256, pair.public_key().as_ref()).unwrap();
        let key = SecondKey::new("ca.example/audit/1".parse().unwrap(), public).unwrap();
        (pair, key)
    }

    fn signed(pair: &EcdsaKeyPair, key: &SecondKey) -> String {
        let signature = pair.sign(&SystemRandom::new(), TEXT.as_bytes()).unwrap();
        format!("{TEXT}\n{}", key.line(TEXT, signature.as_ref()).unwrap())
    }

    #[test]
    fn a_foreign_key_has_the_id_that_others_know_it_by() {
        assert_eq!(REKOR.parse::<SecondKey>().unwrap().to_string(), REKOR);
    }

    #[test]
    fn what_it_signed_verifies_and_nothing_else() {
        let (pair, key) = signer();
        let (_, other) = signer();
        let note = signed(&pair, &key);
        assert_eq!(key.verify(&Note::parse(&note).unwrap()), Ok(()));
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let refused = other.verify(&Note::parse(&note).unwrap());
        assert!(matches!(refused, Err(NoteError::NotSignedBy(_))), "{refused:?}");
        let changed = note.replace("\n7\n", "\n8\n");
        let refused = key.verify(&Note::parse(&changed).unwrap());
        assert!(matches!(refused, Err(NoteError::BadSignature(_))), "{refused:?}");
        // A good line does not save a bad one.
        let bad = line(&key.origin, key.id(), b"no signature");
        assert!(key.verify(&Note::parse(&format!("{note}{bad}")).unwrap()).is_err());
        assert!(key.line(TEXT, b"no signature").is_err());
    }

    #[test]
    fn other_keys_and_mangled_vkeys_are_refused() {
        let ed25519: VerifierKey = ED25519.parse().unwrap();
        let refused = SecondKey::new(ed25519.name().clone(), ed25519.key().clone());
        assert_eq!(refused, Err(NoteError::SecondKeyType));
        for mangled in [
            "",
            "rekor.sigstore.dev+c0d23d6a",
            &REKOR.replace("c0d23d6a", "c0d23d6b"),
            &REKOR.replace("AjBZ", "ATBZ"),
            &REKOR.replace("AjBZ", "AjBa"),
            &REKOR[..REKOR.len() - 4],
            ED25519,
        ] {
            assert!(mangled.parse::<SecondKey>().is_err(), "{mangled}");
        }
    }
}
