//! A TPM and the keys in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use undercroft_keymgr::{
    Activate, AttestationPlace, CommandNumber, Counted, Device, Error, ErrorKind, Key, KeyManager, KeyUri,
    Ledger, LedgerPlaces, Pin, Recently, SessionThreads, SignPrehashed, SigningKey, StoredKey, TimeLimit,
    ToSign, TpmUri,
};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_tpm_wire::{ObjectAttributes, PublicArea, Scheme, policy};

use crate::activation::TpmActivation;
use crate::custody::Custody;
use crate::esys::{Esys, Hierarchy, Object, TpmClock};
use crate::gated::{self, GatedKey, Slots};
use crate::key::{self, Identity, Refused, ThrowawayKey, TpmKey};
use crate::ledger::TpmLedger;
use crate::template::{self, Guessing, Use};

/// The first handle of persistent objects (Part 2, section 7.4).
const PERSISTENT_FIRST: u32 = 0x8100_0000;

/// Commands that may wait for the TPM before callers are told to come back.
const QUEUE: usize = 256;

/// A TPM that answered so long ago may have been restarted or exchanged since: a TCTI that connects for each command
/// (swtpm's does) and a resource manager hide that. Quicker than this no TPM is.
const MOMENT: Duration = Duration::from_millis(20);

/// A TPM 2.0. The device's PIN, if it has one, is the authValue of the keys that we make in it.
#[derive(Debug)]
pub(crate) struct Tpm {
    name: String,
    uri: TpmUri,
    /// The key that certifies the others, if configuration names one.
    attestation: Option<AttestationPlace>,
    /// How often a session was opened, or the TPM found to have been off.
    connections: Arc<AtomicU64>,
    threads: Arc<SessionThreads<Session>>,
    /// Policy sessions for gated keys: TPMs hold few.
    slots: Slots,
}

/// A connection, and what it knows.
pub(crate) struct Session {
    pub(crate) esys: Esys,
    auth: Option<Pin>,
    /// Persistent keys whose public half was compared in this connection, and whether they have signed verifiably.
    keys: HashMap<u32, Known>,
    /// When the TPM last signed for us.
    pub(crate) signed: Recently,
    /// How long the TPM was up when it was last in doubt.
    up: TpmClock,
    /// How often the TPM was connected to, shared by all connections.
    connections: Arc<AtomicU64>,
    /// Why the TPM refused our authValue, shared by all connections: it is not tried again.
    refused: Arc<Mutex<Option<String>>>,
    /// What gated keys need of this connection.
    pub(crate) gated: gated::Connection,
    /// The last command of the ledger, shared by all connections; nothing until an epoch was begun.
    ledger: Arc<Mutex<Option<CommandNumber>>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) object: Object,
    proven: bool,
}

