//! The bodies of entries, a type for each kind. `docs/log.md` holds their JSON schemas.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_keys::{KeyAlgorithm, SignatureAlgorithm};

use super::encoding::{Base64Bytes, Digest, HexKeyId, integer, utc_seconds};
use super::{Kind, LeafError};

pub use alert::{Alert, AlertEvent};
pub use approval::Approval;
pub use ceremony::{Ceremony, CeremonyEvent, CeremonyStep, TranscriptHead};
pub use freeze::{Freezable, Freeze, FreezeEvent};
pub use hardware::{Anchor, AnchorIntent, Attested, CloseReason, Command, LedgerNumber, LogHead};
pub use recovery::{Epoch, Recovery, RecoveryWay};
pub use revocation::{MOST_SERIALS, Reason, Revocation, RevocationEvent};
pub use rotation::{
    EnteredPhase, Replacement, RotatedRoots, Rotation, RotationBlocker, RotationEvent, RotationPhase,
    RotationSchedule,
};
pub use verdict::{Accepted, RefusedNode, TpmClock, Verdict, VerdictResult};

mod alert;
mod approval;
mod ceremony;
mod freeze;
mod hardware;
mod recovery;
mod revocation;
mod rotation;
mod verdict;

/// The body of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// See [`Intent`].
    Intent(Intent),
    /// See [`Outcome`].
    Outcome(Outcome),
    /// See [`Refusal`].
    Refusal(Refusal),
    /// See [`Verdict`].
    Verdict(Verdict),
    /// See [`Policy`].
    Policy(Policy),
    /// See [`Key`].
    Key(Key),
    /// See [`Bundle`].
    Bundle(Bundle),
    /// See [`Enrolment`].
    Enrolment(Enrolment),
    /// See [`Ceremony`].
    Ceremony(Ceremony),
    /// See [`Rotation`].
    Rotation(Rotation),
    /// See [`Command`].
    Command(Command),
    /// See [`AnchorIntent`].
    AnchorIntent(AnchorIntent),
    /// See [`Anchor`].
    Anchor(Anchor),
    /// See [`Approval`].
    Approval(Approval),
    /// See [`Freeze`].
    Freeze(Freeze),
    /// See [`Alert`].
    Alert(Alert),
    /// See [`Revocation`].
    Revocation(Revocation),
    /// See [`Epoch`].
    Epoch(Epoch),
    /// See [`Recovery`].
    Recovery(Recovery),
    /// See [`Start`].
    Start(Start),
}

