//! Carries out a plan as `docs/ceremony.md` says, with keys in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use jiff::Timestamp;
use serde_json::json;
use undercroft_attestors::trust::Trust;
use undercroft_ca::approval::{Action, Roster};
use undercroft_ca::certificate::{AuthorityCertificate, to_pem};
use undercroft_ca::csr::{Csr, request_for};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::gated::Signing;
use undercroft_ca::issuance::{Prepared, abandoned, issue};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Keys, Mode, Plan, Step, What};
use undercroft_ca::store::Effect;
use undercroft_ca::transcript::purpose_of_root;
use undercroft_keymgr::{CustodyEvidence, Error, Key, ProveCustody, SigningKey as _};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock;
use undercroft_log::leaf::{
    Approval, Body, Ceremony, CeremonyEvent, CeremonyStep, Digest, Draft, KeyEvent, Policy, Text,
    TranscriptHead,
};
use undercroft_log::sequencer::{self, Append, Limits};
use undercroft_log_files::{Folder, FolderStore};

use crate::log::Log;
use crate::persons::{PERSONS, statement};

/// The serial number of the token that the roots live in.
pub(crate) const SERIAL: &str = "0012345";

/// How a ceremony is carried out.
pub(crate) struct Maker {
    pub(crate) plan: Plan,
    /// The transcript's key.
    pub(crate) log_key: Arc<SoftwareKey>,
    /// Keys of roots that exist, by the root's name.
    pub(crate) existing: BTreeMap<String, Arc<SoftwareKey>>,
    /// Keys of intermediates, by name: their requests lie in `requests`.
    pub(crate) requests: PathBuf,
    pub(crate) request_keys: BTreeMap<String, Arc<SoftwareKey>>,
    pub(crate) out: PathBuf,
    pub(crate) begins: Timestamp,
    pub(crate) rehearsal: Option<TranscriptHead>,
    pub(crate) previous: Option<TranscriptHead>,
    /// The roster of the ceremony before, where this plan has another.
    pub(crate) roster_before: Option<Roster>,
}

/// What came out.
pub(crate) struct Made {
    pub(crate) log: Log,
    pub(crate) roots: BTreeMap<String, Arc<SoftwareKey>>,
}

impl Made {
    /// The head, as another transcript names it.
    pub(crate) fn head(&self, folder: &Path) -> TranscriptHead {
        TranscriptHead {
            verifier_key: self.log.verifier().to_string(),
            checkpoint: Folder::new(folder).checkpoint().unwrap().unwrap(),
        }
    }
}

pub(crate) fn software(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap())
}

/// A second later each time that somebody asks.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

/// A token that says of its keys what tokens in hardware say.
#[derive(Debug)]
struct Token(Arc<SoftwareKey>);

#[async_trait]
impl ProveCustody for Token {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        Ok(CustodyEvidence { format: "pkcs11-attributes-v1", bytes: evidence(&self.0, SERIAL, true) })
    }
}

/// What a token with this serial number says of a key.
pub(crate) fn evidence(key: &SoftwareKey, serial: &str, sensitive: bool) -> Vec<u8> {
    let evidence = json!({
        "module": { "manufacturer": "Yubico", "description": "YubiHSM Connector", "version": "2.4" },
        "token": { "label": "roots", "manufacturer": "Yubico", "model": "YubiHSM", "serial": serial, "hardware": "2.2", "firmware": "2.4" },
        "key": {
            "label": "key", "id": "01", "spki": hex::encode(key.public_key().spki()),
            "sensitive": sensitive, "always_sensitive": sensitive, "extractable": false, "never_extractable": true, "local": true,
        },
    });
    serde_json::to_vec(&evidence).unwrap()
}

type Writing = sequencer::Log<Effect>;

