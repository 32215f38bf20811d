//! The steps of a recovery, on keys that a simulated token forgets: each by the code that would do it for real.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use futures::executor::block_on;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use undercroft_ca::authority::Authority as Issuing;
use undercroft_ca::bundle::Bundle;
use undercroft_ca::certificate::{AuthorityCertificate, Constraints, to_pem};
use undercroft_ca::drill::{Live, LiveCertificates, Step, Successors, revocation_list};
use undercroft_ca::gated::Signing;
use undercroft_ca::issuance::{Prepared, issue};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Intermediate, Plan, Root};
use undercroft_ca::profile::Kind;
use undercroft_ca::serial::{Entropy as _, SerialNumber};
use undercroft_ca::store::Effect;
use undercroft_ca::time::Validity;
use undercroft_cli::system::{Stopwatch, SystemClock, SystemEntropy};
use undercroft_cli::{Failure, Progress, Terminal, write_file};
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, Key, KeyManager, ProveCustody, SigningKey};
use undercroft_keys::{KeyAlgorithm, KeyType, PublicKey};
use undercroft_log::Clock as _;
use undercroft_log::leaf::{
    Body, Caller, Channel, Digest, Draft, Freezable, Freeze, FreezeEvent, HexKeyId, Policy, Text,
};
use undercroft_log::sequencer::{self, Append, Limits, Log};
use undercroft_log_files::FolderStore;

use crate::config::{Authority, Config, Domain};

/// Certificates that are made at once.
const AT_ONCE: usize = 32;

/// A rehearsal, before it begins.
pub(super) struct Rehearsal<'a> {
    pub(super) config: &'a Config,
    pub(super) domain: &'a Domain,
    pub(super) authority: &'a Authority,
    /// Of a simulated device.
    pub(super) manager: Arc<dyn KeyManager>,
    pub(super) out: &'a Path,
}

/// Nobody proves where a key lives that is thrown away.
#[derive(Debug)]
struct NoCustody;

#[async_trait]
impl ProveCustody for NoCustody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        Err(Error::new(ErrorKind::Unsupported, "a drill's keys have no custody"))
    }
}

fn throwaway(signer: Arc<dyn SigningKey>) -> Key {
    Key { signer, custody: Arc::new(NoCustody), gated: None, prehashed: None }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("the drill: {error}"))
}

/// What is there before a compromise.
struct Before {
    plan: Plan,
    root_key: Arc<dyn SigningKey>,
    root: AuthorityCertificate,
    old: Issuing,
}

/// A step that is being measured.
struct Measured(Vec<Step>);

impl Measured {
    fn add(&mut self, step: String, signatures: u64, watch: Stopwatch) {
        self.0.push(Step { step, signatures, ms: watch.elapsed().as_millis() as u64 });
    }
}

