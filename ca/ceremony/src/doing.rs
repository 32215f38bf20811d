//! Doing the steps, each so that it can be done again after an interruption.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use undercroft_attestors::custody::Grade;
use undercroft_attestors::trust::Trust;
use undercroft_ca::certificate::{AuthorityCertificate, to_pem};
use undercroft_ca::custody::CustodyRecord;
use undercroft_ca::plan::{BundleStatement, Destruction, Import, Keys, Mode, Plan, Root, Step, What};
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::signed::{Signed, reassemble};
use undercroft_ca::transcript::{SignedBefore, Standing, purpose_of_root};
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Environment, Failure, read_text, write_file};
use undercroft_keymgr::{Key, SigningKey};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{CeremonyEvent, CeremonyStep, Digest, KeyEvent, ToBeSigned};
use undercroft_log_files::Folder;

use crate::devices;
use crate::requests::Request;
use crate::run::Places;
use crate::transcript::Transcript;

/// The largest file of evidence that people give.
const MAX_EVIDENCE: u64 = 64 * 1024 * 1024;

/// What stands before the name and the text of every file of a rehearsal.
const REHEARSAL: &str = "REHEARSAL";

/// The file that a step writes.
pub(crate) fn path(plan: &Plan, out: &Path, step: &Step<'_>) -> Option<PathBuf> {
    let path = out.join(step.output()?);
    match plan.mode() {
        Mode::Production => Some(path),
        Mode::Rehearsal => {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some(path.with_file_name(format!("{REHEARSAL}-{name}")))
        }
    }
}

/// Whether a key of the ceremony's own lives where it must: as the plan demands, and in a rehearsal nowhere but in a
/// simulator.
pub(crate) fn lives_where_it_must(
    plan: &Plan,
    environment: &Environment,
    record: &CustodyRecord,
) -> Result<(), Failure> {
    let required = match plan.mode() {
        Mode::Production => plan.custody().grade(environment.development),
        Mode::Rehearsal => Grade::Software,
    };
    record.require(required).map_err(|error| Failure::refused(error.to_string()))?;
    match plan.mode() == Mode::Rehearsal && record.custody.grade > Grade::Software {
        false => Ok(()),
        true => Err(Failure::refused(format!(
            "a rehearsal is on simulated tokens, and this one is real ({}); start simulators with `hsm-sim up` and give their environment",
            record.custody.findings.join("; ")
        ))),
    }
}

/// Whether the key that is to be destroyed is in its device, and is the one that the plan means. In a rehearsal a key of
/// the simulator stands for it.
pub(crate) async fn is_there(
    plan: &Plan,
    environment: &Environment,
    destruction: &Destruction,
) -> Result<(), Failure> {
    if plan.mode() == Mode::Rehearsal {
        return Ok(());
    }
    let (_, uri) = devices::locate(&environment.tokens, destruction.key())?;
    let found = devices::find(&environment.tokens, destruction.key()).await?;
    match found.map(|key| key.signer.public_key().id()) {
        Some(id) if id == destruction.id() => Ok(()),
        Some(id) => Err(Failure::refused(format!(
            "{uri} is the key {id}, and the plan destroys {}; connect the token that holds it",
            destruction.id()
        ))),
        None => Err(Failure::unreachable(format!(
            "{uri}, which the plan destroys, is not in its token; connect the token that holds it"
        ))),
    }
}

/// The steps of a ceremony, while they are done.
pub(crate) struct Doing<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    places: &'a Places,
    trust: &'a Trust,
    transcript: &'a Transcript,
    keys: Keys,
    signers: BTreeMap<String, std::sync::Arc<dyn SigningKey>>,
    certificates: BTreeMap<String, AuthorityCertificate>,
    finished: BTreeSet<u64>,
    /// SHA-256 of what each step has written, in this run or before it.
    written: BTreeMap<u64, Digest>,
}