impl Body {
    /// The kind of entry that it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Intent(_) => Kind::Intent,
            Self::Outcome(_) => Kind::Outcome,
            Self::Refusal(_) => Kind::Refusal,
            Self::Verdict(_) => Kind::Verdict,
            Self::Policy(_) => Kind::Policy,
            Self::Key(_) => Kind::Key,
            Self::Bundle(_) => Kind::Bundle,
            Self::Enrolment(_) => Kind::Enrolment,
            Self::Ceremony(_) => Kind::Ceremony,
            Self::Rotation(_) => Kind::Rotation,
            Self::Command(_) => Kind::Command,
            Self::AnchorIntent(_) => Kind::AnchorIntent,
            Self::Anchor(_) => Kind::Anchor,
            Self::Approval(_) => Kind::Approval,
            Self::Freeze(_) => Kind::Freeze,
            Self::Alert(_) => Kind::Alert,
            Self::Revocation(_) => Kind::Revocation,
            Self::Epoch(_) => Kind::Epoch,
            Self::Recovery(_) => Kind::Recovery,
            Self::Start(_) => Kind::Start,
        }
    }

    /// The large objects that it names: their digests and lengths in bytes.
    pub fn blobs(&self) -> Vec<(Digest, u64)> {
        match self {
            Self::Intent(Intent { tbs: ToBeSigned::Blob { sha256, length }, .. }) => vec![(*sha256, *length)],
            Self::Policy(Policy { sha256, text: Text::Blob(length), .. }) => vec![(*sha256, *length)],
            Self::Key(Key { evidence: KeyEvidence::Blob(blob), .. })
            | Self::Outcome(Outcome { result: OutcomeResult::Signatures(blob), .. }) => {
                vec![(blob.sha256, blob.length)]
            }
            Self::Verdict(Verdict { evidence, policy, .. }) => {
                [evidence, policy].map(|blob| (blob.sha256, blob.length)).to_vec()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn parse(kind: Kind, json: &str) -> Result<Self, LeafError> {
        let parsed = match kind {
            Kind::Intent => serde_json::from_str(json).map(Self::Intent),
            Kind::Outcome => serde_json::from_str(json).map(Self::Outcome),
            Kind::Refusal => serde_json::from_str(json).map(Self::Refusal),
            Kind::Verdict => serde_json::from_str(json).map(Self::Verdict),
            Kind::Policy => serde_json::from_str(json).map(Self::Policy),
            Kind::Key => serde_json::from_str(json).map(Self::Key),
            Kind::Bundle => serde_json::from_str(json).map(Self::Bundle),
            Kind::Enrolment => serde_json::from_str(json).map(Self::Enrolment),
            Kind::Ceremony => serde_json::from_str(json).map(Self::Ceremony),
            Kind::Rotation => serde_json::from_str(json).map(Self::Rotation),
            Kind::Command => serde_json::from_str(json).map(Self::Command),
            Kind::AnchorIntent => serde_json::from_str(json).map(Self::AnchorIntent),
            Kind::Anchor => serde_json::from_str(json).map(Self::Anchor),
            Kind::Approval => serde_json::from_str(json).map(Self::Approval),
            Kind::Freeze => serde_json::from_str(json).map(Self::Freeze),
            Kind::Alert => serde_json::from_str(json).map(Self::Alert),
            Kind::Revocation => serde_json::from_str(json).map(Self::Revocation),
            Kind::Epoch => serde_json::from_str(json).map(Self::Epoch),
            Kind::Recovery => serde_json::from_str(json).map(Self::Recovery),
            Kind::Start => serde_json::from_str(json).map(Self::Start),
        };
        parsed.map_err(|error| LeafError::Body { kind, error })
    }

    pub(super) fn to_json(&self) -> Result<String, LeafError> {
        let json = match self {
            Self::Intent(body) => serde_json::to_string(body),
            Self::Outcome(body) => serde_json::to_string(body),
            Self::Refusal(body) => serde_json::to_string(body),
            Self::Verdict(body) => serde_json::to_string(body),
            Self::Policy(body) => serde_json::to_string(body),
            Self::Key(body) => serde_json::to_string(body),
            Self::Bundle(body) => serde_json::to_string(body),
            Self::Enrolment(body) => serde_json::to_string(body),
            Self::Ceremony(body) => serde_json::to_string(body),
            Self::Rotation(body) => serde_json::to_string(body),
            Self::Command(body) => serde_json::to_string(body),
            Self::AnchorIntent(body) => serde_json::to_string(body),
            Self::Anchor(body) => serde_json::to_string(body),
            Self::Approval(body) => serde_json::to_string(body),
            Self::Freeze(body) => serde_json::to_string(body),
            Self::Alert(body) => serde_json::to_string(body),
            Self::Revocation(body) => serde_json::to_string(body),
            Self::Epoch(body) => serde_json::to_string(body),
            Self::Recovery(body) => serde_json::to_string(body),
            Self::Start(body) => serde_json::to_string(body),
        };
        json.map_err(|error| LeafError::Body { kind: self.kind(), error })
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// A SPIFFE ID, or `uid:<n>` on the administration socket, or the origin of a ceremony's transcript.
    pub id: String,
    /// How the caller was authenticated.
    pub by: Channel,
}

/// How a caller was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// A client certificate.
    Mtls,
    /// The peer credentials of the administration socket.
    UnixSocket,
    /// A single-use enrolment token.
    EnrolmentToken,
    /// The evidence of a node.
    Attestation,
    /// Nobody yet: the caller presented nothing that we know.
    Anonymous,
    /// The plan of a ceremony.
    Ceremony,
    /// The daemon itself, for its own server certificates.
    Daemon,
    /// A credential that only the TPM with that attestation key opens.
    Activation,
    /// The key of an ACME account, and what a TPM states of the key that is certified.
    Acme,
}

/// What will be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// A TBSCertificate (RFC 5280 section 4.1).
    Certificate,
    /// A TBSCertList (RFC 5280 section 5.1).
    Crl,
    /// A CertificationRequestInfo (RFC 2986 section 4.1) of an authority's key, for somebody else's root.
    CertificateRequest,
    /// A SEQUENCE OF ResponseData (RFC 6960 section 4.2.1), each of which is signed by itself.
    OcspResponses,
}

/// The bytes that will be signed: whole, or as a blob when they are large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ToBeSigned {
    /// The DER itself.
    Der(Base64Bytes),
    /// A blob of that digest and length, for DER of more than 32 KiB.
    Blob {
        /// SHA-256 of the DER.
        sha256: Digest,
        /// Its length in bytes.
        #[serde(deserialize_with = "integer::deserialize")]
        length: u64,
    },
}

