//! Running a ceremony.
//!
//! Everything that can be checked is checked before the first key is made: the plan, the devices, the requests and
//! where their keys live, that nothing would be overwritten, and lint of every object. From then on each step stands
//! in the transcript before its signature is made, by the same cycle as online: intent, receipt, issue, outcome.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use serde_json::json;
use undercroft_attestors::custody::Grade;
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::{AuthorityCertificate, to_pem};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::gated::Signing;
use undercroft_ca::issuance::{Issued, Prepared, issue};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Plan, PlannedKey, Root};
use undercroft_ca::store::Effect;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Environment, Failure, Progress, Terminal, write_file};
use undercroft_keymgr::{ErrorKind, Key, KeyManager, KeyUri, Pkcs11Uri, SigningKey, Tokens};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{Body, Ceremony, CeremonyEvent, Draft, KeyEvent, Policy, Text};
use undercroft_log::sequencer::{self, Append, Limits, Log};
use undercroft_log_files::FolderStore;

use crate::lint;
use crate::requests::{self, Request};

/// Where a ceremony reads and writes.
pub(crate) struct Places {
    pub(crate) requests: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) transcript: PathBuf,
}

pub(crate) fn run(
    plan: &Plan,
    environment: &Environment,
    places: &Places,
    dry_run: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let tokens = &environment.tokens;
    let required = plan.custody().grade(environment.development);
    let trust = plan.trust(&environment.trust)?;
    let requests = requests::read(plan, &places.requests, &trust, SystemClock.now())?;
    for request in &requests {
        let demand = request.intermediate.custody().unwrap_or(plan.custody());
        let required = demand.grade(environment.development);
        request.custody.require(required).map_err(|error| Failure::refused(error.to_string()))?;
    }
    nothing_would_be_overwritten(plan, places)?;
    let signing = plan.roots().len() + plan.intermediates().len() + plan.crls().len();
    let step = terminal.progress(lint::objects(plan) + signing as u64, "lint");
    block_on(async {
        no_key_is_there_yet(plan, tokens).await?;
        let subject_key = |name: &str| {
            let request = requests.iter().find(|request| request.intermediate.name() == name)?;
            Some(request.csr.public_key().clone())
        };
        lint::lint(plan, tokens, subject_key, &step).await
    })?;
    if dry_run {
        return terminal.result(&json!({ "digest": plan.digest().to_string(), "made": [] }), || {
            "Everything is in order; nothing was made.".into()
        });
    }
    let ceremony =
        Running { plan, tokens, places, required, trust, development: environment.development, step: &step };
    let made = block_on(ceremony.run(&requests))?;
    drop(step);
    terminal.result(
        &json!({
            "digest": plan.digest().to_string(),
            "transcript": places.transcript,
            "made": made.iter().map(|made| json!({"name": made.name, "path": made.path})).collect::<Vec<_>>(),
        }),
        || {
            let lines = made.iter().map(|made| format!("  {:20} {}\n", made.name, made.path.display()));
            format!("{}  {:20} {}\n", lines.collect::<String>(), "transcript", places.transcript.display())
        },
    )
}

fn nothing_would_be_overwritten(plan: &Plan, places: &Places) -> Result<(), Failure> {
    let outputs = plan
        .roots()
        .iter()
        .map(Root::output)
        .chain(plan.intermediates().iter().map(|intermediate| intermediate.output()))
        .chain(plan.crls().iter().map(|crl| crl.output()))
        .map(|output| places.out.join(output))
        .chain([places.transcript.join("head.json")]);
    for path in outputs {
        if path.exists() {
            return Err(Failure::usage(format!(
                "{} exists already, and a ceremony overwrites nothing; choose another folder",
                path.display()
            )));
        }
        can_be_written(&path)?;
    }
    Ok(())
}

/// Finds out before a key is made and not after.
fn can_be_written(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let tried = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    tried.map(drop).map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))
}

async fn no_key_is_there_yet(plan: &Plan, tokens: &Tokens) -> Result<(), Failure> {
    for root in plan.roots() {
        let (manager, uri) = locate(tokens, root.key())?;
        match manager.open(&uri, root.key().algorithm).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error.into()),
            Ok(_) | Err(_) => {
                return Err(Failure::usage(format!(
                    "`{}`: {uri} exists already, and a ceremony makes new keys; choose another label in the plan",
                    root.name()
                )));
            }
        }
    }
    Ok(())
}

