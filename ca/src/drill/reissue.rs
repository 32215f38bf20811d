//! What a recovery would sign, for a drill: the same profiles and names, by an authority that nobody trusts.

use jiff::Timestamp;
use undercroft_keys::PublicKey;
use undercroft_log::leaf::{Caller, Channel, Digest};

use super::Live;
use crate::authority::{Authority, Order, OrderError};
use crate::compromise::ISSUER_COMPROMISED;
use crate::issuance::{Decision, PrepareError, Prepared};
use crate::policy::Grant;
use crate::profile::{PolicyArc, Profile};
use crate::serial::Entropy;
use crate::tbs::{CrlScope, CrlSpec, Issuer, Revoked};
use crate::time::Validity;

/// The rule by which a drill's objects are made. No policy has it.
const RULE: &str = "drill";

/// Makes the successors of live certificates.
pub struct Successors<'a> {
    /// Who signs them.
    pub authority: &'a Authority,
    /// The installation's profiles.
    pub profiles: &'a [Profile],
    /// The arc of the certificate policies.
    pub arc: &'a PolicyArc,
    /// SHA-256 of the drill's plan.
    pub plan: Digest,
    /// Randomness for serial numbers.
    pub entropy: &'a dyn Entropy,
}

impl Successors<'_> {
    /// Builds and lints the successor of a live certificate, for another key.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn prepare(
        &self,
        live: &Live,
        public_key: &PublicKey,
        now: Timestamp,
    ) -> Result<Prepared, OrderError> {
        let is_its = |profile: &&Profile| profile.name() == live.profile && profile.kind() == live.kind;
        let profile = self.profiles.iter().find(is_its).cloned();
        let profile = profile.unwrap_or_else(|| Profile::standard(live.kind));
        let domain = self.authority.domain().clone();
        let grant = Grant::built_in(RULE, self.plan, domain, profile, live.identity.clone(), Vec::new());
        let caller = Caller { id: live.caller.clone(), by: Channel::Ceremony };
        let order = Order { grant: &grant, caller, public_key, request: None, evidence: Vec::new() };
        self.authority.prepare(order, self.arc, now, self.entropy)
    }
}

/// Builds and lints the CRL of a compromised authority: everything of it that is live is revoked.
///
/// # Errors
/// Lint refuses it.
pub fn revocation_list<'a>(
    issuer: &Issuer,
    signer: &PublicKey,
    domain: &str,
    lives: impl Iterator<Item = &'a Live>,
    period: Validity,
    plan: Digest,
    origin: &str,
) -> Result<Prepared, PrepareError> {
    let reason = Some(ISSUER_COMPROMISED);
    let revoked = lives.map(|live| Revoked { serial: live.serial, date: period.not_before(), reason });
    let revoked: Vec<_> = revoked.collect();
    let spec = CrlSpec { issuer, number: 1, period, revoked: &revoked, scope: CrlScope::default() };
    let decision = Decision {
        domain: domain.to_owned(),
        profile: "crl".to_owned(),
        caller: Caller { id: origin.to_owned(), by: Channel::Ceremony },
        rule: RULE.to_owned(),
        policy: plan,
        request: None,
        withheld: Vec::new(),
        evidence: Vec::new(),
    };
    Prepared::crl(&spec, signer, decision)
}
