//! Facts of the CA that become durable with the log's entries, and how they are read.
//!
//! An [`Effect`] is applied in the very transaction that makes its entry durable (`undercroft_log::store`), so there
//! is no certificate without an intent and no token that is used up without a reason in the log.

use async_trait::async_trait;
use jiff::Timestamp;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Bundle, Digest, Freezable, Rotation};
use undercroft_log::store::StoreError;

use crate::nodes::LastClock;
use crate::revocation::facts::{Change, CrlFact, Series};
use crate::serial::SerialNumber;

/// A certificate that counts as issued from its intent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFact {
    /// Its serial number.
    pub serial: SerialNumber,
    /// The key that signs it.
    pub issuer: KeyId,
    /// Its SPIFFE ID, or its subject if it has none.
    pub name: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A node and its TPM, as they were at the last attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
    pub endorsement: Digest,
    /// The trust domain that it is in.
    pub domain: String,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// The Name of its attestation key.
    pub attestation_key: Vec<u8>,
    /// The clock of its TPM.
    pub clock: LastClock,
    /// The hash of the transcript of the exchange.
    pub transcript: Digest,
    /// The evidence, by its SHA-256.
    pub evidence: Digest,
}

/// Something that becomes durable with an entry, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The entry is the intent of a certificate, which is open until it is resolved.
    Certificate(CertificateFact),
    /// The entry is the intent of something else that will be signed, open until it is resolved.
    Signed,
    /// The entry is the outcome of an intent of the same log.
    Resolved {
        /// The index of the intent.
        intent: u64,
    },
    /// The entry is the outcome of an intent of the same log for which nothing was issued. If it was a certificate's, its
    /// serial number is revoked from here on.
    Abandoned {
        /// The index of the intent.
        intent: u64,
    },
    /// The state of certificates changes. Refused if one of them cannot change so.
    Revocation(Change),
    /// The entry is the intent of a CRL with this number. Refused unless it is higher than those before in its series.
    CrlNumbered {
        /// The series.
        series: Series,
        /// The number.
        number: u64,
    },
    /// The entry is the outcome of the intent of a CRL, which is the newest of its series from here on.
    CrlSigned {
        /// The index of the intent.
        intent: u64,
        /// What it is.
        fact: CrlFact,
        /// The signature over it.
        signature: Vec<u8>,
    },
    /// An enrolment token is good from here on.
    EnrolmentMade {
        /// SHA-256 of the token.
        token: Digest,
        /// The SPIFFE ID that it is good for.
        id: String,
        /// Until when.
        expires: Timestamp,
    },
    /// An enrolment token is used up. Refused if it is not there, used up already, or has expired.
    EnrolmentRedeemed {
        /// SHA-256 of the token.
        token: Digest,
        /// The time now.
        now: Timestamp,
    },
    /// A node has attested and gets one certificate. Refused if the exchange was spent before, if the TPM is another node's,
    /// if the node has another TPM, or if the TPM's clock is not ahead of the last that was seen.
    NodeAttested(NodeFact),
    /// A TPM is nobody's node any more. Refused if it is none.
    NodeReleased {
        /// SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
        endorsement: Digest,
    },
    /// A bundle is the published one from here on. Refused unless its sequence number is one more than the last.
    Bundle(Bundle),
    /// A rotation is like this from here on. Refused unless it is the newest of its domain, or the one after it.
    Rotation(Rotation),
    /// A policy is in force from here on.
    Policy {
        /// SHA-256 of its text.
        policy: Digest,
    },
    /// The entry announces a value of a counter.
    AnchorAnnounced {
        /// The NV index of the counter.
        counter: u32,
        /// The value.
        value: u64,
    },
    /// Something is frozen from here on. Refused if it is already.
    Frozen {
        /// What.
        what: Freezable,
    },
    /// Something is not frozen any more. Refused if it is not.
    Unfrozen {
        /// What.
        what: Freezable,
    },
    /// What persons have approved is carried out. Refused if it was before.
    ApprovalCarriedOut {
        /// The nonce of the statement.
        nonce: [u8; 16],
    },
    /// A ceremony's transcript is known from here on.
    CeremonyAdopted {
        /// SHA-256 of its checkpoint.
        checkpoint: Digest,
    },
}

/// An enrolment token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The SPIFFE ID that it is good for.
    pub id: String,
    /// Until when.
    pub expires: Timestamp,
    /// Whether it is used up.
    pub redeemed: bool,
}

/// Reads facts.
#[async_trait]
pub trait Facts: Send + Sync {
    /// The indices of a log's intents that have no outcome.
    async fn open_intents(&self, origin: &str) -> Result<Vec<u64>, StoreError>;

    /// An enrolment token by its digest.
    async fn enrolment(&self, token: Digest) -> Result<Option<Enrolment>, StoreError>;

    /// The node whose TPM has this endorsement key.
    async fn node(&self, endorsement: Digest) -> Result<Option<NodeFact>, StoreError>;

    /// The node of this SPIFFE ID.
    async fn node_of_id(&self, spiffe_id: &str) -> Result<Option<NodeFact>, StoreError>;

    /// The nodes of a domain whose SPIFFE IDs come after this one, in their order.
    async fn nodes(&self, domain: &str, after: &str, most: u32) -> Result<Vec<NodeFact>, StoreError>;

    /// The published bundle of a domain.
    async fn bundle(&self, domain: &str) -> Result<Option<Bundle>, StoreError>;

    /// The rotations of a domain, by their numbers.
    async fn rotations(&self, domain: &str) -> Result<Vec<Rotation>, StoreError>;

    /// Of the certificates that these keys have issued, the one that ends last. It may have ended.
    async fn ends_last(&self, issuers: &[KeyId]) -> Result<Option<CertificateFact>, StoreError>;

    /// The policy in force.
    async fn policy(&self) -> Result<Option<Digest>, StoreError>;

    /// The newest announcement of a counter's value in a log, and the index of the entry that makes it.
    async fn anchor(&self, origin: &str, counter: u32) -> Result<Option<(u64, u64)>, StoreError>;

    /// Whether a ceremony's transcript is known.
    async fn ceremony_is_adopted(&self, checkpoint: Digest) -> Result<bool, StoreError>;

    /// The entries that froze what is frozen now, as they stand in the log.
    async fn freezes(&self) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Whether an approval with this nonce was carried out.
    async fn approval_is_carried_out(&self, nonce: [u8; 16]) -> Result<bool, StoreError>;
}
