//! An Azure Key Vault on this machine: the part of its REST interface that signing keys need.
//!
//! It checks what the vault checks: tokens (that there is one; not whose it is), the version of the interface, types
//! and sizes of keys, which algorithm a key takes and how long its digests are, `key_ops`, and whether a version is
//! enabled, begun and not expired; and it fails on demand. Creating a key under a name that is there makes another
//! version of it, as the vault does. Its keys are in memory, whatever `kty` and `hsmPlatform` claim.

mod service;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use undercroft_keymgr::{AzureKvUri, Device, Error, ErrorKind, KeyUri};
use undercroft_keys::KeyAlgorithm;

use crate::loopback::LoopbackServer;
use crate::programs::SimError;
use crate::software::SoftwareKey;

/// What the vault calls itself. Nothing is resolved by this name.
const HOST: &str = "undercroft-sim.vault.azure.net";

/// A simulated vault.
#[derive(Debug)]
pub struct AzureVault {
    vault: Arc<Vault>,
    port: u16,
    server: Option<LoopbackServer>,
}

/// What goes wrong with the next call of a method, and how the vault tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 429, to be tried again after as many seconds (`Retry-After`); nothing was done.
    Throttled(u32),
    /// 503; nobody knows what was done.
    Unavailable,
    /// 403, by access control.
    Denied,
    /// It is done, and the connection dies in the middle of the answer.
    Cut,
    /// No answer ever.
    Silent,
}

/// What is wrong in an answer that says that all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// A bit of the signature has flipped.
    Signature,
    /// The signature is another key's.
    OtherKey,
    /// The answer is about another version.
    Kid,
    /// The signature lacks its last byte.
    Short,
}

/// The attributes of a version that tests change.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Whether it may be used.
    pub enabled: bool,
    /// From when it may be used, seconds since 1970.
    pub not_before: Option<i64>,
    /// Until when it may be used, seconds since 1970.
    pub expires: Option<i64>,
    /// Whether it may leave the vault under its release policy.
    pub exportable: bool,
    /// Whether it signs (`key_ops`).
    pub signs: bool,
}

impl AzureVault {
    /// Starts a vault on a free port, in which it is `now`, in seconds since 1970, until it is told otherwise.
    ///
    /// # Errors
    /// There is no port to be had.
    pub fn start(now: i64) -> Result<Self, SimError> {
        Self::on_port(0, now)
    }

    /// Starts it on this port.
    ///
    /// # Errors
    /// The port is taken.
    pub fn on_port(port: u16, now: i64) -> Result<Self, SimError> {
        let vault = Arc::<Vault>::default();
        vault.lock().now = now;
        let server = LoopbackServer::start(port, service::router(vault.clone()))?;
        Ok(Self { port: server.address().port(), vault, server: Some(server) })
    }

    /// How it is found.
    pub fn device(&self, name: &str) -> Device {
        Device::new(
            name,
            KeyUri::AzureKv(AzureKvUri {
                vault: Some(HOST.into()),
                endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
                ..AzureKvUri::default()
            }),
        )
    }

    /// Stops answering: connections are cut, new ones refused.
    pub fn leave(&mut self) {
        self.server = None;
    }

    /// Answers again, on the same port and with the same keys.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub fn come_back(&mut self) -> Result<(), SimError> {
        self.server = Some(LoopbackServer::start(self.port, service::router(self.vault.clone()))?);
        Ok(())
    }

    /// The next call of `method`, such as `sign`, goes wrong in this way.
    pub fn fail(&self, method: &'static str, failure: Failure) {
        self.vault.lock().failures.push_back((method, failure));
    }

    /// The next answer that can be wrong in this way is.
    pub fn corrupt(&self, corruption: Corruption) {
        self.vault.lock().corruptions.push_back(corruption);
    }

    /// Sets the vault's clock, in seconds since 1970.
    pub fn set_time(&self, now: i64) {
        self.vault.lock().now = now;
    }

    /// Changes the attributes of the newest version of a key.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Attributes)) {
        let mut state = self.vault.lock();
        if let Some(version) = state.keys.get_mut(key).and_then(|versions| versions.last_mut()) {
            change(&mut version.attributes);
        }
    }

    /// Makes a further version of a key, as a rotation behind our back does.
    ///
    /// # Errors
    /// `Fault` if there is no such key, or the library makes none.
    pub fn rotate(&self, key: &str) -> Result<(), Error> {
        let mut state = self.vault.lock();
        let versions = state.keys.get_mut(key);
        let versions = versions.ok_or_else(|| Error::new(ErrorKind::Fault, format!("no key {key}")))?;
        let next = match versions.last() {
            Some(last) => Version::make(last.algorithm, last.hsm)?,
            None => return Ok(()),
        };
        versions.push(next);
        Ok(())
    }

    /// Deletes a key, from which the vault could bring it back.
    pub fn delete(&self, key: &str) {
        let mut state = self.vault.lock();
        if let Some(versions) = state.keys.remove(key) {
            state.deleted.insert(key.to_owned(), versions);
        }
    }

    /// How often `method` was called, refused calls included, those without a token excepted.
    pub fn calls(&self, method: &str) -> usize {
        self.vault.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// How many signatures were made.
    pub fn signatures(&self) -> usize {
        self.vault.lock().signatures
    }

    /// The versions of a key, oldest first.
    pub fn versions(&self, key: &str) -> Vec<String> {
        let state = self.vault.lock();
        state
            .keys
            .get(key)
            .map(|versions| versions.iter().map(|version| version.id.clone()).collect())
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Vault(Mutex<State>);

impl Vault {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    now: i64,
    keys: BTreeMap<String, Vec<Version>>,
    deleted: BTreeMap<String, Vec<Version>>,
    failures: VecDeque<(&'static str, Failure)>,
    corruptions: VecDeque<Corruption>,
    calls: BTreeMap<String, usize>,
    signatures: usize,
}

impl State {
    fn next_failure(&mut self, method: &str) -> Option<Failure> {
        let at = self.failures.iter().position(|(of, _)| *of == method)?;
        self.failures.remove(at).map(|(_, failure)| failure)
    }

    fn is_corrupt(&mut self, corruption: Corruption) -> bool {
        match self.corruptions.iter().position(|next| *next == corruption) {
            Some(at) => self.corruptions.remove(at).is_some(),
            None => false,
        }
    }
}

#[derive(Debug)]
struct Version {
    id: String,
    key: Arc<SoftwareKey>,
    algorithm: KeyAlgorithm,
    hsm: bool,
    attributes: Attributes,
}

impl Version {
    fn make(algorithm: KeyAlgorithm, hsm: bool) -> Result<Self, Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| Error::new(ErrorKind::Fault, format!("no random bytes: {error}")))?;
        let attributes =
            Attributes { enabled: true, not_before: None, expires: None, exportable: false, signs: true };
        Ok(Self {
            id: hex::encode(id),
            key: Arc::new(SoftwareKey::generate(algorithm)?),
            algorithm,
            hsm,
            attributes,
        })
    }
}
