//! An installation with three logs, made by the CA's own code: a ceremony's transcript, the control log, and the log of
//! a domain. The transcript follows the steps of `undercroft-ceremony`, whose tokens would add nothing here.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use futures::executor::block_on;
use hsm_sim::persons::Persons;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_attestors::trust::Trust;
use undercroft_ca::approval::{NAMESPACE, PersonConfig, Roster, RosterConfig};
use undercroft_ca::authority::Authority;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::csr::{Csr, request_for};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::gated::Signing;
use undercroft_ca::issuance::{Issued, Prepared, issue};
use undercroft_ca::log_key::{LogKey, LogOf, origin};
use undercroft_ca::names::{TrustDomain, parse_spiffe_id, parse_trust_domain};
use undercroft_ca::plan::Plan;
use undercroft_ca::policy::{Known, Policy};
use undercroft_ca::profile::{Kind, PolicyArc, Profile};
use undercroft_ca::rotation::Schedule;
use undercroft_ca::serial::{Entropy, NoEntropy, SerialNumber};
use undercroft_ca::service::{
    Advance, CertificateAuthority, DomainSetup, IssueRequest, KnownCeremony, RotateError, RotationOrder,
    ServiceError, Setup,
};
use undercroft_ca::store::Effect;
use undercroft_ca::tbs::{Issuer, Urls};
use undercroft_ca::time::Lifetime;
use undercroft_keymgr::{Error, ErrorKind, Key, SigningKey};
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::Clock;
use undercroft_log::leaf::{
    Body, Caller, Ceremony, CeremonyEvent, Channel, Digest, Draft, KeyEvent, Policy as PolicyLeaf, Text,
    TranscriptHead,
};
use undercroft_log::note::KeyName;
use undercroft_log::sequencer::{self, Append, Driver, Limits};
use undercroft_log_files::{Folder, FolderStore};

use crate::log::{Log, key};
use crate::memory::{Memory, Remembered};

/// Everything that there is, made once for all tests.
pub(crate) static INSTALLATION: LazyLock<Installation> = LazyLock::new(Installation::new);

pub(crate) const OPERATOR_ID: &str = "spiffe://control.example/operator/alice";

pub(crate) struct Installation {
    pub(crate) ceremony: Log,
    pub(crate) control: Log,
    pub(crate) prod: Log,
    pub(crate) control_authority: Signer,
    pub(crate) prod_authority: Signer,
    /// The intermediate of prod.example: a certificate that is no root.
    pub(crate) intermediate: AuthorityCertificate,
}

/// The key of an authority, and what its certificates take from it.
pub(crate) struct Signer {
    pub(crate) key: Arc<SoftwareKey>,
    pub(crate) issuer: Issuer,
}

pub(crate) fn software(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap())
}

/// 2026-11-22T08:00:00Z, and a second later each time that somebody asks.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        Timestamp::from_second(start.as_second() + self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

/// Numbers that are different each time.
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(self.0.fetch_add(1, Ordering::Relaxed) % 0x7f + 1);
        Ok(())
    }
}

/// A token that can be gone.
#[derive(Debug)]
struct Unplugged {
    key: Arc<SoftwareKey>,
    gone: AtomicBool,
}

#[async_trait]
impl SigningKey for Unplugged {
    fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.gone.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, "the token is gone")),
            false => self.key.sign(message).await,
        }
    }
}

/// What a ceremony makes for one domain.
struct Made {
    root: AuthorityCertificate,
    intermediate: AuthorityCertificate,
    key: Arc<SoftwareKey>,
}

const DOMAINS: [&str; 2] = ["control.example", "prod.example"];

