//! Attestation: how a node gets a certificate by what it proves (`docs/attestation.md`).
//!
//! The judgement is [`crate::nodes::appraise`], and pure. What is here logs it, claims the TPM, and issues.

mod strangers;

use std::time::Duration;

use jiff::Timestamp;
use undercroft_attestors::exchange::{self, Challenge, Hello, TpmChallenge, Wanted};
use undercroft_attestors::tpm::credential::CredentialError;
use undercroft_log::leaf::{
    Accepted, Asked, Base64Bytes, BlobOf, Body, Caller, Channel, Digest, Draft, Enrolment, EnrolmentEvent,
    Evidence, RefusedAction, RefusedNode, Verdict, VerdictResult,
};
use undercroft_log::sequencer::Append;
use zeroize::Zeroizing;

use super::{CertificateAuthority, IssuedCertificate, ServiceError, legible};
use crate::authority::Order;
use crate::csr::Csr;
use crate::names::{Identity, SpiffeId};
use crate::nodes::{Appraised, FORMAT, Known, LastClock, NodePolicy, Record, Refused, appraise, candidate};
use crate::policy::{Grant, Refusal};
use crate::profile::Profile;
use crate::revocation::facts::Wanted as WantedCertificates;
use crate::store::{Effect, NodeFact};
use crate::tbs::RevocationReason;
use strangers::Strangers;

/// How long a node may take to answer.
pub const TO_ANSWER: Duration = Duration::from_secs(30);

/// How nodes are judged, and what they may get.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    /// The policy.
    pub policy: NodePolicy,
    /// The profiles that it may name.
    pub profiles: Vec<Profile>,
}

/// What a CA that takes nodes holds.
pub(super) struct Nodes {
    policy: NodePolicy,
    profiles: Vec<Profile>,
    strangers: Strangers,
}

impl Nodes {
    pub(super) fn new(setup: NodeSetup) -> Self {
        Self { policy: setup.policy, profiles: setup.profiles, strangers: Strangers::default() }
    }
}

/// An exchange that waits for its answer. It is good for one, right or wrong.
#[derive(Debug)]
pub struct Exchange {
    domain: String,
    record: Record,
    until: Timestamp,
}

/// A node's certificate, and who it is.
#[derive(Debug)]
pub struct AttestedNode {
    /// The certificate.
    pub issued: IssuedCertificate,
    /// The trust domain.
    pub domain: String,
    /// Its SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// What to show next time.
    pub wanted: Wanted,
}

impl CertificateAuthority {
    /// Challenges a node. The second value is the challenge as it is sent.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals of what could be read are in the log before they are told.
    pub async fn challenge(
        &self,
        hello: &[u8],
        exported: [u8; 32],
    ) -> Result<(Exchange, Vec<u8>), ServiceError> {
        let nodes = self.nodes()?;
        let Hello { domain, .. } = read(hello)?;
        let now = self.clock.now();
        let (_, _, candidate) = match candidate(hello, &nodes.policy, now) {
            Ok(read) => read,
            Err(refused) => {
                let record = Record::begun(hello, exported, None);
                return Err(self.turn_away(&domain, &record, refused, now).await);
            }
        };
        let known = self.known_tpm(Digest(candidate.binding().endorsement)).await?;
        let record = Record::begun(hello, exported, known);
        let (mut nonce, mut secret) = ([0; 32], Zeroizing::new([0; 32]));
        let mut seed = Zeroizing::new([0; 64]);
        for buffer in [&mut nonce[..], &mut secret[..], &mut seed[..]] {
            self.entropy.fill(buffer).map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        }
        let credential = match candidate.credential(&*secret, &*seed) {
            Ok(credential) => credential,
            Err(error @ CredentialError::Library) => return Err(ServiceError::Internal(error.to_string())),
            Err(error) => {
                let endorsement = Some(Digest(candidate.binding().endorsement));
                let refused = Refused { endorsement, ..Refused::new("ek-template", error) };
                return Err(self.turn_away(&domain, &record, refused, now).await);
            }
        };
        let until = now.checked_add(TO_ANSWER).unwrap_or(now);
        let challenge = Challenge {
            nonce: Digest(nonce),
            tpm: TpmChallenge {
                credential: Base64Bytes(credential.credential),
                secret: Base64Bytes(credential.secret),
                wanted: nodes.policy.wanted().clone(),
            },
            until,
        };
        let message =
            serde_json::to_vec(&challenge).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let record = record.challenged(&message, &*secret);
        Ok((Exchange { domain, record, until }, message))
    }

