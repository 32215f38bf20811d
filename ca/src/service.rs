//! The CA as its callers see it: one value that decides, logs and issues.
//!
//! Each method takes an authenticated caller and drives the issuance cycle from request to answer. Whoever calls does
//! the authentication (`undercroft-upstream`) and gives each request a task of its own, since a request that is
//! dropped half-way leaves an intent that nobody answers until the next start.

mod attest;
mod compromise;
mod consumers;
mod custody;
mod devices;
mod drill;
mod enrol;
mod first_bundle;
mod freeze;
mod publish;
mod responder;
mod revoke;
mod rotate;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::lock::Mutex;
use jiff::Timestamp;
use undercroft_attestors::trust::Trust;
use undercroft_keymgr::ErrorKind;
use undercroft_log::leaf::{
    Alert, AlertEvent, Asked, Body, Caller, Channel, Digest, Draft, MAX_INTEGER, Refusal as RefusalLeaf,
    RefusedAction,
};
use undercroft_log::sequencer::{Append, AppendError, Assurance, Log};
use undercroft_log::{Clock, Logged, Receipt};

use attest::Nodes;
pub use attest::{AttestedNode, Exchange, NodeSetup, TO_ANSWER};
use consumers::Consumers;
use custody::HeldKey;
pub use devices::{AttestationAuthority, Devices, IdTemplate};
pub use enrol::EnrolmentToken;
pub use first_bundle::KnownCeremony;
pub use freeze::{Brought, Freezing};
pub use publish::{PublishError, RevocationSetup, Served, all_revoked};
pub use responder::{OCSP_RESPONSE, OcspAnswer, OcspSetup};
pub use revoke::{Certificates, Decided, RevokeRequest};
pub use rotate::{Advance, RotateError, RotationOrder, RotationStatus};
pub use start::{DomainSetup, Setup, StartError};

use crate::approval::Roster;
use crate::authority::{Authority, Order, OrderError};
use crate::bundle::Bundle;
use crate::certificate::AuthorityCertificate;
use crate::csr::Csr;
use crate::freeze::Freezes;
use crate::gated::Signing;
use crate::issuance::{IssueError, Issued, Prepared, abandoned, issue};
use crate::names::{Identity, SERVER_PATH, SpiffeId, TrustDomain, parse_spiffe_id};
use crate::policy::{Grant, Policy, Refusal, Request};
use crate::profile::{Assured, Kind, PolicyArc, Profile};
use crate::revocation::facts::Revocations;
use crate::rotation::Rotations;
use crate::serial::Entropy;
use crate::store::{Effect, Facts};
use crate::time::Lifetime;

/// A CA that has been started.
pub struct CertificateAuthority {
    control: TrustDomain,
    domains: Vec<Domain>,
    trust: Arc<Trust>,
    policy: Policy,
    policy_arc: PolicyArc,
    caller_profile: Profile,
    freezes: Freezes,
    /// Held while something is frozen or released: one at a time.
    changing: futures::lock::Mutex<()>,
    /// Who may approve that the roots of a domain change.
    roster: Option<Roster>,
    facts: Arc<dyn Facts>,
    revocations: Arc<dyn Revocations>,
    /// How nodes are judged; none if they do not attest here.
    nodes: Option<Nodes>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// A trust domain that the CA issues for.
pub struct Domain {
    name: TrustDomain,
    log: Log<Effect>,
    authorities: Vec<Authority>,
    /// The keys of the log and of the authorities.
    keys: Vec<HeldKey>,
    bundle: RwLock<Arc<Bundle>>,
    rotations: RwLock<Arc<Rotations>>,
    /// One change of its rotation at a time.
    rotating: Mutex<()>,
    consumers: Consumers,
    /// How long leaves go on while too few witnesses answer.
    grace: Lifetime,
    /// Whether the log says that they are away.
    away_is_told: AtomicBool,
    /// How its revocations are published.
    publications: Vec<publish::Publication>,
    /// Whether the state of a certificate has changed since that was last looked at.
    revocations_changed: AtomicBool,
}

/// Who signs what is granted, looked up once for each request.
struct Issuer<'a> {
    domain: &'a Domain,
    authority: &'a Authority,
    /// What goes with its chain.
    beside: Option<AuthorityCertificate>,
    /// Who asks, where a freeze stops it. None for the certificate of a responder: what is frozen has to be revoked, too.
    stoppable: Option<String>,
}

/// What must be known of an intent before its key signs.
enum Needed {
    /// That it is durable.
    Promise,
    /// That it stands under a signed checkpoint, and more.
    Receipt(Assurance),
}