fn plan(name: &str) -> Plan {
    let mut text = format!(
        r#"
version = 1
title = "Ceremony {name} of Example"
operator = "ca.example"
name = "{name}"
policy-arc = "1.3.6.1.4.1.32473.1"
transcript = {{ device = "roots", label = "ceremony-log" }}
entropy = "8c1d2f0e5b7a94d36e1f0c8b7a695847362514f3e2d1c0bfae9d8c7b6a594837"
"#
    );
    for domain in DOMAINS {
        text += &format!(
            r#"
[[root]]
name = "{domain}-root"
domains = ["{domain}"]
key = {{ device = "roots", label = "{domain}-{name}", algorithm = "ecdsa-p384" }}
subject = {{ organization = "Example", common-name = "{domain} Root {name}" }}
not-before = 2026-11-22T00:00:00Z
not-after = 2046-11-22T00:00:00Z
urls = {{ crl = "http://pki.ca.example/{domain}/root.crl", certificate = "http://pki.ca.example/{domain}/root.cer" }}
follows = "CP 1.0 section 7.1.1"
output = "{domain}/root.pem"

[[intermediate]]
name = "{domain}-intermediate"
domain = "{domain}"
issuer = "{domain}-root"
request = "{domain}/intermediate"
algorithm = "ecdsa-p256"
subject = {{ organization = "Example", common-name = "{domain} Intermediate {name}" }}
not-before = 2026-11-22T00:00:00Z
not-after = 2027-11-22T00:00:00Z
follows = "CP 1.0 section 7.1.2"
output = "{domain}/intermediate.pem"
"#
        );
    }
    // So many that the list is a blob.
    let revoked: Vec<_> = (0..1000)
        .map(|n| {
            format!("{{ serial = \"01{n:030x}\", date = 2026-11-21T00:00:00Z, reason = \"superseded\" }}")
        })
        .collect();
    text += &format!(
        r#"
[[crl]]
name = "prod-root-crl"
issuer = "prod.example-root"
number = 1
this-update = 2026-11-22T00:00:00Z
next-update = 2027-05-22T00:00:00Z
revoked = [{}]
follows = "CP 1.0 section 7.2"
output = "prod.example/root.crl"
"#,
        revoked.join(", ")
    );
    Plan::parse("plan.toml", &text).unwrap()
}

/// An open log, and what drives it.
async fn open(
    path: &Path,
    origin: &KeyName,
    log_key: &Arc<SoftwareKey>,
    memory: &Arc<Memory>,
    clock: &Arc<Ticking>,
) -> (sequencer::Log<Effect>, Driver) {
    let store = FolderStore::open(path).unwrap();
    let store = Remembered { store, origin: origin.to_string(), memory: memory.clone() };
    let signer = Arc::new(LogKey::new(origin.clone(), key(log_key)).unwrap());
    sequencer::open(Arc::new(store), signer, clock.clone(), Limits::default()).await.unwrap()
}

async fn append(log: &sequencer::Log<Effect>, body: &Body) {
    log.append(Append::new(Draft::new(body).unwrap())).await.unwrap();
}

async fn sign(log: &sequencer::Log<Effect>, prepared: Prepared, key: &SoftwareKey) -> Issued {
    let receipt = log.append(prepared.intent()).await.unwrap();
    let issued = issue(prepared, receipt, Signing::Directly(key)).await.unwrap();
    log.append(issued.outcome().unwrap()).await.unwrap();
    issued
}

/// Runs the ceremony of a plan: its transcript, and what it made for each domain.
fn ceremony(plan: &Plan, path: &Path, clock: &Arc<Ticking>) -> (Log, Vec<Made>) {
    let log_key = software(KeyAlgorithm::Ed25519);
    let made = block_on(async {
        let (log, driver) = open(path, plan.origin(), &log_key, &Arc::default(), clock).await;
        let steps = async {
            let made = steps(plan, &log, &log_key).await;
            log.close();
            made
        };
        let (made, ended) = futures::join!(steps, driver);
        ended.unwrap();
        made
    });
    std::fs::write(
        path.join("log.vkey"),
        format!("{}\n", Log::read(path, log_key.clone(), plan.origin().clone()).verifier()),
    )
    .unwrap();
    (Log::read(path, log_key, plan.origin().clone()), made)
}

