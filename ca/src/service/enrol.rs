//! Enrolment: how somebody whom nobody knows gets a first certificate.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jiff::Timestamp;
use undercroft_log::leaf::{
    Asked, Body, Caller, Channel, Digest, Draft, Enrolment, EnrolmentEvent, Evidence, MAX_INTEGER,
    RefusedAction,
};
use undercroft_log::sequencer::Append;
use zeroize::Zeroizing;

use super::{CertificateAuthority, IssuedCertificate, ServiceError, cut};
use crate::authority::Order;
use crate::csr::Csr;
use crate::names::{Identity, SpiffeId, is_reserved, parse_spiffe_id};
use crate::policy::{Grant, Refusal};
use crate::store::Effect;
use crate::time::Lifetime;

/// The longest time that a token may wait.
const MAX_TOKEN_LIFETIME: Lifetime = Lifetime::days(7);

/// What somebody is told who comes second.
const TOKEN_USED: &str = "the token has been used; ask the operator for another";

/// What the log calls a token that was evidence.
const TOKEN_EVIDENCE: &str = "enrolment-token-v1";

/// A single-use token: 32 random bytes in base64url. Only its digest is stored or logged.
#[derive(Clone)]
pub struct EnrolmentToken(Zeroizing<String>);

impl EnrolmentToken {
    /// A token that somebody presents. Any text is one; whether it is good is for the store to say.
    pub fn presented(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The token, to be handed to whoever enrols.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl std::fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolmentToken(redacted)")
    }
}

impl CertificateAuthority {
    /// Makes a token that is good once, for one SPIFFE ID of the control domain.
    ///
    /// # Errors
    /// The ID is not of the control domain or is reserved, or the token would wait too long; or as [`ServiceError`].
    pub async fn create_enrolment(
        &self,
        caller: Caller,
        id: &str,
        lifetime: Lifetime,
    ) -> Result<(EnrolmentToken, Timestamp), ServiceError> {
        let id = match self.may_be_enrolled(id, lifetime) {
            Ok(id) => id,
            Err(refusal) => {
                let lifetime = Some(lifetime.as_seconds().min(MAX_INTEGER));
                let asked = Asked { spiffe_id: cut(id), lifetime, ..Asked::default() };
                let control = self.control.as_str();
                return Err(self.refuse(RefusedAction::Token, control, caller, refusal, asked, None).await);
            }
        };
        let mut bytes = Zeroizing::new([0; 32]);
        self.entropy.fill(&mut *bytes).map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        let token = EnrolmentToken::presented(Base64UrlUnpadded::encode_string(&*bytes));
        let now = self.clock.now();
        let expires = Timestamp::from_second((now + lifetime.0).as_second()).unwrap_or(now);
        let leaf = Enrolment {
            event: EnrolmentEvent::Made,
            token: token.digest(),
            id: id.to_string(),
            expires,
            caller,
        };
        let draft =
            Draft::new(&Body::Enrolment(leaf)).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let effect = Effect::EnrolmentMade { token: token.digest(), id: id.to_string(), expires };
        let append = Append { draft, effects: vec![effect], blobs: Vec::new() };
        self.domains[0].log.append(append).await?;
        Ok((token, expires))
    }

    fn may_be_enrolled(&self, id: &str, lifetime: Lifetime) -> Result<SpiffeId, Refusal> {
        let id = parse_spiffe_id(id).map_err(|error| Refusal::new("id-malformed", error.to_string()))?;
        if *id.trust_domain() != self.control {
            return Err(Refusal::new(
                "id-of-another-domain",
                format!("{id} is not of the control domain {}", self.control.as_str()),
            ));
        }
        if is_reserved(&id) || id.path().is_empty() {
            return Err(Refusal::new(
                "id-reserved",
                format!("{id} cannot be enrolled; choose a path such as /operator/alice"),
            ));
        }
        if lifetime > MAX_TOKEN_LIFETIME {
            return Err(Refusal::new(
                "lifetime-over-cap",
                format!("a token may wait for {MAX_TOKEN_LIFETIME} at most, not {lifetime}"),
            ));
        }
        Ok(id)
    }

    /// Gives a certificate of the control domain to whoever holds a good token. The token is used up in the very
    /// transaction that logs the intent, so that of two who present it at once one at most gets anything.
    ///
    /// # Errors
    /// See [`ServiceError`]. A token that was never made is refused without an entry in the log: anyone could make
    /// those up and fill it.
    pub async fn enrol(&self, token: &EnrolmentToken, csr: &[u8]) -> Result<IssuedCertificate, ServiceError> {
        let digest = token.digest();
        let enrolment = self
            .facts
            .enrolment(digest)
            .await
            .map_err(|error| ServiceError::Unavailable(error.to_string()))?
            .ok_or_else(|| {
                ServiceError::Refused(Refusal::new("token-unknown", "the token is not known here"))
            })?;
        let now = self.clock.now();
        let granted = if enrolment.redeemed {
            Err(Refusal::new("token-used", TOKEN_USED))
        } else if enrolment.expires < now {
            Err(Refusal::new("token-expired", format!("the token was good until {}", enrolment.expires)))
        } else {
            Csr::from_der(csr).map_err(|error| Refusal::new(error.rule(), error.to_string())).and_then(
                |csr| {
                    let grant = self.enrolment_grant(&enrolment.id, &csr)?;
                    let key_type = csr.public_key().key_type();
                    match grant.profile().takes(key_type) {
                        true => Ok((grant, csr)),
                        false => {
                            Err(Refusal::new("key-type", format!("callers may have no {key_type} keys")))
                        }
                    }
                },
            )
        };
        let decided = granted.map_err(ServiceError::Refused).and_then(|(grant, csr)| {
            let issuer = self.issuer(&grant, &enrolment.id)?;
            Ok((grant, csr, issuer))
        });
        let evidence = Evidence { format: TOKEN_EVIDENCE.to_owned(), sha256: digest };
        let caller = Caller { id: enrolment.id.clone(), by: Channel::EnrolmentToken };
        let refuse = async |refusal| {
            let asked = Asked { spiffe_id: cut(&enrolment.id), ..Asked::default() };
            let control = self.control.as_str();
            self.refuse(RefusedAction::Enrol, control, caller.clone(), refusal, asked, None).await
        };
        let (grant, csr, issuer) = match decided {
            Ok(decided) => decided,
            Err(ServiceError::Refused(refusal)) => return Err(refuse(refusal).await),
            Err(error) => return Err(error),
        };
        let order = Order {
            grant: &grant,
            caller: caller.clone(),
            public_key: csr.public_key(),
            request: Some(csr.digest()),
            evidence: vec![evidence],
        };
        match self.fulfil(order, issuer, Some(Effect::EnrolmentRedeemed { token: digest, now })).await {
            // Somebody else was faster: the store has refused the intent, so that nothing says so yet. What was frozen
            // or refused by a gate meanwhile stands in the intent's outcome.
            Err(ServiceError::Refused(refusal)) if refusal.rule == "store" => {
                Err(refuse(Refusal::new("token-used", TOKEN_USED)).await)
            }
            answer => answer,
        }
    }

    fn enrolment_grant(&self, id: &str, csr: &Csr) -> Result<Grant, Refusal> {
        let id = parse_spiffe_id(id).map_err(|error| Refusal::new("id-malformed", error.to_string()))?;
        Ok(Grant::built_in(
            "built-in:enrolment",
            self.policy.digest(),
            self.control.clone(),
            self.caller_profile.clone(),
            Identity::leaf(&id, Vec::new()),
            csr.wishes().in_words(),
        ))
    }
}