impl Maker {
    pub(crate) fn run(&self) -> Made {
        let transcript = self.out.join("transcript");
        let log_key = LogKey::new(self.plan.origin().clone(), self.key(&self.log_key)).unwrap();
        let clock = Arc::new(Ticking(AtomicI64::new(self.begins.as_second())));
        let roots = block_on(async {
            let store = Arc::new(FolderStore::open(&transcript).unwrap());
            let (log, driver) =
                sequencer::open::<Effect>(store, Arc::new(log_key), clock, Limits::default()).await.unwrap();
            let work = async {
                let roots = self.ceremony(&log).await;
                log.close();
                roots
            };
            let (roots, ended) = futures::join!(work, driver);
            ended.unwrap();
            roots
        });
        let log = Log::read(&transcript, self.log_key.clone(), self.plan.origin().clone());
        std::fs::write(transcript.join("log.vkey"), format!("{}\n", log.verifier())).unwrap();
        Made { log, roots }
    }

    /// Hardware in the ceremony, a simulator in its rehearsal.
    fn key(&self, key: &Arc<SoftwareKey>) -> Key {
        let custody: Arc<dyn ProveCustody> = match self.plan.mode() {
            Mode::Production => Arc::new(Token(key.clone())),
            Mode::Rehearsal => key.clone(),
        };
        Key { signer: key.clone(), custody, gated: None, prehashed: None }
    }

    async fn ceremony(&self, log: &Writing) -> BTreeMap<String, Arc<SoftwareKey>> {
        let plan = &self.plan;
        let rehearsal = if plan.mode() == Mode::Rehearsal { "REHEARSAL: " } else { "" };
        self.tell(log, CeremonyEvent::Opened, &format!("{rehearsal}{}", plan.title())).await;
        self.record(log, self.key(&self.log_key), KeyEvent::Opened, "the transcript").await;
        let text = plan.text().as_bytes().to_vec();
        let policy = Policy { sha256: plan.digest(), previous: None, text: Text::Blob(text.len() as u64) };
        self.append(log, Body::Policy(policy), vec![text]).await;
        let approved = plan.terms().filter(|_| plan.mode() == Mode::Production);
        if let Some(terms) = approved {
            let approval = self.approval(&terms.roster, Action::CeremonyPlan, plan.digest(), 1);
            self.append(log, Body::Approval(approval), Vec::new()).await;
        }
        self.other(log, CeremonyEvent::Rehearsed, &self.rehearsal).await;
        self.other(log, CeremonyEvent::Continues, &self.previous).await;
        if let (Some(terms), Some(before)) = (approved, &self.roster_before) {
            let approval = self.approval(before, Action::Roster, terms.roster.digest(), 4);
            self.append(log, Body::Approval(approval), Vec::new()).await;
        }
        if let Some(terms) = approved {
            let text =
                deviation("other", "The second witness came by train and was 20 minutes late; we waited");
            let object = Digest::of(text.as_bytes());
            let approval = self.approval(&terms.roster, Action::CeremonyDeviation, object, 2);
            self.append(log, Body::Approval(approval), Vec::new()).await;
            self.tell(log, CeremonyEvent::Deviation, &text).await;
        }
        for device in plan.terms().iter().flat_map(|terms| &terms.devices) {
            let serial = if device.name == "roots" { SERIAL } else { "0054321" };
            let text =
                format!("{}: {}, firmware {}, serial {serial}", device.name, device.model, device.firmware);
            self.tell(log, CeremonyEvent::Device, &text).await;
        }
        let mut doing = Doing {
            keys: Keys::default(),
            signers: BTreeMap::new(),
            roots: BTreeMap::new(),
            stated: Vec::new(),
        };
        for step in plan.steps() {
            self.step(log, &step, &mut doing).await;
        }
        if let Some(terms) = approved {
            let head = self.tell(log, CeremonyEvent::Awaiting, "every step of the plan is done").await;
            for (text, nonce) in doing.stated.iter().zip(5..) {
                let object = Digest::of(text.as_bytes());
                let mut approval = self.approval(&terms.roster, Action::BundleRoots, object, nonce);
                approval.about = Some(text.clone());
                self.append(log, Body::Approval(approval), Vec::new()).await;
            }
            let approval = self.approval(&terms.roster, Action::CeremonyResult, head, 3);
            self.append(log, Body::Approval(approval), Vec::new()).await;
        }
        self.tell(log, CeremonyEvent::Closed, "nothing is left to do").await;
        doing.signers
    }

