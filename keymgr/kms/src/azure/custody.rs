//! Evidence of where a key in a vault lives.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_keys::models::{Key, KeyClientGetKeyAttestationOptions};
use base64ct::{Base64, Encoding as _};
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody};
use undercroft_keys::PublicKey;

use super::error::Doing;
use super::vault::VaultInner;

/// The format of this evidence: a JSON object of the shape below, UTF-8, in which every value is what the vault said
/// when it was asked. Times are seconds since 1970.
///
/// ```json
/// { "endpoint": null,
///   "key": {"kid": "https://prod.vault.azure.net/keys/ca/<version>", "spki": "<hex of the SubjectPublicKeyInfo>",
///           "kty": "EC-HSM", "key_ops": ["sign", "verify"], "enabled": true, "exportable": false,
///           "hsm_platform": "2", "managed": false, "created": 1767225600, "not_before": null, "expires": null,
///           "recovery_level": "Recoverable"},
///   "release_policy": {"content_type": "…", "data": "<base64>", "immutable": false},
///   "attestation": {"version": "…", "certificates": "<base64>", "private_key": "<base64>", "public_key": "<base64>"} }
/// ```
///
/// `endpoint` is where the vault was asked, if not at its own name. `release_policy` and `attestation` are absent where there is none; only a Managed HSM attests. Who else may sign is
/// decided by Azure's access control, of which a vault tells nothing.
pub const CUSTODY_FORMAT: &str = "azure-key-v1";

#[derive(Serialize)]
struct Evidence {
    endpoint: Option<String>,
    key: KeySays,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_policy: Option<ReleasePolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation: Option<Attestation>,
}

#[derive(Serialize)]
struct KeySays {
    kid: String,
    spki: String,
    kty: String,
    key_ops: Vec<String>,
    enabled: Option<bool>,
    exportable: Option<bool>,
    hsm_platform: Option<String>,
    managed: Option<bool>,
    created: Option<i64>,
    not_before: Option<i64>,
    expires: Option<i64>,
    recovery_level: Option<String>,
}

#[derive(Serialize)]
struct ReleasePolicy {
    content_type: Option<String>,
    data: Option<String>,
    immutable: Option<bool>,
}

#[derive(Serialize)]
struct Attestation {
    version: Option<String>,
    certificates: Option<String>,
    private_key: Option<String>,
    public_key: Option<String>,
}

/// Asks a vault about one version of a key.
#[derive(Debug)]
pub(super) struct Custody {
    pub(super) vault: Arc<VaultInner>,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) public_key: PublicKey,
    pub(super) subject: String,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let key = self.vault.key(&self.name, &self.version, &self.subject).await?;
        let attestation = match self.vault.host.contains(".managedhsm.") {
            true => self.attestation().await?,
            false => None,
        };
        let evidence = evidence(self.vault.uri.endpoint.clone(), key, attestation, &self.public_key);
        let bytes = serde_json::to_vec(&evidence)
            .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))?;
        Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes })
    }
}

impl Custody {
    /// What the HSM says of the key; nothing if it says nothing.
    async fn attestation(&self) -> Result<Option<Attestation>, Error> {
        let doing = Doing {
            what: format!("cannot read the attestation of {}", self.subject),
            needs: ("Microsoft.KeyVault/managedHsm/keys/read/action", "Managed HSM Crypto User"),
            repeatable: true,
        };
        let (name, version) = (self.name.clone(), self.version.clone());
        let answer = self
            .vault
            .call(doing, move |client| {
                let name = name.clone();
                let options = KeyClientGetKeyAttestationOptions {
                    key_version: Some(version.clone()),
                    ..KeyClientGetKeyAttestationOptions::default()
                };
                async move { client.get_key_attestation(&name, Some(options)).await?.into_model() }
            })
            .await;
        let said = match answer {
            Ok(key) => key.attributes.and_then(|attributes| attributes.attestation),
            // HSMs that do not attest yet do not know the request.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => None,
            Err(error) => return Err(error),
        };
        let base64 = |bytes: Option<Vec<u8>>| bytes.map(|bytes| Base64::encode_string(&bytes));
        Ok(said.map(|said| Attestation {
            version: said.version,
            certificates: base64(said.certificate_pem_file),
            private_key: base64(said.private_key_attestation),
            public_key: base64(said.public_key_attestation),
        }))
    }
}

fn evidence(
    endpoint: Option<String>,
    key: Key,
    attestation: Option<Attestation>,
    public_key: &PublicKey,
) -> Evidence {
    let seconds = |time: Option<OffsetDateTime>| time.map(OffsetDateTime::unix_timestamp);
    let attributes = key.attributes.unwrap_or_default();
    let web_key = key.key.unwrap_or_default();
    Evidence {
        endpoint,
        key: KeySays {
            kid: web_key.kid.unwrap_or_default(),
            spki: hex::encode(public_key.spki()),
            kty: web_key.kty.map(|kty| kty.to_string()).unwrap_or_default(),
            key_ops: web_key.key_ops.unwrap_or_default(),
            enabled: attributes.enabled,
            exportable: attributes.exportable,
            hsm_platform: attributes.hsm_platform,
            managed: key.managed,
            created: seconds(attributes.created),
            not_before: seconds(attributes.not_before),
            expires: seconds(attributes.expires),
            recovery_level: attributes.recovery_level.map(|level| level.to_string()),
        },
        release_policy: key.release_policy.map(|policy| ReleasePolicy {
            content_type: policy.content_type,
            data: policy.encoded_policy.map(|data| Base64::encode_string(&data)),
            immutable: policy.immutable,
        }),
        attestation,
    }
}
