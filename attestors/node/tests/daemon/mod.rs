//! A daemon that judges evidence as the real one does, and lies where it is told to; and the node that it lies to.

use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use hsm_sim::software::SoftwareKey;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SubjectPublicKeyInfo,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::exchange::{
    Answer, BankName, Challenge, Hello, TpmChallenge, Wanted, WantedBank, read, transcript,
};
use undercroft_attestors::tpm::credential;
use undercroft_attestors::tpm::endorsement::Endorsement;
use undercroft_attestors::tpm::node::{Certification, Maker, Policy, Quote, TpmClass};
use undercroft_ca::csr::Csr;
use undercroft_cli::system::SystemClock;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, PublicKey, SignatureAlgorithm};
use undercroft_log::Clock as _;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{
    Base64Bytes, Body, Caller, Channel, Digest, Draft, HexKeyId, Intent, Object, ToBeSigned,
};
use undercroft_log::note::VerifierKey;
use undercroft_log::proof::TlogProof;
use undercroft_log::tree::leaf_hash;
use undercroft_node::config::{Config, KeyChoice};
use undercroft_proto::node::attest_response::Step;
use undercroft_proto::node::attestation_server::{Attestation, AttestationServer};
use undercroft_proto::node::{AttestRequest, AttestResponse, Issued};
use undercroft_tpm_wire::PublicArea;
use undercroft_upstream::acceptor::{Peer, accept};
use undercroft_upstream::{CertificateForNames, ServerCertificates};

const SECRET: &[u8] = b"a secret of 24 bytes, ok";
const DOMAIN: &str = "prod.example";
const ID: &str = "spiffe://prod.example/node/n1";

/// What the daemon lies about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    Forgets,
    CredentialForAnotherKey,
    CredentialTooLong,
    Expired,
    NoJson,
    Pcrs(Vec<u8>),
    BankTwice,
    BankOfAnother,
    ChallengesTwice,
    SaysNothing,
    AnotherKey,
    AnotherRoot,
    Ended,
    NoChain,
    Id(&'static str),
    TwoIds,
    SaysAnotherId,
    ProofOfAnotherEntry,
    ProofByAnotherKey,
    EntryOfAnotherCertificate,
    EntryOfAnotherDomain,
    NoRoots,
    BundleIsNone,
    WantsNonsense,
    IsAnotherServer,
    ServerUnderAnotherRoot,
    RefusesCurves(&'static str),
}

/// A machine with a TPM and a configuration, and the roots that it believes.
pub(crate) struct Node {
    pub(crate) runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    tpm: Swtpm,
    _running: RunningSwtpm,
    root: Arc<CertifiedIssuer<'static, KeyPair>>,
    /// Where the newest daemon listens.
    port: AtomicU16,
    key: KeyChoice,
}

fn root() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{DOMAIN}").try_into().unwrap())];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Node {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::manufacture(&folder.path().join("t"), Manufacture::WithEndorsement).unwrap();
        let running = tpm.start().unwrap();
        let root = Arc::new(root());
        std::fs::write(folder.path().join("roots.pem"), root.pem()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { runtime, folder, tpm, _running: running, root, port: AtomicU16::new(1), key: KeyChoice::New }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn keep_key(&mut self) {
        self.key = KeyChoice::Keep;
    }

    /// What an owner does who gives the machine away (TPM2_Clear).
    pub(crate) fn clear_tpm(&self) {
        let cleared =
            std::process::Command::new("tpm2_clear").args(["--tcti", &self.tpm.tcti(), "-c", "p"]).status();
        assert!(cleared.unwrap().success());
    }

    pub(crate) fn config(&self) -> Config {
        let key = if self.key == KeyChoice::Keep { "keep" } else { "new" };
        let text = format!(
            "server = \"127.0.0.1:{}\"\ndomain = \"{DOMAIN}\"\nroots = \"roots.pem\"\nstate = \"state\"\noutput = \"svid\"\ntcti = \"{}\"\n[renewal]\nkey = \"{key}\"\n",
            self.port.load(Ordering::Relaxed),
            self.tpm.tcti()
        );
        std::fs::write(self.path("node.toml"), text).unwrap();
        Config::read(&self.path("node.toml")).unwrap()
    }

    fn policy(&self) -> Policy {
        let maker = |path: PathBuf| {
            use x509_cert::der::{DecodePem as _, Encode as _};
            let parsed = x509_cert::Certificate::from_pem(std::fs::read(path).unwrap()).unwrap();
            let certificate = Certificate::from_der(&parsed.to_der().unwrap()).unwrap();
            Maker { certificate, class: TpmClass::Simulated, manufacturers: Vec::new() }
        };
        Policy { makers: self.tpm.manufacturer().into_iter().map(maker).collect(), ..Policy::default() }
    }
}

/// A daemon. It stops when dropped.
pub(crate) struct Daemon {
    judged: Arc<Mutex<Vec<&'static str>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Daemon {
    pub(crate) fn start(node: &Node, lie: Lie) -> Self {
        let judged = Arc::new(Mutex::new(Vec::new()));
        let own = Liar {
            lie: lie.clone(),
            policy: Arc::new(node.policy()),
            root: node.root.clone(),
            judged: judged.clone(),
        };
        let _entered = node.runtime.enter();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        node.port.store(listener.local_addr().unwrap().port(), Ordering::Relaxed);
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = match lie {
            Lie::IsAnotherServer => "spiffe://prod.example/undercroft/other",
            _ => "spiffe://prod.example/undercroft/server",
        };
        let other = self::root();
        let issuer = if lie == Lie::ServerUnderAnotherRoot { &other } else { &*node.root };
        let certificate = leaf(&[id]).signed_by(&key, issuer).unwrap();
        let certificates = Arc::new(ServerCertificates::default());
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        certificates.present(CertificateForNames { names: Vec::new(), chain, key }).unwrap();
        let connections = accept(listener, Arc::new(|| Arc::from([])), certificates, 8).unwrap();
        let server = tonic::transport::Server::builder().add_service(AttestationServer::new(own));
        let server = node.runtime.spawn(async move {
            let _ = server.serve_with_incoming(connections).await;
        });
        Self { judged, server }
    }

    /// What became of each exchange.
    pub(crate) fn judged(&self) -> Vec<&'static str> {
        self.judged.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.server.abort();
        while !self.server.is_finished() {
            std::thread::yield_now();
        }
    }
}