/// The key manager of a planned key's device, and the key's URI.
fn locate(tokens: &Tokens, planned: &PlannedKey) -> Result<(Arc<dyn KeyManager>, KeyUri), Failure> {
    let device = tokens.device(&planned.device)?;
    let uri = match &device.uri {
        KeyUri::Pkcs11(uri) => {
            KeyUri::Pkcs11(Pkcs11Uri { object: Some(planned.label.clone()), ..uri.clone() })
        }
        KeyUri::Tpm(_) => {
            return Err(Failure::usage(format!(
                "the plan wants the key `{}` in device `{}`, which is a TPM: keys there have handles and no labels. Use a PKCS#11 token for roots",
                planned.label, planned.device
            )));
        }
        KeyUri::AwsKms(_) | KeyUri::GcpKms(_) | KeyUri::AzureKv(_) => {
            return Err(Failure::usage(format!(
                "the plan wants the key `{}` in device `{}`, which is a cloud's, and a ceremony is offline. Use a PKCS#11 token for roots",
                planned.label, planned.device
            )));
        }
    };
    Ok((tokens.manager(device)?, uri))
}

/// Something that was made.
struct Made {
    name: String,
    path: PathBuf,
}

/// A ceremony whose checks have passed.
struct Running<'a> {
    plan: &'a Plan,
    tokens: &'a Tokens,
    places: &'a Places,
    required: Grade,
    trust: Trust,
    development: bool,
    step: &'a Progress,
}

/// A root that was made: its key and its certificate.
struct MadeRoot {
    key: Arc<dyn SigningKey>,
    certificate: AuthorityCertificate,
}