    /// Judges a node's answer to its challenge, and issues.
    ///
    /// # Errors
    /// See [`ServiceError`]. Refusals are in the log before they are told.
    pub async fn answer(&self, exchange: Exchange, answer: &[u8]) -> Result<AttestedNode, ServiceError> {
        let now = self.clock.now();
        // A late answer is none.
        let record = match exchange.until < now {
            true => exchange.record,
            false => exchange.record.answered(answer),
        };
        let nodes = self.nodes()?;
        match appraise(&record, &nodes.policy, now) {
            Ok(appraised) => self.admit(nodes, record, appraised, now).await,
            Err(refused) => Err(self.turn_away(&exchange.domain, &record, refused, now).await),
        }
    }

    /// An exchange whose node never answered: the log says so.
    ///
    /// # Errors
    /// Always: the refusal to tell, or that it could not be logged.
    pub async fn unanswered(&self, exchange: Exchange) -> ServiceError {
        let refused = match self.nodes() {
            Ok(nodes) => appraise(&exchange.record, &nodes.policy, self.clock.now()).err(),
            Err(error) => return error,
        };
        let refused =
            refused.unwrap_or_else(|| Refused::new("exchange-unanswered", "the node did not answer"));
        self.turn_away(&exchange.domain, &exchange.record, refused, self.clock.now()).await
    }

    /// Judges a node that was here before and answers without a challenge, and issues. Nothing if it has to be challenged after
    /// all: its attestation key is not the one that we know, or it does not show what is wanted now.
    ///
    /// # Errors
    /// As [`CertificateAuthority::answer`].
    pub async fn answer_at_once(
        &self,
        hello: &[u8],
        answer: &[u8],
        exported: [u8; 32],
    ) -> Result<Option<AttestedNode>, ServiceError> {
        let nodes = self.nodes()?;
        let Hello { domain, .. } = read(hello)?;
        let now = self.clock.now();
        let known = match candidate(hello, &nodes.policy, now) {
            Ok((_, _, candidate)) => self.known_tpm(Digest(candidate.binding().endorsement)).await?,
            // Challenging it says why, and logs it.
            Err(_) => return Ok(None),
        };
        let record = Record::begun(hello, exported, known).answered(answer);
        match appraise(&record, &nodes.policy, now) {
            Ok(appraised) => self.admit(nodes, record, appraised, now).await.map(Some),
            Err(refused) if TO_BE_CHALLENGED.contains(&refused.code) => Ok(None),
            Err(refused) => Err(self.turn_away(&domain, &record, refused, now).await),
        }
    }

    /// Gives the TPM of a node free: it may attest as another node from then on. Certificates of it live on until they end or
    /// are revoked.
    ///
    /// # Errors
    /// No node has this SPIFFE ID, or as [`ServiceError`].
    pub async fn release_node(&self, caller: Caller, spiffe_id: &str) -> Result<NodeFact, ServiceError> {
        let node = self.facts.node_of_id(spiffe_id).await?;
        let node = node.ok_or_else(|| {
            let what = format!("no TPM is {}'s; see `undercroft node list`", super::cut(spiffe_id));
            ServiceError::Refused(Refusal::new("node-unknown", what))
        })?;
        let leaf = Enrolment {
            event: EnrolmentEvent::NodeReleased,
            token: node.endorsement,
            id: node.spiffe_id.clone(),
            expires: self.clock.now(),
            caller,
        };
        let draft =
            Draft::new(&Body::Enrolment(leaf)).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let effects = vec![Effect::NodeReleased { endorsement: node.endorsement }];
        // Where its verdicts are, so that an auditor of the domain sees it.
        let log = self.domain(&node.domain).map_or(&self.domains[0].log, |domain| &domain.log);
        log.append(Append { draft, effects, blobs: Vec::new() }).await?;
        Ok(node)
    }

    /// The nodes of a domain whose SPIFFE IDs come after this one.
    ///
    /// # Errors
    /// The store is not available.
    pub async fn nodes_after(
        &self,
        domain: &str,
        after: &str,
        most: u32,
    ) -> Result<Vec<NodeFact>, ServiceError> {
        Ok(self.facts.nodes(domain, after, most).await?)
    }

    fn nodes(&self) -> Result<&Nodes, ServiceError> {
        self.nodes.as_ref().ok_or_else(|| {
            ServiceError::Refused(Refusal::new(
                "attestation-off",
                "nodes do not attest here: no policy for nodes is configured",
            ))
        })
    }

