//! A CA in this process: SQLite below it, certificates that rcgen made, and keys that the tests can make fail.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType, SubjectPublicKeyInfo,
};
use undercroft::store::{Database, SqliteLog};
use undercroft_attestors::custody::Demand;
use undercroft_ca::approval::Roster;
use undercroft_ca::authority::Authority;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::log_key::{LogKey, LogOf, origin};
use undercroft_ca::names::{parse_spiffe_id, parse_trust_domain};
use undercroft_ca::nodes::NodePolicy;
use undercroft_ca::policy::{Known, Policy};
use undercroft_ca::profile::{Assured, Kind, Profile, ProfileConfig};
use undercroft_ca::serial::Entropy;
use undercroft_ca::service::{
    CertificateAuthority, DomainSetup, IssueRequest, IssuedCertificate, KnownCeremony, NodeSetup, OcspSetup,
    RevocationSetup, ServiceError, Setup, StartError,
};
use undercroft_ca::store::Effect;
use undercroft_ca::tbs::Urls;
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_keymgr::{Error, ErrorKind, Key, SigningKey};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::Clock;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::cosigning::{Cosigner, NotCosigned, Wait};
use undercroft_log::leaf::{Body, Digest, Leaf};
use undercroft_log::sequencer::{self, Limits};
use undercroft_log::store::{Batch, CommitError, Head, LogReader, LogStore, StoreError};
use undercroft_log::tree::Hash;

pub(crate) const POLICY: &str = r#"
[[rule]]
name = "workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
dns-names = ["*.prod.example"]
max-lifetime = "4h"

[[rule]]
name = "spire"
callers = ["spiffe://control.example/server/prod"]
domain = "prod.example"
profile = "spire-ca"

[[rule]]
name = "soon"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "soon"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
"#;

/// Workloads whose certificates are signed when their intents are durable.
fn soon() -> ProfileConfig {
    ProfileConfig {
        name: "soon".into(),
        kind: Kind::Svid,
        lifetime: None,
        max_lifetime: None,
        keys: None,
        assurance: Assured::Durable,
    }
}

/// What a key does when it is asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Signs,
    Fails,
    Hangs,
    /// Signs when its mood is another one.
    Waits,
    SignsSomethingElse,
}

/// A key whose token has moods.
#[derive(Debug)]
pub(crate) struct MoodyKey {
    key: Key,
    mood: AtomicU8,
    waiting: AtomicU64,
    signatures: AtomicU64,
}

impl MoodyKey {
    fn new(key: Key) -> Arc<Self> {
        Arc::new(Self {
            key,
            mood: AtomicU8::new(Mood::Signs as u8),
            waiting: AtomicU64::default(),
            signatures: AtomicU64::default(),
        })
    }

    fn key(self: &Arc<Self>) -> Key {
        Key { signer: self.clone(), custody: self.clone(), gated: None, prehashed: None }
    }

    /// How many signatures wait for another mood.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How often it has been asked to sign.
    pub(crate) fn signatures(&self) -> u64 {
        self.signatures.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }
}

/// A key in this process.
pub(crate) fn software(algorithm: KeyAlgorithm) -> Key {
    let key = Arc::new(SoftwareKey::generate(algorithm).unwrap());
    Key { signer: key.clone(), custody: key, gated: None, prehashed: None }
}