impl Tpm {
    /// Opens the device: connects once, so that an absent TPM is told now.
    pub(crate) fn open(device: &Device, uri: &TpmUri) -> Result<Self, Error> {
        let name = device.name.clone();
        let tcti = uri.tcti.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "device `{name}`: its URI does not say how to reach the TPM; add tcti=device:/dev/tpmrm0"
                ),
            )
        })?;
        let auth = Pin::of(device)?;
        let refused = Arc::new(Mutex::new(None));
        let ledger = Arc::new(Mutex::new(None));
        let first = Mutex::new(Some(Esys::connect(&tcti)?));
        let connections = Arc::new(AtomicU64::new(0));
        let counted = connections.clone();
        let threads = SessionThreads::start(&name, 1, QUEUE, device.time_limit.duration(), move || {
            // The connection that showed that the TPM is there serves the first session.
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut esys = match ready {
                Some(esys) => esys,
                None => Esys::connect(&tcti)?,
            };
            esys.clear_slots().map_err(|error| error.failed("cannot clear what others left in the TPM"))?;
            let up = esys.clock().map_err(|error| error.failed("cannot read the clock of the TPM"))?;
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Session {
                esys,
                up,
                connections: counted.clone(),
                auth: auth.clone(),
                keys: HashMap::new(),
                signed: Recently::new(MOMENT),
                refused: refused.clone(),
                gated: gated::Connection::default(),
                ledger: ledger.clone(),
            })
        })?;
        let (uri, attestation) = (uri.clone(), device.attestation.clone());
        let (threads, slots) = (Arc::new(threads), Slots::new());
        Ok(Self { name, uri, attestation, connections, threads, slots })
    }

    fn handle(&self, uri: &KeyUri) -> Result<u32, Error> {
        match uri {
            KeyUri::Tpm(TpmUri { handle: Some(handle), .. }) => Ok(*handle),
            KeyUri::Tpm(_) => Err(Error::new(
                ErrorKind::NotFound,
                format!("{uri} names a TPM but no key; add handle=0x81… to it"),
            )),
            _ => Err(Error::new(ErrorKind::Unsupported, format!("{uri} names no TPM key"))),
        }
    }

    fn key(&self, identity: Identity, area: &PublicArea) -> Key {
        let threads = self.threads.clone();
        let custody = Arc::new(Custody {
            device: self.name.clone(),
            threads: threads.clone(),
            identity: identity.clone(),
            attestation: self.attestation.clone(),
            connections: self.connections.clone(),
        });
        if !area.signs_by_policy_alone() {
            let signer = Arc::new(TpmKey { threads, identity });
            let prehashed: Arc<dyn SignPrehashed> = signer.clone();
            return Key { signer, custody, gated: None, prehashed: Some(prehashed) };
        }
        let gated = GatedKey::new(threads, self.slots.clone(), identity.clone(), area);
        Key { signer: Arc::new(Refused(identity)), custody, gated: Some(Arc::new(gated)), prehashed: None }
    }

    async fn make(
        &self,
        uri: &KeyUri,
        algorithm: KeyAlgorithm,
        policy: Option<[u8; 32]>,
    ) -> Result<Key, Error> {
        let handle = self.handle(uri)?;
        if algorithm == KeyAlgorithm::Ed25519 {
            return Err(template::no_ed25519());
        }
        let subject = uri.to_string();
        let what = subject.clone();
        let (area, public_key) = self
            .threads
            .run_within(TimeLimit::TO_MAKE_KEYS, move |session| {
                session.create(handle, algorithm, policy, &what)
            })
            .await?;
        Ok(self.key(Identity { handle, algorithm, public_key, subject }, &area))
    }
}

#[async_trait]
impl KeyManager for Tpm {
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let key = self.make(uri, algorithm, None).await?;
        key.signer.sign(b"undercroft: a new key signs for the first time").await?;
        Ok(key)
    }

    async fn create_gated(
        &self,
        uri: &KeyUri,
        algorithm: KeyAlgorithm,
        gates: &[PublicKey],
    ) -> Result<Key, Error> {
        self.make(uri, algorithm, Some(policy::gated_by(&gated::names(gates)?))).await
    }

    fn activation(&self, handle: u32) -> Result<Arc<dyn Activate>, Error> {
        Ok(Arc::new(TpmActivation::new(self.name.clone(), self.threads.clone(), handle)))
    }

    fn ledger(&self, places: LedgerPlaces) -> Result<Arc<dyn Ledger>, Error> {
        Ok(Arc::new(TpmLedger::new(self.name.clone(), self.threads.clone(), places)))
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let handle = self.handle(uri)?;
        let subject = uri.to_string();
        let what = subject.clone();
        let (area, public_key) =
            self.threads.run_again(move |session| session.find(handle, algorithm, &what)).await?;
        Ok(self.key(Identity { handle, algorithm, public_key, subject }, &area))
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let (name, uri) = (self.name.clone(), self.uri.clone());
        self.threads
            .run_again(move |session| {
                let esys = &mut session.esys;
                let handles = esys
                    .handles(PERSISTENT_FIRST)
                    .map_err(|error| error.failed(format!("cannot list the keys of device `{name}`")))?;
                let mut keys = Vec::new();
                for handle in handles {
                    let Ok(Some(object)) = esys.persistent(handle) else { continue };
                    // Endorsement and storage keys are no keys of ours, and may be of kinds that we do not read.
                    if let Ok((area, public_key)) = key::read(esys, object, "a persistent object")
                        && signs_messages(area.attributes)
                    {
                        let uri = KeyUri::Tpm(TpmUri { handle: Some(handle), ..uri.clone() });
                        keys.push(StoredKey { uri, public_key: Some(public_key) });
                    }
                }
                Ok(keys)
            })
            .await
    }

    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        if algorithm == KeyAlgorithm::Ed25519 {
            return Err(template::no_ed25519());
        }
        let mut unique = vec![0; 32];
        getrandom::fill(&mut unique).map_err(|error| {
            Error::with_source(ErrorKind::Unavailable, "the operating system gives no random bytes", error)
        })?;
        let template = unique.clone();
        let public_key = self
            .threads
            .run_within(TimeLimit::TO_MAKE_KEYS, move |session| {
                key::throwaway_public_key(&mut session.esys, algorithm, &template)
            })
            .await?;
        Ok(Arc::new(ThrowawayKey { threads: self.threads.clone(), algorithm, unique, public_key }))
    }
}

