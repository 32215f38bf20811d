//! Starting the CA: what must be true, and what is logged, before the first request.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use futures::lock::Mutex;
use jiff::Timestamp;
use undercroft_attestors::custody::Demand;
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::Key;
use undercroft_log::Clock;
use undercroft_log::leaf::{Body, Ceremony, CeremonyEvent, Digest, Draft, Policy as PolicyLeaf, Start, Text};
use undercroft_log::sequencer::{Append, AppendError, Assurance, Log};
use undercroft_log::store::StoreError;

use super::attest::{NodeSetup, Nodes};
use super::consumers::Consumers;
use super::custody::HeldKey;
use super::first_bundle::{KnownCeremony, quorum_on};
use super::publish::{Publication, RevocationSetup};
use super::{CertificateAuthority, Domain};
use crate::approval::Roster;
use crate::authority::Authority;
use crate::bundle::Bundle;
use crate::certificate::{AuthorityCertificate, Constraints};
use crate::custody::PoorCustody;
use crate::freeze::Freezes;
use crate::issuance::abandoned;
use crate::names::{SpiffeId, TrustDomain};
use crate::policy::Policy;
use crate::profile::{PolicyArc, Profile};
use crate::revocation::facts::Revocations;
use crate::rotation::{Rotation, Rotations};
use crate::serial::Entropy;
use crate::store::{Effect, Facts};
use crate::time::Lifetime;

/// A text longer than this is a blob beside its entry.
const INLINE_TEXT: usize = 32 * 1024;

/// Everything that a CA is started with.
pub struct Setup {
    /// The version of the program.
    pub version: String,
    /// SHA-256 of the configuration.
    pub configuration: Digest,
    /// Whether software keys are accepted.
    pub development: bool,
    /// The domains, the control domain first.
    pub domains: Vec<DomainSetup>,
    /// The policy.
    pub policy: Policy,
    /// The arc of the certificate policies.
    pub policy_arc: PolicyArc,
    /// The profile of enrolled callers' certificates.
    pub caller_profile: Profile,
    /// Ceremonies whose transcripts the control log takes note of.
    pub ceremonies: Vec<KnownCeremony>,
    /// How long leaves go on while too few witnesses answer.
    pub witness_grace: Lifetime,
    /// Who may approve that the roots of a domain change, and that something frozen is released; nobody if there is no roster.
    pub roster: Option<Roster>,
    /// How nodes are judged; none if they do not attest here.
    pub nodes: Option<NodeSetup>,
    /// Stored facts.
    pub facts: Arc<dyn Facts>,
    /// What is stored of revocations.
    pub revocations: Arc<dyn Revocations>,
    /// Who is believed about TPMs.
    pub trust: Arc<Trust>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// A domain that the CA is started with.
pub struct DomainSetup {
    /// Its name.
    pub name: TrustDomain,
    /// Its log, opened.
    pub log: Log<Effect>,
    /// The keys of its log, each with where it is, as configuration says. The second is for second lines, if there is one.
    pub log_keys: Vec<(Key, String)>,
    /// Its authorities, each with the URI of its key.
    pub authorities: Vec<(Authority, String)>,
    /// The roots that are known: those that are published if none are yet, those that are, and those that will be.
    pub roots: Vec<AuthorityCertificate>,
    /// How often those who take its bundle should look for a newer one.
    pub refresh_hint: Lifetime,
    /// The SPIFFE IDs of those who are known to take its bundle: no rotation goes on before they have.
    pub consumers: Vec<SpiffeId>,
    /// The keys of authorities that are in further tokens, each with its authority's name and its URI: what custody they
    /// have is judged and logged as if they were alone.
    pub replicas: Vec<(String, Key, String)>,
    /// How revocations of its authorities are published, of those of which they are.
    pub revocation: Vec<RevocationSetup>,
    /// What custody the keys of its authorities must have.
    pub custody: Demand,
    /// What custody the keys of its log must have.
    pub log_custody: Demand,
}

/// That the source of randomness is none that repeats itself: nonces, secrets and serial numbers come from it.
fn never_twice_the_same(entropy: &dyn Entropy) -> Result<(), StartError> {
    let (mut one, mut other) = ([0; 32], [0; 32]);
    let filled = entropy.fill(&mut one).and_then(|()| entropy.fill(&mut other));
    match filled {
        Err(error) => Err(StartError::Configuration(error.to_string())),
        Ok(()) if one == other => Err(StartError::Configuration(
            "the source of random bytes gives the same ones again and again".into(),
        )),
        Ok(()) => Ok(()),
    }
}

impl CertificateAuthority {
    /// Starts a CA: checks that domains are kept apart and that keys are where they must be, closes what a crash left
    /// open, and logs what is in force from here on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        domains_are_kept_apart(&setup.domains)?;
        never_twice_the_same(&*setup.entropy)?;
        let control = match setup.domains.first() {
            Some(domain) => domain.name.clone(),
            None => return Err(StartError::Configuration("there is no control domain".into())),
        };
        let start = Start {
            version: setup.version,
            configuration: setup.configuration,
            development: setup.development,
        };
        let freezes = Freezes::from_entries(&setup.facts.freezes().await?)?;
        let control_log = setup.domains[0].log.clone();
        log(&control_log, Body::Start(start), None).await?;
        log_policy(&control_log, &setup.policy, &*setup.facts).await?;
        adopt_ceremonies(&control_log, &setup.ceremonies, &*setup.facts).await?;
        let mut domains = Vec::with_capacity(setup.domains.len());
        let judge = Judge {
            trust: &setup.trust,
            now: setup.clock.now(),
            development: setup.development,
            roster: setup.roster.as_ref(),
            ceremonies: &setup.ceremonies,
        };
        for domain in setup.domains {
            domains.push(
                start_domain(domain, &judge, setup.witness_grace, &*setup.facts, &*setup.revocations).await?,
            );
        }
        Ok(Self {
            control,
            domains,
            trust: setup.trust,
            policy: setup.policy,
            policy_arc: setup.policy_arc,
            caller_profile: setup.caller_profile,
            freezes,
            changing: futures::lock::Mutex::new(()),
            roster: setup.roster,
            nodes: setup.nodes.map(Nodes::new),
            facts: setup.facts,
            revocations: setup.revocations,
            clock: setup.clock,
            entropy: setup.entropy,
        })
    }
}