async fn steps(plan: &Plan, log: &sequencer::Log<Effect>, log_key: &Arc<SoftwareKey>) -> Vec<Made> {
    let note = |event, text: &str| Body::Ceremony(Ceremony::told(event, plan.digest(), text));
    let record = async |key: Key, event, purpose: &str| {
        let (purpose, uri) = (purpose.to_owned(), format!("pkcs11:object={purpose}"));
        CustodyRecord::of(&key, event, purpose, uri, &Trust::default(), jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap()
            .entry
    };
    append(log, &note(CeremonyEvent::Opened, plan.title())).await;
    append(log, &record(key(log_key), KeyEvent::Opened, "transcript").await).await;
    let text = plan.text().as_bytes().to_vec();
    let policy = PolicyLeaf { sha256: plan.digest(), previous: None, text: Text::Blob(text.len() as u64) };
    let draft = Draft::new(&Body::Policy(policy)).unwrap();
    log.append(Append { draft, effects: Vec::new(), blobs: vec![text] }).await.unwrap();
    let mut made = Vec::new();
    for (number, (root, intermediate)) in (1..).zip(plan.roots().iter().zip(plan.intermediates())) {
        let serial = |last| {
            SerialNumber::from_bytes([number, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, last]).unwrap()
        };
        append(log, &note(CeremonyEvent::Step, root.name())).await;
        let root_key = software(root.key().algorithm);
        append(log, &record(key(&root_key), KeyEvent::Made, root.name()).await).await;
        let prepared = root.prepare(plan, root_key.public_key(), serial(1)).unwrap();
        let root_certificate =
            AuthorityCertificate::from_der(sign(log, prepared, &root_key).await.der()).unwrap();
        let own_key = software(intermediate.algorithm());
        append(log, &record(key(&own_key), KeyEvent::Received, intermediate.name()).await).await;
        let csr = Csr::from_der(&request_for(&*own_key).await.unwrap()).unwrap();
        let issuer = root.issuer(root_key.public_key());
        let prepared = intermediate
            .prepare(plan, &issuer, root_key.public_key(), csr.public_key(), Some(csr.digest()), serial(2))
            .unwrap();
        let issued = sign(log, prepared, &root_key).await;
        let certificate = AuthorityCertificate::from_der(issued.der()).unwrap();
        for crl in plan.crls().iter().filter(|crl| crl.issuer() == root.name()) {
            sign(log, crl.prepare(plan, &issuer, root_key.public_key()).unwrap(), &root_key).await;
        }
        made.push(Made { root: root_certificate, intermediate: certificate, key: own_key });
    }
    append(log, &note(CeremonyEvent::Closed, "every step of the plan is done")).await;
    made
}

fn policy(domains: &[TrustDomain], comment: &str) -> Policy {
    let text = format!(
        r#"# {comment}
[[rule]]
name = "prod-workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
"#
    );
    let profiles = Kind::ALL.map(Profile::standard);
    Policy::parse("policy.toml", &text, Known { domains, profiles: &profiles }).unwrap()
}

fn urls(domain: &str) -> Urls {
    Urls {
        crl: format!("http://pki.ca.example/{domain}/i1.crl").parse().unwrap(),
        certificate: format!("http://pki.ca.example/{domain}/i1.cer").parse().unwrap(),
        ocsp: None,
        crl_shards: None,
    }
}

/// What the two runs of a daemon have in common.
struct Daemon<'a> {
    path: &'a Path,
    log_keys: [Arc<SoftwareKey>; 2],
    memory: Arc<Memory>,
    clock: Arc<Ticking>,
    entropy: Arc<Counting>,
    quorum: Quorum,
    transcript: KnownCeremony,
}

