//! The gate: a second party without whose word a TPM does not sign (`docs/gate.md`).
//!
//! For each signature, in this order:
//! 1. digest and cpHash are computed from the entry's own to-be-signed bytes;
//! 2. the entry must stand in the log as the gate itself has accepted it;
//! 3. the gate's own copy of policy is asked, whether issuance is frozen, and how much there was lately;
//! 4. the entry is kept, durably, before anything is signed, and with it that its index is used up;
//! 5. the word is given, for this nonce, this command and a few seconds.

pub mod blobs;
pub mod config;
pub mod freeze;
pub mod heads;
pub mod journal;
pub mod rate;
pub mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;
use tokio::sync::Mutex;
use undercroft_ca::csr::request_info;
use undercroft_ca::policy::Refusal;
use undercroft_ca::profile::Kind;
use undercroft_ca::review::Review;
use undercroft_ca::time::Lifetime;
use undercroft_cli::Failure;
use undercroft_keymgr::SigningKey;
use undercroft_keys::{KeyId, PublicKey};
use undercroft_log::Clock;
use undercroft_log::add_checkpoint::{AddCheckpoint, AddRefusal};
use undercroft_log::authorise::{Application, RequestApplication, Word};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Base64Bytes, Body, Digest, Intent, Leaf, Object, ToBeSigned};
use undercroft_log::note::{KeyName, Note, VerifierKey};
use undercroft_log::tree::{leaf_hash, verify_consistency, verify_inclusion};
use undercroft_log::witnesses::WitnessPolicy;
use undercroft_tpm_wire::{HashAlgorithm, ObjectAttributes, PublicArea, Scheme, command, policy};

use crate::logs::Logs;
use crate::sync_folder;
use blobs::Blobs;
use freeze::Freeze;
use heads::Heads;
use journal::Journal;
use rate::Rate;

/// For how many seconds since its nonce was made a word holds. A nonce may be five seconds old when we are asked.
const EXPIRATION: i32 = 15;

/// How long the nonce of a policy session is (Part 1, section 17.6.3): 16 bytes at least, and no longer than the digest
/// of its hash algorithm. A word without a nonce would be for any session (Part 3, section 23.2.2).
const NONCE: std::ops::RangeInclusive<usize> = 16..=32;

/// A gate.
pub struct Gate {
    key: PublicKey,
    signer: Arc<dyn SigningKey>,
    clock: Arc<dyn Clock>,
    authorities: Vec<GatedAuthority>,
    witnesses: Option<Assured>,
    freeze: Freeze,
    state: Mutex<State>,
}

/// A key that the gate releases, and what for.
pub struct GatedAuthority {
    /// The key's public area, as its TPM gave it.
    pub area: PublicArea,
    /// The key.
    pub public_key: PublicKey,
    /// What it may sign besides its own request; nothing until it has a certificate.
    pub issuing: Option<Issuing>,
}

/// What an authority may sign.
pub struct Issuing {
    /// The log in which its intents stand.
    pub log: VerifierKey,
    /// What may be in its certificates.
    pub review: Review,
    /// How many there may be in a time.
    pub rate: Rate,
    /// How many of them may be CA certificates, each of which could make many.
    pub ca_rate: Option<Rate>,
    /// How many CRLs there may be in a time, besides.
    pub crl_rate: Rate,
}

/// Whose cosignatures checkpoints must have.
pub struct Assured {
    /// The policy.
    pub policy: WitnessPolicy,
    /// For how long leaves are released while the log is ahead of what is cosigned.
    pub grace: Lifetime,
}

struct State {
    logs: Logs,
    /// Heads that were accepted, by log and size: each is a prefix of the next.
    heads: BTreeMap<KeyName, Heads>,
    journal: Journal,
    blobs: Blobs,
}

/// Why a gate gives no word.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Nobody could do anything with it.
    #[error("the application is malformed: {0}")]
    Malformed(String),
    /// A log or key that the gate does not know.
    #[error("{0}")]
    Unknown(String),
    /// The gate has not accepted a checkpoint of that size.
    #[error("the last size that was accepted here is {size}")]
    Conflict {
        /// What the gate has accepted.
        size: u64,
    },
    /// A rule does not allow it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The gate cannot work: its token, its disk, its state.
    #[error("{0}")]
    Broken(Failure),
}

