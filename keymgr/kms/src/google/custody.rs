//! Evidence of where a key of Google's lives.

use std::sync::Arc;

use async_trait::async_trait;
use base64ct::{Base64, Encoding as _};
use google_cloud_kms_v1::model::CryptoKeyVersion;
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody};
use undercroft_keys::PublicKey;

use super::error::Doing;
use super::ring::RingInner;

/// The format of this evidence: a JSON object of the shape below, UTF-8, in which every value is what Google said when
/// it was asked.
///
/// ```json
/// { "endpoint": null,
///   "key": {"name": "projects/…/cryptoKeyVersions/1", "spki": "<hex of the SubjectPublicKeyInfo>",
///           "algorithm": "EC_SIGN_P256_SHA256", "protection_level": "HSM", "state": "ENABLED", "imported": false},
///   "attestation": {"format": "CAVIUM_V2_COMPRESSED", "content": "<base64>", "manufacturer_chain": ["<PEM>"],
///                   "owner_card": ["<PEM>"], "owner_partition": ["<PEM>"]},
///   "policies": [{"resource": "projects/…/keyRings/…", "unread": null,
///                 "bindings": [{"role": "…", "members": ["…"], "condition": null}]}] }
/// ```
///
/// `endpoint` is where Google was asked, if not at its own address. `attestation` is absent for keys in software. A policy that we may not read has `unread` with what Google said. What
/// is granted on the project and above it is not in these policies. Graded `proven` when the attestation verifies.
pub const CUSTODY_FORMAT: &str = "google-kms-v1";

#[derive(Serialize)]
struct Evidence {
    endpoint: Option<String>,
    key: KeySays,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation: Option<Attestation>,
    policies: Vec<Policy>,
}

#[derive(Serialize)]
struct KeySays {
    name: String,
    spki: String,
    algorithm: String,
    protection_level: String,
    state: String,
    imported: bool,
}

#[derive(Serialize)]
struct Attestation {
    format: String,
    content: String,
    manufacturer_chain: Vec<String>,
    owner_card: Vec<String>,
    owner_partition: Vec<String>,
}

#[derive(Serialize)]
struct Policy {
    resource: String,
    unread: Option<String>,
    bindings: Vec<Binding>,
}

#[derive(Serialize)]
struct Binding {
    role: String,
    members: Vec<String>,
    condition: Option<String>,
}

/// Asks Google about one version of a key.
#[derive(Debug)]
pub(super) struct Custody {
    pub(super) ring: Arc<RingInner>,
    pub(super) version: String,
    pub(super) public_key: PublicKey,
    pub(super) subject: String,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let version = self.ring.version(self.version.clone(), &self.subject).await?;
        let key = self.version.split("/cryptoKeyVersions/").next().unwrap_or_default().to_owned();
        let policies = vec![self.policy(self.ring.name.clone()).await?, self.policy(key).await?];
        let evidence = Evidence {
            endpoint: self.ring.uri.endpoint.clone(),
            key: KeySays {
                spki: hex::encode(self.public_key.spki()),
                algorithm: version.algorithm.name().unwrap_or_default().to_owned(),
                protection_level: version.protection_level.name().unwrap_or_default().to_owned(),
                state: version.state.name().unwrap_or_default().to_owned(),
                imported: !version.import_job.is_empty(),
                name: version.name.clone(),
            },
            attestation: attestation(version),
            policies,
        };
        let bytes = serde_json::to_vec(&evidence)
            .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))?;
        Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes })
    }
}

impl Custody {
    /// Who may do what with a resource. Not being allowed to know is an answer, too.
    async fn policy(&self, resource: String) -> Result<Policy, Error> {
        let doing = Doing {
            what: format!("cannot read the IAM policy of {resource}"),
            needs: (
                "cloudkms.keyRings.getIamPolicy and cloudkms.cryptoKeys.getIamPolicy",
                "roles/iam.securityReviewer",
            ),
            repeatable: true,
        };
        let name = resource.clone();
        let answer =
            self.ring.call(doing, move |client| client.get_iam_policy().set_resource(&name).send()).await;
        let policy = match answer {
            Ok(policy) => policy,
            Err(error) if error.kind() == ErrorKind::Denied => {
                return Ok(Policy { resource, unread: Some(error.to_string()), bindings: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        let bindings = policy.bindings.into_iter().map(|binding| Binding {
            role: binding.role,
            members: binding.members,
            condition: binding.condition.map(|condition| condition.expression),
        });
        Ok(Policy { resource, unread: None, bindings: bindings.collect() })
    }
}

fn attestation(version: CryptoKeyVersion) -> Option<Attestation> {
    let attestation = version.attestation?;
    let chains = attestation.cert_chains.unwrap_or_default();
    Some(Attestation {
        format: attestation.format.name().unwrap_or_default().to_owned(),
        content: Base64::encode_string(&attestation.content),
        manufacturer_chain: chains.cavium_certs,
        owner_card: chains.google_card_certs,
        owner_partition: chains.google_partition_certs,
    })
}