fn leaf(ids: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names =
        ids.iter().map(|id| SanType::URI((*id).to_owned().try_into().unwrap())).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

#[derive(Clone)]
struct Liar {
    lie: Lie,
    policy: Arc<Policy>,
    root: Arc<CertifiedIssuer<'static, KeyPair>>,
    judged: Arc<Mutex<Vec<&'static str>>>,
}

#[tonic::async_trait]
impl Attestation for Liar {
    type AttestStream = ReceiverStream<Result<AttestResponse, Status>>;

    async fn attest(
        &self,
        request: Request<Streaming<AttestRequest>>,
    ) -> Result<Response<Self::AttestStream>, Status> {
        let binding = request.extensions().get::<Peer>().and_then(|peer| peer.binding).unwrap();
        let (answers, told) = mpsc::channel(4);
        let (own, mut messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = own.exchange(binding, &mut messages, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

impl Liar {
    async fn exchange(
        &self,
        binding: [u8; 32],
        messages: &mut Streaming<AttestRequest>,
        answers: &mpsc::Sender<Result<AttestResponse, Status>>,
    ) -> Result<(), Status> {
        let first = messages.message().await?.unwrap();
        let hello: Hello = read(&first.hello).unwrap();
        let endorsement = PublicArea::parse(&hello.tpm.endorsement.0).unwrap();
        if let Lie::RefusesCurves(code) = self.lie
            && endorsement.curve().is_some()
        {
            self.judged.lock().unwrap().push("refused");
            let mut status = Status::permission_denied("a curve");
            status.metadata_mut().insert("undercroft-rule", code.parse().unwrap());
            return Err(status);
        }
        if !first.answer.is_empty() && self.lie != Lie::Forgets {
            let transcript = transcript(&first.hello, None, &binding);
            self.judge(&hello, transcript, &first.answer);
            self.judged.lock().unwrap().push("at once");
            return self.issue(&hello, answers).await;
        }
        let challenge = self.challenge(&hello);
        let step = Some(Step::Challenge(challenge.clone()));
        let _ = answers.send(Ok(AttestResponse { step })).await;
        let Some(answer) = messages.message().await? else { return Ok(()) };
        let transcript = transcript(&first.hello, Some(&challenge), &binding);
        self.judge(&hello, transcript, &answer.answer);
        self.judged.lock().unwrap().push("challenged");
        match self.lie {
            Lie::ChallengesTwice => {
                let step = Some(Step::Challenge(challenge));
                let _ = answers.send(Ok(AttestResponse { step })).await;
                Ok(())
            }
            Lie::SaysNothing => Ok(()),
            _ => self.issue(&hello, answers).await,
        }
    }

    fn wanted(&self) -> Wanted {
        let of = |bank, pcrs| WantedBank { bank, pcrs };
        let pcrs = match &self.lie {
            Lie::Pcrs(pcrs) => vec![of(BankName::Sha256, pcrs.clone())],
            Lie::BankTwice => vec![of(BankName::Sha256, vec![0]), of(BankName::Sha256, vec![1])],
            Lie::BankOfAnother => vec![of(BankName::Sha512, vec![0])],
            _ => vec![of(BankName::Sha256, vec![0, 7])],
        };
        Wanted { pcrs, event_log: false }
    }

    fn challenge(&self, hello: &Hello) -> Vec<u8> {
        let endorsement = PublicArea::parse(&hello.tpm.endorsement.0).unwrap();
        let enclosed = match self.lie {
            Lie::CredentialForAnotherKey => &hello.tpm.key.0,
            _ => &hello.tpm.attestation_key.0,
        };
        let name = PublicArea::parse(enclosed).unwrap().name();
        let made = credential::make(&endorsement, &name, SECRET, &[7; 64]).unwrap();
        let until = match self.lie {
            Lie::Expired => SystemClock.now() - SignedDuration::from_secs(2),
            _ => SystemClock.now() + SignedDuration::from_secs(30),
        };
        let credential = match self.lie {
            Lie::CredentialTooLong => vec![1; 5000],
            _ => made.credential,
        };
        let tpm = TpmChallenge {
            credential: Base64Bytes(credential),
            secret: Base64Bytes(made.secret),
            wanted: self.wanted(),
        };
        match self.lie {
            Lie::NoJson => b"{}".to_vec(),
            _ => serde_json::to_vec(&Challenge { nonce: Digest([5; 32]), tpm, until }).unwrap(),
        }
    }

    /// What the node shows is good, whatever the daemon lies about.
    fn judge(&self, hello: &Hello, transcript: [u8; 32], answer: &[u8]) {
        let Answer { tpm } = read(answer).unwrap();
        let chain: Vec<_> = hello.tpm.chain.iter().map(|der| der.0.clone()).collect();
        let endorsement = Endorsement::read(&hello.tpm.endorsement.0, &chain).unwrap();
        let genuine = self.policy.endorse(endorsement, SystemClock.now()).unwrap();
        let candidate = genuine.candidate(&hello.tpm.attestation_key.0).unwrap();
        let bound = match &tpm.mac {
            Some(mac) => candidate.activated(SECRET, transcript, &mac.0).unwrap(),
            None => {
                let binding = candidate.binding();
                candidate.recalled(&binding, transcript).unwrap()
            }
        };
        let values: Vec<_> = tpm.pcrs.iter().map(|value| value.0.clone()).collect();
        let quote = Quote { attest: &tpm.quote.attest.0, signature: &tpm.quote.signature.0, values: &values };
        let quoted = bound.quoted(&quote, &self.wanted().selection().unwrap(), None).unwrap();
        let requested = Csr::from_der(&hello.request.0).unwrap().public_key().clone();
        let certification = Certification {
            public: &hello.tpm.key.0,
            attest: &tpm.certify.attest.0,
            signature: &tpm.certify.signature.0,
        };
        quoted.certified(&certification, &requested).unwrap();
    }

    async fn issue(
        &self,
        hello: &Hello,
        answers: &mpsc::Sender<Result<AttestResponse, Status>>,
    ) -> Result<(), Status> {
        let requested = Csr::from_der(&hello.request.0).unwrap().public_key().spki().to_vec();
        let key = match self.lie {
            Lie::AnotherKey => KeyPair::generate().unwrap().subject_public_key_info(),
            _ => requested,
        };
        let ids = match self.lie {
            Lie::Id(id) => vec![id],
            Lie::TwoIds => vec![ID, "spiffe://prod.example/other"],
            _ => vec![ID],
        };
        let certificate = self.certificate(&ids, &key);
        let logged = match self.lie {
            Lie::EntryOfAnotherCertificate => self.certificate(&["spiffe://prod.example/other"], &key),
            _ => certificate.clone(),
        };
        let log = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let (entry, proof, log_key) = self.log(&logged, &log).await;
        let id = ids[0].to_owned();
        let wanted = Wanted { pcrs: self.wanted().pcrs, event_log: false };
        let issued = Issued {
            chain: if self.lie == Lie::NoChain { Vec::new() } else { vec![certificate] },
            roots: if self.lie == Lie::NoRoots { Vec::new() } else { vec![self.root.der().to_vec()] },
            tlog_proof: proof,
            entry,
            log_key,
            spiffe_id: if self.lie == Lie::SaysAnotherId { format!("{id}x") } else { id },
            spiffe_bundle: if self.lie == Lie::BundleIsNone { "{}".into() } else { "{\"keys\":[]}".into() },
            wanted: match self.lie {
                Lie::WantsNonsense => b"{\"pcrs\":7}".to_vec(),
                _ => serde_json::to_vec(&wanted).unwrap(),
            },
        };
        let _ = answers.send(Ok(AttestResponse { step: Some(Step::Issued(issued)) })).await;
        Ok(())
    }

    fn certificate(&self, ids: &[&str], key: &[u8]) -> Vec<u8> {
        let other = root();
        let issuer = if self.lie == Lie::AnotherRoot { &other } else { &*self.root };
        let mut params = leaf(ids);
        let of = |time: Timestamp| std::time::SystemTime::from(time).into();
        let now = SystemClock.now();
        params.not_before = of(now - SignedDuration::from_hours(2));
        let life = if self.lie == Lie::Ended { -1 } else { 1 };
        params.not_after = of(now + SignedDuration::from_hours(life));
        let key = SubjectPublicKeyInfo::from_der(key).unwrap();
        params.signed_by(&key, issuer).unwrap().der().to_vec()
    }

    /// A log with one entry: the intent of a certificate.
    async fn log(&self, certificate: &[u8], key: &SoftwareKey) -> (Vec<u8>, String, String) {
        use x509_cert::der::{Decode as _, Encode as _};
        let parsed = x509_cert::Certificate::from_der(certificate).unwrap();
        let tbs = parsed.tbs_certificate().to_der().unwrap();
        let issuer = PublicKey::from_spki(&self.root.key().subject_public_key_info()).unwrap();
        let domain = if self.lie == Lie::EntryOfAnotherDomain { "other.example" } else { DOMAIN };
        let intent = Intent {
            object: Object::Certificate,
            domain: domain.to_owned(),
            profile: "svid".to_owned(),
            key_id: HexKeyId(issuer.id()),
            algorithm: SignatureAlgorithm::EcdsaP256Sha256,
            tbs: ToBeSigned::Der(Base64Bytes(tbs)),
            caller: Caller { id: ID.to_owned(), by: Channel::Mtls },
            rule: "nodes".to_owned(),
            policy: Digest([1; 32]),
            request: None,
            withheld: Vec::new(),
            evidence: Vec::new(),
        };
        let origin = "ca.example/undercroft/prod.example/1";
        let draft = Draft::new(&Body::Intent(intent)).unwrap();
        let entry = format!(
            r#"{{"v":1,"origin":"{origin}","index":0,"time":"2026-11-23T12:00:00Z","kind":"intent","sequence":1,"body":{}}}"#,
            draft.body()
        )
        .into_bytes();
        let verifier = VerifierKey::new(origin.parse().unwrap(), key.public_key().clone()).unwrap();
        let root = match self.lie {
            Lie::ProofOfAnotherEntry => leaf_hash(b"another"),
            _ => leaf_hash(&entry),
        };
        let text = Checkpoint { origin: origin.parse().unwrap(), size: 1, root }.text();
        let signer = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let signer = if self.lie == Lie::ProofByAnotherKey { &signer } else { key };
        let signature = signer.sign(text.as_bytes()).await.unwrap();
        let checkpoint = format!("{text}\n{}", verifier.line(&signature));
        let proof = TlogProof { index: 0, path: Vec::new(), checkpoint: checkpoint.into() };
        (entry, proof.to_string(), verifier.to_string())
    }
}
