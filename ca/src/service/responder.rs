//! The OCSP responder of an authority: responses that are signed before anybody asks (`docs/revocation.md`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use undercroft_keymgr::Key;
use undercroft_log::leaf::{Caller, Channel};
use undercroft_log::sequencer::Assurance;

use super::publish::{Publication, Served, each_change};
use super::{CertificateAuthority, Domain, ServiceError};
use crate::authority::{Authority, Order};
use crate::gated::Signing;
use crate::issuance::{Prepared, issue_responses};
use crate::names::{Identity, SERVER_PATH};
use crate::policy::Grant;
use crate::profile::{Kind, Profile};
use crate::revocation::AskedFor;
use crate::revocation::ocsp::{MOST_REQUEST, ResponseStatus, signed, unsigned};
use crate::serial::SerialNumber;
use crate::tbs::{CertificateIds, OcspSpec, RevocationReason, Status};
use crate::time::{Lifetime, Validity};

/// Responses in a batch, which is one intent.
const BATCH: usize = 256;

/// Certificates that are read at once.
const PAGE: u32 = 4096;

/// An authority's OCSP responder.
pub struct OcspSetup {
    /// Its key.
    pub key: Key,
    /// Where that is.
    pub uri: String,
    /// From thisUpdate to nextUpdate.
    pub lifetime: Lifetime,
}

/// What a responder knows and has signed.
pub(super) struct Responder {
    key: Key,
    lifetime: Lifetime,
    /// How requests name the authority.
    ids: Option<CertificateIds>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    signer: Option<Signer>,
    /// Of every live certificate.
    responses: HashMap<SerialNumber, Response>,
    /// The last certificate that was seen.
    position: u64,
    /// The last change that the responses tell of.
    known: u64,
}

/// The responder's certificate.
#[derive(Clone)]
struct Signer {
    der: Arc<[u8]>,
    begins: Timestamp,
    ends: Timestamp,
}

struct Response {
    /// When the certificate ends that it is about.
    not_after: Timestamp,
    /// Nothing until it is signed.
    signed: Option<Arc<SignedResponse>>,
}