impl Domain {
    /// Its name.
    pub fn name(&self) -> &TrustDomain {
        &self.name
    }

    /// Its log.
    pub fn log(&self) -> &Log<Effect> {
        &self.log
    }

    /// Its authorities, those that sign first where no rule names one.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Its published roots.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its rotations.
    pub fn rotations(&self) -> Arc<Rotations> {
        self.rotations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its published roots, given to a caller whose certificate ends at `until`: it is known from here on what it has.
    pub fn bundle_for(&self, caller: &SpiffeId, until: Timestamp, now: Timestamp) -> Arc<Bundle> {
        let bundle = self.bundle();
        self.consumers.given(caller.to_string(), bundle.sequence(), until, false, now);
        bundle
    }

    /// Says in the log that nothing was issued for an intent. If that fails too, the intent stays open and is abandoned
    /// at the next start.
    async fn abandon(&self, intent: u64, why: &str) {
        if let Ok(outcome) = abandoned(intent, why) {
            let _ = self.log.append_end(outcome).await;
            self.revocations_changed.store(true, Ordering::Release);
        }
    }

    /// What must be known of an intent before its key signs. CA certificates wait for witnesses; leaves go on without
    /// them for a while, which the log says, and wait like the others when that is over.
    async fn needed(
        &self,
        profile: &Profile,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<Needed, ServiceError> {
        let away = self.tell_of_witnesses().await?;
        let is_over = away.is_some_and(|since| since + self.grace.0 < now);
        let always = profile.kind().is_authority() || profile.assurance() == Assured::Witnessed;
        Ok(match (always || is_over, profile.assurance(), authority.signing()) {
            (true, ..) => Needed::Receipt(Assurance::Witnessed),
            (false, Assured::Durable, Signing::Directly(_)) => Needed::Promise,
            (false, ..) => Needed::Receipt(Assurance::Signed),
        })
    }

    /// Appends an intent and waits for its receipt. One that gets none is abandoned.
    async fn receipt(&self, intent: Append<Effect>, assurance: Assurance) -> Result<Receipt, ServiceError> {
        let appended = self.log.append_assured(intent, assurance).await;
        if let Err(AppendError::Unsigned { index, why } | AppendError::Unwitnessed { index, why }) = &appended
        {
            // The entry is there, and nobody will sign for it: say so now and not at the next start.
            self.abandon(*index, why).await;
        }
        // If it cannot be told now, the next request does it.
        let _ = self.tell_of_witnesses().await;
        Ok(appended?)
    }

    /// Says in the log that too few witnesses answer, or that enough do again. Gives since when they do not.
    async fn tell_of_witnesses(&self) -> Result<Option<Timestamp>, ServiceError> {
        let away = self.log.witnesses_away_since();
        if self.away_is_told.swap(away.is_some(), Ordering::AcqRel) != away.is_some() {
            let (event, text) = match away {
                Some(since) => (
                    AlertEvent::Raised,
                    format!(
                        "too few witnesses answer since {since}; leaves go on without them for {}",
                        self.grace
                    ),
                ),
                None => (AlertEvent::Ended, "enough witnesses answer again".to_owned()),
            };
            let alert = Body::Alert(Alert { event, rule: "witnesses-away".to_owned(), text });
            let draft = Draft::new(&alert).map_err(|error| ServiceError::Internal(error.to_string()))?;
            if let Err(error) = self.log.append_durable(Append::new(draft)).await {
                self.away_is_told.store(away.is_none(), Ordering::Release);
                return Err(error.into());
            }
        }
        Ok(away)
    }

    /// The authority that signs for the one that a grant names, or for the first; and what goes with its chain. Nothing
    /// is signed below a root that is not published.
    fn issuer(&self, name: Option<&str>, now: Timestamp) -> Result<Issuer<'_>, ServiceError> {
        let (bundle, rotations) = (self.bundle(), self.rotations());
        let named = |name: &str| self.authorities.iter().find(|authority| authority.name() == name);
        let published = |authority: &&Authority| bundle.roots().contains(authority.root());
        let first = || self.authorities.iter().find(published).map(Authority::name);
        let missing = |what: String| {
            ServiceError::Unavailable(format!("the domain `{}` has no {what}", self.name.as_str()))
        };
        let name = name.or_else(first).ok_or_else(|| missing("authority below a published root".into()))?;
        let name = rotations.signer(name);
        let authority = named(name).ok_or_else(|| missing(format!("authority `{name}`")))?;
        if !published(&authority) {
            return Err(ServiceError::Unavailable(format!(
                "the root of authority `{name}` of `{}` is not published; see `undercroft rotate status`",
                self.name.as_str()
            )));
        }
        let beside = rotations.beside(authority.root(), now).cloned();
        Ok(Issuer { domain: self, authority, beside, stoppable: None })
    }
}

/// What a caller asks for.
#[derive(Clone, Debug, Default)]
pub struct IssueRequest {
    /// The trust domain.
    pub domain: String,
    /// The profile.
    pub profile: String,
    /// The DER of a PKCS #10 request.
    pub csr: Vec<u8>,
    /// The SPIFFE ID; empty to take the CSR's.
    pub spiffe_id: String,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// The lifetime; none for the profile's own.
    pub lifetime: Option<Lifetime>,
}

/// A certificate and everything that it needs to be believed.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// The certificate and its issuers, leaf first, without the root; DER. While a root is rotated, the certificate of
    /// that root by the other may be the last.
    pub chain: Vec<Arc<[u8]>>,
    /// The roots of its domain; DER.
    pub roots: Vec<Vec<u8>>,
    /// The sequence number of the bundle that they are.
    pub bundle: u64,
    /// That its intent stood in the log before it was signed.
    pub receipt: Receipt,
}