/// By what custody and roots are judged at start.
struct Judge<'a> {
    trust: &'a Trust,
    now: Timestamp,
    development: bool,
    roster: Option<&'a Roster>,
    ceremonies: &'a [KnownCeremony],
}

/// Invariant 7: an intermediate of one domain cannot make what a verifier accepts for another. Either each domain has
/// a root of its own, or every intermediate below a shared one has critical URI constraints.
fn domains_are_kept_apart(domains: &[DomainSetup]) -> Result<(), StartError> {
    for (number, domain) in domains.iter().enumerate() {
        for other in &domains[..number] {
            let mut keys =
                domain.authorities.iter().map(|(authority, _)| authority.certificate().public_key());
            let of_other = |key| other.authorities.iter().any(|(it, _)| it.certificate().public_key() == key);
            if let Some(key) = keys.find(|key| of_other(*key)).filter(|_| other.name != domain.name) {
                return Err(StartError::Configuration(format!(
                    "`{}` and `{}` have the key {} for an authority of each: it could speak for both. Make each a key of its own",
                    other.name.as_str(),
                    domain.name.as_str(),
                    key.id()
                )));
            }
            if other.name == domain.name {
                return Err(StartError::Configuration(format!(
                    "the domain `{}` stands twice",
                    domain.name.as_str()
                )));
            }
            let shared = domain
                .roots
                .iter()
                .find(|root| other.roots.iter().any(|other| other.public_key() == root.public_key()));
            let Some(shared) = shared else { continue };
            let loose = [domain, other].into_iter().find_map(|domain| {
                let authority = domain.authorities.iter().find(|(authority, _)| {
                    !matches!(authority.certificate().constraints(), Constraints::Uris(_))
                })?;
                Some((domain, &authority.0))
            });
            if let Some((domain, authority)) = loose {
                return Err(StartError::Configuration(format!(
                    "`{}` and `{}` share the root {}, but authority `{}` of `{}` has no critical URI name constraints: it could speak for both. Give each domain a root of its own, or constrain the intermediates",
                    other.name.as_str(),
                    domains[number].name.as_str(),
                    shared.subject(),
                    authority.name(),
                    domain.name.as_str()
                )));
            }
        }
    }
    Ok(())
}