impl Running<'_> {
    async fn custody(
        &self,
        key: &Key,
        event: KeyEvent,
        purpose: String,
        uri: String,
    ) -> Result<CustodyRecord, Failure> {
        Ok(CustodyRecord::of(key, event, purpose, uri, &self.trust, SystemClock.now()).await?)
    }

    async fn run(&self, requests: &[Request<'_>]) -> Result<Vec<Made>, Failure> {
        let (transcript_key, uri) = self.transcript_key().await?;
        let record =
            self.custody(&transcript_key, KeyEvent::Opened, "the transcript".into(), uri.to_string()).await?;
        record.require(self.required).map_err(|error| Failure::refused(error.to_string()))?;
        let log_key = LogKey::new(self.plan.origin().clone(), transcript_key)
            .map_err(|error| Failure::usage(format!("the transcript's key: {error}")))?;
        let store = FolderStore::open(&self.places.transcript).map_err(unreachable)?;
        let (log, driver) =
            sequencer::open(Arc::new(store), Arc::new(log_key), Arc::new(SystemClock), Limits::default())
                .await
                .map_err(unreachable)?;
        // Beside the transcript from the first, so that one that ends early can be verified, too.
        let verifier_key = self.places.transcript.join("log.vkey");
        write_file(&verifier_key, format!("{}\n", log.key()).as_bytes())?;
        let steps = async {
            let made = self.steps(&log, &record, requests).await;
            log.close();
            made
        };
        let (made, ended) = futures::join!(steps, driver);
        ended.map_err(|error| Failure::failed(format!("the transcript: {error}")))?;
        made
    }

    /// The key of the transcript is the one key that may be there already: later ceremonies use it again.
    async fn transcript_key(&self) -> Result<(Key, KeyUri), Failure> {
        let planned = self.plan.transcript();
        let (manager, uri) = locate(self.tokens, planned)?;
        let key = match manager.open(&uri, planned.algorithm).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                manager.create(&uri, planned.algorithm).await?
            }
            other => other?,
        };
        Ok((key, uri))
    }

    async fn steps(
        &self,
        log: &Log<Effect>,
        transcript_key: &CustodyRecord,
        requests: &[Request<'_>],
    ) -> Result<Vec<Made>, Failure> {
        let mode = match self.development {
            true => "; in development mode: keys in software are accepted",
            false => "",
        };
        self.note(log, CeremonyEvent::Opened, format!("{}{mode}", self.plan.title())).await?;
        append_custody(log, transcript_key).await?;
        let plan_text = self.plan.text().as_bytes().to_vec();
        let policy = Body::Policy(Policy {
            sha256: self.plan.digest(),
            previous: None,
            text: Text::Blob(plan_text.len() as u64),
        });
        let draft = Draft::new(&policy).map_err(bug)?;
        log.append(Append { draft, effects: Vec::new(), blobs: vec![plan_text] }).await.map_err(failed)?;
        let mut made = Vec::new();
        let mut roots = Vec::new();
        for root in self.plan.roots() {
            self.step.doing(root.name().to_owned());
            let made_root = self.make_root(log, root).await?;
            made.push(self.write_certificate(root.name(), root.output(), made_root.certificate.der())?);
            roots.push((root, made_root));
            self.step.advance(1);
        }
        for request in requests {
            let intermediate = request.intermediate;
            self.step.doing(intermediate.name().to_owned());
            let Some((root, root_made)) = roots.iter().find(|(root, _)| root.name() == intermediate.issuer())
            else {
                continue;
            };
            append_custody(log, &request.custody).await?;
            let issuer = root.issuer(root_made.certificate.public_key());
            let prepared = intermediate
                .prepare(
                    self.plan,
                    &issuer,
                    root_made.certificate.public_key(),
                    request.csr.public_key(),
                    Some(request.csr.digest()),
                    lint::serial()?,
                )
                .map_err(|error| lint::refused(intermediate.name(), &error))?;
            let issued = self.sign(log, prepared, &*root_made.key).await?;
            // What was just made is read back as whoever loads it will read it.
            let certificate = AuthorityCertificate::from_der(issued.der())?;
            if !certificate.is_issued_by(&root_made.certificate) {
                return Err(Failure::failed(format!(
                    "`{}` does not verify under its root",
                    intermediate.name()
                )));
            }
            made.push(self.write_certificate(intermediate.name(), intermediate.output(), issued.der())?);
            self.step.advance(1);
        }
        for crl in self.plan.crls() {
            self.step.doing(crl.name().to_owned());
            let Some((root, root_made)) = roots.iter().find(|(root, _)| root.name() == crl.issuer()) else {
                continue;
            };
            let root_key = root_made.certificate.public_key();
            let prepared = crl
                .prepare(self.plan, &root.issuer(root_key), root_key)
                .map_err(|error| lint::refused(crl.name(), &error))?;
            let issued = self.sign(log, prepared, &*root_made.key).await?;
            let path = self.places.out.join(crl.output());
            write_file(&path, issued.der())?;
            made.push(Made { name: crl.name().to_owned(), path });
            self.step.advance(1);
        }
        self.note(log, CeremonyEvent::Closed, "every step of the plan is done".into()).await?;
        Ok(made)
    }

    async fn make_root(&self, log: &Log<Effect>, root: &Root) -> Result<MadeRoot, Failure> {
        let (manager, uri) = locate(self.tokens, root.key())?;
        // The transcript says what will be made before it is, so that no key is ever without a record.
        self.note(log, CeremonyEvent::Step, format!("make the key of {}: {uri}", root.name())).await?;
        let key = manager.create(&uri, root.key().algorithm).await?;
        let purpose = format!("root {}", root.name());
        let record = self.custody(&key, KeyEvent::Made, purpose, uri.to_string()).await?;
        append_custody(log, &record).await?;
        record.require(self.required).map_err(|error| Failure::refused(error.to_string()))?;
        let prepared = root
            .prepare(self.plan, key.signer.public_key(), lint::serial()?)
            .map_err(|error| lint::refused(root.name(), &error))?;
        let issued = self.sign(log, prepared, &*key.signer).await?;
        let certificate = AuthorityCertificate::from_der(issued.der())?;
        if !certificate.is_self_signed() {
            return Err(Failure::failed(format!("`{}` does not verify under its own key", root.name())));
        }
        Ok(MadeRoot { key: key.signer, certificate })
    }

    async fn sign(
        &self,
        log: &Log<Effect>,
        prepared: Prepared,
        key: &dyn SigningKey,
    ) -> Result<Issued, Failure> {
        let receipt = log.append(prepared.intent()).await.map_err(failed)?;
        let issued = issue(prepared, receipt, Signing::Directly(key)).await.map_err(failed)?;
        log.append(issued.outcome().map_err(bug)?).await.map_err(failed)?;
        Ok(issued)
    }

    async fn note(&self, log: &Log<Effect>, event: CeremonyEvent, text: String) -> Result<(), Failure> {
        append(log, Body::Ceremony(Ceremony { event, plan: self.plan.digest(), text, transcript: None }))
            .await
    }

    fn write_certificate(&self, name: &str, output: &str, der: &[u8]) -> Result<Made, Failure> {
        let path = self.places.out.join(Path::new(output));
        write_file(&path, to_pem("CERTIFICATE", der)?.as_bytes())?;
        Ok(Made { name: name.to_owned(), path })
    }
}

/// Records where a key lives, with the evidence.
async fn append_custody(log: &Log<Effect>, record: &CustodyRecord) -> Result<(), Failure> {
    let draft = Draft::new(&record.entry).map_err(bug)?;
    let append = Append { draft, effects: Vec::new(), blobs: record.blobs.clone() };
    log.append(append).await.map_err(failed)?;
    Ok(())
}

async fn append(log: &Log<Effect>, body: Body) -> Result<(), Failure> {
    log.append(Append::new(Draft::new(&body).map_err(bug)?)).await.map_err(failed)?;
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{error}. The transcript tells which steps are done"))
}

fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::unreachable(format!("the transcript: {error}"))
}

fn bug(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{error}; this is a bug"))
}