#[async_trait]
impl SigningKey for MoodyKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.key.signer.algorithm()
    }

    fn public_key(&self) -> &PublicKey {
        self.key.signer.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.signatures.fetch_add(1, Ordering::SeqCst);
        if self.mood.load(Ordering::SeqCst) == Mood::Waits as u8 {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            while self.mood.load(Ordering::SeqCst) == Mood::Waits as u8 {
                tokio::task::yield_now().await;
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        match self.mood.load(Ordering::SeqCst) {
            mood if mood == Mood::Fails as u8 => {
                Err(Error::new(ErrorKind::Unavailable, "the token has been pulled out"))
            }
            mood if mood == Mood::Hangs as u8 => std::future::pending().await,
            mood if mood == Mood::SignsSomethingElse as u8 => self.key.signer.sign(b"something else").await,
            _ => self.key.signer.sign(message).await,
        }
    }
}

#[async_trait]
impl undercroft_keymgr::ProveCustody for MoodyKey {
    async fn custody_evidence(&self) -> Result<undercroft_keymgr::CustodyEvidence, Error> {
        self.key.custody.custody_evidence().await
    }
}

/// A witness that answers or does not, as it is told.
#[derive(Default)]
pub(crate) struct MoodyWitness {
    pub(crate) is_away: AtomicBool,
}

#[async_trait]
impl Cosigner for MoodyWitness {
    async fn cosign(
        &self,
        _: &SignedCheckpoint,
        _: Arc<dyn LogReader>,
        _: Wait,
    ) -> Result<Vec<String>, NotCosigned> {
        match self.is_away.load(Ordering::SeqCst) {
            false => Ok(Vec::new()),
            true => Err(NotCosigned::TooFew("`w1`: away".to_owned())),
        }
    }

    async fn alarm(&self) -> String {
        std::future::pending().await
    }
}

/// A clock that stands until it is set.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// When a write is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

pub(crate) type AtEachWrite = Arc<dyn Fn(Moment) + Send + Sync>;

/// A log that tells of everything that is about to become durable, and has.
struct WatchedLog {
    store: SqliteLog,
    told: AtEachWrite,
}

#[async_trait]
impl LogStore<Effect> for WatchedLog {
    async fn head(&self) -> Result<Head, StoreError> {
        self.store.head().await
    }

    async fn commit(&self, batch: Batch<Effect>) -> Result<(), CommitError> {
        (self.told)(Moment::Before);
        let committed = self.store.commit(batch).await;
        (self.told)(Moment::After);
        committed
    }

    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        (self.told)(Moment::Before);
        let kept = self.store.keep_checkpoint(checkpoint).await;
        (self.told)(Moment::After);
        kept
    }
}

#[async_trait]
impl LogReader for WatchedLog {
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.store.kept_checkpoint().await
    }

    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.entries(range).await
    }

    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError> {
        self.store.full_tile(level, index).await
    }

    async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.blob(digest).await
    }
}

/// A domain of the installation.
pub(crate) struct DomainRig {
    pub(crate) name: &'static str,
    pub(crate) key: Arc<MoodyKey>,
    pub(crate) roots: Vec<AuthorityCertificate>,
    pub(crate) log_key: Arc<MoodyKey>,
    intermediate: AuthorityCertificate,
    /// The authority `i2` and its root, for those who rotate.
    pub(crate) next: Option<NextRig>,
}

/// An authority that comes after another.
pub(crate) struct NextRig {
    pub(crate) root: AuthorityCertificate,
    intermediate: AuthorityCertificate,
    key: Arc<MoodyKey>,
}

impl NextRig {
    /// Below `root`.
    pub(crate) fn new(domain: &str, root: &RootRig) -> Self {
        let key = MoodyKey::new(software(KeyAlgorithm::EcdsaP256));
        let intermediate = root.intermediate(domain, key.key.signer.public_key(), false);
        Self { root: root.certificate.clone(), intermediate, key }
    }
}

/// What an installation may be started with besides the ordinary.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) development: bool,
    pub(crate) policy: String,
    pub(crate) more_roots: bool,
    /// Who may approve that roots change.
    pub(crate) roster: Option<Roster>,
    /// Ceremonies whose transcripts are known.
    pub(crate) ceremonies: Vec<KnownCeremony>,
    /// Who is waited for in rotations.
    pub(crate) consumers: Vec<String>,
    /// The key of a responder of `prod.example`, whose revocations are published then.
    pub(crate) responder: Option<Arc<SoftwareKey>>,
    /// The policy for nodes.
    pub(crate) nodes: Option<NodePolicy>,
    /// Random bytes.
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            development: true,
            policy: POLICY.to_owned(),
            more_roots: false,
            roster: None,
            ceremonies: Vec::new(),
            consumers: Vec::new(),
            responder: None,
            nodes: None,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// An installation that can be started again and again.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    /// A witness that answers or does not, as it is told; nothing for logs without witnesses.
    pub(crate) witness: Option<Arc<MoodyWitness>>,
    pub(crate) domains: Vec<DomainRig>,
    /// Told before and after everything that becomes durable.
    pub(crate) at_each_write: Mutex<Option<AtEachWrite>>,
    runtime: tokio::runtime::Runtime,
}