/// Evidence that decided, kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What it is.
    pub format: String,
    /// SHA-256 of it.
    pub sha256: Digest,
}

/// Something will be signed by this key. Whatever its outcome says, it counts as issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// What it is.
    pub object: Object,
    /// The trust domain that it is for.
    pub domain: String,
    /// The profile that shaped it.
    pub profile: String,
    /// The key that will sign.
    pub key_id: HexKeyId,
    /// How it will sign.
    #[serde(with = "signature_algorithm")]
    pub algorithm: SignatureAlgorithm,
    /// The to-be-signed bytes.
    pub tbs: ToBeSigned,
    /// Who asked.
    pub caller: Caller,
    /// The rule of the policy that granted it.
    pub rule: String,
    /// SHA-256 of the policy's text.
    pub policy: Digest,
    /// SHA-256 of the request (a CSR's DER), where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<Digest>,
    /// What was asked for and not granted, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub withheld: Vec<String>,
    /// Evidence that decided.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub evidence: Vec<Evidence>,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The index of the intent in the same log.
    #[serde(deserialize_with = "integer::deserialize")]
    pub intent: u64,
    /// Signed or abandoned.
    pub result: OutcomeResult,
    /// The command of the ledger that made the signature, where its TPM keeps one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<LedgerNumber>,
}

/// Signed or abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum OutcomeResult {
    /// The signature over the intent's bytes, as X.509 carries it.
    Signature(Base64Bytes),
    /// Why no signature left the CA. The key may have made one all the same.
    Abandoned(String),
    /// For a batch of OCSP responses: a blob, a SEQUENCE OF BIT STRING (DER) with the signatures over them, in their order.
    Signatures(BlobOf),
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedAction {
    /// A certificate.
    Issue,
    /// Being told what would be issued.
    Preview,
    /// An enrolment.
    Enrol,
    /// A token for an enrolment.
    Token,
    /// Releasing what is frozen.
    Unfreeze,
    /// Replacing an authority that is compromised.
    Recover,
    /// Taking certificates back, or giving them back.
    Revoke,
    /// A certificate for a node whose evidence was taken.
    Attest,
}

/// What a refused request asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The profile.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub profile: String,
    /// The SPIFFE ID, as it was written.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub spiffe_id: String,
    /// DNS names.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dns_names: Vec<String>,
    /// The lifetime in seconds; absent for the default.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "integer::optional")]
    pub lifetime: Option<u64>,
}

/// A request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What was asked of us.
    pub action: RefusedAction,
    /// The trust domain that it was for, as it was written.
    pub domain: String,
    /// Who asked.
    pub caller: Caller,
    /// The rule that refused.
    pub rule: String,
    /// Why, in words, as the caller was told.
    pub reason: String,
    /// What was asked for.
    pub asked: Asked,
    /// SHA-256 of the policy's text.
    pub policy: Digest,
    /// SHA-256 of the request (a CSR's DER), where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<Digest>,
}

