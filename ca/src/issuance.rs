//! The issuance cycle: `prepare`, log, `issue`. Nothing can be signed in any other way.
//!
//! ```text
//!  Grant or plan ──▶ Prepared ──▶ (intent in the log) ──▶ Receipt ──▶ issue(Prepared, Receipt) ──▶ Issued
//!                    built once,                           durable,    consumes both, compares,
//!                    linted                                signed      signs, verifies
//! ```
//!
//! A [`Prepared`] owns the bytes that were linted and the text of the intent that describes them. [`issue`] takes a
//! receipt of exactly that text, hands exactly those bytes to the key, and verifies the signature before it leaves.
//! Where a profile says `durable`, the key signs what is durable while the head over it is being signed, too: a
//! [`Promise`](undercroft_log::Promise) stands for the receipt, which whoever asked gets with the certificate.
//!
//! A power cut between the log and the key leaves an intent that shows what would have been signed, and nothing else.
//!
//! Neither can be used twice, which the compiler sees to:
//!
//! ```compile_fail,E0382
//! # use undercroft_ca::issuance::{Prepared, issue};
//! # use undercroft_ca::gated::Signing;
//! # use undercroft_log::Receipt;
//! async fn twice(prepared: Prepared, receipt: Receipt, key: Signing<'_>) {
//!     let _ = issue(prepared, receipt, key).await;
//!     let _ = issue(prepared, receipt, key).await; // use of moved value
//! }
//! ```
//!
//! and neither can be made by anyone else:
//!
//! ```compile_fail,E0451
//! # use undercroft_ca::issuance::Prepared;
//! let prepared = Prepared { tbs: loop {}, key_id: loop {}, algorithm: loop {}, draft: loop {}, effects: vec![] };
//! ```

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use undercroft_keymgr::{CommandNumber, Counted};
use undercroft_keys::{KeyId, PublicKey, SignatureAlgorithm};
use undercroft_log::leaf::{
    Base64Bytes, BlobOf, Body, Caller, Digest, Draft, Evidence, HexKeyId, Intent, Leaf, LeafError,
    LedgerNumber, Object, Outcome, OutcomeResult, ToBeSigned as LoggedBytes,
};
use undercroft_log::sequencer::Append;
use undercroft_log::tree::{GrowingTree, leaf_hash};
use undercroft_log::{Logged, Receipt};
use x509_parser::certification_request::X509CertificationRequestInfo;
use x509_parser::prelude::FromDer as _;

use crate::csr::request_info_of;
use crate::gated::Signing;
use crate::lint::{self, Finding};
use crate::signed::assemble;
use crate::store::{CertificateFact, Effect};
use crate::subject::Subject;
use crate::tbs::{self, CertificateSpec, CrlSpec, OcspSpec, SignedBy, TbsError, ToBeSigned};

/// Bytes longer than this stand in the log by their digest, with the bytes in a blob.
const INLINE: usize = 32 * 1024;

/// The evidence of a batch of OCSP responses: the root (RFC 6962 section 2.1) of the tree over each ResponseData.
pub const MERKLE_ROOT: &str = "rfc6962-root-v1";

/// Responses of a batch that are being signed at once.
const AT_ONCE: usize = 16;

/// Who asked for something to be signed, and what decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The trust domain that it is for.
    pub domain: String,
    /// The profile.
    pub profile: String,
    /// Who asked.
    pub caller: Caller,
    /// The rule that granted it.
    pub rule: String,
    /// SHA-256 of the policy, or of the plan of a ceremony.
    pub policy: Digest,
    /// SHA-256 of the request, where there was one.
    pub request: Option<Digest>,
    /// What was asked for and not granted.
    pub withheld: Vec<String>,
    /// Evidence that decided.
    pub evidence: Vec<Evidence>,
}