    fn approval(&self, roster: &Roster, action: Action, object: Digest, nonce: u8) -> Approval {
        let statement = statement(action, object, self.plan.origin().as_str(), roster, nonce);
        let (statement, signatures) = PERSONS.approve(&statement, &["alice", "bob"]);
        Approval { statement, signatures, by: vec!["alice".into(), "bob".into()], about: None }
    }

    async fn step(&self, log: &Writing, step: &Step<'_>, doing: &mut Doing) {
        self.of_step(log, CeremonyEvent::Step, step, None).await;
        let written = match step.what {
            What::Manual(manual) => manual.evidence().map(|name| {
                let path = self.requests.join(name);
                Digest::of(&std::fs::read(path).unwrap())
            }),
            What::Destruction(_) => None,
            What::Import(import) => {
                let answer = std::fs::read(self.requests.join(import.answer())).unwrap();
                Some(self.write(step, &answer))
            }
            What::Open(root) | What::Root(root) => {
                let exists = self.existing.get(root.name()).filter(|_| self.plan.mode() == Mode::Production);
                let key = exists.cloned().unwrap_or_else(|| software(root.key().algorithm));
                let event = if root.certificate().is_some() { KeyEvent::Opened } else { KeyEvent::Made };
                self.record(log, self.key(&key), event, &purpose_of_root(root.name())).await;
                doing.keys.roots.insert(root.name().to_owned(), key.public_key().clone());
                doing.signers.insert(root.name().to_owned(), key);
                match root.certificate() {
                    Some(_) => None,
                    None => {
                        let written = self.sign(log, step, doing, "CERTIFICATE").await;
                        doing.roots.insert(root.name().to_owned(), self.written(step));
                        Some(written)
                    }
                }
            }
            What::Intermediate(_) | What::OcspSigner(_) => {
                let requested = step.requested().unwrap();
                let key = &self.request_keys[requested.name];
                let path = self.requests.join(format!("{}.csr.pem", requested.request));
                let csr = Csr::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap();
                self.record(log, self.key(key), KeyEvent::Received, &requested.purpose).await;
                let own = (csr.public_key().clone(), Some(csr.digest()));
                doing.keys.requests.insert(requested.name.to_owned(), own);
                Some(self.sign(log, step, doing, "CERTIFICATE").await)
            }
            What::BundleStatement(it) => {
                let stated = it.statement(&self.plan, |name| doing.roots.get(name).cloned()).unwrap();
                let text = stated.text().unwrap();
                doing.stated.push(text.clone());
                Some(self.write_behind(step, b"REHEARSAL: nobody approves this\n", text.as_bytes()))
            }
            What::CrossCertificate(_) => Some(self.sign(log, step, doing, "CERTIFICATE").await),
            What::CertificateRequest(_) => Some(self.sign(log, step, doing, "CERTIFICATE REQUEST").await),
            What::Crl(_) => Some(self.sign(log, step, doing, "X509 CRL").await),
        };
        self.of_step(log, CeremonyEvent::Done, step, written).await;
        if step.name() == "new-root" && self.plan.mode() == Mode::Production {
            self.tell(log, CeremonyEvent::Note, "bob said: <script>alert(1)</script> & \"so\"").await;
        }
    }

    /// The cycle. The first attempt at the second intermediate is cut off in the ceremony and not in its rehearsal.
    async fn sign(&self, log: &Writing, step: &Step<'_>, doing: &Doing, label: &str) -> Digest {
        let mut attempt = 1;
        let prepare =
            |attempt| -> Prepared { step.prepare(&self.plan, &doing.keys, attempt).unwrap().unwrap() };
        if step.name() == "intermediate-2" && self.plan.mode() == Mode::Production {
            let receipt = log.append(prepare(attempt).intent()).await.unwrap();
            self.tell(log, CeremonyEvent::Resumed, "the program was started again").await;
            let why = "the ceremony was interrupted before its signature was in the transcript";
            let index = undercroft_log::Logged::index(&receipt);
            log.append(abandoned(index, why).unwrap()).await.unwrap();
            attempt += 1;
        }
        let prepared = prepare(attempt);
        let receipt = log.append(prepared.intent()).await.unwrap();
        let key = &doing.signers[step.signer().unwrap()];
        let issued = issue(prepared, receipt, Signing::Directly(&**key)).await.unwrap();
        log.append(issued.outcome().unwrap()).await.unwrap();
        let bytes = match (label, self.plan.mode()) {
            ("X509 CRL", Mode::Production) => issued.der().to_vec(),
            _ => to_pem(label, issued.der()).unwrap().into_bytes(),
        };
        self.write(step, &bytes)
    }

