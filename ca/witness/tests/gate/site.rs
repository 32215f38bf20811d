//! A gate in this process, and a log whose operator may do what he likes.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use undercroft_ca::names::{Identity, parse_trust_domain};
use undercroft_ca::policy::{Known, Policy};
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::review::Review;
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::subject::Subject;
use undercroft_ca::tbs::{
    CertificateSpec, CrlScope, CrlSpec, HttpUrl, Issuer, RevocationReason, Revoked, SignedBy, Urls,
    certificate,
};
use undercroft_ca::time::{Lifetime, Validity};
use undercroft_keymgr::SigningKey;
use undercroft_keys::{KeyAlgorithm, PublicKey};
use undercroft_log::Clock;
use undercroft_log::add_checkpoint::AddCheckpoint;
use undercroft_log::authorise::{Application, Word};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::leaf::{
    Base64Bytes, Body, Caller, Channel, Digest, Draft, HexKeyId, Intent, Object, ToBeSigned,
};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::{GrowingTree, consistency_proof, inclusion_proof, leaf_hash};
use undercroft_tpm_wire::{PublicArea, command, policy};
use undercroft_witness::gate::rate::{Rate, RateConfig};
use undercroft_witness::gate::{Assured, Gate, GateError, GatedAuthority, Issuing};

pub(crate) const ORIGIN: &str = "ca.example/undercroft/prod.example/1";
pub(crate) const ALICE: &str = "spiffe://control.example/operator/alice";
pub(crate) const SPIRE: &str = "spiffe://control.example/server/prod";
pub(crate) const NONCE: [u8; 32] = [0x4e; 32];

const POLICY: &str = r#"
[[rule]]
name = "workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]

[[rule]]
name = "spire"
callers = ["spiffe://control.example/server/*"]
domain = "prod.example"
profile = "spire-ca"
"#;

/// A clock that shows what it is told.
pub(crate) struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl Hands {
    pub(crate) fn forward(&self, seconds: u64) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(std::time::Duration::from_secs(seconds)).unwrap();
    }
}

pub(crate) fn key(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap())
}

/// The public area of a key as `undercroft keys create --gates` makes it: fixed, and usable by its policy alone.
pub(crate) fn gated_area(key: &PublicKey, gate: &PublicKey) -> PublicArea {
    let name = PublicArea::of_gate(gate).unwrap().name();
    let plain = PublicArea::of_gate(key).unwrap().encode();
    let mut area = plain[..4].to_vec();
    area.extend(0x0004_0432_u32.to_be_bytes());
    area.extend([0, 32]);
    area.extend(policy::gated_by(&[name.clone(), name]));
    area.extend(&plain[10..]);
    PublicArea::parse(&area).unwrap()
}

