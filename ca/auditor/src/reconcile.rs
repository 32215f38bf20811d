//! Reconciliation: certificates that were met or asked for somewhere, against the log that should hold their intents.
//!
//! A log shows what was asked of the CA. That a key was used past it, nothing but this shows: a certificate that one of
//! the log's keys has signed and that has no intent.

use std::collections::HashMap;

use undercroft_ca::revocation::without_zeros;
use undercroft_ca::signed::Signed;
use undercroft_keys::{KeyId, PublicKey};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Digest, KeyEvent, Leaf, Object, OutcomeResult, ToBeSigned};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::Folder;
use x509_parser::prelude::{FromDer as _, TbsCertificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::NoAudit;
use crate::ocsp::AskedFor;

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was signed.
    Signed,
    /// It was given up: nothing should carry its signature.
    Abandoned,
    /// It waits for its outcome, or did when the log was exported.
    Open,
}

/// What a log says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its intent is there.
    Logged {
        /// The index of the intent.
        index: u64,
        /// Who asked.
        caller: String,
        /// What became of it.
        fate: Fate,
    },
    /// A key of the log has signed it, and the log knows nothing of it.
    Unlogged {
        /// The key.
        key: KeyId,
    },
    /// No key of the log has signed it: it is not this log's business.
    Foreign,
}

impl Standing {
    /// Whether somebody must look: the key was used past the log, or after its intent was given up.
    pub fn is_an_alarm(&self) -> bool {
        matches!(self, Self::Unlogged { .. } | Self::Logged { fate: Fate::Abandoned, .. })
    }
}

/// The intents and keys of a log.
#[derive(Debug, Default)]
pub struct Register {
    intents: HashMap<Digest, Intent>,
    /// Where each intent is in `intents`, by index.
    places: HashMap<u64, Digest>,
    keys: HashMap<KeyId, PublicKey>,
    /// Where the intent of each certificate is in `intents`, by the key and the serial number.
    serials: HashMap<(KeyId, Vec<u8>), Digest>,
    /// Keys that the log's owner has, and their bits as certificates hold them. Not those that a ceremony received:
    /// what they sign stands in other logs.
    issuers: Vec<(KeyId, Vec<u8>)>,
}

#[derive(Debug)]
struct Intent {
    index: u64,
    caller: String,
    key: KeyId,
    fate: Fate,
}

impl Intent {
    fn standing(&self) -> Standing {
        Standing::Logged { index: self.index, caller: self.caller.clone(), fate: self.fate }
    }
}

impl Register {
    /// Reads the log in a folder that has been audited ([`crate::audit`]): nothing is verified here again.
    ///
    /// # Errors
    /// There is no log, or it cannot be read.
    pub fn read(folder: &Folder, key: &VerifierKey) -> Result<Self, NoAudit> {
        let note = folder.checkpoint()?;
        let note = note.ok_or_else(|| NoAudit::NoCheckpoint(folder.path().display().to_string()))?;
        let size = Checkpoint::open(&note, key)?.size;
        let mut register = Self::default();
        for bundle in 0..size.div_ceil(TILE_WIDTH as u64) {
            for entry in folder.bundle(bundle, size)? {
                if let Ok(leaf) = Leaf::parse(&entry) {
                    register.enter(leaf, folder)?;
                }
            }
        }
        Ok(register)
    }

    fn enter(&mut self, leaf: Leaf, folder: &Folder) -> Result<(), NoAudit> {
        match leaf.body {
            Body::Key(key) => {
                if let Ok(public_key) = PublicKey::from_spki(&key.spki.0) {
                    if key.event != KeyEvent::Received {
                        self.issuer(&public_key);
                    }
                    self.keys.insert(public_key.id(), public_key);
                }
            }
            Body::Intent(intent) => {
                let (index, key) = (leaf.index, intent.key_id.0);
                let (tbs, der) = match intent.tbs {
                    ToBeSigned::Der(der) => (Digest::of(&der.0), Some(der.0)),
                    ToBeSigned::Blob { sha256, .. } => (sha256, folder.blob(sha256)?),
                };
                if let (Object::Certificate, Some(serial)) = (intent.object, der.as_deref().and_then(serial))
                {
                    self.serials.insert((key, serial), tbs);
                }
                self.places.insert(index, tbs);
                self.intents.insert(tbs, Intent { index, caller: intent.caller.id, key, fate: Fate::Open });
            }
            Body::Outcome(outcome) => {
                let intent = self.places.get(&outcome.intent).and_then(|tbs| self.intents.get_mut(tbs));
                if let Some(intent) = intent {
                    intent.fate = match outcome.result {
                        OutcomeResult::Signature(_) | OutcomeResult::Signatures(_) => Fate::Signed,
                        OutcomeResult::Abandoned(_) => Fate::Abandoned,
                    };
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn issuer(&mut self, key: &PublicKey) {
        if let Ok((_, spki)) = SubjectPublicKeyInfo::from_der(key.spki())
            && self.issuers.iter().all(|(known, _)| *known != key.id())
        {
            self.issuers.push((key.id(), spki.subject_public_key.data.to_vec()));
        }
    }

    /// What the log says of a certificate that somebody asked an OCSP responder for. Nobody has shown it: whoever asks
    /// can ask for anything, so that an alarm is a reason to look for the certificate.
    pub fn asked_for(&self, asked: &AskedFor) -> Standing {
        let Some((key, _)) = self.issuers.iter().find(|(_, bits)| asked.is_by(bits)) else {
            return Standing::Foreign;
        };
        let tbs = self.serials.get(&(*key, asked.serial().to_vec()));
        match tbs.and_then(|tbs| self.intents.get(tbs)) {
            Some(intent) => intent.standing(),
            None => Standing::Unlogged { key: *key },
        }
    }

    /// What the log says of a certificate (DER). One whose signature is no key's of the log is foreign, whatever it
    /// says: anybody can write what a log holds, and nobody can sign it.
    pub fn look_up(&self, certificate: &[u8]) -> Standing {
        let Ok(signed) = Signed::from_der(certificate) else { return Standing::Foreign };
        let is_signed_by =
            |key: &KeyId| self.keys.get(key).is_some_and(|public_key| signed.verify(public_key).is_ok());
        match self.intents.get(&Digest::of(&signed.tbs)) {
            Some(intent) if is_signed_by(&intent.key) => intent.standing(),
            _ => match self.keys.keys().find(|key| is_signed_by(key)) {
                Some(key) => Standing::Unlogged { key: *key },
                None => Standing::Foreign,
            },
        }
    }
}

/// The serial number of a TBSCertificate.
fn serial(tbs: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = TbsCertificate::from_der(tbs).ok()?;
    Some(without_zeros(certificate.raw_serial()).to_vec())
}