/// A root that rcgen holds the key of.
pub(crate) struct RootRig {
    issuer: Issuer<'static, KeyPair>,
    name: DistinguishedName,
    pub(crate) certificate: AuthorityCertificate,
}

impl RootRig {
    /// The name and key of `subject`, certified by this root.
    pub(crate) fn cross(&self, subject: &Self) -> AuthorityCertificate {
        let mut params = authority(&[], "", 2026, 2027);
        params.distinguished_name = subject.name.clone();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
        let spki = SubjectPublicKeyInfo::from_der(subject.certificate.public_key().spki()).unwrap();
        AuthorityCertificate::from_der(params.signed_by(&spki, &self.issuer).unwrap().der()).unwrap()
    }

    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority(&[], &format!("{name} Root"), 2026, 2046);
        let certificate = params.self_signed(&key).unwrap();
        let certificate = AuthorityCertificate::from_der(certificate.der()).unwrap();
        Self { name: params.distinguished_name.clone(), issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn intermediate(
        &self,
        domain: &str,
        key: &PublicKey,
        constrained: bool,
    ) -> AuthorityCertificate {
        // It ends on 2027-01-01.
        self.intermediate_until(2027, domain, key, constrained)
    }

    fn intermediate_until(
        &self,
        end: i32,
        domain: &str,
        key: &PublicKey,
        constrained: bool,
    ) -> AuthorityCertificate {
        let uri = SanType::URI(format!("spiffe://{domain}").try_into().unwrap());
        let mut params = authority(&[uri], &format!("{domain} I1"), 2026, end);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        if constrained {
            let permitted = vec![GeneralSubtree::DnsName(domain.to_owned())];
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: vec![] });
        }
        let spki = SubjectPublicKeyInfo::from_der(key.spki()).unwrap();
        let certificate = params.signed_by(&spki, &self.issuer).unwrap();
        AuthorityCertificate::from_der(certificate.der()).unwrap()
    }
}

fn authority(names: &[SanType], subject: &str, begins: i32, ends: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = names.to_vec();
    params.not_before = rcgen::date_time_ymd(begins, 1, 1);
    params.not_after = rcgen::date_time_ymd(ends, 1, 1);
    params
}

impl Rig {
    /// Two domains with a root each, at 2026-11-22T08:00:00Z.
    pub(crate) fn new() -> Self {
        let (control, prod) = (RootRig::new("control"), RootRig::new("prod"));
        Self::with([("control.example", &control, false), ("prod.example", &prod, false)])
    }