async fn log_policy(log_: &Log<Effect>, policy: &Policy, facts: &dyn Facts) -> Result<(), StartError> {
    let previous = facts.policy().await?;
    if previous == Some(policy.digest()) {
        return Ok(());
    }
    let (text, blobs) = match policy.text().len() {
        ..=INLINE_TEXT => (Text::Inline(policy.text().to_owned()), Vec::new()),
        length => (Text::Blob(length as u64), vec![policy.text().as_bytes().to_vec()]),
    };
    let body = Body::Policy(PolicyLeaf { sha256: policy.digest(), previous, text });
    let draft = Draft::new(&body).map_err(|error| StartError::Bug(error.to_string()))?;
    let effects = vec![Effect::Policy { policy: policy.digest() }];
    log_.append(Append { draft, effects, blobs }).await?;
    Ok(())
}

async fn adopt_ceremonies(
    log_: &Log<Effect>,
    ceremonies: &[KnownCeremony],
    facts: &dyn Facts,
) -> Result<(), StartError> {
    for KnownCeremony { plan, transcript, .. } in ceremonies {
        let checkpoint = Digest::of(transcript.checkpoint.as_bytes());
        if facts.ceremony_is_adopted(checkpoint).await? {
            continue;
        }
        let body = Body::Ceremony(Ceremony {
            event: CeremonyEvent::Adopted,
            step: None,
            plan: *plan,
            text: "the transcript of this ceremony is known to the installation".into(),
            transcript: Some(transcript.clone()),
        });
        log(log_, body, Some(Effect::CeremonyAdopted { checkpoint })).await?;
    }
    Ok(())
}

async fn start_domain(
    setup: DomainSetup,
    judge: &Judge<'_>,
    grace: Lifetime,
    facts: &dyn Facts,
    revocations: &dyn Revocations,
) -> Result<Domain, StartError> {
    let origin = setup.log.key().name().to_string();
    for intent in facts.open_intents(&origin).await? {
        let append = abandoned(intent, "the program stopped before its outcome was known")
            .map_err(|error| StartError::Bug(error.to_string()))?;
        setup.log.append_end(append).await?;
    }
    let of_log = setup.log_keys.iter().map(|(key, uri)| {
        (key.clone(), format!("log {origin}"), uri.clone(), setup.log_custody.grade(judge.development))
    });
    let of_authorities = setup.authorities.iter().map(|(authority, uri)| {
        let purpose = format!("authority {} of {}", authority.name(), setup.name.as_str());
        (authority.key().clone(), purpose, uri.clone(), setup.custody.grade(judge.development))
    });
    let of_replicas = setup.replicas.iter().map(|(authority, key, uri)| {
        let purpose = format!("authority {authority} of {}, replica", setup.name.as_str());
        (key.clone(), purpose, uri.clone(), setup.custody.grade(judge.development))
    });
    let of_responders = setup.revocation.iter().filter_map(|revocation| {
        let purpose = format!("OCSP responder of {} of {}", revocation.authority, setup.name.as_str());
        let ocsp = revocation.ocsp.as_ref()?;
        Some((ocsp.key.clone(), purpose, ocsp.uri.clone(), setup.custody.grade(judge.development)))
    });
    let keys = of_log.chain(of_authorities).chain(of_replicas).chain(of_responders);
    let keys: Vec<_> =
        keys.map(|(key, purpose, uri, required)| HeldKey::new(key, purpose, uri, required)).collect();
    for key in &keys {
        key.prove(&setup.log, judge.trust, judge.now).await?;
    }
    let bundle = publish_bundle(&setup, judge, facts).await?;
    let rotations = read_rotations(&setup, facts).await?;
    let authorities: Vec<_> = setup.authorities.into_iter().map(|(authority, _)| authority).collect();
    let mut publications = Vec::new();
    for revocation in setup.revocation {
        let authority = authorities.iter().find(|authority| authority.name() == revocation.authority);
        let authority = authority.ok_or_else(|| {
            StartError::Configuration(format!("there is no authority `{}`", revocation.authority))
        })?;
        let opened = Publication::open(authority, revocation, revocations).await;
        publications.push(opened.map_err(StartError::Configuration)?);
    }
    Ok(Domain {
        name: setup.name,
        log: setup.log,
        authorities,
        keys,
        bundle: RwLock::new(Arc::new(bundle)),
        rotations: RwLock::new(Arc::new(rotations)),
        rotating: Mutex::default(),
        consumers: Consumers::of(setup.consumers),
        grace,
        away_is_told: AtomicBool::new(false),
        publications,
        revocations_changed: AtomicBool::new(true),
    })
}

