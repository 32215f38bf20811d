//! Taking certificates back: decided, logged, and durable before it is told.

use std::sync::atomic::Ordering;

use undercroft_log::leaf::{
    Asked, Body, Caller, Draft, HexKeyId, HexSerial, MOST_SERIALS, Reason, RefusedAction, Revocation,
    RevocationEvent,
};
use undercroft_log::sequencer::Append;
use undercroft_log::store::StoreError;

use super::{CertificateAuthority, Domain, ServiceError};
use crate::authority::Authority;
use crate::names::parse_spiffe_id;
use crate::policy::Refusal;
use crate::revocation::facts::{Change, IssuedFact, Wanted};
use crate::serial::SerialNumber;
use crate::store::Effect;
use crate::tbs::{RevocationReason, Revoked};

/// What somebody wants taken back, or given back.
#[derive(Clone, Debug)]
pub struct RevokeRequest {
    /// The trust domain.
    pub domain: String,
    /// The authority that issued them; any of the domain if there is none.
    pub authority: Option<String>,
    /// Which certificates.
    pub certificates: Certificates,
    /// What is to become of them.
    pub event: RevocationEvent,
    /// Why, if that is said. Of revocations alone.
    pub reason: Option<Reason>,
}

/// Which certificates somebody means.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// Those with these serial numbers. Each must be there.
    Serials(Vec<SerialNumber>),
    /// Every live one with this SPIFFE ID, whose state can change so.
    Named(String),
}

/// What became of certificates, or would.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The certificates.
    pub certificates: Vec<IssuedFact>,
    /// Whether CRLs or OCSP responses of their authorities are made.
    pub is_published: bool,
}

impl CertificateAuthority {
    /// Revokes certificates, puts them on hold or releases them. It is durable when it returns, and published soon.
    /// With `dry_run` says what would become of them.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals are in the log before they are told.
    pub async fn revoke(
        &self,
        caller: Caller,
        request: &RevokeRequest,
        dry_run: bool,
    ) -> Result<Decided, ServiceError> {
        let decided = match self.decide_revocation(request).await? {
            Ok(decided) => decided,
            Err(refusal) => {
                let named = match &request.certificates {
                    Certificates::Named(name) => super::cut(name),
                    Certificates::Serials(_) => String::new(),
                };
                let asked = Asked { spiffe_id: named, ..Asked::default() };
                let action = RefusedAction::Revoke;
                return Err(self.refuse(action, &request.domain, caller, refusal, asked, None).await);
            }
        };
        if dry_run {
            return Ok(decided);
        }
        let domain = self.domain(&request.domain).ok_or_else(|| no_domain(request))?;
        let mut issuers: Vec<_> = decided.certificates.iter().map(|found| found.issuer).collect();
        issuers.sort_unstable();
        issuers.dedup();
        for issuer in issuers {
            let of_issuer: Vec<_> =
                decided.certificates.iter().filter(|found| found.issuer == issuer).collect();
            for found in of_issuer.chunks(MOST_SERIALS) {
                let append = self.entry(request, &caller, found)?;
                domain.log.append_durable(append).await?;
                domain.revocations_changed.store(true, Ordering::Release);
            }
        }
        Ok(decided)
    }

    /// The entry, and the change that becomes durable with it, for certificates of one issuer.
    fn entry(
        &self,
        request: &RevokeRequest,
        caller: &Caller,
        found: &[&IssuedFact],
    ) -> Result<Append<Effect>, ServiceError> {
        let internal = |what: &dyn std::fmt::Display| ServiceError::Internal(what.to_string());
        let issuer = found.first().map(|found| found.issuer).ok_or_else(|| internal(&"nothing to revoke"))?;
        let date =
            jiff::Timestamp::from_second(self.clock.now().as_second()).map_err(|error| internal(&error))?;
        let reason = request.reason.unwrap_or(Reason::Unspecified);
        let body = Body::Revocation(Revocation {
            event: request.event,
            domain: request.domain.clone(),
            issuer: HexKeyId(issuer),
            serials: found.iter().map(|found| HexSerial(*found.serial.as_bytes())).collect(),
            reason: (request.event == RevocationEvent::Revoke).then_some(reason),
            date,
            caller: caller.clone(),
        });
        let change = Change {
            event: request.event,
            issuer,
            certificates: found.iter().map(|found| (found.serial, Some(found.not_after))).collect(),
            reason,
            date,
        };
        let draft = Draft::new(&body).map_err(|error| internal(&error))?;
        Ok(Append { draft, effects: vec![Effect::Revocation(change)], blobs: Vec::new() })
    }