struct SignedResponse {
    data: Vec<u8>,
    signature: Vec<u8>,
    signer: Arc<[u8]>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl Responder {
    pub(super) fn new(authority: &Authority, setup: OcspSetup) -> Self {
        let ids = CertificateIds::new(&authority.issuer().name, authority.certificate().public_key()).ok();
        Self { key: setup.key, lifetime: setup.lifetime, ids, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request (DER).
    fn answer(&self, request: &[u8], now: Timestamp) -> Result<OcspAnswer, der::Error> {
        let refuse = |status| Ok(OcspAnswer::Refused(unsigned(status)?));
        if request.len() > MOST_REQUEST {
            return refuse(ResponseStatus::MalformedRequest);
        }
        let Ok(asked) = AskedFor::read(request) else { return refuse(ResponseStatus::MalformedRequest) };
        // One certificate in a request (RFC 5019 section 2.1.1): what is signed in advance is signed one by one.
        let ([asked], Some(ids)) = (&asked[..], &self.ids) else {
            return refuse(ResponseStatus::Unauthorized);
        };
        let is_ours = ids.hashes.iter().any(|(_, name, key)| asked.names(name, key));
        let serial = asked.serial().try_into().ok().and_then(SerialNumber::from_bytes);
        let (true, Some(serial)) = (is_ours, serial) else { return refuse(ResponseStatus::Unauthorized) };
        let response = match self.state().responses.get(&serial) {
            None => return refuse(ResponseStatus::Unauthorized),
            Some(response) => response.signed.clone(),
        };
        let Some(response) = response.filter(|response| now <= response.next_update) else {
            return refuse(ResponseStatus::TryLater);
        };
        let algorithm = self.key.signer.algorithm().signature_algorithm();
        let der = signed(&response.data, algorithm, &response.signature, &response.signer)?;
        Ok(OcspAnswer::Signed(Served::new(
            OCSP_RESPONSE,
            der.into(),
            response.this_update,
            response.next_update,
        )))
    }
}

/// The media type of responses (RFC 6960 appendix A.1).
pub const OCSP_RESPONSE: &str = "application/ocsp-response";

/// What a responder answers.
#[derive(Debug)]
pub enum OcspAnswer {
    /// A response that may be kept until it is over.
    Signed(Served),
    /// Why there is none, which is not to be kept.
    Refused(Vec<u8>),
}

impl CertificateAuthority {
    /// The path below which a responder of ours answers that is the beginning of `path`: the path itself, or what comes
    /// before the request of a GET (RFC 6960 appendix A.1). Gives the path and what follows it.
    pub fn ocsp_at<'p>(&self, path: &'p str) -> Option<(String, &'p str)> {
        self.responders().find_map(|(publication, _)| {
            let own = publication.authority().urls().ocsp.as_ref()?.path().trim_end_matches('/').to_owned();
            let rest = path.strip_prefix(&own)?;
            let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
            Some((own, rest))
        })
    }

    /// Answers an OCSP request (DER) that came to a path of [`CertificateAuthority::ocsp_at`].
    ///
    /// # Errors
    /// There is no such responder, or the answer cannot be encoded, which is a bug.
    pub fn answer_ocsp(&self, path: &str, request: &[u8]) -> Result<OcspAnswer, ServiceError> {
        let internal = |what: String| ServiceError::Internal(what);
        let now = self.clock.now();
        let mut last = None;
        for (publication, responder) in self.responders() {
            let own = publication.authority().urls().ocsp.as_ref();
            if own.is_none_or(|own| own.path().trim_end_matches('/') != path) {
                continue;
            }
            // Several authorities may have one URL: one of them knows, or none does.
            match responder.answer(request, now).map_err(|error| internal(error.to_string()))? {
                OcspAnswer::Signed(served) => return Ok(OcspAnswer::Signed(served)),
                refused => last = Some(refused),
            }
        }
        last.ok_or_else(|| internal(format!("no responder at {path}")))
    }

    fn responders(&self) -> impl Iterator<Item = (&Publication, &Responder)> {
        let publications = self.domains.iter().flat_map(|domain| &domain.publications);
        publications.filter_map(|publication| Some((publication, publication.responder.as_ref()?)))
    }

    /// Signs every response that is due: of new certificates, of those whose state has changed, and of those whose response
    /// has lived half of its life.
    pub(super) async fn publish_responses(
        &self,
        domain: &Domain,
        publication: &Publication,
        responder: &Responder,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let (signer, renewed) = self.signer(publication, responder, now).await?;
        let issuer = publication.issuer();
        let last = self.revocations.last_change(issuer).await?;
        let known = responder.state().known;
        let mut due = HashSet::new();
        if known < last {
            each_change(&*self.revocations, issuer, known, |changed| {
                due.insert(changed.serial);
            })
            .await?;
        }
        self.meet_new_certificates(publication, responder, now).await?;
        {
            let mut state = responder.state();
            state.responses.retain(|_, response| now <= response.not_after);
            due.retain(|serial| state.responses.contains_key(serial));
            let old = |response: &Response| {
                response.signed.as_ref().is_none_or(|signed| {
                    let life = signed.next_update.duration_since(signed.this_update).unsigned_abs();
                    signed.this_update + life / 2 <= now
                })
            };
            due.extend(state.responses.iter().filter(|(_, it)| old(it)).map(|(serial, _)| *serial));
        }
        let due: Vec<_> = due.into_iter().collect();
        for serials in due.chunks(BATCH) {
            self.sign_batch(domain, publication, responder, &signer, serials, self.clock.now()).await?;
        }
        responder.state().known = last;
        renewed
    }

    /// The responder's certificate, made anew at half of its life. As long as the old one lives, a failure is told
    /// and no more.
    async fn signer(
        &self,
        publication: &Publication,
        responder: &Responder,
        now: Timestamp,
    ) -> Result<(Signer, Result<(), ServiceError>), ServiceError> {
        let held = responder.state().signer.clone();
        let is_fresh = |signer: &Signer| {
            now < signer.begins + signer.ends.duration_since(signer.begins).unsigned_abs() / 2
        };
        if let Some(signer) = held.clone().filter(is_fresh) {
            return Ok((signer, Ok(())));
        }
        let authority = publication.authority();
        let profile = Profile::standard(Kind::OcspSigner);
        let grant = Grant::built_in(
            "built-in:ocsp-signer",
            self.policy.digest(),
            authority.domain().clone(),
            profile.clone(),
            Identity::default(),
            Vec::new(),
        )
        .of_authority(authority.name());
        let id = format!("{}{SERVER_PATH}", authority.domain().id_string());
        let order = Order {
            grant: &grant,
            caller: Caller { id: id.clone(), by: Channel::Daemon },
            public_key: responder.key.signer.public_key(),
            request: None,
            evidence: Vec::new(),
        };
        let issued = async {
            let issuer = self.issuer_even_if_frozen(&grant)?;
            self.fulfil(order, issuer, None).await
        };
        match (issued.await, held) {
            (Ok(issued), _) => {
                let der = issued.chain.into_iter().next().unwrap_or_default();
                let end = (now + profile.lifetime().0).min(authority.certificate().validity().not_after());
                let signer = Signer { der, begins: now, ends: end };
                responder.state().signer = Some(signer.clone());
                Ok((signer, Ok(())))
            }
            (Err(error), Some(held)) if now < held.ends => Ok((held, Err(error))),
            (Err(error), _) => Err(error),
        }
    }

    async fn meet_new_certificates(
        &self,
        publication: &Publication,
        responder: &Responder,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        loop {
            let position = responder.state().position;
            let page = self.revocations.issued_since(publication.issuer(), position, now, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            let mut state = responder.state();
            for met in page {
                state.position = met.position;
                state.responses.insert(met.serial, Response { not_after: met.not_after, signed: None });
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn sign_batch(
        &self,
        domain: &Domain,
        publication: &Publication,
        responder: &Responder,
        signer: &Signer,
        serials: &[SerialNumber],
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let internal = |what: String| ServiceError::Internal(what);
        let issuer = publication.issuer();
        let mut statuses = Vec::with_capacity(serials.len());
        for serial in serials {
            let state = self.revocations.state(issuer, *serial).await?;
            // Who is on hold is revoked, and who was released is good.
            let revoked = state.filter(|state| state.reason != Some(RevocationReason::RemoveFromCrl));
            statuses.push(Status { serial: *serial, revoked });
        }
        let end = (now + responder.lifetime.0).min(signer.ends);
        let period = Validity::new(now, end)
            .map_err(|error| ServiceError::Unavailable(format!("the OCSP responder has expired: {error}")))?;
        let key = responder.key.signer.public_key();
        let ids = responder.ids.as_ref().ok_or_else(|| internal("the issuer's key cannot be read".into()))?;
        let spec = OcspSpec {
            issuer: ids,
            responder: *key.subject_key_identifier().as_bytes(),
            period,
            statuses: &statuses,
        };
        let decision =
            publication.authority().own_decision("ocsp-responses", "built-in:ocsp", self.policy.digest());
        let algorithm = responder.key.signer.algorithm().signature_algorithm();
        let prepared = Prepared::ocsp_responses(&spec, key, algorithm, decision)
            .map_err(|error| internal(error.to_string()))?;
        let receipt = domain.receipt(prepared.intent(), Assurance::Signed).await?;
        let index = receipt.index();
        let issued = match issue_responses(prepared, receipt, Signing::Directly(&*responder.key.signer)).await
        {
            Ok(issued) => issued,
            Err(error) => {
                let why = error.to_string();
                domain.abandon(index, &why).await;
                return Err(ServiceError::Unavailable(why));
            }
        };
        domain.log.append_end(issued.outcome).await?;
        let mut state = responder.state();
        for (serial, (data, signature)) in serials.iter().zip(issued.signed) {
            if let Some(response) = state.responses.get_mut(serial) {
                response.signed = Some(Arc::new(SignedResponse {
                    data,
                    signature,
                    signer: signer.der.clone(),
                    this_update: period.not_before(),
                    next_update: period.not_after(),
                }));
            }
        }
        Ok(())
    }
}
