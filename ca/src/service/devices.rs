//! Devices with TPMs: certificates of their attestation keys, and by ACME those of keys that live beside them (`docs/acme.md`).

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use undercroft_attestors::chain::{Anchors, Certificate};
use undercroft_attestors::tpm::node::Bound;
use undercroft_attestors::webauthn::{Device, Expected, Statement};
use undercroft_log::leaf::{Asked, Caller, Channel, Digest, Evidence, RefusedAction};

use super::{CertificateAuthority, Domain, IssuedCertificate, ServiceError, cut};
use crate::acme::{Attested, Claim, Finalization, Problem, Type};
use crate::authority::Order;
use crate::csr::Wishes;
use crate::names::{Identity, SpiffeId, TpmNames, TrustDomain, is_reserved, parse_spiffe_id};
use crate::policy::{Grant, Refusal, Request};
use crate::profile::Profile;
use crate::serial::SerialNumber;
use crate::tbs::RevocationReason;

/// Whom policy is asked about. Nobody can have a certificate with this ID, and no star matches it.
const ACME_PATH: &str = "/undercroft/acme";
/// Who asks for certificates of attestation keys.
const ATTESTATION_PATH: &str = "/undercroft/attestation";

/// What evidence is called in intents.
const ACTIVATION: &str = "tpm-activation-v1";
const STATEMENT: &str = "acme-statement-v1";
const ACCOUNT: &str = "acme-account-v1";

/// The most refusals of strangers that are logged in a while. They could fill the log.
const REFUSALS: u32 = 120;
const WHILE: SignedDuration = SignedDuration::from_secs(60);

/// How devices are served in one domain.
#[derive(Debug)]
pub struct Devices {
    domain: TrustDomain,
    profile: String,
    template: IdTemplate,
    roots: Vec<Certificate>,
    attestation: Option<AttestationAuthority>,
    refusals: Mutex<(Timestamp, u32)>,
}

/// Who signs certificates of attestation keys, and what they look like.
#[derive(Clone, Debug)]
pub struct AttestationAuthority {
    /// The authority of the domain.
    pub authority: String,
    /// A profile of kind `attestation-key`.
    pub profile: Profile,
}

impl Devices {
    /// Devices of `domain` get certificates of `profile`, with IDs by `template`. Besides the domain's authorities, `roots` may vouch
    /// for attestation keys.
    pub fn new(
        domain: TrustDomain,
        profile: String,
        template: IdTemplate,
        roots: Vec<Certificate>,
        attestation: Option<AttestationAuthority>,
    ) -> Self {
        let refusals = Mutex::new((Timestamp::MIN, 0));
        Self { domain, profile, template, roots, attestation, refusals }
    }

    /// The domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Who signs certificates of attestation keys, if anybody does.
    pub fn attestation(&self) -> Option<&AttestationAuthority> {
        self.attestation.as_ref()
    }

    /// Whether one more refusal may be logged now. Asked before anything is judged that might be refused.
    pub fn has_room(&self, now: Timestamp) -> bool {
        let (since, count) = *self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        count < REFUSALS || now > since.saturating_add(WHILE).unwrap_or(Timestamp::MAX)
    }

    fn count(&self, now: Timestamp) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = *refusals;
        let is_over = count == 0 || now > since.saturating_add(WHILE).unwrap_or(Timestamp::MAX);
        *refusals = if is_over { (now, 1) } else { (since, count + 1) };
    }
}

/// A SPIFFE ID with `{id}` in the place of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTemplate(String);

impl IdTemplate {
    /// Reads a template for IDs of a domain.
    ///
    /// # Errors
    /// It has not exactly one `{id}`, alone in a segment, or makes no ID of the domain that may be granted.
    pub fn parse(text: &str, domain: &TrustDomain) -> Result<Self, String> {
        let places = text.split('/').filter(|segment| *segment == "{id}").count();
        if places != 1 || text.matches(['{', '}']).count() != 2 {
            return Err(format!("`{text}` must have `{{id}}` once, in the place of a segment"));
        }
        let template = Self(text.to_owned());
        let id = template.id("x").map_err(|refusal| refusal.reason)?;
        if id.trust_domain() != domain || is_reserved(&id) {
            return Err(format!("`{text}` makes no IDs of `{}`, or reserved ones", domain.as_str()));
        }
        // A device must not be able to choose a reserved one.
        match template.id("undercroft") {
            Ok(id) if !is_reserved(&id) => Ok(template),
            _ => Err(format!("`{text}`: put something in front of `{{id}}`")),
        }
    }

