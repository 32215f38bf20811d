//! Keys of Azure Key Vault and Managed HSM (`azure-key-v1`): what the vault says of a key.

use serde::Deserialize;
use undercroft_keys::PublicKey;

use super::{Custody, Grade};

/// The domains of vaults and managed HSMs in Azure's clouds.
const DOMAINS_OF_AZURE: [&str; 6] = [
    ".vault.azure.net",
    ".managedhsm.azure.net",
    ".vault.azure.cn",
    ".managedhsm.azure.cn",
    ".vault.usgovcloudapi.net",
    ".managedhsm.usgovcloudapi.net",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    endpoint: Option<String>,
    key: KeySays,
    release_policy: Option<serde_json::Value>,
    attestation: Option<Attestation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attestation {
    version: Option<String>,
    #[serde(rename = "certificates")]
    _certificates: Option<String>,
    #[serde(rename = "private_key")]
    _private_key: Option<String>,
    #[serde(rename = "public_key")]
    _public_key: Option<String>,
}

/// Judges what a vault said of a key. It is graded `declared` at best: the attestation of a Managed HSM is kept, and is
/// not judged by this version.
pub(super) fn judge(evidence: &[u8], key: &PublicKey) -> Custody {
    let evidence: Evidence = match serde_json::from_slice(evidence) {
        Ok(evidence) => evidence,
        Err(error) => return Custody::unknown(format!("the evidence cannot be read: {error}")),
    };
    if evidence.key.spki != hex::encode(key.spki()) {
        return Custody::unknown("the evidence is about another key");
    }
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "not said".to_owned());
    let KeySays { kid, kty, hsm_platform, recovery_level, created, not_before, expires, .. } = &evidence.key;
    let mut findings = vec![format!(
        "{kid}: {kty}, HSM platform {}, recovery level {}",
        said(hsm_platform),
        said(recovery_level)
    )];
    for (time, what) in [(created, "made"), (not_before, "valid from"), (expires, "expires")] {
        if let Some(at) = time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
            findings.push(format!("{what} {at}"));
        }
    }
    if evidence.key.managed == Some(true) {
        findings.push("a certificate of the vault manages it".to_owned());
    }
    if let Some(attestation) = &evidence.attestation {
        findings.push(format!(
            "the HSM's attestation (version {}) is kept with the evidence and is not judged by this version",
            said(&attestation.version)
        ));
    }
    findings.push(
        "who else may sign is decided by Azure's access control, of which a vault tells nothing".to_owned(),
    );
    let (grade, reason) = evidence.grade();
    findings.push(reason);
    Custody::new(grade, findings)
}

/// The identifier of the key that evidence is about.
pub(super) fn kid(evidence: &[u8]) -> Option<String> {
    serde_json::from_slice::<Evidence>(evidence).ok().map(|evidence| evidence.key.kid)
}

impl Evidence {
    fn grade(&self) -> (Grade, String) {
        let unknown = |reason: &str| (Grade::Unknown, reason.to_owned());
        if self.key.exportable == Some(true) || self.release_policy.is_some() {
            return unknown("the vault gives the key out under its release policy");
        }
        if self.key.enabled != Some(true) || !self.key.key_ops.iter().any(|operation| operation == "sign") {
            return unknown("a key of an authority is enabled and signs");
        }
        match self.endpoint.as_deref() {
            None => {}
            Some(endpoint) if !endpoint.starts_with("https://") => {
                return (
                    Grade::Software,
                    "the vault was asked at an address of the CA's own machine: whatever answers there is a simulator, or somebody in between".to_owned(),
                );
            }
            Some(endpoint) => {
                return unknown(&format!("the vault was asked at {endpoint}, which is not its own name"));
            }
        }
        let host =
            self.key.kid.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if !DOMAINS_OF_AZURE.iter().any(|domain| host.ends_with(domain)) {
            return unknown(&format!("{host} is no name of a vault in Azure"));
        }
        match (self.key.kty.as_str(), self.key.hsm_platform.as_deref()) {
            ("EC-HSM" | "RSA-HSM", Some("0")) => {
                unknown("its type says that an HSM holds it, and its platform that none does")
            }
            ("EC-HSM" | "RSA-HSM", _) => {
                (Grade::Declared, "Azure says so, and what it attests is not judged".to_owned())
            }
            ("EC" | "RSA", _) => (Grade::Software, "the vault keeps it in software".to_owned()),
            (other, _) => unknown(&format!("keys of the type {other} are not known here")),
        }
    }
}

#[cfg(test)]
mod tests;