/// The published bundle as the log has it. The first one is that of the configured roots, by the quorum's word where there is
/// one to be had; later ones are published by rotations alone, so that no root comes in by configuration.
async fn publish_bundle(
    setup: &DomainSetup,
    judge: &Judge<'_>,
    facts: &dyn Facts,
) -> Result<Bundle, StartError> {
    let bundle = match facts.bundle(setup.name.as_str()).await? {
        None => {
            let stated = quorum_on(&setup.name, &setup.roots, judge.ceremonies, judge.roster, judge.now)?;
            if let Some(approval) = stated {
                log(&setup.log, Body::Approval(approval), None).await?;
            }
            Bundle::first(setup.name.clone(), setup.roots.clone(), setup.refresh_hint)
        }
        Some(entry) => {
            let published = Bundle::read(setup.name.clone(), &entry);
            let published =
                published.map_err(|error| StartError::Store(StoreError::Damaged(error.to_string())))?;
            if published.refresh_hint() == setup.refresh_hint {
                return Ok(published);
            }
            let tainted = entry.tainted;
            published.next(published.roots().to_vec(), tainted, setup.refresh_hint)
        }
    };
    let entry = bundle.entry();
    let draft =
        Draft::new(&Body::Bundle(entry.clone())).map_err(|error| StartError::Bug(error.to_string()))?;
    let effects = vec![Effect::Bundle(entry)];
    setup.log.append_assured(Append { draft, effects, blobs: Vec::new() }, Assurance::Witnessed).await?;
    Ok(bundle)
}

/// What has become of the rotations of a domain.
async fn read_rotations(setup: &DomainSetup, facts: &dyn Facts) -> Result<Rotations, StartError> {
    let stored = facts.rotations(setup.name.as_str()).await?;
    let read = stored.iter().map(Rotation::read).collect::<Result<_, _>>();
    read.map(Rotations).map_err(|error| StartError::Store(StoreError::Damaged(error.to_string())))
}

async fn log(log: &Log<Effect>, body: Body, effect: Option<Effect>) -> Result<(), StartError> {
    let draft = Draft::new(&body).map_err(|error| StartError::Bug(error.to_string()))?;
    log.append(Append { draft, effects: effect.into_iter().collect(), blobs: Vec::new() }).await?;
    Ok(())
}

/// Why the CA did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Configuration(String),
    /// A key is not where it must be.
    #[error(transparent)]
    Custody(#[from] PoorCustody),
    /// The quorum has not said that these roots may be published.
    #[error("{0}")]
    Unstated(String),
    /// A token.
    #[error(transparent)]
    Token(#[from] undercroft_keymgr::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// A bug.
    #[error("{0}; this is a bug")]
    Bug(String),
}