    async fn known_tpm(&self, endorsement: Digest) -> Result<Option<Known>, ServiceError> {
        let node = self.facts.node(endorsement).await?;
        Ok(node.map(|node| Known {
            endorsement,
            attestation_key: Base64Bytes(node.attestation_key),
            clock: node.clock,
        }))
    }

    /// Logs why a node is turned away, and gives what to tell it.
    async fn turn_away(
        &self,
        domain: &str,
        record: &Record,
        refused: Refused,
        now: Timestamp,
    ) -> ServiceError {
        if !refused.present
            && let Some(retry_after) = self.nodes.as_ref().and_then(|nodes| nodes.strangers.are_too_many(now))
        {
            return ServiceError::Busy { retry_after };
        }
        let Refused { code, reason, endorsement, .. } = refused;
        let told = RefusedNode { code: code.to_owned(), reason: legible(&reason, 1000) };
        match self.log_verdict(domain, endorsement, record, VerdictResult::Refused(told)).await {
            Ok(_) => ServiceError::Refused(Refusal::new(code, reason)),
            Err(error) => error,
        }
    }

    /// Logs a verdict. Gives the digest of the evidence.
    async fn log_verdict(
        &self,
        domain: &str,
        endorsement: Option<Digest>,
        record: &Record,
        result: VerdictResult,
    ) -> Result<Digest, ServiceError> {
        let (evidence, policy) = (record.encode(), self.nodes()?.policy.bundle().to_vec());
        let blob = |bytes: &[u8]| BlobOf { sha256: Digest::of(bytes), length: bytes.len() as u64 };
        let verdict = Verdict {
            domain: super::cut(domain),
            attestor: "tpm".to_owned(),
            endorsement,
            evidence: blob(&evidence),
            policy: blob(&policy),
            result,
        };
        let digest = verdict.evidence.sha256;
        let draft =
            Draft::new(&Body::Verdict(verdict)).map_err(|error| ServiceError::Internal(error.to_string()))?;
        // A domain that is not ours has no log; what is said of it is the installation's business.
        let log = self.domain(domain).map_or(&self.domains[0].log, |domain| &domain.log);
        log.append_durable(Append { draft, effects: Vec::new(), blobs: vec![evidence, policy] }).await?;
        Ok(digest)
    }