/// A log with its key and its entries.
pub(crate) struct Log {
    signer: Arc<SoftwareKey>,
    pub(crate) key: VerifierKey,
    pub(crate) tree: GrowingTree,
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Log {
    pub(crate) fn new(origin: &str) -> Self {
        let signer = key(KeyAlgorithm::Ed25519);
        let key = VerifierKey::new(origin.parse().unwrap(), signer.public_key().clone()).unwrap();
        Self { signer, key, tree: GrowingTree::new(), entries: Vec::new() }
    }

    /// The same log's key over another history.
    pub(crate) fn fork(&self) -> Self {
        let (signer, key) = (self.signer.clone(), self.key.clone());
        Self { signer, key, tree: GrowingTree::new(), entries: Vec::new() }
    }

    /// The log as it was when it had so many entries.
    pub(crate) fn until(&self, size: u64) -> Self {
        let mut log = self.fork();
        for entry in &self.entries[..size as usize] {
            log.push(entry.clone());
        }
        log
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn push(&mut self, entry: Vec<u8>) -> u64 {
        self.tree.push(leaf_hash(&entry));
        self.entries.push(entry);
        self.size() - 1
    }

    /// Entries that are nobody's business here.
    pub(crate) fn fill(&mut self, text: &str, entries: u64) {
        for n in 0..entries {
            self.push(format!("{text}{n}").into_bytes());
        }
    }

    /// The head as it is now, signed.
    pub(crate) fn head(&self) -> String {
        let head = Checkpoint { origin: self.key.name().clone(), size: self.size(), root: self.tree.root() };
        let signature = block_on(self.signer.sign(head.text().as_bytes())).unwrap();
        format!("{}\n{}", head.text(), self.key.line(&signature))
    }

    /// A request to accept the head, after `old`, with more lines.
    pub(crate) fn request(&self, old: u64, lines: &str) -> String {
        let proof = consistency_proof(&self.tree, old, self.size()).unwrap();
        AddCheckpoint { old, proof, checkpoint: format!("{}{lines}", self.head()).into() }.to_string()
    }

    /// The application for an entry under the head of `size`.
    pub(crate) fn application(&self, index: u64, size: u64) -> Application {
        let proof = inclusion_proof(&self.tree, index, size).unwrap();
        Application {
            origin: self.key.name().to_string(),
            index,
            size,
            proof: proof.iter().map(ToString::to_string).collect(),
            leaf: Base64Bytes(self.entries[index as usize].clone()),
            tbs: None,
            nonce: Base64Bytes(NONCE.to_vec()),
        }
    }
}

/// A gate's folder, keys and surroundings.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<Hands>,
    pub(crate) log: Log,
    pub(crate) gate_key: Arc<SoftwareKey>,
    /// The key of the intermediate, and one that has no certificate yet.
    pub(crate) ca: PublicKey,
    pub(crate) new_ca: PublicKey,
    witness: Arc<SoftwareKey>,
    pub(crate) is_witnessed: bool,
    pub(crate) rate: usize,
    serial: Mutex<u8>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let public = || key(KeyAlgorithm::EcdsaP256).public_key().clone();
        let mut log = Log::new(ORIGIN);
        log.fill("before", 3);
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(Hands(Mutex::new("2026-11-22T12:00:00Z".parse().unwrap()))),
            log,
            gate_key: key(KeyAlgorithm::EcdsaP256),
            ca: public(),
            new_ca: public(),
            witness: key(KeyAlgorithm::Ed25519),
            is_witnessed: false,
            rate: 100,
            serial: Mutex::new(0),
        }
    }

    /// A gate on the folder, which another one may have left.
    pub(crate) fn gate(&self) -> Gate {
        let issuing = Issuing {
            log: self.log.key.clone(),
            review: self.review(),
            rate: Rate::new(RateConfig { most: self.rate, per: Lifetime::seconds(60) }),
            ca_rate: Some(Rate::new(RateConfig { most: 2, per: Lifetime::seconds(3600) })),
            crl_rate: Rate::new(RateConfig { most: 2, per: Lifetime::seconds(3600) }),
        };
        let authority = |public_key: &PublicKey, issuing| GatedAuthority {
            area: self.area(public_key),
            public_key: public_key.clone(),
            issuing,
        };
        let authorities = vec![authority(&self.ca, Some(issuing)), authority(&self.new_ca, None)];
        let policy = format!("witness w1 {}\nquorum w1\n", self.witness_key());
        let assured = || Assured { policy: policy.parse().unwrap(), grace: Lifetime::seconds(60) };
        let witnesses = self.is_witnessed.then(assured);
        let clock = self.clock.clone();
        Gate::new(self.gate_key.clone(), authorities, witnesses, self.folder.path(), clock).unwrap()
    }

    pub(crate) fn area(&self, key: &PublicKey) -> PublicArea {
        gated_area(key, self.gate_key.public_key())
    }

    fn witness_key(&self) -> WitnessKey {
        WitnessKey::ed25519("w1.example".parse().unwrap(), self.witness.public_key().clone()).unwrap()
    }

    /// The witness's line over the head as it is now.
    pub(crate) fn cosignature(&self) -> String {
        let (key, now) = (self.witness_key(), self.clock.now());
        let head = self.log.head();
        let text = head.split_inclusive("\n\n").next().unwrap().strip_suffix('\n').unwrap();
        let signature = block_on(self.witness.sign(&key.message(text, now).unwrap())).unwrap();
        key.line(now, &signature)
    }

    fn issuer(&self) -> Issuer {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        Issuer {
            name: Subject::new("prod.example", Some("I1")).unwrap(),
            key_identifier: vec![0x42; 20],
            algorithm: KeyAlgorithm::EcdsaP256.signature_algorithm(),
            validity: Validity::new(now - Lifetime::days(1).0, now + Lifetime::days(90).0).unwrap(),
            urls: Urls {
                crl: "http://pki.example/i1.crl".parse().unwrap(),
                certificate: "http://pki.example/i1.cer".parse().unwrap(),
                ocsp: None,
                crl_shards: Some("2".parse().unwrap()),
            },
        }
    }

    fn review(&self) -> Review {
        let domains = ["control.example", "prod.example"].map(|name| parse_trust_domain(name).unwrap());
        let profiles = Kind::ALL.map(Profile::standard);
        let known = Known { domains: &domains, profiles: &profiles };
        Review {
            domain: domains[1].clone(),
            issuer: self.issuer(),
            policy: Policy::parse("policy.toml", POLICY, known).unwrap(),
            arc: "1.3.6.1.4.1.32473.1".parse().unwrap(),
            enrols: None,
            server_names: Vec::new(),
            authorities: [SPIRE.to_owned()].into(),
            crls: Some(Lifetime::days(7)),
        }
    }

    /// The bytes of a new certificate.
    pub(crate) fn tbs(&self, kind: Kind, uri: &str) -> Vec<u8> {
        let mut number = self.serial.lock().unwrap();
        *number += 1;
        let serial = SerialNumber::from_bytes([*number; 16]).unwrap();
        let profile = Profile::standard(kind);
        let issuer = self.issuer();
        let name = (kind == Kind::SpireCa).then(|| format!("SPIRE CA {serial}"));
        let spec = CertificateSpec {
            profile: &profile,
            policy_arc: &"1.3.6.1.4.1.32473.1".parse().unwrap(),
            serial,
            validity: Validity::within(&issuer.validity, self.clock.now(), profile.lifetime()).unwrap(),
            subject: &Subject::new("prod.example", name.as_deref()).unwrap(),
            public_key: self.gate_key.public_key(),
            identity: &Identity { uri: Some(uri.to_owned()), dns_names: Vec::new(), tpm: None },
            path_length: (kind == Kind::SpireCa).then_some(0),
            constraints: None,
        };
        certificate(&spec, SignedBy::Issuer(&issuer)).unwrap().der().to_vec()
    }

    pub(crate) fn intent(&self, kind: Kind, tbs: ToBeSigned) -> Intent {
        let caller = if kind == Kind::SpireCa { SPIRE } else { ALICE };
        Intent {
            object: Object::Certificate,
            domain: "prod.example".into(),
            profile: Profile::standard(kind).name().to_owned(),
            key_id: HexKeyId(self.ca.id()),
            algorithm: KeyAlgorithm::EcdsaP256.signature_algorithm(),
            tbs,
            caller: Caller { id: caller.to_owned(), by: Channel::Mtls },
            rule: "workloads".into(),
            policy: Digest::of(b"the CA's"),
            request: None,
            withheld: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// An entry as the sequencer stamps it.
    pub(crate) fn entry(&self, origin: &str, index: u64, body: &Body) -> Vec<u8> {
        let sequence = if matches!(body, Body::Intent(_)) { r#""sequence":1,"# } else { "" };
        format!(
            r#"{{"v":1,"origin":"{origin}","index":{index},"time":"{}","kind":"{}",{sequence}"body":{}}}"#,
            self.clock.now(),
            body.kind(),
            Draft::new(body).unwrap().body()
        )
        .into_bytes()
    }

    /// Logs an intent at the next place.
    pub(crate) fn log_intent(&mut self, intent: Intent) -> u64 {
        let entry = self.entry(ORIGIN, self.log.size(), &Body::Intent(intent));
        self.log.push(entry)
    }

    /// Logs a request for an SVID that policy allows.
    pub(crate) fn log_svid(&mut self) -> u64 {
        let tbs = self.tbs(Kind::Svid, "spiffe://prod.example/ns/a/sa/b");
        self.log_intent(self.intent(Kind::Svid, ToBeSigned::Der(Base64Bytes(tbs))))
    }

    pub(crate) fn log_spire_ca(&mut self) -> u64 {
        let tbs = self.tbs(Kind::SpireCa, "spiffe://prod.example");
        self.log_intent(self.intent(Kind::SpireCa, ToBeSigned::Der(Base64Bytes(tbs))))
    }

    /// Has the gate accept the head, after `old`.
    pub(crate) fn show(&self, gate: &Gate, old: u64) {
        block_on(gate.add_checkpoint(&self.log.request(old, ""))).unwrap();
    }

    /// The same with the witness's line.
    pub(crate) fn show_cosigned(&self, gate: &Gate, old: u64) {
        block_on(gate.add_checkpoint(&self.log.request(old, &self.cosignature()))).unwrap();
    }

    /// What a word is over, for that key, bytes, nonce and expiration.
    pub(crate) fn message(&self, key: &PublicKey, tbs: &[u8], nonce: &[u8], expiration: i32) -> Vec<u8> {
        let area = self.area(key);
        let digest = digest::digest(&digest::SHA256, tbs);
        let command = command::sign(&area.name(), digest.as_ref(), area.scheme());
        policy::authorisation(nonce, expiration, &command)
    }

    pub(crate) fn is_over(&self, word: &Word, message: &[u8]) -> bool {
        let algorithm = KeyAlgorithm::EcdsaP256.signature_algorithm();
        self.gate_key.public_key().verify(algorithm, message, &word.signature.0).is_ok()
    }
}

/// What became of an application: `ok`, the rule, or the kind of error.
pub(crate) fn said(answer: Result<Word, GateError>) -> String {
    match answer {
        Ok(_) => "ok".into(),
        Err(GateError::Refused(refusal)) => refusal.rule.into(),
        Err(GateError::Malformed(_)) => "malformed".into(),
        Err(GateError::Unknown(_)) => "unknown".into(),
        Err(GateError::Conflict { size }) => format!("conflict {size}"),
        Err(GateError::Broken(_)) => "broken".into(),
    }
}

pub(crate) fn ask(gate: &Gate, application: &Application) -> String {
    said(block_on(gate.authorise(application)))
}

/// A CRL of the authority before the gate, to be changed.
pub(crate) struct Crl {
    pub(crate) issuer: Issuer,
    pub(crate) number: i64,
    /// From thisUpdate, seconds from now, to nextUpdate.
    pub(crate) period: (i64, i64),
    /// Serial numbers by their bytes, and since when, seconds from now.
    pub(crate) revoked: Vec<(u8, i64, Option<RevocationReason>)>,
    pub(crate) shard: Option<HttpUrl>,
    pub(crate) delta_of: Option<u64>,
    pub(crate) freshest: Option<HttpUrl>,
    pub(crate) intent: Intent,
}

impl Site {
    pub(crate) fn crl(&self) -> Crl {
        let mut intent = self.intent(Kind::Svid, ToBeSigned::Der(Base64Bytes(Vec::new())));
        intent.object = Object::Crl;
        intent.profile = "crl".into();
        intent.caller = Caller { id: "spiffe://prod.example/undercroft/server".into(), by: Channel::Daemon };
        let revoked = vec![(1, -60, None), (2, 0, Some(RevocationReason::KeyCompromise))];
        let (shard, delta_of, freshest) = (None, None, None);
        Crl {
            issuer: self.issuer(),
            number: 0,
            period: (0, 3600),
            revoked,
            shard,
            delta_of,
            freshest,
            intent,
        }
    }

    /// Logs the intent of a CRL, of which the builder's bytes were changed.
    pub(crate) fn log_crl(&mut self, crl: &Crl, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> u64 {
        let at = |seconds: i64| Timestamp::from_second(self.clock.now().as_second() + seconds).unwrap();
        let revoked: Vec<_> = crl
            .revoked
            .iter()
            .map(|(serial, date, reason)| Revoked {
                serial: SerialNumber::from_bytes([*serial; 16]).unwrap(),
                date: at(*date),
                reason: *reason,
            })
            .collect();
        let spec = CrlSpec {
            issuer: &crl.issuer,
            number: u64::try_from(at(crl.number).as_second()).unwrap(),
            period: Validity::new(at(crl.period.0), at(crl.period.1)).unwrap(),
            revoked: &revoked,
            scope: CrlScope {
                shard: crl.shard.as_ref(),
                delta_of: crl.delta_of,
                freshest: crl.freshest.as_ref(),
            },
        };
        let tbs = change(undercroft_ca::tbs::crl(&spec).unwrap().der().to_vec());
        let intent = Intent { tbs: ToBeSigned::Der(Base64Bytes(tbs)), ..crl.intent.clone() };
        self.log_intent(intent)
    }
}