    fn write(&self, step: &Step<'_>, bytes: &[u8]) -> Digest {
        self.write_behind(step, b"REHEARSAL: nobody trusts this key\n", bytes)
    }

    fn path(&self, step: &Step<'_>) -> PathBuf {
        let path = self.out.join(step.output().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        match self.plan.mode() {
            Mode::Production => path,
            Mode::Rehearsal => path.with_file_name(format!("REHEARSAL-{name}")),
        }
    }

    /// The certificate of a root that was written.
    fn written(&self, step: &Step<'_>) -> AuthorityCertificate {
        let text = std::fs::read_to_string(self.path(step)).unwrap();
        AuthorityCertificate::from_pem(&text[text.find("-----BEGIN").unwrap()..]).unwrap()
    }

    /// In a rehearsal with that line in front of it.
    fn write_behind(&self, step: &Step<'_>, rehearsal: &[u8], bytes: &[u8]) -> Digest {
        let path = self.path(step);
        let bytes = match self.plan.mode() {
            Mode::Production => bytes.to_vec(),
            Mode::Rehearsal => [rehearsal, bytes].concat(),
        };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes).unwrap();
        Digest::of(&bytes)
    }

    async fn record(&self, log: &Writing, key: Key, event: KeyEvent, purpose: &str) {
        let (purpose, uri) = (purpose.to_owned(), format!("pkcs11:token=roots;object={purpose}"));
        let record =
            CustodyRecord::of(&key, event, purpose, uri, &Trust::default(), self.begins).await.unwrap();
        self.append(log, record.entry, record.blobs).await;
    }

    async fn tell(&self, log: &Writing, event: CeremonyEvent, text: &str) -> Digest {
        self.append(log, Body::Ceremony(Ceremony::told(event, self.plan.digest(), text)), Vec::new()).await
    }

    async fn other(&self, log: &Writing, event: CeremonyEvent, head: &Option<TranscriptHead>) {
        if let Some(head) = head {
            let told = Ceremony::told(event, self.plan.digest(), "it was verified");
            let body = Ceremony { transcript: Some(head.clone()), ..told };
            self.append(log, Body::Ceremony(body), Vec::new()).await;
        }
    }

    async fn of_step(&self, log: &Writing, event: CeremonyEvent, step: &Step<'_>, output: Option<Digest>) {
        let of = CeremonyStep { number: step.number, artefact: step.name().to_owned(), output };
        let body = Ceremony { step: Some(of), ..Ceremony::told(event, self.plan.digest(), step.in_words()) };
        self.append(log, Body::Ceremony(body), Vec::new()).await;
    }

    /// SHA-256 of the text of the checkpoint over everything up to the entry.
    async fn append(&self, log: &Writing, body: Body, blobs: Vec<Vec<u8>>) -> Digest {
        let draft = Draft::new(&body).unwrap();
        let receipt = log.append(Append { draft, effects: Vec::new(), blobs }).await.unwrap();
        Digest::of(receipt.checkpoint().checkpoint().text().as_bytes())
    }
}

struct Doing {
    keys: Keys,
    signers: BTreeMap<String, Arc<SoftwareKey>>,
    /// Certificates of the roots that were made.
    roots: BTreeMap<String, AuthorityCertificate>,
    /// What was stated about roots.
    stated: Vec<String>,
}

/// The text of a deviation.
pub(crate) fn deviation(kind: &str, reason: &str) -> String {
    json!({ "format": "undercroft-deviation-v1", "kind": kind, "reason": reason }).to_string()
}

/// Writes the request of a key.
pub(crate) fn write_request(requests: &Path, name: &str, key: &SoftwareKey) {
    let der = block_on(request_for(key)).unwrap();
    let path = requests.join(format!("{name}.csr.pem"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, to_pem("CERTIFICATE REQUEST", &der).unwrap()).unwrap();
}
