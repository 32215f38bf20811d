//! CRLs of online authorities: which are due, made, and kept to be served.
//!
//! One task calls [`CertificateAuthority::publish`] again and again. A CRL is read in pages from rows that change
//! meanwhile; everything that was revoked before thisUpdate is in it, whatever happens while it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use undercroft_keys::KeyId;
use undercroft_log::leaf::Digest;
use undercroft_log::sequencer::Assurance;

use super::responder::{OcspSetup, Responder};
use super::{CertificateAuthority, Domain, ServiceError};
use crate::authority::Authority;
use crate::issuance::issue;
use crate::revocation::Shards;
use crate::revocation::facts::{CrlFact, Revocations, Series};
use crate::serial::SerialNumber;
use crate::signed::assemble;
use crate::store::Effect;
use crate::tbs::{CrlScope, CrlSpec, HttpUrl, RevocationReason, Revoked};
use crate::time::{Lifetime, Validity};

/// Rows that are read at once.
const PAGE: u32 = 8192;

/// How long nothing is tried after a failure. Each try is an intent in the log.
const REST: Duration = Duration::from_secs(30);

/// How the revocations of an authority are published.
pub struct RevocationSetup {
    /// The authority.
    pub authority: String,
    /// From thisUpdate to nextUpdate of complete CRLs.
    pub crl_lifetime: Lifetime,
    /// Of delta CRLs; none are made if it is absent.
    pub delta_lifetime: Option<Lifetime>,
    /// Its OCSP responder.
    pub ocsp: Option<OcspSetup>,
}

/// Something that is served to anybody until it is replaced.
#[derive(Debug)]
pub struct Served {
    /// The media type.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Arc<[u8]>,
    /// Since when it says what it says.
    pub this_update: Timestamp,
    /// Until when.
    pub next_update: Timestamp,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

impl Served {
    pub(super) fn new(
        content_type: &'static str,
        body: Arc<[u8]>,
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Self {
        let digest = Digest::of(&body);
        Self { content_type, body, this_update, next_update, digest }
    }
}

/// What is published of an authority, and how.
pub(super) struct Publication {
    authority: Authority,
    crl_lifetime: Lifetime,
    delta_lifetime: Option<Lifetime>,
    pub(super) responder: Option<Responder>,
    certificate: Arc<Served>,
    /// What is at each path of CRLs.
    paths: BTreeMap<String, Place>,
    state: Mutex<State>,
}

/// A place where a CRL is: its shard, and whether it is the delta.
type Place = (Option<u16>, bool);

#[derive(Default)]
struct State {
    crls: BTreeMap<Place, (CrlFact, Arc<Served>)>,
    /// The last number of each series.
    numbers: BTreeMap<Option<u16>, u64>,
    /// Every series tells of the changes up to this one.
    known: u64,
    /// When something is due even if nothing changes.
    due: Option<Timestamp>,
    /// Until when nothing is tried.
    rests: Option<Timestamp>,
}

impl Publication {
    /// Begins with what was published before.
    pub(super) async fn open(
        authority: &Authority,
        setup: RevocationSetup,
        facts: &dyn Revocations,
    ) -> Result<Self, String> {
        let issuer = authority.certificate().public_key().id();
        let failed = |error: undercroft_log::store::StoreError| error.to_string();
        let mut state = State::default();
        for stored in facts.crls(issuer).await.map_err(failed)? {
            let place = (stored.fact.series.shard, stored.fact.delta_of.is_some());
            let der = assemble(&stored.tbs, authority.algorithm(), &stored.signature)
                .map_err(|error| format!("a CRL that was kept: {error}"))?;
            let served = crl(&stored.fact, der.into());
            state.crls.insert(place, (stored.fact, served));
        }
        state.numbers = facts.crl_numbers(issuer).await.map_err(failed)?.into_iter().collect();
        let shards = authority.urls().crl_shards;
        let before = state.numbers.keys().flatten().max().map_or(0, |last| last + 1);
        if before > 0 && before != shards.map_or(0, Shards::count) {
            return Err(format!(
                "authority `{}`: crl-shards was {before}, and certificates name their shards; leave it, or make a new authority",
                authority.name()
            ));
        }
        let validity = authority.certificate().validity();
        let certificate = Served::new(
            "application/pkix-cert",
            authority.certificate().der().into(),
            validity.not_before(),
            validity.not_after(),
        );
        let publication = Self {
            paths: BTreeMap::new(),
            crl_lifetime: setup.crl_lifetime,
            delta_lifetime: setup.delta_lifetime,
            responder: setup.ocsp.map(|ocsp| Responder::new(authority, ocsp)),
            certificate: Arc::new(certificate),
            authority: authority.clone(),
            state: Mutex::default(),
        };
        let paths: BTreeMap<_, _> =
            publication.places().map(|place| (publication.url(place).path().to_owned(), place)).collect();
        let newest = |shard: Option<u16>| {
            let covers = |delta| state.crls.get(&(shard, delta)).map(|(fact, _)| fact.covers);
            covers(true).max(covers(false)).unwrap_or_default()
        };
        state.known = publication.series().map(newest).min().unwrap_or_default();
        Ok(Self { paths, state: Mutex::new(state), ..publication })
    }

