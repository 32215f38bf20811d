//! The decision.

use undercroft_keys::PublicKey;
use undercroft_log::leaf::Digest;

use super::{Policy, Rule};
use crate::csr::Wishes;
use crate::names::{DnsName, Identity, SpiffeId, TrustDomain, is_reserved, parse_spiffe_id};
use crate::profile::{Kind, Profile};
use crate::time::Lifetime;

/// What somebody asks for. Texts are as they were written; the decision reads them.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The trust domain.
    pub domain: &'a str,
    /// The profile.
    pub profile: &'a str,
    /// The SPIFFE ID; empty to take the one that the CSR asks for.
    pub spiffe_id: &'a str,
    /// DNS names, all of which must be granted.
    pub dns_names: &'a [String],
    /// The lifetime; none for the profile's own.
    pub lifetime: Option<Lifetime>,
    /// The key that is to be certified.
    pub public_key: &'a PublicKey,
    /// What the CSR asks for besides: granted if policy allows it, and otherwise left out.
    pub wishes: &'a Wishes,
}

/// What policy allows this caller now. Only [`Policy::decide`] makes one.
#[derive(Clone, Debug)]
pub struct Grant {
    rule: String,
    policy: Digest,
    domain: TrustDomain,
    profile: Profile,
    authority: Option<String>,
    identity: Identity,
    lifetime: Lifetime,
    withheld: Vec<String>,
}

impl Grant {
    /// A grant that no policy makes: for the daemon's own server certificates and for enrolled callers. `rule` says
    /// which built-in rule it is.
    pub(crate) fn built_in(
        rule: &str,
        policy: Digest,
        domain: TrustDomain,
        profile: Profile,
        identity: Identity,
        withheld: Vec<String>,
    ) -> Self {
        let lifetime = profile.lifetime();
        Self { rule: rule.to_owned(), policy, domain, profile, authority: None, identity, lifetime, withheld }
    }

    /// The same grant, for this long.
    pub(crate) fn living(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// The same grant, of this authority of the domain.
    pub(crate) fn of_authority(self, authority: &str) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
    }

    /// The rule that granted it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// SHA-256 of the policy's text.
    pub fn policy(&self) -> Digest {
        self.policy
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The authority that is to sign, if the rule names one.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The lifetime, before it is cut to the issuer's.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// What was asked for and not granted, in words.
    pub fn withheld(&self) -> &[String] {
        &self.withheld
    }
}

/// Why a request was refused: a rule's name that never changes, and the reason in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({rule})")]
pub struct Refusal {
    /// The rule.
    pub rule: &'static str,
    /// The reason, for the caller.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(rule: &'static str, reason: impl Into<String>) -> Self {
        Self { rule, reason: reason.into() }
    }
}

impl Policy {
    /// Decides a request of an authenticated caller.
    ///
    /// # Errors
    /// The refusal, by the rule that was nearest to granting it.
    pub fn decide(&self, caller: &SpiffeId, request: &Request<'_>) -> Result<Grant, Refusal> {
        let of_caller: Vec<_> = self.rules.iter().filter(|rule| rule.speaks_of(caller)).collect();
        if of_caller.is_empty() {
            return Err(Refusal::new(
                "caller-unknown",
                format!("no rule of the policy names the caller {caller}"),
            ));
        }
        let candidates: Vec<_> = of_caller
            .into_iter()
            .filter(|rule| rule.domain.as_str() == request.domain && rule.profile.name() == request.profile)
            .collect();
        if candidates.is_empty() {
            return Err(Refusal::new(
                "no-rule",
                format!(
                    "{caller} may have no certificate of profile `{}` in `{}`",
                    request.profile, request.domain
                ),
            ));
        }
        // Any rule may grant; the refusal that is told is that of the rule which got furthest.
        let mut nearest: Option<(usize, Refusal)> = None;
        for rule in candidates {
            match rule.grant(self.digest, request) {
                Ok(grant) => return Ok(grant),
                Err((step, refusal)) => {
                    if nearest.as_ref().is_none_or(|(furthest, _)| step > *furthest) {
                        nearest = Some((step, refusal));
                    }
                }
            }
        }
        Err(nearest.map_or_else(|| Refusal::new("no-rule", "no rule grants it"), |(_, refusal)| refusal))
    }
}

impl Rule {
    fn speaks_of(&self, caller: &SpiffeId) -> bool {
        self.callers.iter().any(|pattern| pattern.matches(caller))
    }