impl Session {
    /// Makes a key under the storage root and persists it at `handle`.
    fn create(
        &mut self,
        handle: u32,
        algorithm: KeyAlgorithm,
        policy: Option<[u8; 32]>,
        subject: &str,
    ) -> Result<(PublicArea, PublicKey), Error> {
        let taken = self
            .esys
            .persistent(handle)
            .map_err(|error| error.failed(format!("cannot look for {subject}")))?;
        if taken.is_some() {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("{subject} exists already and was not touched; choose another handle"),
            ));
        }
        let usable = match (&policy, &self.auth) {
            (Some(policy), _) => Use::ByPolicy(policy),
            (None, Some(_)) => Use::ByAuth(Guessing::Counted),
            (None, None) => Use::ByAuth(Guessing::Exempt),
        };
        let template = template::signing_key(algorithm, usable, &[])?;
        let auth = self.auth.as_ref().map(Pin::read).transpose()?;
        let auth = auth.as_ref().map_or(&[][..], |secret| secret.expose().as_bytes());
        let failed = |what: &str| format!("cannot {what} {subject} as {algorithm}");
        let root = self
            .esys
            .create_primary(Hierarchy::Owner, &template::storage_root()?)
            .map_err(|error| error.failed(failed("make the storage root for")))?;
        key::with_transient(&mut self.esys, root, |esys, root| {
            let created = esys.create(root, &template, auth).map_err(|error| error.failed(failed("make")))?;
            let loaded = esys.load(root, &created).map_err(|error| error.failed(failed("load")))?;
            key::with_transient(esys, loaded, |esys, loaded| {
                let (area, public_key) = key::read(esys, loaded, subject)?;
                // One that is not what was asked for goes as it came: it is flushed and never persisted.
                is_sound(&area, algorithm, subject)?;
                esys.persist(loaded, handle).map_err(|error| error.failed(failed("persist")))?;
                Ok((area, public_key))
            })
        })
    }

    fn find(
        &mut self,
        handle: u32,
        algorithm: KeyAlgorithm,
        subject: &str,
    ) -> Result<(PublicArea, PublicKey), Error> {
        let object = self
            .esys
            .persistent(handle)
            .map_err(|error| error.failed(format!("cannot look for {subject}")))?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("{subject} is not in its TPM; make it with `undercroft keys create`, or correct the handle"),
                )
            })?;
        let (area, public_key) = key::read(&mut self.esys, object, subject)?;
        is_sound(&area, algorithm, subject)?;
        Ok((area, public_key))
    }

    pub(crate) fn sign(&mut self, identity: &Identity, input: &ToSign) -> Result<Counted, Error> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(refusal) = refused {
            return Err(Error::new(ErrorKind::Denied, refusal));
        }
        self.doubt()?;
        let known = self.known(identity)?;
        let signed = key::sign(&mut self.esys, known.object, identity.algorithm, input, &identity.subject);
        let signature = match signed {
            Err(error) if error.kind() == ErrorKind::Denied => {
                let refusal = format!(
                    "{error}. It is not tried again by this process, so that the TPM does not lock; correct the PIN, then start again"
                );
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
                return Err(Error::new(ErrorKind::Denied, refusal));
            }
            other => other?,
        };
        let command = self.count();
        self.proves(identity, known, input, &signature)?;
        self.signed.happens();
        Ok(Counted { signature, command })
    }

    /// Forgets what was proved by a TPM that may have become another one: the next signature of each key is a first one. A
    /// TPM that was not up all the time counts as connected to anew, even though the connection has not noticed.
    pub(crate) fn doubt(&mut self) -> Result<(), Error> {
        if self.signed.happened() {
            return Ok(());
        }
        self.keys.clear();
        let now = self.esys.clock().map_err(|error| error.failed("cannot read the clock of the TPM"))?;
        if !now.continues(std::mem::replace(&mut self.up, now)) {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The first signature of a key in this connection is verified: its public half can be replaced behind our back.
    pub(crate) fn proves(
        &mut self,
        identity: &Identity,
        known: Known,
        input: &ToSign,
        signature: &[u8],
    ) -> Result<(), Error> {
        if known.proven {
            return Ok(());
        }
        input.verify(&identity.public_key, identity.algorithm, signature).map_err(|_| {
            Error::new(
                ErrorKind::Fault,
                format!("the first signature of {} does not verify under its public key", identity.subject),
            )
        })?;
        self.keys.insert(identity.handle, Known { proven: true, ..known });
        Ok(())
    }

    /// Counts an audited command that has just succeeded; nothing if no epoch of the ledger was begun.
    pub(crate) fn count(&self) -> Option<CommandNumber> {
        let mut last = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &mut *last {
            last.ordinal += 1;
        }
        *last
    }

    /// Begins an epoch, with the command that ended the one before.
    pub(crate) fn begin_epoch(&self, epoch: u64) -> CommandNumber {
        let first = CommandNumber { epoch, ordinal: 1 };
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        first
    }

    /// The open object of a key, after comparing its public half with the one expected.
    pub(crate) fn known(&mut self, identity: &Identity) -> Result<Known, Error> {
        if let Some(known) = self.keys.get(&identity.handle) {
            return Ok(*known);
        }
        let subject = &identity.subject;
        let object = key::persistent(&mut self.esys, identity)?;
        let (_, found) = key::read(&mut self.esys, object, subject)?;
        if found != identity.public_key {
            return Err(Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject} has become another key: {} instead of {}. Nothing is signed with it; find out who changed the TPM",
                    found.id(),
                    identity.public_key.id()
                ),
            ));
        }
        if let Some(auth) = &self.auth {
            self.esys
                .set_auth(object, auth.read()?.expose().as_bytes())
                .map_err(|error| error.failed(format!("cannot set the authorisation of {subject}")))?;
        }
        let known = Known { object, proven: false };
        self.keys.insert(identity.handle, known);
        Ok(known)
    }
}