    /// The key that issues.
    pub(super) fn issuer(&self) -> KeyId {
        self.authority.certificate().public_key().id()
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What is at a path now.
    fn served(&self, path: &str) -> Option<Arc<Served>> {
        if path == self.authority.urls().certificate.path() {
            return Some(self.certificate.clone());
        }
        let place = self.paths.get(path)?;
        self.state().crls.get(place).map(|(_, served)| served.clone())
    }

    fn series(&self) -> impl Iterator<Item = Option<u16>> + use<> {
        let shards = self.authority.urls().crl_shards.map_or(0, Shards::count);
        std::iter::once(None).chain((0..shards).map(Some))
    }

    fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let deltas = self.delta_lifetime.is_some();
        self.series()
            .flat_map(move |shard| std::iter::once((shard, false)).chain(deltas.then_some((shard, true))))
    }

    fn url(&self, (shard, delta): Place) -> HttpUrl {
        let urls = self.authority.urls();
        let base = shard.map_or_else(|| urls.crl.clone(), |shard| urls.shard(shard));
        if delta { base.delta() } else { base }
    }

    fn lifetime(&self, (_, delta): Place) -> Lifetime {
        self.delta_lifetime.filter(|_| delta).unwrap_or(self.crl_lifetime)
    }

    /// When a CRL is to be made anew even if nothing changes: at half of its life.
    fn half(fact: &CrlFact) -> Timestamp {
        let life = fact.next_update.duration_since(fact.this_update).unsigned_abs();
        fact.this_update + life / 2
    }

    /// Whether a place needs a new CRL, of changes in `affected` series or by its age.
    fn is_due(&self, (shard, delta): Place, affected: &BTreeSet<Option<u16>>, now: Timestamp) -> bool {
        let state = self.state();
        let has_changed = affected.contains(&shard);
        match (state.crls.get(&(shard, false)), state.crls.get(&(shard, delta)), delta) {
            // RFC 5280 section 5.2.4: issued at the same time they would need the same number.
            (Some((base, _)), None, true) => is_later(base, now),
            (None, _, true) => false,
            (Some((base, _)), Some((fact, _)), true) => {
                let is_old = fact.delta_of != Some(base.number) || Self::half(fact) <= now;
                is_later(base, now) && (has_changed || is_old)
            }
            (_, None, false) => true,
            (_, Some((fact, _)), false) => {
                Self::half(fact) <= now || (has_changed && self.delta_lifetime.is_none())
            }
        }
    }

    /// Whether deltas that may be due would be issued in the very second of their base. They wait for the next.
    fn waits_for_deltas(&self, now: Timestamp) -> bool {
        let state = self.state();
        let mut bases = state.crls.iter().filter(|((_, delta), _)| !delta);
        self.delta_lifetime.is_some() && bases.any(|(_, (base, _))| !is_later(base, now))
    }