/// To-be-signed bytes that were built once, linted, and described by an intent. Used up by [`issue`].
#[derive(Debug)]
pub struct Prepared {
    key_id: KeyId,
    algorithm: SignatureAlgorithm,
    tbs: ToBeSigned,
    draft: Draft,
    effects: Vec<Effect>,
}

impl Prepared {
    /// Builds and lints a certificate. Only what has decided may call it: a grant's authority, or a ceremony's plan.
    pub(crate) fn certificate(
        spec: &CertificateSpec<'_>,
        signed_by: SignedBy<'_>,
        signer: &PublicKey,
        decision: Decision,
    ) -> Result<Self, PrepareError> {
        let tbs = tbs::certificate(spec, signed_by)?;
        lint::certificate(&tbs, spec, signed_by).map_err(PrepareError::Lint)?;
        let fact = CertificateFact {
            serial: spec.serial,
            issuer: signer.id(),
            name: spec.identity.text().unwrap_or_else(|| spec.subject.to_string()),
            not_after: spec.validity.not_after(),
        };
        let algorithm = match signed_by {
            SignedBy::Issuer(issuer) => issuer.algorithm,
            SignedBy::Itself(algorithm) => algorithm,
        };
        Self::new(Object::Certificate, tbs, signer.id(), algorithm, decision, vec![Effect::Certificate(fact)])
    }

    /// Builds and lints a CRL.
    pub(crate) fn crl(
        spec: &CrlSpec<'_>,
        signer: &PublicKey,
        decision: Decision,
    ) -> Result<Self, PrepareError> {
        let tbs = tbs::crl(spec)?;
        lint::crl(&tbs, spec).map_err(PrepareError::Lint)?;
        Self::new(Object::Crl, tbs, signer.id(), spec.issuer.algorithm, decision, vec![Effect::Signed])
    }

    /// Builds the request of an authority for a certificate under somebody else's root, and reads it back.
    pub(crate) fn certificate_request(
        subject: &Subject,
        key: &PublicKey,
        algorithm: SignatureAlgorithm,
        decision: Decision,
    ) -> Result<Self, PrepareError> {
        let info = request_info_of(key, subject).map_err(TbsError::Der)?;
        let (_, read) = X509CertificationRequestInfo::from_der(&info)
            .map_err(|error| PrepareError::Lint(lint::unreadable(error)))?;
        let held = read.subject.as_raw() == subject.der() && read.subject_pki.raw == key.spki();
        if !held || !read.attributes().is_empty() {
            return Err(PrepareError::Lint(lint::unreadable("it reads back as something else")));
        }
        let tbs = ToBeSigned::certificate_request(info);
        Self::new(Object::CertificateRequest, tbs, key.id(), algorithm, decision, vec![Effect::Signed])
    }

    /// Builds and lints a batch of OCSP responses.
    pub(crate) fn ocsp_responses(
        spec: &OcspSpec<'_>,
        signer: &PublicKey,
        algorithm: SignatureAlgorithm,
        mut decision: Decision,
    ) -> Result<PreparedResponses, PrepareError> {
        let (tbs, each) = tbs::ocsp_responses(spec)?;
        lint::ocsp_responses(&tbs, spec).map_err(PrepareError::Lint)?;
        let mut tree = GrowingTree::new();
        each.iter().for_each(|data| tree.push(leaf_hash(data)));
        let sha256 = Digest(*tree.root().as_bytes());
        decision.evidence.push(Evidence { format: MERKLE_ROOT.to_owned(), sha256 });
        let object = Object::OcspResponses;
        let batch = Self::new(object, tbs, signer.id(), algorithm, decision, vec![Effect::Signed])?;
        Ok(PreparedResponses { batch, each })
    }