    pub(crate) fn with(domains: [(&'static str, &RootRig, bool); 2]) -> Self {
        Self::with_keys(domains, |_, algorithm| software(algorithm))
    }

    /// The same, with keys that `make` makes, for a domain and of an algorithm.
    pub(crate) fn with_keys(
        domains: [(&'static str, &RootRig, bool); 2],
        make: impl Fn(&str, KeyAlgorithm) -> Key,
    ) -> Self {
        let domains = domains.map(|(name, root, constrained)| {
            let key = make(name, KeyAlgorithm::EcdsaP256);
            let key = MoodyKey::new(key);
            let log_key = MoodyKey::new(make(name, KeyAlgorithm::Ed25519));
            DomainRig {
                name,
                roots: vec![root.certificate.clone()],
                intermediate: root.intermediate(name, key.public_key(), constrained),
                key,
                log_key,
                next: None,
            }
        });
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock(AtomicI64::new(now.as_second()))),
            witness: None,
            domains: domains.into(),
            at_each_write: Mutex::default(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    /// Two domains with a root each, at this machine's time: for evidence that is made while the test runs.
    pub(crate) fn of_today() -> Self {
        let (control, prod) = (RootRig::new("control"), RootRig::new("prod"));
        let mut rig = Self::with([("control.example", &control, false), ("prod.example", &prod, false)]);
        for (domain, root) in rig.domains.iter_mut().zip([&control, &prod]) {
            domain.intermediate = root.intermediate_until(2046, domain.name, domain.key.public_key(), false);
        }
        // A while ahead, so that what is made in between is valid.
        rig.clock.0.store(SystemClock.now().as_second() + 60, Ordering::SeqCst);
        rig
    }

    /// Starts the CA, runs a story, and stops it.
    pub(crate) fn run<T>(&self, story: impl AsyncFnOnce(&Arc<CertificateAuthority>) -> T) -> T {
        self.start(&Options::default(), story).unwrap()
    }

    pub(crate) fn start<T>(
        &self,
        options: &Options,
        story: impl AsyncFnOnce(&Arc<CertificateAuthority>) -> T,
    ) -> Result<T, StartError> {
        self.runtime.block_on(async {
            let database = Database::open(&self.database()).await.unwrap();
            let mut drivers = Vec::new();
            let mut domains = Vec::new();
            for domain in &self.domains {
                let (setup, driver) = self.open(domain, &database, options).await;
                domains.push(setup);
                drivers.push(tokio::spawn(driver));
            }
            let names: Vec<_> = domains.iter().map(|domain| domain.name.clone()).collect();
            let mut profiles = Kind::ALL.map(Profile::standard).to_vec();
            profiles.push(Profile::from_config(soon()).unwrap());
            let known = Known { domains: &names, profiles: &profiles };
            let setup = Setup {
                version: "0.0.0".into(),
                configuration: Digest::of(b"configuration"),
                development: options.development,
                domains,
                policy: Policy::parse("policy.toml", &options.policy, known).unwrap(),
                policy_arc: "1.3.6.1.4.1.32473.1".parse().unwrap(),
                caller_profile: Profile::standard(Kind::Svid),
                ceremonies: options.ceremonies.clone(),
                witness_grace: undercroft_ca::time::Lifetime::seconds(600),
                roster: options.roster.clone(),
                nodes: options.nodes.clone().map(|policy| NodeSetup { policy, profiles: profiles.clone() }),
                facts: Arc::new(database.clone()),
                revocations: Arc::new(database.clone()),
                trust: Arc::default(),
                clock: self.clock.clone(),
                entropy: options.entropy.clone(),
            };
            let told = match CertificateAuthority::start(setup).await {
                Ok(ca) => {
                    let ca = Arc::new(ca);
                    let told = story(&ca).await;
                    ca.close();
                    Ok(told)
                }
                Err(error) => Err(error),
            };
            for driver in drivers {
                driver.await.unwrap().unwrap();
            }
            database.close().await;
            told
        })
    }

    async fn open(
        &self,
        domain: &DomainRig,
        database: &Database,
        options: &Options,
    ) -> (DomainSetup, futures::future::BoxFuture<'static, Result<(), sequencer::Fatal>>) {
        let log_key = LogKey::new(self.origin(domain.name), domain.log_key.key()).unwrap();
        let store = database.log(self.origin(domain.name).as_str()).await.unwrap();
        let store: Arc<dyn LogStore<Effect>> = match self.at_each_write.lock().unwrap().clone() {
            Some(told) => Arc::new(WatchedLog { store, told }),
            None => Arc::new(store),
        };
        let cosigner = self.witness.clone().map(|witness| witness as Arc<dyn Cosigner>);
        let clock = self.clock.clone();
        let opened =
            sequencer::open_witnessed::<Effect>(store, Arc::new(log_key), cosigner, clock, Limits::default());
        let (log, driver) = opened.await.unwrap();
        let mut roots = domain.roots.clone();
        if options.more_roots {
            roots.push(RootRig::new("next").certificate);
        }
        let responder = options.responder.clone().filter(|_| domain.name == "prod.example");
        let responder = responder.as_ref();
        let revocation = responder.map(|key| RevocationSetup {
            authority: "i1".into(),
            crl_lifetime: Lifetime::days(1),
            delta_lifetime: None,
            ocsp: Some(OcspSetup {
                key: Key { signer: key.clone(), custody: key.clone(), gated: None, prehashed: None },
                uri: "pkcs11:object=ocsp".into(),
                lifetime: Lifetime::hours(1),
            }),
        });
        let urls = Urls {
            crl: "http://pki.example/i1.crl".parse().unwrap(),
            certificate: "http://pki.example/i1.cer".parse().unwrap(),
            ocsp: responder.map(|_| "http://pki.example/ocsp".parse().unwrap()),
            crl_shards: None,
        };
        let name = parse_trust_domain(domain.name).unwrap();
        roots.extend(domain.next.iter().map(|next| next.root.clone()));
        let first = ("i1", &domain.intermediate, domain.key.key());
        let next = domain.next.iter().map(|next| ("i2", &next.intermediate, next.key.key()));
        let authorities = [first].into_iter().chain(next).map(|(called, certificate, key)| {
            let urls = urls.clone();
            let authority =
                Authority::new(called.into(), name.clone(), certificate.clone(), &roots, key, urls);
            (authority.unwrap(), format!("pkcs11:object={called}"))
        });
        let authorities = authorities.collect();
        let setup = DomainSetup {
            revocation: revocation.into_iter().collect(),
            name,
            log,
            log_keys: vec![(domain.log_key.key(), "pkcs11:object=log".into())],
            authorities,
            roots,
            refresh_hint: undercroft_ca::bundle::REFRESH_HINT,
            consumers: options.consumers.iter().map(|id| parse_spiffe_id(id).unwrap()).collect(),
            replicas: Vec::new(),
            custody: Demand::Declared,
            log_custody: Demand::Declared,
        };
        (setup, driver)
    }

    /// The file of the database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("undercroft.db")
    }

    /// Looks at the log of a domain. Of a CA that does not run.
    pub(crate) fn look<T>(&self, domain: &str, story: impl AsyncFnOnce(&Database, &SqliteLog) -> T) -> T {
        self.runtime.block_on(async {
            let database = Database::open(&self.database()).await.unwrap();
            let store = database.log(self.origin(domain).as_str()).await.unwrap();
            let told = story(&database, &store).await;
            database.close().await;
            told
        })
    }

    pub(crate) fn origin(&self, domain: &str) -> undercroft_log::note::KeyName {
        let name = parse_trust_domain(domain).unwrap();
        let log = if domain == self.domains[0].name { LogOf::Control } else { LogOf::Domain(&name) };
        origin("ca.example", log, 1).unwrap()
    }

    /// Everything that stands in the log of a domain. Of a CA that does not run.
    pub(crate) fn log_of(&self, domain: &str) -> Vec<Body> {
        self.look(domain, async |_, store| {
            let size = store.head().await.unwrap().size;
            let leaves = store.entries(0..size).await.unwrap();
            leaves.iter().map(|leaf| Leaf::parse(leaf).unwrap().body).collect()
        })
    }

    /// A large object of the log of `prod.example`. Of a CA that does not run.
    pub(crate) fn blob(&self, digest: Digest) -> Vec<u8> {
        self.look("prod.example", async |_, store| store.blob(digest).await.unwrap().unwrap())
    }

    /// The time by the rig's clock.
    pub(crate) fn time(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Asks as an operator for the certificate of a workload.
pub(crate) async fn ask(
    ca: &CertificateAuthority,
    request: IssueRequest,
) -> Result<IssuedCertificate, ServiceError> {
    ask_as(ca, "spiffe://control.example/operator/alice", request).await
}

pub(crate) async fn ask_as(
    ca: &CertificateAuthority,
    caller: &str,
    request: IssueRequest,
) -> Result<IssuedCertificate, ServiceError> {
    ca.issue(&parse_spiffe_id(caller).unwrap(), &request).await
}

/// A request that policy grants.
pub(crate) fn workload() -> IssueRequest {
    IssueRequest {
        domain: "prod.example".into(),
        profile: "svid".into(),
        csr: csr(&["spiffe://prod.example/ns/pay/sa/ledger"]),
        ..IssueRequest::default()
    }
}

pub(crate) fn csr(uris: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}