impl Daemon<'_> {
    fn origin(domain: &TrustDomain) -> KeyName {
        let log = if domain.as_str() == DOMAINS[0] { LogOf::Control } else { LogOf::Domain(domain) };
        origin("ca.example", log, 1).unwrap()
    }

    /// Starts the CA, lets callers come, and stops it.
    fn run(
        &self,
        comment: &str,
        roots: [Vec<AuthorityCertificate>; 2],
        authorities: [(&Made, Key); 2],
        story: impl AsyncFnOnce(&CertificateAuthority),
    ) {
        let names = DOMAINS.map(|name| parse_trust_domain(name).unwrap());
        block_on(async {
            let (mut domains, mut drivers) = (Vec::new(), Vec::new());
            for (at, (roots, (made, key_of_authority))) in roots.into_iter().zip(authorities).enumerate() {
                let path = self.path.join(DOMAINS[at]);
                let (log, driver) =
                    open(&path, &Self::origin(&names[at]), &self.log_keys[at], &self.memory, &self.clock)
                        .await;
                drivers.push(driver);
                let authority = Authority::new(
                    "i1".into(),
                    names[at].clone(),
                    made.intermediate.clone(),
                    &roots,
                    key_of_authority,
                    urls(DOMAINS[at]),
                )
                .unwrap();
                domains.push(DomainSetup {
                    name: names[at].clone(),
                    log,
                    log_keys: vec![(key(&self.log_keys[at]), "pkcs11:object=log".into())],
                    authorities: vec![(authority, "pkcs11:object=i1".into())],
                    roots,
                    refresh_hint: undercroft_ca::bundle::REFRESH_HINT,
                    consumers: Vec::new(),
                    replicas: Vec::new(),
                    revocation: Vec::new(),
                    custody: undercroft_attestors::custody::Demand::Declared,
                    log_custody: undercroft_attestors::custody::Demand::Declared,
                });
            }
            let setup = Setup {
                version: "0.1.0".into(),
                configuration: Digest::of(b"configuration"),
                development: true,
                domains,
                policy: policy(&names, comment),
                policy_arc: "1.3.6.1.4.1.32473.1".parse::<PolicyArc>().unwrap(),
                caller_profile: Profile::standard(Kind::Svid),
                ceremonies: vec![self.transcript.clone()],
                witness_grace: undercroft_ca::time::Lifetime::seconds(600),
                roster: Some(self.quorum.roster()),
                nodes: None,
                facts: self.memory.clone(),
                revocations: self.memory.clone(),
                trust: Arc::default(),
                clock: self.clock.clone(),
                entropy: self.entropy.clone(),
            };
            let told = async {
                let ca = CertificateAuthority::start(setup).await.unwrap();
                story(&ca).await;
                ca.close();
            };
            let ((), ended) = futures::join!(told, futures::future::join_all(drivers));
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
    }
}

impl Installation {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let clock = Arc::new(Ticking(AtomicI64::new(0)));
        let plan_of_ceremony = plan("2026-11");
        let (transcript, made) = ceremony(&plan_of_ceremony, &path.join("ceremony"), &clock);
        // The roots that come after.
        let (_, next) = ceremony(&plan("2026-12"), &path.join("next"), &clock);
        let [control, prod] = &made[..] else { panic!() };

        let head = TranscriptHead {
            verifier_key: transcript.verifier().to_string(),
            checkpoint: Folder::new(path.join("ceremony")).checkpoint().unwrap().unwrap(),
        };
        let daemon = Daemon {
            path,
            log_keys: [software(KeyAlgorithm::Ed25519), software(KeyAlgorithm::Ed25519)],
            memory: Arc::default(),
            clock,
            entropy: Arc::new(Counting(AtomicU8::new(0))),
            quorum: Quorum(Persons::new(&["bob", "carol"]).unwrap()),
            // Its plan has no roster.
            transcript: KnownCeremony {
                plan: plan_of_ceremony.digest(),
                transcript: head,
                origin: plan_of_ceremony.origin().to_string(),
                formal_for: Vec::new(),
                stated: Vec::new(),
            },
        };
        let roots = || [vec![control.root.clone()], vec![prod.root.clone()]];
        let unplugged = Arc::new(Unplugged { key: prod.key.clone(), gone: AtomicBool::new(false) });
        let prod_key =
            Key { signer: unplugged.clone(), custody: prod.key.clone(), gated: None, prehashed: None };
        daemon.run("first", roots(), [(control, key(&control.key)), (prod, prod_key)], async |ca| {
            first_run(ca, &unplugged).await;
        });
        let both = [roots()[0].clone(), vec![prod.root.clone(), next[1].root.clone()]];
        daemon.run("second", both, [(control, key(&control.key)), (prod, key(&prod.key))], async |ca| {
            rotate(ca, &daemon.quorum, &next[1].root).await;
            ca.issue(&parse_spiffe_id(OPERATOR_ID).unwrap(), &request("d").await).await.unwrap();
        });

        let log = |at: usize| {
            let origin = Daemon::origin(&parse_trust_domain(DOMAINS[at]).unwrap());
            Log::read(&path.join(DOMAINS[at]), daemon.log_keys[at].clone(), origin)
        };
        Self {
            control: log(0),
            prod: log(1),
            ceremony: transcript,
            control_authority: Signer::new(control, DOMAINS[0]),
            prod_authority: Signer::new(prod, DOMAINS[1]),
            intermediate: prod.intermediate.clone(),
        }
    }
}