impl Rehearsal<'_> {
    pub(super) fn run(
        &self,
        live: &LiveCertificates,
        begun: Timestamp,
        terminal: &Terminal,
    ) -> Result<Vec<Step>, Failure> {
        // Four steps besides the certificates.
        let progress = terminal.progress(live.len() as u64 + 4, "DRILL");
        block_on(async {
            let serial = new_serial()?;
            let plan = self.plan(begun, &serial)?;
            let log_key = throwaway(self.manager.throwaway(KeyAlgorithm::Ed25519).await?);
            let log_key = LogKey::new(plan.origin().clone(), log_key).map_err(failed)?;
            let store = FolderStore::open(self.out.join("DRILL-log")).map_err(failed)?;
            let (log, driver) = sequencer::open::<Effect>(
                Arc::new(store),
                Arc::new(log_key),
                Arc::new(SystemClock),
                Limits::default(),
            )
            .await
            .map_err(failed)?;
            write_file(&self.out.join("DRILL-log/log.vkey"), format!("{}\n", log.key()).as_bytes())?;
            let steps = async {
                let steps = self.steps(&log, plan, serial, live, &progress).await;
                log.close();
                steps
            };
            let (steps, ended) = futures::join!(steps, driver);
            ended.map_err(failed)?;
            steps
        })
    }

    async fn steps(
        &self,
        log: &Log<Effect>,
        plan: Plan,
        serial: SerialNumber,
        live: &LiveCertificates,
        progress: &Progress,
    ) -> Result<Vec<Step>, Failure> {
        let before = self.before(log, plan, serial).await?;
        let mut measured = Measured(Vec::new());

        let watch = Stopwatch::start();
        append(log, self.freeze(&before)).await?;
        measured.add("freeze the authority".into(), 0, watch);
        progress.advance(1);

        let watch = Stopwatch::start();
        let new = self
            .intermediate(log, &before.plan, "new", &before.root, &*before.root_key, new_serial()?)
            .await?;
        self.write("DRILL-new-intermediate.pem", new.certificate().der())?;
        measured.add("a new intermediate: key and certificate".into(), 1, watch);
        progress.advance(1);

        let watch = Stopwatch::start();
        self.bundle(log, &before).await?;
        measured.add("a bundle with the old root tainted".into(), 0, watch);
        progress.advance(1);

        let watch = Stopwatch::start();
        let wanted: Vec<_> = live.to_revoke().filter(|live| live.kind != Kind::OcspSigner).collect();
        let count = self.reissue(log, &before.plan, &new, &wanted, progress).await?;
        measured.add(format!("{count} certificates again"), count, watch);

        let watch = Stopwatch::start();
        self.revoke(log, &before, live).await?;
        measured.add(format!("revocation of the old intermediate and of {} serials", live.len()), 2, watch);
        progress.advance(1);
        Ok(measured.0)
    }

    /// What an installation has before its authority is compromised: a root, and the old intermediate. Not measured.
    async fn before(&self, log: &Log<Effect>, plan: Plan, serial: SerialNumber) -> Result<Before, Failure> {
        let text = plan.text().as_bytes().to_vec();
        let policy = Policy { sha256: plan.digest(), previous: None, text: Text::Blob(text.len() as u64) };
        let draft = Draft::new(&Body::Policy(policy)).map_err(failed)?;
        log.append(Append { draft, effects: Vec::new(), blobs: vec![text] }).await.map_err(failed)?;
        let planned = root_of(&plan)?;
        let root_key = self.manager.throwaway(planned.key().algorithm).await?;
        let prepared = planned.prepare(&plan, root_key.public_key(), new_serial()?).map_err(failed)?;
        let root = sign(log, prepared, &*root_key).await?;
        self.write("DRILL-root.pem", &root)?;
        let root = AuthorityCertificate::from_der(&root)?;
        let old = self.intermediate(log, &plan, "old", &root, &*root_key, serial).await?;
        self.write("DRILL-old-intermediate.pem", old.certificate().der())?;
        Ok(Before { plan, root_key, root, old })
    }

    async fn intermediate(
        &self,
        log: &Log<Effect>,
        plan: &Plan,
        name: &str,
        root: &AuthorityCertificate,
        root_key: &dyn SigningKey,
        serial: SerialNumber,
    ) -> Result<Issuing, Failure> {
        let planned = plan.intermediates().iter().find(|planned| planned.name() == name);
        let planned: &Intermediate = planned.ok_or_else(|| failed(format!("no intermediate `{name}`")))?;
        let key = self.manager.throwaway(planned.algorithm()).await?;
        let issuer = root_of(plan)?.issuer(root.public_key());
        let prepared = planned
            .prepare(plan, &issuer, root.public_key(), key.public_key(), None, serial)
            .map_err(failed)?;
        let der = sign(log, prepared, root_key).await?;
        let certificate = AuthorityCertificate::from_der(&der)?;
        let (domain, urls) = (self.domain.name.clone(), self.authority.urls.clone());
        let roots = std::slice::from_ref(root);
        Issuing::new(format!("drill-{name}"), domain, certificate, roots, throwaway(key), urls)
            .map_err(failed)
    }

    fn freeze(&self, before: &Before) -> Body {
        Body::Freeze(Freeze {
            what: Freezable::Authority(HexKeyId(before.old.certificate().public_key().id())),
            event: FreezeEvent::Frozen { reason: "DRILL".into() },
            caller: Caller { id: before.plan.origin().to_string(), by: Channel::Ceremony },
        })
    }

    /// The published roots with the simulated one beside them, and the word that the old ones are tainted.
    async fn bundle(&self, log: &Log<Effect>, before: &Before) -> Result<(), Failure> {
        let mut roots = self.domain.roots.clone();
        let tainted: Vec<_> = roots.iter().map(|root| Digest::of(root.der())).collect();
        let first = Bundle::first(self.domain.name.clone(), roots.clone(), self.domain.refresh_hint);
        roots.push(before.root.clone());
        let next = first.next(roots, tainted.clone(), self.domain.refresh_hint);
        for bundle in [&first, &next] {
            append(log, Body::Bundle(bundle.entry())).await?;
        }
        let tainted: Vec<_> = tainted.iter().map(Digest::to_string).collect();
        let document = json!({ "drill": true, "bundle": next.to_json(), "tainted": tainted });
        let text = serde_json::to_string_pretty(&document).map_err(failed)?;
        write_file(&self.out.join("DRILL-bundle.json"), (text + "\n").as_bytes())
    }

    async fn reissue(
        &self,
        log: &Log<Effect>,
        plan: &Plan,
        new: &Issuing,
        wanted: &[&Live],
        progress: &Progress,
    ) -> Result<u64, Failure> {
        let successors = Successors {
            authority: new,
            profiles: &self.config.profiles,
            arc: &self.config.policy_arc,
            plan: plan.digest(),
            entropy: &SystemEntropy,
        };
        let place = self.out.join("DRILL-certificates.pem");
        let unwritten = |error: std::io::Error| {
            Failure::failed(format!("{} cannot be written: {error}", place.display()))
        };
        let mut file = std::io::BufWriter::new(tempfile::NamedTempFile::new_in(self.out).map_err(unwritten)?);
        let issued = stream::iter(wanted.iter().copied())
            .map(|live| {
                let successors = &successors;
                async move {
                    let key = subject_key()?;
                    let prepared = successors.prepare(live, &key, SystemClock.now()).map_err(failed)?;
                    sign(log, prepared, &*new.key().signer).await
                }
            })
            .buffered(AT_ONCE);
        let count = issued
            .try_fold(0, |count, der| {
                let written = to_pem("CERTIFICATE", &der)
                    .map_err(Failure::from)
                    .and_then(|pem| file.write_all(pem.as_bytes()).map_err(unwritten));
                progress.advance(1);
                std::future::ready(written.map(|()| count + 1))
            })
            .await?;
        let file = file.into_inner().map_err(|error| unwritten(error.into_error()))?;
        file.as_file().sync_all().map_err(unwritten)?;
        file.persist(&place).map_err(|error| unwritten(error.error))?;
        Ok(count)
    }

    /// The root's list with the old intermediate, and the old intermediate's with everything of it that is live.
    async fn revoke(
        &self,
        log: &Log<Effect>,
        before: &Before,
        live: &LiveCertificates,
    ) -> Result<(), Failure> {
        let plan = &before.plan;
        let crl = plan.crls().first().ok_or_else(|| failed("no CRL"))?;
        let issuer = root_of(plan)?.issuer(before.root.public_key());
        let prepared = crl.prepare(plan, &issuer, before.root.public_key()).map_err(failed)?;
        let der = sign(log, prepared, &*before.root_key).await?;
        write_file(&self.out.join("DRILL-root.crl"), &der)?;
        let now = second(SystemClock.now());
        let period = Validity::new(now, now + SignedDuration::from_hours(24)).map_err(failed)?;
        let origin = plan.origin().to_string();
        let prepared = revocation_list(
            before.old.issuer(),
            before.old.certificate().public_key(),
            self.domain.name.as_str(),
            live.all(),
            period,
            plan.digest(),
            &origin,
        );
        let der = sign(log, prepared.map_err(failed)?, &*before.old.key().signer).await?;
        write_file(&self.out.join("DRILL-old-intermediate.crl"), &der)
    }

    fn write(&self, name: &str, der: &[u8]) -> Result<(), Failure> {
        write_file(&self.out.join(name), to_pem("CERTIFICATE", der)?.as_bytes())
    }

    /// The plan of the drill's hierarchy: a root, the old intermediate and the new one, and the CRL that revokes the old.
    fn plan(&self, begun: Timestamp, old: &SerialNumber) -> Result<Plan, Failure> {
        let origin = self.config.domains[0].origin.as_str();
        let operator = origin.split('/').next().unwrap_or_default();
        let name = self.domain.name.as_str();
        let algorithm = self.authority.algorithm;
        let begins = second(begun);
        let day = |days: i64| begins + SignedDuration::from_hours(24 * days);
        let constraints = match self.authority.certificate.constraints() {
            Constraints::None => String::new(),
            _ => format!("constraints = {{ dns-names = [\"{name}\"] }}\n"),
        };
        let nesting = self.authority.certificate.path_length().unwrap_or(1).saturating_sub(1);
        let arc = self.config.policy_arc.to_string();
        let mut entropy = [0; 32];
        SystemEntropy.fill(&mut entropy).map_err(failed)?;
        let entropy = hex::encode(entropy);
        let intermediate = |which: &str| {
            format!(
                r#"
[[intermediate]]
name = "{which}"
domain = "{name}"
issuer = "root"
request = "none/{which}"
algorithm = "{algorithm}"
subject = {{ organization = "DRILL", common-name = "DRILL {which} intermediate" }}
not-before = {begins}
not-after = {}
nesting = {nesting}
{constraints}follows = "DRILL"
output = "DRILL-{which}-intermediate.pem"
"#,
                day(90)
            )
        };
        let text = format!(
            r#"version = 1
title = "DRILL: the compromise of {name}/{}"
operator = "{operator}"
name = "drill"
policy-arc = "{arc}"
transcript = {{ device = "simulated", label = "drill-log" }}
entropy = "{entropy}"

[[root]]
name = "root"
domains = ["{name}"]
key = {{ device = "simulated", label = "drill-root", algorithm = "{algorithm}" }}
subject = {{ organization = "DRILL", common-name = "DRILL root" }}
not-before = {begins}
not-after = {}
urls = {{ crl = "http://drill.invalid/root.crl", certificate = "http://drill.invalid/root.cer" }}
follows = "DRILL"
output = "DRILL-root.pem"
{}{}
[[crl]]
name = "root-crl"
issuer = "root"
number = 1
this-update = {begins}
next-update = {}
revoked = [{{ serial = "{old}", date = {begins}, reason = "ca-compromise" }}]
follows = "DRILL"
output = "DRILL-root.crl"
"#,
            self.authority.name,
            day(3650),
            intermediate("old"),
            intermediate("new"),
            day(30)
        );
        Plan::parse("the drill's plan", &text).map_err(failed)
    }
}

fn root_of(plan: &Plan) -> Result<&Root, Failure> {
    plan.root("root").ok_or_else(|| failed("no root"))
}

fn new_serial() -> Result<SerialNumber, Failure> {
    SerialNumber::random(&SystemEntropy).map_err(failed)
}

fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A subject's key, whose private half is dropped at once: nobody will use the certificate.
fn subject_key() -> Result<PublicKey, Failure> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
    PublicKey::from_ec_point(KeyType::P256, pair.public_key().as_ref()).map_err(failed)
}

async fn append(log: &Log<Effect>, body: Body) -> Result<(), Failure> {
    log.append(Append::new(Draft::new(&body).map_err(failed)?)).await.map_err(failed)?;
    Ok(())
}

/// The cycle of every signature: intent, receipt, issue, outcome.
async fn sign(log: &Log<Effect>, prepared: Prepared, key: &dyn SigningKey) -> Result<Vec<u8>, Failure> {
    let receipt = log.append(prepared.intent()).await.map_err(failed)?;
    let issued = issue(prepared, receipt, Signing::Directly(key)).await.map_err(failed)?;
    log.append_end(issued.outcome().map_err(failed)?).await.map_err(failed)?;
    Ok(issued.der().to_vec())
}