impl Gate {
    /// A gate.
    ///
    /// # Errors
    /// Its key is not ECDSA P-256, which is what a TPM's policy is made of here; or what it has kept was changed.
    pub fn new(
        signer: Arc<dyn SigningKey>,
        authorities: Vec<GatedAuthority>,
        witnesses: Option<Assured>,
        state: &std::path::Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let key = signer.public_key().clone();
        if PublicArea::of_gate(&key).is_none() {
            return Err(Failure::usage(format!(
                "a gate's key must be ecdsa-p256; this one is {}",
                key.key_type()
            )));
        }
        let logs = Logs::open(state)?;
        let mut heads: BTreeMap<KeyName, Heads> = BTreeMap::new();
        for Issuing { log, .. } in authorities.iter().filter_map(|authority| authority.issuing.as_ref()) {
            crate::logs::add(state, log)?;
            let seen = logs.seen(log)?;
            heads.entry(log.name().clone()).or_default().accept(seen.size, seen.root, clock.now());
        }
        let journal = Journal::open(&state.join("leaves"))?;
        let blobs = Blobs::open(&state.join("blobs"))?;
        // The names of the two folders must be durable before anything is kept in them.
        sync_folder(state)?;
        let state_ = State { logs, heads, journal, blobs };
        let freeze = Freeze::in_folder(state);
        Ok(Self { key, signer, clock, authorities, witnesses, freeze, state: Mutex::new(state_) })
    }

    /// Its key, which is part of the policy of the keys that it releases.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Accepts a checkpoint that is consistent with the last one, as a witness does.
    ///
    /// # Errors
    /// As for a witness.
    pub async fn add_checkpoint(&self, request: &str) -> Result<(), crate::witness::WitnessError> {
        let request: AddCheckpoint = request.parse()?;
        let origin = request.origin().map_err(|error| AddRefusal::Malformed(error.to_string()))?;
        let broken = crate::witness::WitnessError::Broken;
        let mut state = self.state.lock().await;
        let log = state.logs.key(&origin).map_err(broken)?;
        let log = log.ok_or_else(|| AddRefusal::UnknownLog(origin.to_string()))?;
        let note =
            Note::parse(&request.checkpoint).map_err(|error| AddRefusal::Malformed(error.to_string()))?;
        let is_witnessed = self.witnesses.as_ref();
        let is_witnessed =
            is_witnessed.is_some_and(|assured| assured.policy.cosigned(&request.checkpoint).is_ok());
        let now = self.clock.now();
        // A head that whoever asks knows to be accepted comes again with its witnesses' lines. One that does not know
        // it may have gone back, and must hear what was seen last.
        if let (Some(heads), Ok(known)) =
            (state.heads.get_mut(&origin), Checkpoint::open(&request.checkpoint, &log))
            && request.old == known.size
            && heads.root(known.size) == Some(known.root)
        {
            if is_witnessed {
                heads.witness(known.size);
            }
            return Ok(());
        }
        let seen = state.logs.seen(&log).map_err(broken)?;
        // An older head, shown to be a beginning of the newest: it was with its witnesses while the log went on.
        if let Ok(older) = Checkpoint::open(&request.checkpoint, &log)
            && request.old == seen.size
            && older.size < seen.size
        {
            verify_consistency(older.size, seen.size, &older.root, &seen.root, &request.proof)
                .map_err(|error| AddRefusal::Inconsistent(error.to_string()))?;
            let heads = state.heads.entry(origin).or_default();
            heads.accept(older.size, older.root, now);
            if is_witnessed {
                heads.witness(older.size);
            }
            return Ok(());
        }
        let checkpoint = request.judge(&log, &seen)?;
        state.logs.keep(&origin, &note.only(&log)).map_err(broken)?;
        let heads = state.heads.entry(origin).or_default();
        heads.accept(checkpoint.size, checkpoint.root, now);
        if is_witnessed {
            heads.witness(checkpoint.size);
        }
        Ok(())
    }