    fn new(
        object: Object,
        tbs: ToBeSigned,
        key_id: KeyId,
        algorithm: SignatureAlgorithm,
        decision: Decision,
        effects: Vec<Effect>,
    ) -> Result<Self, PrepareError> {
        let logged = match tbs.der().len() {
            ..=INLINE => LoggedBytes::Der(Base64Bytes(tbs.der().to_vec())),
            length => LoggedBytes::Blob { sha256: Digest::of(tbs.der()), length: length as u64 },
        };
        let draft = Draft::new(&Body::Intent(Intent {
            object,
            domain: decision.domain,
            profile: decision.profile,
            key_id: HexKeyId(key_id),
            algorithm,
            tbs: logged,
            caller: decision.caller,
            rule: decision.rule,
            policy: decision.policy,
            request: decision.request,
            withheld: decision.withheld,
            evidence: decision.evidence,
        }))?;
        Ok(Self { key_id, algorithm, tbs, draft, effects })
    }

    /// What is to be appended to the log before the key may sign.
    pub fn intent(&self) -> Append<Effect> {
        let blobs = match self.tbs.der().len() {
            ..=INLINE => Vec::new(),
            _ => vec![self.tbs.der().to_vec()],
        };
        Append { draft: self.draft.clone(), effects: self.effects.clone(), blobs }
    }

    /// The same, with an effect that must become durable in the same transaction.
    pub fn intent_with(&self, effect: Effect) -> Append<Effect> {
        let mut append = self.intent();
        append.effects.push(effect);
        append
    }

    /// The bytes that will be signed.
    pub fn to_be_signed(&self) -> &[u8] {
        self.tbs.der()
    }

    /// The key that is to sign.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
}

/// A batch of OCSP responses that was built and linted. Used up by [`issue_responses`].
#[derive(Debug)]
pub struct PreparedResponses {
    batch: Prepared,
    /// The ResponseData of each.
    each: Vec<Vec<u8>>,
}

impl PreparedResponses {
    /// What is to be appended to the log before the key may sign.
    pub fn intent(&self) -> Append<Effect> {
        self.batch.intent()
    }
}

/// Responses that were signed, and the entry that says so.
#[derive(Debug)]
pub struct IssuedResponses {
    /// Each ResponseData with its signature, in the order in which they were asked for.
    pub signed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The outcome. The responses leave when it is durable.
    pub outcome: Append<Effect>,
}

/// What came out: DER that a key of ours has signed, and the proof that it was logged before.
#[derive(Debug)]
pub struct Issued<L = Receipt> {
    der: Arc<[u8]>,
    signature: Vec<u8>,
    command: Option<CommandNumber>,
    logged: L,
}

impl<L: Logged> Issued<L> {
    /// The DER of the certificate or CRL.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// That its intent stands in the log.
    pub fn logged(&self) -> &L {
        &self.logged
    }

    /// Gives the proof away.
    pub fn into_logged(self) -> L {
        self.logged
    }

    /// The entry that says what became of the intent. The certificate leaves when it is durable.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn outcome(&self) -> Result<Append<Effect>, LeafError> {
        let result = OutcomeResult::Signature(Base64Bytes(self.signature.clone()));
        outcome(self.logged.index(), result, self.command)
    }
}

/// The entry that says that nothing was issued for an intent. The serial number of a certificate is revoked with it: the key
/// may have signed all the same.
///
/// # Errors
/// It cannot be written as JSON.
pub fn abandoned(intent: u64, why: &str) -> Result<Append<Effect>, LeafError> {
    let mut append = outcome(intent, OutcomeResult::Abandoned(why.to_owned()), None)?;
    append.effects = vec![Effect::Abandoned { intent }];
    Ok(append)
}

fn outcome(
    intent: u64,
    result: OutcomeResult,
    command: Option<CommandNumber>,
) -> Result<Append<Effect>, LeafError> {
    let command = command.map(|CommandNumber { epoch, ordinal }| LedgerNumber { epoch, ordinal });
    let draft = Draft::new(&Body::Outcome(Outcome { intent, result, command }))?;
    Ok(Append { draft, effects: vec![Effect::Resolved { intent }], blobs: Vec::new() })
}