    /// From a good verdict to a certificate.
    async fn admit(
        &self,
        nodes: &Nodes,
        record: Record,
        appraised: Appraised,
        now: Timestamp,
    ) -> Result<AttestedNode, ServiceError> {
        let Appraised { request, claims, transcript, admitted } = appraised;
        let endorsement = claims.endorsement();
        let attested = &claims.attested;
        let clock = LastClock::from(*attested.clock());
        let attestation_key = attested.binding().attestation_key.clone();
        let accepted = Accepted {
            rule: admitted.rule.clone(),
            spiffe_id: admitted.spiffe_id.to_string(),
            assurance: attested.assurance().as_str().to_owned(),
            transcript: Digest(transcript),
            attestation_key: Base64Bytes(attestation_key.clone()),
            clock: clock.into(),
            selectors: claims.selectors().into_iter().collect(),
        };
        let domain = admitted.domain.as_str();
        let result = VerdictResult::Accepted(accepted);
        let evidence = self.log_verdict(domain, Some(endorsement), &record, result).await?;
        let id = admitted.spiffe_id.to_string();
        let node = NodeFact {
            endorsement,
            domain: domain.to_owned(),
            spiffe_id: id.clone(),
            attestation_key,
            clock,
            transcript: Digest(transcript),
            evidence,
        };
        let decided = async {
            self.may_be(&node).await?;
            let profile = nodes.profiles.iter().find(|profile| profile.name() == admitted.profile);
            let profile = profile
                .ok_or_else(|| ServiceError::Internal(format!("there is no profile {}", admitted.profile)))?;
            let grant = grant(self.policy.digest(), &admitted, profile, &request)?;
            let issuer = self.issuer(&grant, &id)?;
            Ok((grant, issuer))
        };
        let caller = Caller { id: id.clone(), by: Channel::Attestation };
        let refuse = async |refusal| {
            let asked =
                Asked { profile: admitted.profile.clone(), spiffe_id: id.clone(), ..Asked::default() };
            let digest = Some(request.digest());
            self.refuse(RefusedAction::Attest, domain, caller.clone(), refusal, asked, digest).await
        };
        let (grant, issuer) = match decided.await {
            Ok(decided) => decided,
            Err(ServiceError::Refused(refusal)) => return Err(refuse(refusal).await),
            Err(error) => return Err(error),
        };
        let order = Order {
            grant: &grant,
            caller: caller.clone(),
            public_key: request.public_key(),
            request: Some(request.digest()),
            evidence: vec![Evidence { format: FORMAT.to_owned(), sha256: evidence }],
        };
        match self.fulfil(order, issuer, Some(Effect::NodeAttested(node.clone()))).await {
            Ok(issued) => {
                let until = now.checked_add(grant.lifetime().0).unwrap_or(Timestamp::MAX);
                if let Some(domain) = self.domain(domain) {
                    // A node takes the roots that come with its certificate.
                    domain.consumers.given(id, issued.bundle, until, true, now);
                }
                let wanted = nodes.policy.wanted().clone();
                Ok(AttestedNode { issued, domain: domain.to_owned(), spiffe_id: admitted.spiffe_id, wanted })
            }
            // The store has refused the intent: somebody else was faster. Nothing says so yet.
            Err(ServiceError::Refused(refusal)) if refusal.rule == "store" => {
                let refusal = match self.may_be(&node).await {
                    Err(ServiceError::Refused(refusal)) => refusal,
                    _ => Refusal::new("exchange-spent", refusal.reason),
                };
                Err(refuse(refusal).await)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether this TPM may be this node, as far as is known before the store decides.
    async fn may_be(&self, node: &NodeFact) -> Result<(), ServiceError> {
        let refuse = |rule, what: String| Err(ServiceError::Refused(Refusal::new(rule, what)));
        match self.facts.node(node.endorsement).await? {
            Some(known) if known.spiffe_id != node.spiffe_id || known.domain != node.domain => {
                let what = format!(
                    "this TPM is {}; `undercroft node release {}` gives it free",
                    known.spiffe_id, known.spiffe_id
                );
                return refuse("ek-claimed", what);
            }
            _ => {}
        }
        match self.facts.node_of_id(&node.spiffe_id).await? {
            Some(known) if known.endorsement != node.endorsement => {
                let what = format!(
                    "{} has another TPM; `undercroft node release {}` lets it have a new one",
                    known.spiffe_id, known.spiffe_id
                );
                return refuse("node-claimed", what);
            }
            _ => {}
        }
        // Whoever took its certificate back because it is not to be trusted does not mean the next one to be.
        let now = self.clock.now();
        for live in self.revocations.live(WantedCertificates::Named(&node.spiffe_id), now).await? {
            let state = self.revocations.state(live.issuer, live.serial).await?;
            if let Some(reason) =
                state.and_then(|state| state.reason).filter(|reason| NOT_AGAIN.contains(reason))
            {
                let what = format!(
                    "a certificate of {} was revoked ({reason:?}); it may come again when that has ended, at {}",
                    node.spiffe_id, live.not_after
                );
                return refuse("node-revoked", what);
            }
        }
        Ok(())
    }
}

/// What a node that answered at once is challenged for, instead of being refused.
const TO_BE_CHALLENGED: [&str; 5] =
    ["ak-binding", "quote-selection", "quote-values", "log-missing", "exchange-malformed"];

/// Why certificates are revoked whose node gets no other one as long as they would have lived.
const NOT_AGAIN: [RevocationReason; 5] = [
    RevocationReason::KeyCompromise,
    RevocationReason::AffiliationChanged,
    RevocationReason::CessationOfOperation,
    RevocationReason::CertificateHold,
    RevocationReason::PrivilegeWithdrawn,
];

/// Reads a hello as far as is needed to know whose business it is. What is none is not logged: anyone could fill the log.
fn read(hello: &[u8]) -> Result<Hello, ServiceError> {
    exchange::read(hello)
        .map_err(|error| ServiceError::Refused(Refusal::new("exchange-malformed", error.to_string())))
}

fn grant(
    policy: Digest,
    admitted: &crate::nodes::Admitted,
    profile: &Profile,
    request: &Csr,
) -> Result<Grant, ServiceError> {
    let key_type = request.public_key().key_type();
    if !profile.takes(key_type) {
        let what = format!("profile `{}` takes no {key_type} keys", profile.name());
        return Err(ServiceError::Refused(Refusal::new("key-type", what)));
    }
    let grant = Grant::built_in(
        &format!("node:{}", admitted.rule),
        policy,
        admitted.domain.clone(),
        profile.clone(),
        Identity::leaf(&admitted.spiffe_id, Vec::new()),
        request.wishes().in_words(),
    );
    Ok(match admitted.lifetime {
        Some(lifetime) => grant.living(lifetime.min(profile.max_lifetime())),
        None => grant,
    })
}