/// Why a request was not answered with a certificate, by who must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The caller asked for what it may not have. The refusal is in the log.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Too much is going on. The caller comes back.
    #[error("busy; try again in {} ms", retry_after.as_millis())]
    Busy {
        /// When.
        retry_after: Duration,
    },
    /// Something that the CA needs is not available. The operator looks; the caller may come back.
    #[error("not available: {0}")]
    Unavailable(String),
    /// A bug, or a lint finding: nobody outside can do anything.
    #[error("internal: {0}")]
    Internal(String),
}

impl CertificateAuthority {
    /// The domain of operators, enrolled callers and replicas.
    pub fn control(&self) -> &TrustDomain {
        &self.control
    }

    /// The time by the CA's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Every domain, the control domain first.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The domain of that name.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name.as_str() == name)
    }

    /// Issues a certificate to an authenticated caller.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals are in the log before they are told.
    pub async fn issue(
        &self,
        caller: &SpiffeId,
        request: &IssueRequest,
    ) -> Result<IssuedCertificate, ServiceError> {
        let (csr, grant, issuer) = self.decide(RefusedAction::Issue, caller, request).await?;
        let domain = issuer.domain;
        let issued = self.fulfil(order(caller, &csr, &grant), issuer, None).await?;
        if grant.profile().kind() == Kind::SpireCa {
            // A SPIRE server takes the roots that come with its CA.
            let now = self.clock.now();
            let until = now.checked_add(grant.lifetime().0).unwrap_or(Timestamp::MAX);
            domain.consumers.given(caller.to_string(), issued.bundle, until, true, now);
        }
        Ok(issued)
    }

    /// Says what [`CertificateAuthority::issue`] would issue. Everything is decided, built and linted, and nothing is
    /// logged or signed.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals are in the log, as those of real requests are, and say that they are of previews.
    pub async fn preview(&self, caller: &SpiffeId, request: &IssueRequest) -> Result<Grant, ServiceError> {
        let (csr, grant, issuer) = self.decide(RefusedAction::Preview, caller, request).await?;
        self.prepare(order(caller, &csr, &grant), &issuer)?;
        Ok(grant)
    }

    /// Issues the certificate by which the daemon is known in a domain, for a key that it holds in memory.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn issue_server_certificate(
        &self,
        domain: &TrustDomain,
        names: &[crate::names::DnsName],
        public_key: &undercroft_keys::PublicKey,
    ) -> Result<IssuedCertificate, ServiceError> {
        let id = format!("{}{SERVER_PATH}", domain.id_string());
        let grant = Grant::built_in(
            "built-in:server",
            self.policy.digest(),
            domain.clone(),
            Profile::standard(Kind::Server),
            Identity { uri: Some(id.clone()), dns_names: names.to_vec(), tpm: None },
            Vec::new(),
        );
        let issuer = self.issuer(&grant, &id)?;
        let caller = Caller { id, by: Channel::Daemon };
        let order = Order { grant: &grant, caller, public_key, request: None, evidence: Vec::new() };
        self.fulfil(order, issuer, None).await
    }

    /// Takes no more requests: closes the logs, whose drivers then end.
    pub fn close(&self) {
        for domain in &self.domains {
            domain.log.close();
        }
    }

    /// Decides a request, and who signs for it. A refusal is logged before it is told.
    async fn decide(
        &self,
        action: RefusedAction,
        caller: &SpiffeId,
        request: &IssueRequest,
    ) -> Result<(Csr, Grant, Issuer<'_>), ServiceError> {
        let decided =
            decide(&self.policy, caller, request).map_err(ServiceError::Refused).and_then(|(csr, grant)| {
                let issuer = self.issuer(&grant, &caller.to_string())?;
                Ok((csr, grant, issuer))
            });
        let refusal = match decided {
            Err(ServiceError::Refused(refusal)) => refusal,
            decided => return decided,
        };
        let asked = Asked {
            profile: cut(&request.profile),
            spiffe_id: cut(&request.spiffe_id),
            dns_names: request.dns_names.iter().take(10).map(|name| cut(name)).collect(),
            lifetime: request.lifetime.map(|lifetime| lifetime.as_seconds().min(MAX_INTEGER)),
        };
        let digest = (!request.csr.is_empty()).then(|| Digest::of(&request.csr));
        let caller = Caller { id: caller.to_string(), by: Channel::Mtls };
        Err(self.refuse(action, &request.domain, caller, refusal, asked, digest).await)
    }

    /// From a grant to a certificate: prepare, log, sign, log the outcome.
    async fn fulfil(
        &self,
        order: Order<'_>,
        issuer: Issuer<'_>,
        effect: Option<Effect>,
    ) -> Result<IssuedCertificate, ServiceError> {
        let profile = order.grant.profile();
        let prepared = self.prepare(order, &issuer)?;
        let Issuer { domain, authority, beside, stoppable } = issuer;
        let caller = stoppable.as_deref();
        let needed = domain.needed(profile, authority, self.clock.now()).await?;
        let intent = match effect {
            Some(effect) => prepared.intent_with(effect),
            None => prepared.intent(),
        };
        let (certificate, receipt) = match needed {
            Needed::Receipt(assurance) => {
                let receipt = domain.receipt(intent, assurance).await?;
                let issued = self.sign(domain, authority, caller, prepared, receipt).await?;
                (issued.der().clone(), issued.into_logged())
            }
            Needed::Promise => {
                let promise = domain.log.append_promised(intent).await?;
                let issued = self.sign(domain, authority, caller, prepared, promise).await?;
                // Nobody is given a certificate without its proof: it stands in the log, and whoever asks again gets another.
                (issued.der().clone(), issued.into_logged().kept().await?)
            }
        };
        let issuer = authority.certificate().der().into();
        let beside = beside.map(|cross| cross.der().into());
        let bundle = domain.bundle();
        Ok(IssuedCertificate {
            chain: [certificate, issuer].into_iter().chain(beside).collect(),
            roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
            bundle: bundle.sequence(),
            receipt,
        })
    }

    /// Who signs what is granted. Nobody, if that concerns something that is frozen.
    fn issuer(&self, grant: &Grant, caller: &str) -> Result<Issuer<'_>, ServiceError> {
        let issuer = self.issuer_even_if_frozen(grant)?;
        let key = issuer.authority.certificate().public_key().id();
        self.freezes.allow(key, grant.domain().as_str(), caller).map_err(ServiceError::Refused)?;
        Ok(Issuer { stoppable: Some(caller.to_owned()), ..issuer })
    }

    /// Who signs the certificate of a responder.
    fn issuer_even_if_frozen(&self, grant: &Grant) -> Result<Issuer<'_>, ServiceError> {
        let name = grant.domain().as_str();
        let domain = self.domain(name).ok_or_else(|| ServiceError::Internal(format!("no domain {name}")))?;
        domain.issuer(grant.authority(), self.clock.now())
    }

    /// Has the authority build and lint the certificate of an order.
    fn prepare(&self, order: Order<'_>, issuer: &Issuer<'_>) -> Result<Prepared, ServiceError> {
        let now = self.clock.now();
        issuer.authority.prepare(order, &self.policy_arc, now, &*self.entropy).map_err(|error| match error {
            OrderError::Expired { .. } | OrderError::Entropy(_) => {
                ServiceError::Unavailable(error.to_string())
            }
            OrderError::Subject(_) | OrderError::Prepare(_) => ServiceError::Internal(error.to_string()),
        })
    }

    async fn sign<L: Logged>(
        &self,
        domain: &Domain,
        authority: &Authority,
        stoppable: Option<&str>,
        prepared: Prepared,
        logged: L,
    ) -> Result<Issued<L>, ServiceError> {
        let index = logged.index();
        let key = authority.certificate().public_key().id();
        let allowed = || match stoppable {
            Some(caller) => self.freezes.allow(key, domain.name.as_str(), caller),
            None => Ok(()),
        };
        // Frozen while its intent was on its way into the log.
        if let Err(refusal) = allowed() {
            domain.abandon(index, &refusal.to_string()).await;
            return Err(ServiceError::Refused(refusal));
        }
        match issue(prepared, logged, authority.signing()).await {
            Ok(issued) => {
                // Frozen while the token was signing: nobody sees the signature.
                if let Err(refusal) = allowed() {
                    domain.abandon(index, &refusal.to_string()).await;
                    return Err(ServiceError::Refused(refusal));
                }
                let outcome = issued.outcome().map_err(|error| ServiceError::Internal(error.to_string()))?;
                // The certificate leaves when its outcome is durable: what a caller holds is never lost here.
                domain.log.append_end(outcome).await?;
                Ok(issued)
            }
            Err(error) => {
                let why = error.to_string();
                domain.abandon(index, &why).await;
                // What a token refuses is the operator's business; what a gate refuses is the caller's, too.
                match (authority.signing(), error) {
                    (Signing::AtGates(..), IssueError::Token(error)) if error.kind() == ErrorKind::Denied => {
                        Err(ServiceError::Refused(Refusal::new("gate", why)))
                    }
                    _ => Err(ServiceError::Unavailable(why)),
                }
            }
        }
    }

    /// Logs a refusal and gives the answer to tell: the refusal, or that it could not be logged.
    async fn refuse(
        &self,
        action: RefusedAction,
        domain: &str,
        caller: Caller,
        refusal: Refusal,
        asked: Asked,
        request: Option<Digest>,
    ) -> ServiceError {
        let leaf = RefusalLeaf {
            action,
            domain: cut(domain),
            caller,
            rule: refusal.rule.to_owned(),
            reason: legible(&refusal.reason, 1000),
            asked,
            policy: self.policy.digest(),
            request,
        };
        // A domain that is not ours has no log; its refusals are the installation's business.
        let log = self.domain(domain).map_or(&self.domains[0].log, |domain| &domain.log);
        let logged = async {
            let draft = Draft::new(&Body::Refusal(leaf))
                .map_err(|error| AppendError::Malformed(error.to_string()))?;
            log.append_durable(Append::new(draft)).await
        };
        match logged.await {
            Ok(_) => ServiceError::Refused(refusal),
            Err(error) => error.into(),
        }
    }
}