/// Signs what was prepared, once it is in the log: one signature for one entry.
///
/// # Errors
/// The key is another one, the receipt is of another entry, the token does not sign, or its signature is wrong. The
/// intent is then to be abandoned by whoever called.
pub async fn issue<L: Logged>(
    prepared: Prepared,
    logged: L,
    key: Signing<'_>,
) -> Result<Issued<L>, IssueError> {
    if key.public_key().id() != prepared.key_id {
        return Err(IssueError::OtherKey { expected: prepared.key_id, found: key.public_key().id() });
    }
    // Written by us a moment ago and stamped by the sequencer: the body in the entry is ours to the byte, so what is
    // logged is what was linted.
    if Leaf::raw_body(logged.leaf()).ok() != Some(prepared.draft.body()) {
        return Err(IssueError::OtherEntry { index: logged.index() });
    }
    let Counted { signature, command } = key.sign(&logged, prepared.tbs.der()).await?;
    key.public_key()
        .verify(prepared.algorithm, prepared.tbs.der(), &signature)
        .map_err(|_| IssueError::WrongSignature(prepared.key_id))?;
    let der = assemble(prepared.tbs.der(), prepared.algorithm, &signature).map_err(TbsError::Der)?;
    Ok(Issued { der: der.into(), signature, command, logged })
}

/// Signs each response of a batch, once the batch is in the log.
///
/// # Errors
/// As [`issue`]; one response that cannot be signed ends the batch.
pub async fn issue_responses<L: Logged>(
    prepared: PreparedResponses,
    logged: L,
    key: Signing<'_>,
) -> Result<IssuedResponses, IssueError> {
    let PreparedResponses { batch, each } = prepared;
    if key.public_key().id() != batch.key_id {
        return Err(IssueError::OtherKey { expected: batch.key_id, found: key.public_key().id() });
    }
    if Leaf::raw_body(logged.leaf()).ok() != Some(batch.draft.body()) {
        return Err(IssueError::OtherEntry { index: logged.index() });
    }
    let signatures = each.iter().map(|data| async {
        let Counted { signature, .. } = key.sign(&logged, data).await?;
        key.public_key()
            .verify(batch.algorithm, data, &signature)
            .map_err(|_| IssueError::WrongSignature(batch.key_id))?;
        Ok::<_, IssueError>(signature)
    });
    // As many at once as a token has sessions, or some more.
    let signatures: Vec<_> = futures::stream::iter(signatures).buffered(AT_ONCE).try_collect().await?;
    let blob = tbs::signatures(&signatures)?;
    let named = BlobOf { sha256: Digest::of(&blob), length: blob.len() as u64 };
    let mut outcome = outcome(logged.index(), OutcomeResult::Signatures(named), None)
        .map_err(|_| IssueError::OtherEntry { index: logged.index() })?;
    outcome.blobs.push(blob);
    Ok(IssuedResponses { signed: each.into_iter().zip(signatures).collect(), outcome })
}

/// Why nothing could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It could not be built.
    #[error(transparent)]
    Tbs(#[from] TbsError),
    /// It breaks rules. Nothing was logged or signed.
    #[error("lint refuses it: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Lint(Vec<Finding>),
    /// Its intent cannot be written.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// Why nothing was issued for a receipt.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A bug: the key is not the one that it was prepared for.
    #[error("it was prepared for the key {expected} and not for {found}")]
    OtherKey {
        /// The key that it was prepared for.
        expected: KeyId,
        /// The key that was given.
        found: KeyId,
    },
    /// A bug: the receipt is not of the intent that was prepared.
    #[error("the receipt is of entry {index}, which says something else than was prepared")]
    OtherEntry {
        /// The entry.
        index: u64,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] undercroft_keymgr::Error),
    /// The token's signature does not verify; it never leaves.
    #[error("the token's signature does not verify under its key {0}; it was thrown away")]
    WrongSignature(KeyId),
    /// It could not be put together.
    #[error(transparent)]
    Tbs(#[from] TbsError),
}

#[cfg(test)]
mod tests;