    fn next_due(&self, now: Timestamp) -> Timestamp {
        let state = self.state();
        let soon = now + Duration::from_secs(1);
        self.places()
            .map(|place| match (state.crls.get(&place), state.crls.get(&(place.0, false))) {
                (Some((fact, _)), Some((base, _))) if place.1 && fact.delta_of != Some(base.number) => soon,
                (Some((fact, _)), _) => Self::half(fact),
                (None, _) => soon,
            })
            .min()
            .unwrap_or(soon)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether now is in a later second than a CRL's.
fn is_later(fact: &CrlFact, now: Timestamp) -> bool {
    fact.this_update.as_second() < now.as_second()
}

fn crl(fact: &CrlFact, der: Arc<[u8]>) -> Arc<Served> {
    Arc::new(Served::new("application/pkix-crl", der, fact.this_update, fact.next_update))
}

impl CertificateAuthority {
    /// What is served at a path of the URLs of our authorities: CRLs and certificates.
    pub fn served(&self, path: &str) -> Option<Arc<Served>> {
        let publications = self.domains.iter().flat_map(|domain| &domain.publications);
        publications.into_iter().find_map(|publication| publication.served(path))
    }

    /// Makes every CRL and OCSP response that is due. To be called once a second; at most by one task. Gives what failed, which
    /// is tried again later.
    pub async fn publish(&self) -> Vec<PublishError> {
        let mut failed = Vec::new();
        for domain in &self.domains {
            let has_changed = domain.revocations_changed.swap(false, Ordering::AcqRel);
            for publication in &domain.publications {
                let now = self.clock.now();
                if publication.state().rests.is_some_and(|until| now < until) {
                    domain.revocations_changed.fetch_or(has_changed, Ordering::AcqRel);
                    continue;
                }
                let is_due = has_changed || publication.state().due.is_none_or(|due| due <= now);
                let crls = match is_due {
                    true => self.publish_crls(domain, publication, now).await,
                    false => Ok(()),
                };
                // One way to tell is better than none.
                let responses = match &publication.responder {
                    Some(responder) => self.publish_responses(domain, publication, responder, now).await,
                    None => Ok(()),
                };
                if let Err(error) = crls.and(responses) {
                    let mut state = publication.state();
                    state.rests = Some(now + REST);
                    state.due = None;
                    failed.push(PublishError { authority: publication.authority.name().to_owned(), error });
                }
            }
        }
        failed
    }

    async fn publish_crls(
        &self,
        domain: &Domain,
        publication: &Publication,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let issuer = publication.issuer();
        let shards = publication.authority.urls().crl_shards;
        // Whatever changes from here on is for the next time.
        let last = self.revocations.last_change(issuer).await?;
        let known = publication.state().known;
        if publication.waits_for_deltas(now) {
            publication.state().due = Some(now + Duration::from_secs(1));
            return Ok(());
        }
        let mut affected = BTreeSet::new();
        each_change(&*self.revocations, issuer, known, |changed| {
            affected.insert(None);
            affected.extend(shards.map(|shards| Some(shards.of(&changed.serial))));
        })
        .await?;
        for place in publication.places() {
            if publication.is_due(place, &affected, now) {
                self.make_crl(domain, publication, place, now).await?;
            }
        }
        let due = publication.next_due(now);
        let mut state = publication.state();
        state.known = state.known.max(last);
        state.due = Some(due);
        Ok(())
    }

    async fn make_crl(
        &self,
        domain: &Domain,
        publication: &Publication,
        place: Place,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let (shard, delta) = place;
        let authority = &publication.authority;
        let issuer = publication.issuer();
        let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let covers = self.revocations.last_change(issuer).await?;
        let (number, base) = {
            let state = publication.state();
            // One more than the last, and never less than the time: a database that was restored forgets the last.
            let next = state.numbers.get(&shard).map_or(1, |last| last + 1);
            let number = next.max(u64::try_from(whole.as_second()).unwrap_or(1));
            (number, state.crls.get(&(shard, false)).map(|(fact, _)| fact.clone()))
        };
        let revoked = match (&base, delta) {
            (Some(base), true) => self.changes_since(publication, shard, base.covers, whole).await?,
            // It stands on one CRL that is issued after it has expired (RFC 5280 section 3.3).
            (before, _) => {
                let alive = before.as_ref().map_or(Timestamp::UNIX_EPOCH, |before| before.this_update);
                self.all_revoked(publication, shard, alive, whole).await?
            }
        };
        let end = (whole + publication.lifetime(place).0).min(authority.certificate().validity().not_after());
        let period = Validity::new(whole, end).map_err(|error| {
            ServiceError::Unavailable(format!("authority `{}` has expired: {error}", authority.name()))
        })?;
        let own_url = publication.url((shard, false));
        let deltas = publication.url((shard, true));
        let scope = CrlScope {
            shard: shard.map(|_| &own_url),
            delta_of: base.as_ref().filter(|_| delta).map(|base| base.number),
            freshest: publication.delta_lifetime.filter(|_| !delta).map(|_| &deltas),
        };
        let spec = CrlSpec { issuer: authority.issuer(), number, period, revoked: &revoked, scope };
        let prepared = authority
            .prepare_crl(&spec, self.policy.digest())
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        drop(revoked);
        let series = Series { issuer, shard };
        let intent = prepared.intent_with(Effect::CrlNumbered { series, number });
        // Not witnessed: whoever can keep witnesses away could keep a revocation from being told.
        let receipt = domain.receipt(intent, Assurance::Signed).await?;
        publication.state().numbers.insert(shard, number);
        let index = receipt.index();
        let issued = match issue(prepared, receipt, authority.signing()).await {
            Ok(issued) => issued,
            Err(error) => {
                let why = error.to_string();
                domain.abandon(index, &why).await;
                return Err(ServiceError::Unavailable(why));
            }
        };
        let fact = CrlFact {
            series,
            delta_of: scope.delta_of,
            number,
            this_update: period.not_before(),
            next_update: period.not_after(),
            covers,
        };
        let mut outcome = issued.outcome().map_err(|error| ServiceError::Internal(error.to_string()))?;
        outcome.effects.push(Effect::CrlSigned {
            intent: index,
            fact: fact.clone(),
            signature: issued.signature().to_vec(),
        });
        domain.log.append_end(outcome).await?;
        let served = crl(&fact, issued.der().clone());
        publication.state().crls.insert(place, (fact, served));
        Ok(())
    }

    /// Everything that is revoked or on hold, in the order of serial numbers.
    async fn all_revoked(
        &self,
        publication: &Publication,
        shard: Option<u16>,
        alive: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Revoked>, ServiceError> {
        let shards = publication.authority.urls().crl_shards;
        let (mut first, end) = match (shard, shards) {
            (Some(shard), Some(shards)) => shards.range(shard),
            _ => (SerialNumber::SMALLEST, None),
        };
        all_revoked(&*self.revocations, publication.issuer(), &mut first, end, alive, now).await
    }

    /// What has changed since a complete CRL, in the order of serial numbers.
    async fn changes_since(
        &self,
        publication: &Publication,
        shard: Option<u16>,
        since: u64,
        now: Timestamp,
    ) -> Result<Vec<Revoked>, ServiceError> {
        let shards = publication.authority.urls().crl_shards;
        let is_own = |revoked: &Revoked| match (shard, shards) {
            (Some(shard), Some(shards)) => shards.of(&revoked.serial) == shard,
            _ => true,
        };
        // A certificate that changes while we read is met twice, and counts as it was met last.
        let mut changed = BTreeMap::new();
        each_change(&*self.revocations, publication.issuer(), since, |revoked| {
            if is_own(&revoked) && revoked.date <= now {
                changed.insert(revoked.serial, revoked);
            }
        })
        .await?;
        Ok(changed.into_values().collect())
    }
}

/// Reads changes page by page. One entry changes a thousand certificates at most, so that a page has the whole of several.
pub(super) async fn each_change(
    facts: &dyn Revocations,
    issuer: KeyId,
    mut since: u64,
    mut each: impl FnMut(Revoked),
) -> Result<(), ServiceError> {
    loop {
        let page = facts.changes(issuer, since, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        // The last change of a full page may go on behind it; it is read again.
        let reached = page.last().map(|(reached, _)| reached.saturating_sub(1));
        page.into_iter().for_each(|(_, changed)| each(changed));
        match reached {
            Some(reached) if !is_last && reached > since => since = reached,
            _ => return Ok(()),
        }
    }
}

/// Reads what is revoked or on hold, page by page; nothing is held between pages, so that nobody waits for us.
///
/// # Errors
/// The store does not answer.
pub async fn all_revoked(
    facts: &dyn Revocations,
    issuer: KeyId,
    first: &mut SerialNumber,
    end: Option<SerialNumber>,
    alive: Timestamp,
    now: Timestamp,
) -> Result<Vec<Revoked>, ServiceError> {
    let mut all = Vec::new();
    loop {
        let page = facts.revoked(issuer, *first, end, alive, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        let next = page.last().and_then(|last| last.serial.next());
        let counts = |revoked: &Revoked| {
            revoked.date <= now && revoked.reason != Some(RevocationReason::RemoveFromCrl)
        };
        all.extend(page.into_iter().filter(counts));
        match next {
            Some(next) if !is_last => *first = next,
            _ => return Ok(all),
        }
    }
}

/// What could not be published.
#[derive(Debug, thiserror::Error)]
#[error("authority `{authority}`: {error}")]
pub struct PublishError {
    /// The authority.
    pub authority: String,
    /// Why.
    pub error: ServiceError,
}