impl From<AppendError> for ServiceError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { retry_after } => Self::Busy { retry_after },
            AppendError::Refused(reason) => Self::Refused(Refusal::new("store", reason)),
            AppendError::Malformed(what) => Self::Internal(what),
            AppendError::ClockBehind { .. }
            | AppendError::Unavailable(_)
            | AppendError::Unsigned { .. }
            | AppendError::Unwitnessed { .. }
            | AppendError::Stopped(_) => Self::Unavailable(error.to_string()),
        }
    }
}

fn decide(policy: &Policy, caller: &SpiffeId, request: &IssueRequest) -> Result<(Csr, Grant), Refusal> {
    let csr = Csr::from_der(&request.csr).map_err(|error| Refusal::new(error.rule(), error.to_string()))?;
    let request = Request {
        domain: &request.domain,
        profile: &request.profile,
        spiffe_id: &request.spiffe_id,
        dns_names: &request.dns_names,
        lifetime: request.lifetime,
        public_key: csr.public_key(),
        wishes: csr.wishes(),
    };
    let grant = policy.decide(caller, &request)?;
    Ok((csr, grant))
}

fn order<'a>(caller: &SpiffeId, csr: &'a Csr, grant: &'a Grant) -> Order<'a> {
    Order {
        grant,
        caller: Caller { id: caller.to_string(), by: Channel::Mtls },
        public_key: csr.public_key(),
        request: Some(csr.digest()),
        evidence: Vec::new(),
    }
}

/// What a stranger wrote, short enough to be logged, and without what would be longer in JSON than it is.
fn cut(text: &str) -> String {
    legible(text, 300)
}

/// At most so many characters of a text, without those that control something.
fn legible(text: &str, most: usize) -> String {
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(most).map(printable).collect()
}

/// The SPIFFE ID that a client certificate of ours carries.
///
/// # Errors
/// It is no SPIFFE ID of a leaf.
pub fn caller_id(uri: &str) -> Result<SpiffeId, Refusal> {
    let id = parse_spiffe_id(uri).map_err(|error| Refusal::new("caller-unknown", error.to_string()))?;
    if id.path().is_empty() {
        return Err(Refusal::new(
            "caller-unknown",
            format!("{id} is the ID of an authority, and nobody calls with it"),
        ));
    }
    Ok(id)
}