/// A text: whole, or as a blob when it is large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Text {
    /// The text itself.
    Inline(String),
    /// A blob of that length in bytes; its digest stands beside it.
    Blob(#[serde(deserialize_with = "integer::deserialize")] u64),
}

/// The policy that is in force from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// SHA-256 of its text.
    pub sha256: Digest,
    /// The policy that it replaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Digest>,
    /// Its text.
    pub text: Text,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyEvent {
    /// It was made.
    Made,
    /// It was opened for use.
    Opened,
    /// It was received from elsewhere with its custody record.
    Received,
}

/// How well it is known where a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Nothing that can be judged.
    Unknown,
    /// A software module holds it.
    Software,
    /// The token or cloud says so.
    Declared,
    /// A hardware statement verified to a vendor anchor by a party other than the CA.
    Proven,
}

impl std::fmt::Display for Grade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A key, and what is known of where it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What happened.
    pub event: KeyEvent,
    /// What the key is for, in words.
    pub purpose: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_id: HexKeyId,
    /// Its SubjectPublicKeyInfo.
    pub spki: Base64Bytes,
    /// What it is and how it signs.
    #[serde(with = "key_algorithm")]
    pub algorithm: KeyAlgorithm,
    /// The URI that names it.
    pub uri: String,
    /// The grade of its custody.
    pub grade: Grade,
    /// What was found, in words.
    pub findings: Vec<String>,
    /// The format of the evidence.
    pub format: String,
    /// The evidence, so that anyone can judge it again.
    pub evidence: KeyEvidence,
}

/// Evidence of where a key lives: whole, or as a blob when it is large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyEvidence {
    /// The evidence itself.
    Inline(Base64Bytes),
    /// A blob.
    Blob(BlobOf),
}

/// A blob that stands for evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobOf {
    /// SHA-256 of the evidence.
    pub sha256: Digest,
    /// Its length in bytes.
    #[serde(deserialize_with = "integer::deserialize")]
    pub length: u64,
}

/// The roots of a domain as they are published from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The trust domain.
    pub domain: String,
    /// `spiffe_sequence`: one more than the bundle before.
    #[serde(deserialize_with = "integer::deserialize")]
    pub sequence: u64,
    /// The root certificates, DER.
    pub roots: Vec<Base64Bytes>,
    /// SHA-256 of those roots that nothing new is to stand under (SPIRE: tainted authorities).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tainted: Vec<Digest>,
    /// `spiffe_refresh_hint`, in seconds. Entries that were written before it stood here mean 300.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "integer::optional")]
    pub refresh_hint: Option<u64>,
}

/// What happened to an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolmentEvent {
    /// It was made. That it was redeemed is said by the intent that it was evidence for.
    Made,
    /// A TPM is nobody's node any more. It attests anew, as whoever policy says that it is.
    NodeReleased,
}

/// An enrolment token, or the TPM of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// What happened.
    pub event: EnrolmentEvent,
    /// SHA-256 of the token; of a node, SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
    pub token: Digest,
    /// The SPIFFE ID that it is good for; of a node, the one that it had.
    pub id: String,
    /// Until when; of a node, since when it is not.
    #[serde(with = "utc_seconds")]
    pub expires: Timestamp,
    /// Who made it.
    pub caller: Caller,
}

/// The daemon has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The version of the program.
    pub version: String,
    /// SHA-256 of the configuration's text.
    pub configuration: Digest,
    /// Whether software keys are accepted.
    pub development: bool,
}

mod signature_algorithm {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use undercroft_keys::SignatureAlgorithm;

    pub(super) fn serialize<S: Serializer>(
        value: &SignatureAlgorithm,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SignatureAlgorithm, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        SignatureAlgorithm::from_name(&name)
            .ok_or_else(|| D::Error::custom(format_args!("`{name}` is no signature algorithm")))
    }
}

mod key_algorithm {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use undercroft_keys::KeyAlgorithm;

    pub(super) fn serialize<S: Serializer>(value: &KeyAlgorithm, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyAlgorithm, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}
