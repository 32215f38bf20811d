//! Google Cloud KMS on this machine: the part of its REST interface (v1) that signing keys need.
//!
//! No registry of packages has a simulator of it, so this is one. It checks what the cloud checks: names, purposes,
//! which digests an algorithm takes, how long they and their checksums are, and in which state a version is; and it
//! fails on demand, so that what its callers do then can be seen. Its keys are in memory, whatever protection level
//! it claims, and it asks nobody who they are unless told to.

pub mod attestation;
mod service;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use undercroft_keymgr::{Device, GcpKmsUri, KeyUri};
use undercroft_keys::KeyAlgorithm;

use crate::loopback::LoopbackServer;
use crate::programs::SimError;
use crate::software::SoftwareKey;
use attestation::Says;
use service::Algorithm;

/// The key ring that there is.
const KEY_RING: &str = "projects/undercroft-sim/locations/europe-west3/keyRings/undercroft";

/// A simulated Cloud KMS with one key ring.
#[derive(Debug)]
pub struct GoogleKms {
    cloud: Arc<Cloud>,
    port: u16,
    server: Option<LoopbackServer>,
}

/// The state of a key version (`CryptoKeyVersionState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Google's names")]
pub enum VersionState {
    Enabled = 1,
    Disabled = 2,
    Destroyed = 3,
    DestroyScheduled = 4,
    PendingGeneration = 5,
}

/// What goes wrong with the next call of a method, and how the cloud tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 429 RESOURCE_EXHAUSTED; nothing was done.
    Throttled,
    /// 503 UNAVAILABLE.
    Unavailable,
    /// 403 PERMISSION_DENIED.
    Denied,
    /// 401 UNAUTHENTICATED.
    Unauthenticated,
    /// It is done, and the connection dies in the middle of the answer.
    Cut,
    /// No answer ever.
    Silent,
}

/// What is wrong in an answer that says that all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// A bit of the signature has flipped; its checksum is that of the right one.
    Signature,
    /// The signature is another key's, its checksum right.
    OtherKey,
    /// The answer is about another version.
    Name,
    /// The checksum of the request was not looked at.
    Unverified,
    /// There is no checksum of the signature.
    NoChecksum,
    /// A letter of the public key's PEM has changed; its checksum is that of the right one.
    Pem,
}

impl GoogleKms {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// There is no port to be had.
    pub fn start() -> Result<Self, SimError> {
        Self::on_port(0)
    }

    /// Starts it on this port.
    ///
    /// # Errors
    /// The port is taken.
    pub fn on_port(port: u16) -> Result<Self, SimError> {
        let cloud = Arc::<Cloud>::default();
        let server = LoopbackServer::start(port, service::router(cloud.clone()))?;
        Ok(Self { port: server.address().port(), cloud, server: Some(server) })
    }

