//! The configuration as it is written.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use undercroft_attestors::custody::Demand;
use undercroft_ca::approval::RosterConfig;
use undercroft_ca::bundle::REFRESH_HINT;
use undercroft_ca::names::DnsName;
use undercroft_ca::profile::{PolicyArc, ProfileConfig};
use undercroft_ca::tbs::Urls;
use undercroft_ca::time::Lifetime;
use undercroft_cli::ActivatorConfig;
use undercroft_keymgr::DeviceConfig;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// The operator's DNS name: the first part of the logs' origins.
    pub(super) operator: String,
    /// The control domain.
    pub(super) control: String,
    pub(super) policy: PathBuf,
    /// How nodes are judged that attest; they do not where there is none.
    pub(super) node_policy: Option<PathBuf>,
    pub(super) policy_arc: PolicyArc,
    pub(super) database: PathBuf,
    #[serde(default)]
    pub(super) development: bool,
    pub(super) witness_policy: Option<PathBuf>,
    /// How long leaves go on while too few witnesses answer.
    #[serde(default = "ten_minutes")]
    pub(super) witness_grace: Lifetime,
    /// The folder of manufacturers' certificates that are believed about TPMs.
    pub(super) endorsement_anchors: Option<PathBuf>,
    /// The folder of roots that are believed about HSMs in clouds.
    pub(super) hsm_anchors: Option<PathBuf>,
    /// Who is believed about attestation keys.
    #[serde(default, rename = "activator")]
    pub(super) activators: Vec<ActivatorConfig>,
    /// How often the custody of every key is proved again, even if no token was away.
    #[serde(default = "hour")]
    pub(super) custody_every: Lifetime,
    #[serde(default = "svid")]
    pub(super) caller_profile: String,
    pub(super) listen: ListenConfig,
    #[serde(default, rename = "device")]
    pub(super) devices: Vec<DeviceConfig>,
    #[serde(default, rename = "profile")]
    pub(super) profiles: Vec<ProfileConfig>,
    #[serde(default, rename = "domain")]
    pub(super) domains: Vec<DomainConfig>,
    #[serde(default, rename = "ceremony")]
    pub(super) ceremonies: Vec<CeremonyConfig>,
    /// Who may approve that a log goes on under another origin, and that the roots of a domain change.
    pub(super) recovery: Option<RosterConfig>,
    /// How devices are served, if they are.
    pub(super) acme: Option<AcmeConfig>,
}

/// The ACME server, and the attestation CA beside it (`docs/acme.md`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AcmeConfig {
    pub(super) listen: SocketAddr,
    /// As clients write it.
    pub(super) url: String,
    pub(super) domain: String,
    #[serde(default = "svid")]
    pub(super) profile: String,
    pub(super) spiffe_id: String,
    /// Whose certificates of attestation keys are taken besides.
    pub(super) attestation_roots: Option<PathBuf>,
    pub(super) attestation: Option<AttestationConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AttestationConfig {
    pub(super) authority: String,
    #[serde(default = "attestation_key")]
    pub(super) profile: String,
    pub(super) tpm_policy: PathBuf,
}

fn attestation_key() -> String {
    "attestation-key".to_owned()
}

fn svid() -> String {
    "svid".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListenConfig {
    pub(super) address: SocketAddr,
    pub(super) logs: Option<SocketAddr>,
    pub(super) admin_socket: PathBuf,
    /// User ids.
    pub(super) admin_users: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DomainConfig {
    pub(super) name: String,
    pub(super) roots: Vec<PathBuf>,
    pub(super) log_key: String,
    pub(super) second_log_key: Option<String>,
    #[serde(default = "first")]
    pub(super) epoch: u32,
    #[serde(default)]
    pub(super) server_names: Vec<DnsName>,
    /// How often those who take the bundle should look for a newer one.
    #[serde(default = "refresh_hint")]
    pub(super) refresh_hint: Lifetime,
    /// The SPIFFE IDs of those whom rotations wait for.
    #[serde(default)]
    pub(super) consumers: Vec<String>,
    /// Of authorities' keys.
    #[serde(default)]
    pub(super) custody: Demand,
    /// Of the log's keys.
    #[serde(default)]
    pub(super) log_custody: Demand,
    #[serde(default, rename = "authority")]
    pub(super) authorities: Vec<AuthorityConfig>,
    pub(super) ledger: Option<LedgerConfig>,
    pub(super) anchor: Option<AnchorConfig>,
}

/// The TPM whose ledger stands in this domain's log, and in whose counter the log is anchored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LedgerConfig {
    pub(super) device: String,
    /// The persistent handle of its attestation key, `0x81…`.
    pub(super) attestation_key: String,
    /// The NV index of its counter, `0x018…`.
    pub(super) counter: String,
    /// The value that the counter had before this log was anchored in it.
    pub(super) counter_from: u64,
    /// How long an epoch lasts.
    #[serde(default = "minute")]
    pub(super) epoch: Lifetime,
    /// How often the log is anchored.
    #[serde(default = "two_minutes")]
    pub(super) every: Lifetime,
}

/// The PKCS#11 token in which this domain's log is noted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AnchorConfig {
    pub(super) device: String,
    /// How often.
    #[serde(default = "two_minutes")]
    pub(super) every: Lifetime,
}

fn ten_minutes() -> Lifetime {
    Lifetime::seconds(600)
}

fn hour() -> Lifetime {
    Lifetime::seconds(3600)
}

fn minute() -> Lifetime {
    Lifetime::seconds(60)
}

fn refresh_hint() -> Lifetime {
    REFRESH_HINT
}

fn two_minutes() -> Lifetime {
    Lifetime::seconds(120)
}

fn first() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AuthorityConfig {
    pub(super) name: String,
    pub(super) certificate: PathBuf,
    pub(super) key: String,
    /// Other tokens that hold the same key.
    #[serde(default)]
    pub(super) replicas: Vec<String>,
    pub(super) algorithm: String,
    pub(super) urls: Urls,
    /// The file with the gates that its key was made with.
    pub(super) gates: Option<PathBuf>,
    pub(super) revocation: Option<RevocationConfig>,
}

/// How the revocations of an authority are published.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RevocationConfig {
    #[serde(default = "week")]
    pub(super) crl_lifetime: Lifetime,
    /// No delta CRLs if it is absent.
    pub(super) delta_lifetime: Option<Lifetime>,
    /// The key of its OCSP responder.
    pub(super) ocsp_key: Option<String>,
    pub(super) ocsp_algorithm: Option<String>,
    #[serde(default = "hour")]
    pub(super) ocsp_lifetime: Lifetime,
}

fn week() -> Lifetime {
    Lifetime::days(7)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CeremonyConfig {
    pub(super) plan: PathBuf,
    pub(super) transcript: PathBuf,
}