    async fn decide_revocation(
        &self,
        request: &RevokeRequest,
    ) -> Result<Result<Decided, Refusal>, ServiceError> {
        let Some(domain) = self.domain(&request.domain) else { return Err(no_domain(request)) };
        if request.reason.is_some() && request.event != RevocationEvent::Revoke {
            return Ok(Err(Refusal::new(
                "revocation-reason",
                "the reason of a hold is that it is one (RFC 5280 section 5.3.1), and a release has none; leave it out",
            )));
        }
        let authorities = match authorities(domain, request.authority.as_deref()) {
            Ok(authorities) => authorities,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let wanted = match &request.certificates {
            Certificates::Serials(serials) if serials.len() > MOST_SERIALS => {
                return Ok(Err(Refusal::new(
                    "revocation-too-many",
                    format!("{} serial numbers are more than {MOST_SERIALS}; ask in parts", serials.len()),
                )));
            }
            Certificates::Serials(serials) => Wanted::Serials(serials),
            Certificates::Named(name) => Wanted::Named(name),
        };
        let mut found = self.revocations.live(wanted, self.clock.now()).await?;
        found.retain(|found| authorities.iter().any(|authority| issues(authority, found)));
        if let Certificates::Serials(serials) = &request.certificates
            && let Some(missing) =
                serials.iter().find(|serial| !found.iter().any(|found| found.serial == **serial))
        {
            return Ok(Err(Refusal::new(
                "revocation-unknown",
                format!(
                    "`{}` has issued no certificate {missing}, or it has expired; its serial number has 32 hexadecimal digits",
                    request.domain
                ),
            )));
        }
        let mut certificates = Vec::with_capacity(found.len());
        for found in found {
            let state = self.revocations.state(found.issuer, found.serial).await?;
            match (may_change(&found, state.as_ref(), request), &request.certificates) {
                (Ok(()), _) => certificates.push(found),
                (Err(refusal), Certificates::Serials(_)) => return Ok(Err(refusal)),
                // Of those that have a name in common, some may have been revoked before.
                (Err(refusal), Certificates::Named(_)) if refusal.rule == "revocation-reason" => {
                    return Ok(Err(refusal));
                }
                (Err(_), Certificates::Named(_)) => {}
            }
        }
        if certificates.is_empty() {
            let name = match &request.certificates {
                Certificates::Named(name) => super::cut(name),
                Certificates::Serials(_) => "no serial number".to_owned(),
            };
            return Ok(Err(Refusal::new(
                "revocation-unknown",
                format!("`{}` has no live certificate of {name} whose state can change so", request.domain),
            )));
        }
        let is_published = certificates
            .iter()
            .all(|found| domain.publications.iter().any(|publication| publication.issuer() == found.issuer));
        Ok(Ok(Decided { certificates, is_published }))
    }
}

fn no_domain(request: &RevokeRequest) -> ServiceError {
    ServiceError::Refused(Refusal::new(
        "domain-unknown",
        format!("no domain `{}`; see `undercroft domain list`", super::cut(&request.domain)),
    ))
}

fn authorities<'a>(domain: &'a Domain, name: Option<&str>) -> Result<Vec<&'a Authority>, Refusal> {
    let found: Vec<_> = domain
        .authorities
        .iter()
        .filter(|authority| name.is_none_or(|name| authority.name() == name))
        .collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Refusal::new(
            "authority-unknown",
            format!(
                "the domain `{}` has no authority `{}`",
                domain.name.as_str(),
                super::cut(name.unwrap_or_default())
            ),
        )),
    }
}

fn issues(authority: &Authority, found: &IssuedFact) -> bool {
    authority.certificate().public_key().id() == found.issuer
}

/// Whether the state of a certificate can change so (`docs/revocation.md`).
fn may_change(found: &IssuedFact, state: Option<&Revoked>, request: &RevokeRequest) -> Result<(), Refusal> {
    let serial = found.serial;
    // cACompromise is of CA certificates (RFC 5280 section 5.3.1), which have the ID of the trust domain itself.
    let is_authority = parse_spiffe_id(&found.name).is_ok_and(|id| id.path().is_empty());
    if request.reason == Some(Reason::CaCompromise) && !is_authority {
        return Err(Refusal::new(
            "revocation-reason",
            format!("{serial} is no CA certificate, so that no CA is compromised; say key-compromise"),
        ));
    }
    let is_good = state.is_none_or(|state| state.reason == Some(RevocationReason::RemoveFromCrl));
    let is_held = state.is_some_and(|state| state.reason == Some(RevocationReason::CertificateHold));
    let since = state.map(|state| state.date).unwrap_or_default();
    match (request.event, is_good, is_held) {
        (RevocationEvent::Revoke, true, _)
        | (RevocationEvent::Revoke | RevocationEvent::Release, _, true) => Ok(()),
        (RevocationEvent::Hold, true, _) => Ok(()),
        (RevocationEvent::Hold, _, true) => {
            Err(Refusal::new("revocation-twice", format!("{serial} is on hold since {since}")))
        }
        (RevocationEvent::Release, true, _) => {
            Err(Refusal::new("release-not-held", format!("{serial} is not on hold")))
        }
        (RevocationEvent::Release, ..) => Err(Refusal::new(
            "release-not-held",
            format!("{serial} is revoked since {since}, and that is for ever; have a new certificate issued"),
        )),
        (RevocationEvent::Revoke | RevocationEvent::Hold, ..) => {
            Err(Refusal::new("revocation-twice", format!("{serial} is revoked since {since}")))
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