impl<'a> Doing<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        environment: &'a Environment,
        places: &'a Places,
        trust: &'a Trust,
        transcript: &'a Transcript,
    ) -> Self {
        Self {
            plan,
            environment,
            places,
            trust,
            transcript,
            keys: Keys::default(),
            signers: BTreeMap::new(),
            certificates: BTreeMap::new(),
            finished: BTreeSet::new(),
            written: BTreeMap::new(),
        }
    }

    /// Does a step, unless it is done already: then only what later steps need of it is taken up again.
    pub(crate) async fn step(
        &mut self,
        step: &Step<'_>,
        standing: &Standing,
        requests: &[Request<'_>],
    ) -> Result<(), Failure> {
        let done = standing.done.get(&step.number);
        let begun = standing.begun.as_ref().is_some_and(|begun| begun.number == step.number);
        if done.is_none() && !begun {
            if let What::Destruction(destruction) = step.what {
                is_there(self.plan, self.environment, destruction).await?;
            }
            self.tell(CeremonyEvent::Step, step, None).await?;
        }
        let output = match step.what {
            What::Manual(manual) => match (manual.evidence(), done) {
                (Some(evidence), None) => Some(digest_of(&self.places.requests.join(evidence))?),
                _ => None,
            },
            What::Open(root) | What::Root(root) => {
                self.root(root, standing, begun || done.is_some()).await?;
                match (root.certificate(), done) {
                    (Some(certificate), _) => {
                        self.certificates.insert(root.name().to_owned(), certificate.clone());
                        None
                    }
                    (None, None) => {
                        let der = self.sign(step, standing, begun).await?;
                        self.take_root(root, &der)?;
                        Some(self.write(step, &der)?)
                    }
                    (None, Some(done)) => {
                        let der = self.written(step, done)?;
                        self.take_root(root, &der)?;
                        None
                    }
                }
            }
            What::Import(import) if done.is_none() => Some(self.import(step, import)?),
            What::Destruction(destruction) if done.is_none() => {
                self.destroy(destruction, begun).await?;
                None
            }
            What::Intermediate(_) | What::OcspSigner(_) => {
                let request = requests.iter().find(|request| request.of.name == step.name());
                let request =
                    request.ok_or_else(|| Failure::failed("a request is missing; this is a bug"))?;
                let own = (request.csr.public_key().clone(), Some(request.csr.digest()));
                self.keys.requests.insert(step.name().to_owned(), own);
                if done.is_some() {
                    None
                } else {
                    if !standing.keys.contains_key(&request.of.purpose) {
                        self.transcript.custody(&request.custody).await?;
                    }
                    let der = self.sign(step, standing, begun).await?;
                    match step.what {
                        What::OcspSigner(_) => self.is_signed_by(step.name(), &der, request.of.issuer)?,
                        _ => self.is_issued_by(step.name(), &der, request.of.issuer)?,
                    }
                    Some(self.write(step, &der)?)
                }
            }
            What::BundleStatement(statement) if done.is_none() => {
                let text = self.statement(statement)?;
                Some(self.write_new(step, &self.text_as_written(&text))?)
            }
            What::CrossCertificate(cross) if done.is_none() => {
                let der = self.sign(step, standing, begun).await?;
                self.is_issued_by(cross.name(), &der, cross.issuer())?;
                Some(self.write(step, &der)?)
            }
            What::CertificateRequest(_) if done.is_none() => {
                let der = self.sign(step, standing, begun).await?;
                Some(self.write(step, &der)?)
            }
            What::Crl(_) if done.is_none() => {
                let der = self.sign(step, standing, begun).await?;
                Some(self.write(step, &der)?)
            }
            What::Import(_)
            | What::Destruction(_)
            | What::CrossCertificate(_)
            | What::CertificateRequest(_)
            | What::BundleStatement(_)
            | What::Crl(_) => None,
        };
        if done.is_none() {
            self.tell(CeremonyEvent::Done, step, output).await?;
        }
        self.written.extend(output.or(done.and_then(|done| done.output)).map(|it| (step.number, it)));
        self.finished.insert(step.number);
        Ok(())
    }

    /// The certificate of a root, once it was made or opened.
    pub(crate) fn certificate(&self, root: &str) -> Option<AuthorityCertificate> {
        self.certificates.get(root).cloned()
    }

    /// SHA-256 of what a step has written, once it is done.
    pub(crate) fn output(&self, number: u64) -> Option<Digest> {
        self.written.get(&number).copied()
    }

    /// Gives up: destroys the keys that this ceremony has made, and removes the files that it has written.
    pub(crate) async fn clean_up(&mut self, standing: &Standing) -> Result<(), Failure> {
        for step in self.plan.steps() {
            let done = standing.done.contains_key(&step.number) || self.finished.contains(&step.number);
            let begun = standing.begun.as_ref().is_some_and(|begun| begun.number == step.number);
            if let Some(path) = path(self.plan, &self.places.out, &step)
                && (done || begun && self.was_written(&step, &path, standing)?)
            {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Failure::failed(format!(
                            "{} cannot be removed: {error}",
                            path.display()
                        )));
                    }
                    _ => {}
                }
            }
            let What::Root(root) = step.what else { continue };
            let recorded = standing.keys.get(&purpose_of_root(root.name())).copied();
            let made = self.keys.roots.get(root.name()).map(undercroft_keys::PublicKey::id).or(recorded);
            let Some(key) = devices::find(&self.environment.tokens, root.key()).await? else { continue };
            let id = key.signer.public_key().id();
            // One that was announced and not recorded was made in the moment of an interruption.
            if made != Some(id) && !(begun && made.is_none()) {
                continue;
            }
            let (manager, uri) = devices::locate(&self.environment.tokens, root.key())?;
            manager.destruction()?.destroy(&uri, id).await?;
            let text = format!("the key {id} of {} was destroyed", root.name());
            self.transcript.tell(CeremonyEvent::Note, text).await?;
        }
        Ok(())
    }

    /// Whether a file is what a step wrote in the moment of an interruption, before the transcript could say so.
    fn was_written(&self, step: &Step<'_>, path: &Path, standing: &Standing) -> Result<bool, Failure> {
        let der = match (&standing.signed, step.what) {
            (Some(before), _) => self.signed_before(before)?,
            (None, What::Import(import)) => {
                let answer = read_text(&self.places.requests.join(import.answer()))?;
                AuthorityCertificate::from_pem(&answer)?.der().to_vec()
            }
            (None, What::BundleStatement(statement)) => {
                // The roots that it names may be gone by now. No file was there when the ceremony began.
                let found = std::fs::read_to_string(path).unwrap_or_default();
                let text = found.find('{').map_or("", |begin| &found[begin..]);
                return Ok(RootsStatement::parse(text).is_ok_and(|stated| statement.is_of(&stated)));
            }
            (None, _) => return Ok(false),
        };
        let expected = self.as_written(step, &der)?;
        Ok(std::fs::read(path).is_ok_and(|found| found == expected))
    }

    async fn tell(
        &self,
        event: CeremonyEvent,
        step: &Step<'_>,
        output: Option<Digest>,
    ) -> Result<(), Failure> {
        let told = CeremonyStep { number: step.number, artefact: step.name().to_owned(), output };
        self.transcript.step(event, told, step.in_words()).await
    }

    /// Opens or makes the key of a root.
    async fn root(&mut self, root: &Root, standing: &Standing, announced: bool) -> Result<(), Failure> {
        let (manager, uri) = devices::locate(&self.environment.tokens, root.key())?;
        let purpose = purpose_of_root(root.name());
        let recorded = standing.keys.get(&purpose).copied();
        let found = devices::find(&self.environment.tokens, root.key()).await?;
        // In a rehearsal a key of the simulator stands for that of a root that exists.
        let stands_in = self.plan.mode() == Mode::Rehearsal;
        let (key, event) = match (found, root.certificate()) {
            (Some(key), Some(certificate)) => {
                if !stands_in && key.signer.public_key() != certificate.public_key() {
                    return Err(Failure::refused(format!(
                        "{uri} is the key {}, and the certificate of `{}` is for the key {}; connect the token that holds it",
                        key.signer.public_key().id(),
                        root.name(),
                        certificate.public_key().id()
                    )));
                }
                (key, KeyEvent::Opened)
            }
            (None, Some(_)) if !stands_in => {
                return Err(Failure::unreachable(format!(
                    "{uri} is not in its token; connect the token that holds the key of `{}`",
                    root.name()
                )));
            }
            // Announced in the transcript, and made in the moment of an interruption.
            (Some(key), None) if announced => (key, KeyEvent::Made),
            (Some(_), None) => {
                return Err(Failure::usage(format!(
                    "{uri} exists already, and this ceremony has not made it; find out who has, and remove it or abort"
                )));
            }
            (None, None) if recorded.is_some() => {
                return Err(Failure::unreachable(format!(
                    "{uri} was made in this ceremony and is not in its token any more; connect the token, or abort"
                )));
            }
            (None, _) => (manager.create(&uri, root.key().algorithm).await?, KeyEvent::Made),
        };
        let id = key.signer.public_key().id();
        match recorded {
            Some(recorded) if recorded != id => {
                return Err(Failure::refused(format!(
                    "{uri} is the key {id}, and the transcript has recorded {recorded} for `{}`; connect the token that was used",
                    root.name()
                )));
            }
            Some(_) => {}
            None => self.record(&key, event, purpose, uri.to_string()).await?,
        }
        self.keys.roots.insert(root.name().to_owned(), key.signer.public_key().clone());
        self.signers.insert(root.name().to_owned(), key.signer);
        Ok(())
    }

    async fn record(&self, key: &Key, event: KeyEvent, purpose: String, uri: String) -> Result<(), Failure> {
        let record = CustodyRecord::of(key, event, purpose, uri, self.trust, SystemClock.now()).await?;
        self.transcript.custody(&record).await?;
        lives_where_it_must(self.plan, self.environment, &record)
    }

    /// Has the step's artefact signed; or puts together what was signed before an interruption.
    async fn sign(&self, step: &Step<'_>, standing: &Standing, begun: bool) -> Result<Vec<u8>, Failure> {
        if let (true, Some(before)) = (begun, &standing.signed) {
            return self.signed_before(before);
        }
        let attempts = standing.attempts.get(step.name()).copied().unwrap_or_default();
        let prepared = step
            .prepare(self.plan, &self.keys, attempts + 1)
            .map_err(|error| crate::lint::refused(step.name(), &error))?
            .ok_or_else(|| Failure::failed("a step that signs nothing; this is a bug"))?;
        let signer = step.signer().and_then(|name| self.signers.get(name));
        let signer = signer.ok_or_else(|| Failure::failed("a step without its key; this is a bug"))?;
        Ok(self.transcript.sign(prepared, &**signer).await?.der().to_vec())
    }

    /// The text of a statement about roots.
    fn statement(&self, statement: &BundleStatement) -> Result<String, Failure> {
        let stated = statement.statement(self.plan, |name| self.certificate(name));
        let stated = stated.map_err(|root| {
            Failure::failed(format!("the certificate of `{root}` is not known; this is a bug"))
        })?;
        stated.text().map_err(|error| Failure::failed(error.to_string()))
    }

    /// A rehearsal says what it is, and is no text that anybody could take for a statement.
    fn text_as_written(&self, text: &str) -> Vec<u8> {
        match self.plan.mode() {
            Mode::Production => text.as_bytes().to_vec(),
            Mode::Rehearsal => format!("{REHEARSAL}: nobody approves this\n{text}").into_bytes(),
        }
    }

    fn signed_before(&self, before: &SignedBefore) -> Result<Vec<u8>, Failure> {
        let damaged = |what: String| Failure::tampered(format!("the transcript: {what}"));
        let tbs = match &before.tbs {
            ToBeSigned::Der(der) => der.0.clone(),
            ToBeSigned::Blob { sha256, .. } => Folder::new(&self.places.transcript)
                .blob(*sha256)
                .map_err(|error| damaged(error.to_string()))?
                .ok_or_else(|| damaged(format!("the blob {sha256} is missing")))?,
        };
        reassemble(&tbs, before.algorithm, &before.signature).map_err(|error| damaged(error.to_string()))
    }

    fn take_root(&mut self, root: &Root, der: &[u8]) -> Result<(), Failure> {
        let certificate = AuthorityCertificate::from_der(der)?;
        if !certificate.is_self_signed() {
            return Err(Failure::failed(format!("`{}` does not verify under its own key", root.name())));
        }
        self.certificates.insert(root.name().to_owned(), certificate);
        Ok(())
    }

    /// What was just made is read back as whoever loads it will read it.
    fn is_issued_by(&self, name: &str, der: &[u8], issuer: &str) -> Result<(), Failure> {
        let certificate = AuthorityCertificate::from_der(der)?;
        let held = match self.certificates.get(issuer) {
            // The key of an existing root is another one in a rehearsal, and `issue` has verified the signature.
            Some(issuer) if self.plan.mode() == Mode::Production => certificate.is_issued_by(issuer),
            Some(_) => true,
            None => false,
        };
        match held {
            true => Ok(()),
            false => Err(Failure::failed(format!("`{name}` does not verify under `{issuer}`"))),
        }
    }

    /// The same of what is no authority.
    fn is_signed_by(&self, name: &str, der: &[u8], issuer: &str) -> Result<(), Failure> {
        let read = Signed::from_der(der).map_err(|error| Failure::failed(format!("`{name}`: {error}")))?;
        match self.keys.roots.get(issuer).is_some_and(|key| read.verify(key).is_ok()) {
            true => Ok(()),
            false => Err(Failure::failed(format!("`{name}` does not verify under `{issuer}`"))),
        }
    }

    fn import(&self, step: &Step<'_>, import: &Import) -> Result<Digest, Failure> {
        let path = self.places.requests.join(import.answer());
        let during = |failure: Failure| failure.during(path.display());
        let answer =
            AuthorityCertificate::from_pem(&read_text(&path)?).map_err(|error| during(error.into()))?;
        let root = self.plan.root(import.root());
        let certificate = root.and_then(Root::certificate);
        let (root, certificate) = root
            .zip(certificate)
            .ok_or_else(|| Failure::failed("an import without its root; this is a bug"))?;
        import
            .judge(root, certificate.public_key(), &answer)
            .map_err(|what| during(Failure::refused(format!("`{}`: {what}", import.name()))))?;
        self.write(step, answer.der())
    }

    async fn destroy(&self, destruction: &Destruction, begun: bool) -> Result<(), Failure> {
        let planned = destruction.key();
        let (manager, uri) = devices::locate(&self.environment.tokens, planned)?;
        let found = devices::find(&self.environment.tokens, planned).await?;
        let id = match (found, self.plan.mode()) {
            (Some(key), Mode::Rehearsal) => key.signer.public_key().id(),
            (None, Mode::Rehearsal) => {
                manager.create(&uri, planned.algorithm).await?.signer.public_key().id()
            }
            // It was there when the step was announced, and was destroyed before an interruption.
            (None, Mode::Production) if begun => return Ok(()),
            (_, Mode::Production) => destruction.id(),
        };
        Ok(manager.destruction()?.destroy(&uri, id).await?)
    }

    fn write(&self, step: &Step<'_>, der: &[u8]) -> Result<Digest, Failure> {
        self.write_new(step, &self.as_written(step, der)?)
    }

    /// What a step's file holds: PEM, and DER for CRLs (RFC 2585 section 3). A rehearsal's is always PEM, so that it can say
    /// what it is (RFC 7468 section 5.2: text may stand before what is encapsulated).
    fn as_written(&self, step: &Step<'_>, der: &[u8]) -> Result<Vec<u8>, Failure> {
        let label = match step.what {
            What::Crl(_) => "X509 CRL",
            What::CertificateRequest(_) => "CERTIFICATE REQUEST",
            _ => "CERTIFICATE",
        };
        Ok(match (self.plan.mode(), step.what) {
            (Mode::Production, What::Crl(_)) => der.to_vec(),
            (Mode::Production, _) => to_pem(label, der)?.into_bytes(),
            (Mode::Rehearsal, _) => {
                format!("{REHEARSAL}: nobody trusts this key\n{}", to_pem(label, der)?).into_bytes()
            }
        })
    }

    /// Writes a file that is not there yet, or holds the same already.
    fn write_new(&self, step: &Step<'_>, bytes: &[u8]) -> Result<Digest, Failure> {
        let path = path(self.plan, &self.places.out, step)
            .ok_or_else(|| Failure::failed("a step that writes nothing; this is a bug"))?;
        let digest = Digest::of(bytes);
        match std::fs::read(&path) {
            Ok(found) if Digest::of(&found) == digest => Ok(digest),
            Ok(_) => Err(Failure::usage(format!(
                "{} exists already and holds something else, and a ceremony overwrites nothing; move it away and run again",
                path.display()
            ))),
            Err(_) => {
                write_file(&path, bytes)?;
                Ok(digest)
            }
        }
    }

    /// The certificate that a step wrote before an interruption.
    fn written(&self, step: &Step<'_>, done: &CeremonyStep) -> Result<Vec<u8>, Failure> {
        let path = path(self.plan, &self.places.out, step)
            .ok_or_else(|| Failure::failed("a step that writes nothing; this is a bug"))?;
        let text = read_text(&path)?;
        if done.output != Some(Digest::of(text.as_bytes())) {
            return Err(Failure::tampered(format!(
                "{} is not what the transcript says was written; put the right file back",
                path.display()
            )));
        }
        let begin = text.find("-----BEGIN").unwrap_or_default();
        Ok(AuthorityCertificate::from_pem(&text[begin..])?.der().to_vec())
    }
}

/// SHA-256 of a file that people gave as evidence.
fn digest_of(path: &Path) -> Result<Digest, Failure> {
    let wrong = |what: String| Failure::usage(format!("the evidence {}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_EVIDENCE {
        return Err(wrong(format!("it has {length} bytes, more than {MAX_EVIDENCE}")));
    }
    std::fs::read(path).map(|bytes| Digest::of(&bytes)).map_err(|error| wrong(error.to_string()))
}