    /// The grant of this rule, or the refusal and how many checks had been passed.
    fn grant(&self, policy: Digest, request: &Request<'_>) -> Result<Grant, (usize, Refusal)> {
        let id = self.id(request).map_err(|refusal| (0, refusal))?;
        let (dns_names, mut withheld) = self.dns_names(request).map_err(|refusal| (1, refusal))?;
        let lifetime = self.lifetime(request).map_err(|refusal| (2, refusal))?;
        let key_type = request.public_key.key_type();
        if !self.profile.takes(key_type) {
            let reason = format!("profile `{}` takes no {key_type} keys", self.profile.name());
            return Err((3, Refusal::new("key-type", reason)));
        }
        withheld.extend(request.wishes.others.iter().cloned());
        let identity = match id {
            Some(id) => Identity::leaf(&id, dns_names),
            None => Identity::authority(&self.domain),
        };
        Ok(Grant {
            rule: self.name.clone(),
            policy,
            domain: self.domain.clone(),
            profile: self.profile.clone(),
            authority: self.authority.clone(),
            identity,
            lifetime,
            withheld,
        })
    }

    /// The SPIFFE ID that is granted; none for the CA of a SPIRE server, which speaks for the domain.
    fn id(&self, request: &Request<'_>) -> Result<Option<SpiffeId>, Refusal> {
        let asked = asked_id(request)?;
        if self.profile.kind() == Kind::SpireCa {
            let own = self.domain.id_string();
            return match asked {
                Some(other) if other != own => Err(Refusal::new(
                    "id-of-another-domain",
                    format!("a SPIRE CA of `{}` is {own} and cannot be {other}", self.domain.as_str()),
                )),
                _ => Ok(None),
            };
        }
        let Some(asked) = asked else {
            return Err(Refusal::new("id-missing", "the request names no SPIFFE ID"));
        };
        let id = parse_spiffe_id(asked).map_err(|error| Refusal::new("id-malformed", error.to_string()))?;
        if *id.trust_domain() != self.domain {
            return Err(Refusal::new(
                "id-of-another-domain",
                format!("{id} is not of the trust domain `{}`", self.domain.as_str()),
            ));
        }
        if is_reserved(&id) {
            return Err(Refusal::new("id-reserved", format!("{id} lies below a reserved path")));
        }
        if !self.spiffe_ids.iter().any(|pattern| pattern.matches(&id)) {
            let patterns: Vec<_> = self.spiffe_ids.iter().map(ToString::to_string).collect();
            return Err(Refusal::new(
                "id-not-allowed",
                format!("rule `{}` does not allow {id}; it allows {}", self.name, patterns.join(", ")),
            ));
        }
        Ok(Some(id))
    }

    /// The DNS names that are granted, and wishes of the CSR that are not.
    fn dns_names(&self, request: &Request<'_>) -> Result<(Vec<DnsName>, Vec<String>), Refusal> {
        let allowed = |text: &str| {
            let name: DnsName = text.parse().ok()?;
            self.dns_names.iter().any(|pattern| pattern.matches(&name)).then_some(name)
        };
        let mut granted = Vec::new();
        for asked in request.dns_names {
            let name = allowed(asked).ok_or_else(|| {
                Refusal::new(
                    "dns-not-allowed",
                    format!("rule `{}` does not allow the DNS name `{asked}`", self.name),
                )
            })?;
            if !granted.contains(&name) {
                granted.push(name);
            }
        }
        let mut withheld = Vec::new();
        for wish in &request.wishes.dns_names {
            match allowed(wish) {
                Some(name) if !granted.contains(&name) => granted.push(name),
                Some(_) => {}
                None => withheld.push(format!("DNS name {wish}")),
            }
        }
        Ok((granted, withheld))
    }

    fn lifetime(&self, request: &Request<'_>) -> Result<Lifetime, Refusal> {
        match request.lifetime {
            Some(asked) if asked > self.max_lifetime => Err(Refusal::new(
                "lifetime-over-cap",
                format!(
                    "rule `{}` allows lifetimes up to {}, and {asked} was asked for",
                    self.name, self.max_lifetime
                ),
            )),
            Some(asked) => Ok(asked),
            None => Ok(self.profile.lifetime().min(self.max_lifetime)),
        }
    }
}

/// The one ID that a request asks for: beside the CSR, in it, or the same in both places.
fn asked_id<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Refusal> {
    let in_csr = match &request.wishes.uris[..] {
        [] => None,
        [uri] => Some(uri.as_str()),
        several => {
            return Err(Refusal::new(
                "id-several",
                format!("the CSR asks for {} URI names; an SVID has one", several.len()),
            ));
        }
    };
    match (request.spiffe_id, in_csr) {
        ("", in_csr) => Ok(in_csr),
        (beside, Some(in_csr)) if beside != in_csr => Err(Refusal::new(
            "id-contradiction",
            format!("the request asks for {beside} and its CSR for {in_csr}"),
        )),
        (beside, _) => Ok(Some(beside)),
    }
}