    /// Gives its word for an intent, once.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn authorise(&self, application: &Application) -> Result<Word, GateError> {
        let leaf =
            Leaf::parse(&application.leaf.0).map_err(|error| GateError::Malformed(error.to_string()))?;
        let nonce = nonce(&application.nonce)?;
        let Body::Intent(intent) = &leaf.body else {
            return Err(GateError::Malformed("the entry is no intent".to_owned()));
        };
        let origin = &leaf.origin;
        if origin.as_str() != application.origin || leaf.index != application.index {
            return Err(GateError::Malformed("the entry is of another log or place".to_owned()));
        }
        let id = intent.key_id.0;
        let authority = self.authority(id)?;
        let issuing = authority.issuing.as_ref();
        let Issuing { log, review, rate, ca_rate, crl_rate } = issuing.ok_or_else(|| {
            GateError::Unknown(format!("the gate was given no certificate of the key {id} yet"))
        })?;
        if log.name() != origin {
            return Err(GateError::Unknown(format!("the intents of {id} stand in {}", log.name())));
        }
        let tbs = to_be_signed(intent, application)?;
        let mut state = self.state.lock().await;
        let heads = state.heads.entry(origin.clone()).or_default();
        let root =
            heads.root(application.size).ok_or_else(|| GateError::Conflict { size: heads.latest() })?;
        let path = application.path().map_err(GateError::Malformed)?;
        verify_inclusion(leaf.index, application.size, &leaf_hash(&application.leaf.0), &path, &root)
            .map_err(|error| GateError::Refused(Refusal::new("not-in-the-log", error.to_string())))?;
        let now = self.clock.now();
        let kind = match intent.object {
            // Not witnessed: whoever can keep witnesses away could keep a revocation from being told.
            Object::Crl => {
                review.judge_crl(intent, &tbs, leaf.time, now).map_err(GateError::Refused)?;
                None
            }
            _ => Some(review.judge(intent, &tbs, leaf.time, now).map_err(GateError::Refused)?),
        };
        if let Some(kind) = kind {
            self.is_assured(heads, leaf.index, kind.is_authority(), now)?;
        }
        self.is_open()?;
        if state.journal.has(origin, leaf.index, id) {
            return Err(GateError::Refused(Refusal::new(
                "used",
                format!("entry {} was authorised before: make a new intent", leaf.index),
            )));
        }
        let own_rate = if kind.is_some() { rate } else { crl_rate };
        own_rate.take(now).map_err(GateError::Refused)?;
        if let Some(ca_rate) = ca_rate.as_ref().filter(|_| kind.is_some_and(Kind::is_authority)) {
            ca_rate.take(now).map_err(GateError::Refused)?;
        }
        if let ToBeSigned::Blob { sha256, .. } = &intent.tbs {
            state.blobs.keep(*sha256, &tbs).map_err(GateError::Broken)?;
        }
        // From here on the index is used up, whatever becomes of it.
        state.journal.keep(origin, leaf.index, id, &application.leaf.0).map_err(GateError::Broken)?;
        drop(state);
        self.word(authority, &tbs, nonce).await
    }

    /// Gives its word for the one certificate request that a key can make, which says nothing but the key.
    ///
    /// # Errors
    /// See [`GateError`].
    pub async fn authorise_request(&self, application: &RequestApplication) -> Result<Word, GateError> {
        let nonce = nonce(&application.nonce)?;
        let authority = self.authority(application.key_id.0)?;
        self.is_open()?;
        let info =
            request_info(&authority.public_key).map_err(|error| GateError::Malformed(error.to_string()))?;
        self.word(authority, &info, nonce).await
    }

    /// An entry that was kept.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn leaf(&self, origin_hash: &str, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.state.lock().await.journal.leaf(origin_hash, index)
    }

    /// To-be-signed bytes that were kept because their entry holds only their digest (hexadecimal).
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.state.lock().await.blobs.read(digest)
    }

    fn authority(&self, id: KeyId) -> Result<&GatedAuthority, GateError> {
        let known = self.authorities.iter().find(|authority| authority.public_key.id() == id);
        known.ok_or_else(|| GateError::Unknown(format!("the key {id} is not known here")))
    }

    fn is_open(&self) -> Result<(), GateError> {
        match self.freeze.reason().map_err(GateError::Broken)? {
            None => Ok(()),
            Some(reason) => {
                Err(GateError::Refused(Refusal::new("frozen", format!("issuance is frozen: {reason}"))))
            }
        }
    }

    /// CA certificates are released under a cosigned checkpoint; leaves may be for a while without one.
    fn is_assured(&self, heads: &Heads, index: u64, is_ca: bool, now: Timestamp) -> Result<(), GateError> {
        let Some(assured) = &self.witnesses else { return Ok(()) };
        let refused = |reason: String| Err(GateError::Refused(Refusal::new("not-witnessed", reason)));
        match (heads.witnessed(), heads.ahead_since()) {
            (Some(size), _) if size > index => Ok(()),
            _ if is_ca => refused(format!("no cosigned checkpoint with entry {index} was shown here")),
            (None, _) => {
                refused("no cosigned checkpoint was shown here since the gate has started".to_owned())
            }
            (Some(_), Some(since)) if now < since + assured.grace.0 => Ok(()),
            (Some(size), _) => refused(format!(
                "the log has been ahead of its cosigned checkpoint of size {size} for more than {}",
                assured.grace
            )),
        }
    }

    async fn word(&self, authority: &GatedAuthority, tbs: &[u8], nonce: &[u8]) -> Result<Word, GateError> {
        let scheme = authority.area.scheme();
        let cp_hash = command::sign(&authority.area.name(), &digest_of(scheme, tbs), scheme);
        let message = policy::authorisation(nonce, EXPIRATION, &cp_hash);
        let signature = self.signer.sign(&message).await;
        let signature = signature.map_err(|error| GateError::Broken(error.into()))?;
        Ok(Word { expiration: EXPIRATION, signature: Base64Bytes(signature) })
    }
}