fn signs_messages(attributes: ObjectAttributes) -> bool {
    attributes.has(ObjectAttributes::SIGN) && !attributes.has(ObjectAttributes::RESTRICTED)
}

/// A key that signs for us was made in its TPM, cannot leave it, and signs as `algorithm` says.
fn is_sound(area: &PublicArea, algorithm: KeyAlgorithm, subject: &str) -> Result<(), Error> {
    let held = ObjectAttributes::FIXED_TPM
        | ObjectAttributes::FIXED_PARENT
        | ObjectAttributes::SENSITIVE_DATA_ORIGIN;
    if !area.attributes.has(held) {
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "{subject} can leave its TPM or was not made in it (attributes {}); make a new key that is fixedTPM, fixedParent and sensitiveDataOrigin",
                area.attributes
            ),
        ));
    }
    let key = area.public_key().map_err(|error| {
        Error::with_source(ErrorKind::Unsupported, format!("the public key of {subject}"), error)
    })?;
    let scheme = area.scheme();
    let signs_so = matches!(
        (algorithm, scheme),
        (_, Scheme::None)
            | (KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384, Scheme::Ecdsa(_))
            | (KeyAlgorithm::RsaPss(_), Scheme::RsaPss(_))
            | (KeyAlgorithm::RsaPkcs1(_), Scheme::RsaSsa(_))
    );
    if key.key_type() != algorithm.key_type() || !signs_so || !signs_messages(area.attributes) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{subject} is a {} key with attributes {} and scheme {scheme:?}, but {algorithm} was expected; correct the algorithm or the handle",
                key.key_type(),
                area.attributes
            ),
        ));
    }
    Ok(())
}