    fn id(&self, identifier: &str) -> Result<SpiffeId, Refusal> {
        if identifier.contains('/') {
            return Err(Refusal::new("identifier-unfit", "the identifier is more than one segment"));
        }
        let id = self.0.replace("{id}", identifier);
        parse_spiffe_id(&id).map_err(|error| Refusal::new("identifier-unfit", error.to_string()))
    }
}

impl CertificateAuthority {
    /// Certifies an attestation key that is bound to its endorsement key. Gives its permanentIdentifier besides.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals are in the log before they are told.
    pub async fn certify_attestation_key(
        &self,
        devices: &Devices,
        bound: &Bound<'_>,
    ) -> Result<(IssuedCertificate, String), ServiceError> {
        let by = devices.attestation.as_ref();
        let by = by.ok_or_else(|| ServiceError::Internal("there is no attestation CA".into()))?;
        let endorsement = bound.binding().endorsement;
        let decided = bound
            .public_key()
            .map_err(|refusal| Refusal::new(refusal.code().as_str(), refusal.to_string()))
            .and_then(|key| {
                let names = TpmNames::new(bound.names().clone(), endorsement).ok_or_else(|| {
                    Refusal::new("ek-profile", "the endorsement certificate does not say which TPM it is of")
                })?;
                match by.profile.takes(key.key_type()) {
                    true => Ok((key, names)),
                    false => {
                        Err(Refusal::new("key-type", format!("no {} keys are certified", key.key_type())))
                    }
                }
            });
        let (key, names) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return Err(self.refuse_activation(devices, refusal).await),
        };
        let identifier = names.identifier().to_owned();
        let grant = Grant::built_in(
            "built-in:attestation-key",
            self.policy.digest(),
            devices.domain.clone(),
            by.profile.clone(),
            Identity::tpm(names),
            Vec::new(),
        );
        let grant = grant.of_authority(&by.authority);
        let id = format!("{}{ATTESTATION_PATH}", devices.domain.id_string());
        let issuer = match self.issuer(&grant, &id) {
            Err(ServiceError::Refused(refusal)) => {
                return Err(self.refuse_activation(devices, refusal).await);
            }
            issuer => issuer?,
        };
        let evidence = vec![evidence(ACTIVATION, *bound.transcript())];
        let caller = Caller { id, by: Channel::Activation };
        let order = Order { grant: &grant, caller, public_key: &key, request: None, evidence };
        Ok((self.fulfil(order, issuer, None).await?, identifier))
    }

    /// Logs that an activation was refused, and gives what is to be told.
    pub async fn refuse_activation(&self, devices: &Devices, refusal: Refusal) -> ServiceError {
        let id = format!("{}{ATTESTATION_PATH}", devices.domain.id_string());
        let profile = devices.attestation.as_ref().map(|by| by.profile.name().to_owned());
        let asked = Asked { profile: profile.unwrap_or_default(), ..Asked::default() };
        let caller = Caller { id, by: Channel::Activation };
        devices.count(self.clock.now());
        self.refuse(RefusedAction::Issue, devices.domain.as_str(), caller, refusal, asked, None).await
    }

    /// Judges a device's statement.
    ///
    /// # Errors
    /// The problem to tell. Refusals are in the log before they are told.
    pub async fn attest_device(&self, devices: &Devices, claim: &Claim) -> Result<Attested, Problem> {
        match self.judge_device(devices, claim).await {
            Ok(device) => Ok(Attested {
                key: device.key().clone(),
                identifier: device.identifier().to_owned(),
                evidence: Sha256::digest(&claim.object).into(),
            }),
            Err(ServiceError::Refused(refusal)) => {
                let error = self.refuse_device(devices, &claim.identifier, refusal, None).await;
                Err(problem(error, Type::BadAttestationStatement))
            }
            Err(error) => Err(problem(error, Type::BadAttestationStatement)),
        }
    }

    async fn judge_device(&self, devices: &Devices, claim: &Claim) -> Result<Device, ServiceError> {
        let domain = self.device_domain(devices)?;
        let refused = |refusal: undercroft_attestors::webauthn::Refusal| {
            ServiceError::Refused(Refusal::new(refusal.code().as_str(), refusal.to_string()))
        };
        // Authorities themselves and not their roots: what lies below an authority vouches for no attestation key.
        let ours = domain.authorities().iter().map(|authority| authority.certificate());
        let ours: Vec<_> = ours
            .map(|certificate| Certificate::from_der(certificate.der()))
            .collect::<Result<_, _>>()
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        let statement = Statement::read(&claim.object).map_err(refused)?;
        let expected = |anchors, directly| Expected {
            anchors,
            directly,
            key_authorization: &claim.key_authorization,
            identifier: &claim.identifier,
        };
        let now = self.clock.now();
        let own = Anchors::new(ours.clone());
        let others = Anchors::new(devices.roots.clone());
        let device = match statement.is_directly_below(&own) {
            true => statement.verify(expected(&own, true), now),
            false => statement.verify(expected(&others, false), now),
        };
        let device = device.map_err(refused)?;
        let issuer = domain
            .authorities()
            .iter()
            .find(|authority| authority.certificate().der() == device.issuer().der());
        if let Some(issuer) = issuer {
            let key = issuer.certificate().public_key().id();
            let revoked = || {
                ServiceError::Refused(Refusal::new(
                    "ak-revoked",
                    "the attestation key's certificate is revoked",
                ))
            };
            let serial = SerialNumber::of_certificate(device.attestation_key().der()).ok_or_else(revoked)?;
            let state = self.revocations.state(key, serial).await;
            let state = state.map_err(|error| ServiceError::Unavailable(error.to_string()))?;
            if state.is_some_and(|state| state.reason != Some(RevocationReason::RemoveFromCrl)) {
                return Err(revoked());
            }
        }
        Ok(device)
    }

    /// Issues a certificate to an attested device: policy decides about its ID, and about nothing else that it asks for.
    ///
    /// # Errors
    /// The problem to tell. Refusals are in the log before they are told.
    pub async fn issue_to_device(
        &self,
        devices: &Devices,
        wanted: &Finalization,
    ) -> Result<IssuedCertificate, Problem> {
        let caller_id = format!("{}{ACME_PATH}", devices.domain.id_string());
        let Finalization { attested, request, .. } = wanted;
        let decided = parse_spiffe_id(&caller_id)
            .map_err(|error| Refusal::new("caller-unknown", error.to_string()))
            .and_then(|caller| {
                let id = devices.template.id(&attested.identifier)?.to_string();
                let wishes = request.wishes();
                let uris = wishes.uris.iter().map(|uri| format!("URI {uri}"));
                let others = wishes.others.iter().cloned().chain(uris).collect();
                let wishes = Wishes { uris: Vec::new(), dns_names: wishes.dns_names.clone(), others };
                let asked = Request {
                    domain: devices.domain.as_str(),
                    profile: &devices.profile,
                    spiffe_id: &id,
                    dns_names: &[],
                    lifetime: None,
                    // The key that the TPM has certified, which is that of the request.
                    public_key: &attested.key,
                    wishes: &wishes,
                };
                Ok((self.policy.decide(&caller, &asked)?, id))
            });
        let decided = decided.map_err(ServiceError::Refused).and_then(|(grant, id)| {
            let issuer = self.issuer(&grant, &id)?;
            let key = issuer.authority.certificate().public_key().id();
            self.freezes.allow(key, devices.domain.as_str(), &caller_id).map_err(ServiceError::Refused)?;
            Ok((grant, issuer))
        });
        let (grant, issuer) = match decided {
            Ok(decided) => decided,
            Err(ServiceError::Refused(refusal)) => {
                let digest = Some(request.digest());
                let error = self.refuse_device(devices, &attested.identifier, refusal, digest).await;
                return Err(problem(error, Type::RejectedIdentifier));
            }
            Err(error) => return Err(problem(error, Type::RejectedIdentifier)),
        };
        let order = Order {
            grant: &grant,
            caller: Caller { id: caller_id, by: Channel::Acme },
            public_key: &attested.key,
            request: Some(request.digest()),
            evidence: vec![evidence(STATEMENT, attested.evidence), evidence(ACCOUNT, wanted.account)],
        };
        self.fulfil(order, issuer, None).await.map_err(|error| problem(error, Type::RejectedIdentifier))
    }

    /// Logs that a device's request was refused, if it was judged, and gives what is to be told.
    pub async fn refuse_request(&self, devices: &Devices, refused: Problem) -> Problem {
        let (Type::BadCsr, Some(code)) = (refused.kind, refused.code) else { return refused };
        let refusal = Refusal::new(code, refused.detail);
        problem(self.refuse_device(devices, "", refusal, None).await, Type::BadCsr)
    }

    async fn refuse_device(
        &self,
        devices: &Devices,
        identifier: &str,
        refusal: Refusal,
        request: Option<Digest>,
    ) -> ServiceError {
        let id = devices.template.id(identifier).map(|id| id.to_string()).unwrap_or_default();
        let asked = Asked { profile: devices.profile.clone(), spiffe_id: cut(&id), ..Asked::default() };
        let caller = Caller { id: format!("{}{ACME_PATH}", devices.domain.id_string()), by: Channel::Acme };
        devices.count(self.clock.now());
        self.refuse(RefusedAction::Issue, devices.domain.as_str(), caller, refusal, asked, request).await
    }

    fn device_domain(&self, devices: &Devices) -> Result<&Domain, ServiceError> {
        let name = devices.domain.as_str();
        self.domain(name).ok_or_else(|| ServiceError::Internal(format!("no domain {name}")))
    }
}