/// The nonce of a session, and nothing that would make of the word something else.
fn nonce(bytes: &Base64Bytes) -> Result<&[u8], GateError> {
    match NONCE.contains(&bytes.0.len()) {
        true => Ok(&bytes.0),
        false => Err(GateError::Malformed(format!(
            "a nonce has {} to {} bytes, not {}",
            NONCE.start(),
            NONCE.end(),
            bytes.0.len()
        ))),
    }
}

/// The bytes that the intent is about, whole.
fn to_be_signed(intent: &Intent, application: &Application) -> Result<Vec<u8>, GateError> {
    match (&intent.tbs, &application.tbs) {
        (ToBeSigned::Der(der), None) => Ok(der.0.clone()),
        (ToBeSigned::Blob { sha256, length }, Some(tbs))
            if Digest::of(&tbs.0) == *sha256 && tbs.0.len() as u64 == *length =>
        {
            Ok(tbs.0.clone())
        }
        _ => {
            Err(GateError::Malformed("the to-be-signed bytes are not those that the entry names".to_owned()))
        }
    }
}

fn digest_of(scheme: Scheme, tbs: &[u8]) -> Vec<u8> {
    let hash = match scheme {
        Scheme::Ecdsa(hash) | Scheme::RsaSsa(hash) | Scheme::RsaPss(hash) => hash,
        // Refused when it is configured: the caller of the TPM would choose how it signs.
        Scheme::None => HashAlgorithm::Sha256,
    };
    let algorithm = match hash {
        HashAlgorithm::Sha256 => &digest::SHA256,
        HashAlgorithm::Sha384 => &digest::SHA384,
        HashAlgorithm::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, tbs).as_ref().to_vec()
}

/// Whether a key is one that a gate can release.
///
/// # Errors
/// What is wrong with it.
pub fn is_gated(area: &PublicArea) -> Result<(), String> {
    if !area.signs_by_policy_alone() {
        return Err("the key is not gated: it was made without gates, and signs without them".to_owned());
    }
    // A key that can leave its TPM, or that was made outside, is used wherever its copy is.
    let fixed = ObjectAttributes::FIXED_TPM | ObjectAttributes::FIXED_PARENT;
    if !area.attributes.has(fixed | ObjectAttributes::SENSITIVE_DATA_ORIGIN | ObjectAttributes::SIGN) {
        return Err(format!("the key was not made in its TPM and held there to sign: {}", area.attributes));
    }
    match area.scheme() {
        Scheme::None => Err("the key is fixed to no scheme".to_owned()),
        _ => Ok(()),
    }
}
