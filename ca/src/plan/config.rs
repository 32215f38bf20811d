//! Plans as they are written.

use serde::Deserialize;
use undercroft_attestors::custody::Demand;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Digest;

use super::hands::When;
use crate::approval::RosterConfig;
use crate::names::DnsName;
use crate::profile::PolicyArc;
use crate::subject::SubjectConfig;
use crate::tbs::{RevocationReason, Urls};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PlanConfig {
    pub(super) version: u32,
    pub(super) title: String,
    pub(super) operator: String,
    pub(super) name: String,
    pub(super) policy_arc: PolicyArc,
    #[serde(default)]
    pub(super) custody: Demand,
    #[serde(default)]
    pub(super) activators: Vec<String>,
    #[serde(default)]
    pub(super) endorsement_anchors: Vec<Digest>,
    pub(super) transcript: TranscriptConfig,
    pub(super) entropy: String,
    pub(super) requester: Option<String>,
    pub(super) window: Option<WindowConfig>,
    pub(super) previous: Option<Digest>,
    #[serde(default)]
    pub(super) rehearse_next: bool,
    pub(super) roster: Option<RosterConfig>,
    #[serde(default, rename = "device")]
    pub(super) devices: Vec<DeviceConfig>,
    #[serde(default, rename = "existing-root")]
    pub(super) existing_roots: Vec<ExistingRootConfig>,
    #[serde(default, rename = "root")]
    pub(super) roots: Vec<RootConfig>,
    #[serde(default, rename = "intermediate")]
    pub(super) intermediates: Vec<IntermediateConfig>,
    #[serde(default, rename = "ocsp-signer")]
    pub(super) ocsp_signers: Vec<OcspSignerConfig>,
    #[serde(default, rename = "bundle-statement")]
    pub(super) bundle_statements: Vec<BundleStatementConfig>,
    #[serde(default, rename = "crl")]
    pub(super) crls: Vec<CrlConfig>,
    #[serde(default, rename = "cross-certificate")]
    pub(super) cross_certificates: Vec<CrossCertificateConfig>,
    #[serde(default, rename = "certificate-request")]
    pub(super) certificate_requests: Vec<CertificateRequestConfig>,
    #[serde(default, rename = "import")]
    pub(super) imports: Vec<ImportConfig>,
    #[serde(default, rename = "manual")]
    pub(super) manual: Vec<ManualConfig>,
    #[serde(default, rename = "destruction")]
    pub(super) destructions: Vec<DestructionConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WindowConfig {
    pub(super) begins: toml::value::Datetime,
    pub(super) ends: toml::value::Datetime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DeviceConfig {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) firmware: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ExistingRootConfig {
    pub(super) name: String,
    pub(super) domains: Vec<String>,
    pub(super) key: KeyConfig,
    pub(super) certificate: String,
    pub(super) urls: Urls,
    pub(super) follows: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CrossCertificateConfig {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) subject: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) not_before: toml::value::Datetime,
    pub(super) not_after: toml::value::Datetime,
    pub(super) nesting: Option<u8>,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CertificateRequestConfig {
    pub(super) name: String,
    pub(super) root: String,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImportConfig {
    pub(super) name: String,
    pub(super) root: String,
    pub(super) issuer: String,
    pub(super) answer: String,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ManualConfig {
    pub(super) name: String,
    pub(super) instruction: String,
    #[serde(default)]
    pub(super) at: When,
    pub(super) evidence: Option<String>,
    pub(super) minutes: Option<u32>,
    pub(super) follows: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DestructionConfig {
    pub(super) name: String,
    pub(super) key: KeyConfig,
    pub(super) key_id: String,
    pub(super) follows: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TranscriptConfig {
    device: String,
    label: String,
}

impl TranscriptConfig {
    /// Checkpoints have an Ed25519 line, so there is nothing to choose.
    pub(super) fn key(self) -> PlannedKey {
        PlannedKey { device: self.device, label: self.label, algorithm: KeyAlgorithm::Ed25519 }
    }
}

/// A key that the ceremony will make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedKey {
    /// The device, by the name that the environment gives it.
    pub device: String,
    /// The label of the key in its device.
    pub label: String,
    /// What it is and how it signs.
    pub algorithm: KeyAlgorithm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct KeyConfig {
    pub(super) device: String,
    pub(super) label: String,
    #[serde(deserialize_with = "key_algorithm")]
    pub(super) algorithm: KeyAlgorithm,
}

impl From<KeyConfig> for PlannedKey {
    fn from(config: KeyConfig) -> Self {
        Self { device: config.device, label: config.label, algorithm: config.algorithm }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RootConfig {
    pub(super) name: String,
    pub(super) domains: Vec<String>,
    pub(super) key: KeyConfig,
    pub(super) subject: SubjectConfig,
    pub(super) not_before: toml::value::Datetime,
    pub(super) not_after: toml::value::Datetime,
    pub(super) urls: Urls,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct IntermediateConfig {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) issuer: String,
    pub(super) request: String,
    #[serde(deserialize_with = "key_algorithm")]
    pub(super) algorithm: KeyAlgorithm,
    pub(super) subject: SubjectConfig,
    pub(super) not_before: toml::value::Datetime,
    pub(super) not_after: toml::value::Datetime,
    pub(super) nesting: Option<u8>,
    pub(super) constraints: Option<ConstraintsConfig>,
    pub(super) follows: String,
    pub(super) output: String,
    pub(super) custody: Option<Demand>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OcspSignerConfig {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) request: String,
    #[serde(deserialize_with = "key_algorithm")]
    pub(super) algorithm: KeyAlgorithm,
    pub(super) subject: SubjectConfig,
    pub(super) not_before: toml::value::Datetime,
    pub(super) not_after: toml::value::Datetime,
    pub(super) follows: String,
    pub(super) output: String,
    pub(super) custody: Option<Demand>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct BundleStatementConfig {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) number: u64,
    #[serde(default)]
    pub(super) roots: Vec<String>,
    #[serde(default)]
    pub(super) certificates: Vec<String>,
    pub(super) not_before: toml::value::Datetime,
    pub(super) not_after: toml::value::Datetime,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ConstraintsConfig {
    pub(super) dns_names: Vec<DnsName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CrlConfig {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) number: u64,
    pub(super) this_update: toml::value::Datetime,
    pub(super) next_update: toml::value::Datetime,
    #[serde(default)]
    pub(super) revoked: Vec<RevokedConfig>,
    pub(super) follows: String,
    pub(super) output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RevokedConfig {
    pub(super) serial: String,
    pub(super) date: toml::value::Datetime,
    pub(super) reason: Option<RevocationReason>,
}

fn key_algorithm<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<KeyAlgorithm, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