impl Signer {
    fn new(made: &Made, domain: &str) -> Self {
        let certificate = &made.intermediate;
        let issuer = Issuer {
            name: certificate.subject().clone(),
            key_identifier: certificate.subject_key_identifier().to_vec(),
            algorithm: made.key.algorithm().signature_algorithm(),
            validity: certificate.validity(),
            urls: urls(domain),
        };
        Self { key: made.key.clone(), issuer }
    }
}

/// What somebody asks for who holds a new key.
async fn request(name: &str) -> IssueRequest {
    IssueRequest {
        domain: "prod.example".into(),
        profile: "svid".into(),
        csr: request_for(&*software(KeyAlgorithm::EcdsaP256)).await.unwrap(),
        spiffe_id: format!("spiffe://prod.example/ns/a/sa/{name}"),
        ..IssueRequest::default()
    }
}

/// Begins the rotation of the root of prod.example, which publishes the next one beside it; and tries to go on at once.
async fn rotate(ca: &CertificateAuthority, quorum: &Quorum, next: &AuthorityCertificate) {
    let prod = DOMAINS[1];
    let caller = || Caller { id: "uid:0".into(), by: Channel::UnixSocket };
    let order = RotationOrder {
        schedule: Schedule::Planned,
        replace: vec![("i1".into(), "i2".into())],
        new_root: Some(next.der().to_vec()),
    };
    ca.plan_rotation(caller(), prod, order, false).await.unwrap();
    let statement = ca.rotation_statement(prod, "alice", Lifetime::days(1)).await.unwrap().unwrap();
    let approval = Some((statement.clone(), quorum.sign(&statement)));
    ca.advance_rotation(caller(), prod, Advance { approval, ..Advance::default() }).await.unwrap();
    let early = ca.advance_rotation(caller(), prod, Advance::default()).await.unwrap_err();
    assert!(matches!(early, RotateError::NotYet(_)), "{early}");
}

/// Who approves.
pub(crate) struct Quorum(Persons);

impl Quorum {
    fn roster(&self) -> Roster {
        let persons = self.0.keys().unwrap().into_iter();
        let persons = persons.map(|(name, key)| PersonConfig { name, keys: vec![key] }).collect();
        Roster::new(RosterConfig { quorum: 2, persons }).unwrap()
    }

    fn sign(&self, statement: &str) -> Vec<String> {
        ["bob", "carol"].map(|name| self.0.sign(name, NAMESPACE, statement).unwrap()).into()
    }
}

async fn first_run(ca: &CertificateAuthority, prod_token: &Unplugged) {
    for domain in ca.domains() {
        let name = format!("ca.{}", domain.name().as_str()).parse().unwrap();
        let server_key = software(KeyAlgorithm::EcdsaP256);
        ca.issue_server_certificate(domain.name(), &[name], server_key.public_key()).await.unwrap();
    }
    let administrator = Caller { id: "uid:0".into(), by: Channel::UnixSocket };
    let (token, _) = ca.create_enrolment(administrator, OPERATOR_ID, Lifetime::hours(1)).await.unwrap();
    let csr = request_for(&*software(KeyAlgorithm::EcdsaP256)).await.unwrap();
    ca.enrol(&token, &csr).await.unwrap();
    let again = ca.enrol(&token, &csr).await.unwrap_err();
    assert!(matches!(again, ServiceError::Refused(_)), "{again}");

    let alice = parse_spiffe_id(OPERATOR_ID).unwrap();
    ca.issue(&alice, &request("a").await).await.unwrap();
    ca.issue(&alice, &request("b").await).await.unwrap();
    let too_long = IssueRequest { lifetime: Some(Lifetime::seconds(u64::MAX)), ..request("a").await };
    for refused in [
        IssueRequest { profile: "root".into(), ..request("a").await },
        IssueRequest { domain: "elsewhere.example".into(), ..request("a").await },
        too_long,
    ] {
        let refusal = ca.issue(&alice, &refused).await.unwrap_err();
        assert!(matches!(refusal, ServiceError::Refused(_)), "{refusal}");
    }
    prod_token.gone.store(true, Ordering::Relaxed);
    let told = ca.issue(&alice, &request("c").await).await.unwrap_err();
    assert!(matches!(told, ServiceError::Unavailable(_)), "{told}");
}