    /// How it is found.
    pub fn device(&self, name: &str) -> Device {
        Device::new(
            name,
            KeyUri::GcpKms(GcpKmsUri {
                project: Some("undercroft-sim".into()),
                location: Some("europe-west3".into()),
                key_ring: Some("undercroft".into()),
                endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
                ..GcpKmsUri::default()
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
        self.server = Some(LoopbackServer::start(self.port, service::router(self.cloud.clone()))?);
        Ok(())
    }

    /// The next call of `method`, such as `asymmetricSign`, goes wrong in this way.
    pub fn fail(&self, method: &'static str, failure: Failure) {
        self.cloud.lock().failures.push_back((method, failure));
    }

    /// The next answer that can be wrong in this way is.
    pub fn corrupt(&self, corruption: Corruption) {
        self.cloud.lock().corruptions.push_back(corruption);
    }

    /// What the module says of keys made from now on; see [`Says`].
    pub fn attest_as(&self, says: Says) {
        self.cloud.lock().says = says;
    }

    /// Keys made from now on stay in PENDING_GENERATION for as many looks at them.
    pub fn generate_slowly(&self, looks: u32) {
        self.cloud.lock().looks = looks;
    }

    /// Puts a version of a key into another state.
    pub fn set_state(&self, key: &str, version: u32, state: VersionState) {
        self.cloud.lock().version(key, version, |version| version.state = state);
    }

    /// Makes a further version of a key, as a rotation behind our back does.
    pub fn rotate(&self, key: &str) {
        let mut state = self.cloud.lock();
        let (says, looks) = (state.says, 0);
        if let Some(key) = state.keys.get_mut(&format!("{KEY_RING}/cryptoKeys/{key}")) {
            // A key that cannot be made is missed by the test that needs it.
            if let Ok(version) = Version::make(key.algorithm, says, looks) {
                let number = key.versions.len() as u32 + 1;
                key.versions.insert(number, version);
            }
        }
    }

    /// A key of another purpose, which signs nothing.
    pub fn make_encryption_key(&self, key: &str) {
        let made =
            CryptoKey { purpose: 1, level: 1, algorithm: Algorithm::of(12), versions: BTreeMap::new() };
        self.cloud.lock().keys.insert(format!("{KEY_RING}/cryptoKeys/{key}"), made);
    }

    /// Sets the IAM policy of the key ring, or of a key in it.
    pub fn set_policy(&self, key: Option<&str>, bindings: Value) {
        let name = match key {
            Some(key) => format!("{KEY_RING}/cryptoKeys/{key}"),
            None => KEY_RING.to_owned(),
        };
        self.cloud.lock().policies.insert(name, bindings);
    }

    /// How often `method` was called, refused calls included.
    pub fn calls(&self, method: &str) -> usize {
        self.cloud.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// How many signatures were made.
    pub fn signatures(&self) -> usize {
        self.cloud.lock().signatures
    }

    /// How many versions a key has.
    pub fn versions(&self, key: &str) -> usize {
        self.cloud
            .lock()
            .keys
            .get(&format!("{KEY_RING}/cryptoKeys/{key}"))
            .map_or(0, |key| key.versions.len())
    }
}

#[derive(Debug, Default)]
struct Cloud(Mutex<State>);

impl Cloud {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    keys: BTreeMap<String, CryptoKey>,
    policies: BTreeMap<String, Value>,
    failures: VecDeque<(&'static str, Failure)>,
    corruptions: VecDeque<Corruption>,
    calls: BTreeMap<String, usize>,
    signatures: usize,
    says: Says,
    looks: u32,
}

impl Default for State {
    fn default() -> Self {
        let ring = json!([
            {"role": "roles/cloudkms.signerVerifier", "members": ["serviceAccount:ca@undercroft-sim.iam.gserviceaccount.com"]}
        ]);
        Self {
            keys: BTreeMap::new(),
            policies: BTreeMap::from([(KEY_RING.to_owned(), ring)]),
            failures: VecDeque::new(),
            corruptions: VecDeque::new(),
            calls: BTreeMap::new(),
            signatures: 0,
            says: Says::default(),
            looks: 1,
        }
    }
}

impl State {
    fn version(&mut self, key: &str, version: u32, change: impl FnOnce(&mut Version)) {
        let key = self.keys.get_mut(&format!("{KEY_RING}/cryptoKeys/{key}"));
        if let Some(version) = key.and_then(|key| key.versions.get_mut(&version)) {
            change(version);
        }
    }

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
struct CryptoKey {
    purpose: i64,
    level: i64,
    algorithm: Algorithm,
    versions: BTreeMap<u32, Version>,
}

#[derive(Debug)]
struct Version {
    key: Arc<SoftwareKey>,
    state: VersionState,
    /// How often it is still looked at before it is there.
    looks: u32,
    says: Says,
}

impl Version {
    fn make(algorithm: Algorithm, says: Says, looks: u32) -> Result<Self, undercroft_keymgr::Error> {
        let key_algorithm: KeyAlgorithm = algorithm.key;
        let state = if looks == 0 { VersionState::Enabled } else { VersionState::PendingGeneration };
        Ok(Self { key: Arc::new(SoftwareKey::generate(key_algorithm)?), state, looks, says })
    }
}