fn evidence(format: &str, sha256: [u8; 32]) -> Evidence {
    Evidence { format: format.to_owned(), sha256: Digest(sha256) }
}

/// As ACME tells it.
fn problem(error: ServiceError, refused: Type) -> Problem {
    match error {
        ServiceError::Refused(refusal) => {
            let kind = if refusal.rule == "key-type" { Type::BadCsr } else { refused };
            Problem::new(kind, refusal.reason).coded(refusal.rule)
        }
        ServiceError::Busy { .. } => Problem::new(Type::RateLimited, error.to_string()),
        // What is wrong inside is for the operator, who reads the journal.
        ServiceError::Unavailable(_) | ServiceError::Internal(_) => {
            Problem::new(Type::ServerInternal, "no certificate can be issued now; try again later")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_no_log() {
        let domain = crate::names::parse_trust_domain("prod.example").unwrap();
        let template = IdTemplate::parse("spiffe://prod.example/device/{id}", &domain).unwrap();
        let devices = Devices::new(domain, "svid".into(), template, Vec::new(), None);
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        for _ in 0..REFUSALS {
            assert!(devices.has_room(now));
            devices.count(now);
        }
        assert!(!devices.has_room(now));
        assert!(!devices.has_room(now + WHILE));
        let later = now + WHILE + SignedDuration::from_secs(1);
        assert!(devices.has_room(later));
        devices.count(later);
        assert!(devices.has_room(later));
    }

    #[test]
    fn a_template_makes_ids_of_its_domain_and_no_reserved_ones() {
        let domain = crate::names::parse_trust_domain("prod.example").unwrap();
        let template = IdTemplate::parse("spiffe://prod.example/device/{id}", &domain).unwrap();
        assert_eq!(template.id("ab01").unwrap().to_string(), "spiffe://prod.example/device/ab01");
        for identifier in ["", "a/b", "..", ".", "a%2fb", "\u{e4}", "a b", "{id}"] {
            assert!(template.id(identifier).is_err(), "{identifier}");
        }
        for text in [
            "spiffe://prod.example/{id}",
            "spiffe://prod.example/device",
            "spiffe://prod.example/device/x-{id}",
            "spiffe://prod.example/{id}/{id}",
            "spiffe://edge.example/device/{id}",
            "spiffe://{id}/device",
            "spiffe://prod.example/undercroft/{id}",
            "spiffe://prod.example/spire/{id}",
            "https://prod.example/device/{id}",
        ] {
            assert!(IdTemplate::parse(text, &domain).is_err(), "{text}");
        }
    }
}
