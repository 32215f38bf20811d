//! `[tpm]`: which TPMs are believed, and what they are to show.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding as _};
use serde::Deserialize;
use undercroft_attestors::chain::Certificate;
use undercroft_attestors::chain::crl::Crl;
use undercroft_attestors::exchange::{BankName, Wanted, WantedBank};
use undercroft_attestors::tpm::node::{Maker, Policy, TpmClass, TpmId, known_weak_firmware};
use undercroft_log::leaf::Digest;
use undercroft_tpm_wire::HashAlgorithm;

use super::NodePolicyError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TpmConfig {
    /// The PCRs to quote, by bank.
    pcrs: BTreeMap<BankName, Vec<u8>>,
    /// Whether the firmware's event log is wanted.
    event_log: bool,
    #[serde(rename = "maker")]
    makers: Vec<MakerConfig>,
    /// Files with CRLs, PEM or DER.
    #[serde(default)]
    crls: Vec<String>,
    #[serde(default)]
    crl_required: bool,
    /// SHA-256 of the SubjectPublicKeyInfo of endorsement keys.
    allow: Option<Vec<Digest>>,
    #[serde(default)]
    deny: Vec<Digest>,
    #[serde(default)]
    weak_firmware: Weak,
    #[serde(default)]
    hierarchy: HierarchyConfig,
    #[serde(default)]
    unsafe_clock: UnsafeClock,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MakerConfig {
    /// A file with certificates, PEM.
    file: String,
    class: Class,
    #[serde(default)]
    manufacturers: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Class {
    Discrete,
    Firmware,
    Virtual,
    Simulated,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Weak {
    #[default]
    Refuse,
    Allow,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HierarchyConfig {
    #[default]
    Endorsement,
    Any,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UnsafeClock {
    #[default]
    Refuse,
    Allow,
}

impl TpmConfig {
    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.makers.iter().map(|maker| maker.file.as_str()).chain(self.crls.iter().map(String::as_str))
    }

    pub(super) fn wanted(&self) -> Wanted {
        let bank = |(bank, pcrs): (&BankName, &Vec<u8>)| WantedBank { bank: *bank, pcrs: pcrs.clone() };
        Wanted { pcrs: self.pcrs.iter().map(bank).collect(), event_log: self.event_log }
    }

    /// The bank that the event log is replayed in.
    pub(super) fn bank(&self) -> Result<HashAlgorithm, NodePolicyError> {
        let first = self.pcrs.keys().next().copied().map(HashAlgorithm::from);
        first.ok_or_else(|| NodePolicyError::new("tpm.pcrs".into(), "it names no bank".into()))
    }

    pub(super) fn build<'a>(
        &self,
        file: &impl Fn(&str) -> Result<&'a [u8], NodePolicyError>,
    ) -> Result<Policy, NodePolicyError> {
        let mut makers = Vec::new();
        for config in &self.makers {
            let wrong = |what: String| NodePolicyError::new(format!("file `{}`", config.file), what);
            for der in pem(file(&config.file)?, "CERTIFICATE").map_err(wrong)? {
                let certificate = Certificate::from_der(&der).map_err(|error| wrong(error.to_string()))?;
                let class = match config.class {
                    Class::Discrete => TpmClass::Discrete,
                    Class::Firmware => TpmClass::Firmware,
                    Class::Virtual => TpmClass::Virtual,
                    Class::Simulated => TpmClass::Simulated,
                };
                makers.push(Maker { certificate, class, manufacturers: config.manufacturers.clone() });
            }
        }
        let mut crls = Vec::new();
        for name in &self.crls {
            let wrong = |what: String| NodePolicyError::new(format!("file `{name}`"), what);
            let content = file(name)?;
            let ders = match content.first() {
                Some(0x30) => vec![content.to_vec()],
                _ => pem(content, "X509 CRL").map_err(wrong)?,
            };
            for der in ders {
                crls.push(Crl::from_der(&der).map_err(|error| wrong(error.to_string()))?);
            }
        }
        let ids = |list: &[Digest]| list.iter().map(|digest| TpmId::PublicKey(digest.0)).collect::<Vec<_>>();
        Ok(Policy {
            makers,
            crls,
            crl_required: self.crl_required,
            allowed: self.allow.as_deref().map(ids),
            denied: ids(&self.deny),
            weak_firmware: match self.weak_firmware {
                Weak::Refuse => known_weak_firmware(),
                Weak::Allow => Vec::new(),
            },
            key_policies: Vec::new(),
            any_hierarchy: matches!(self.hierarchy, HierarchyConfig::Any),
            unsafe_clock: matches!(self.unsafe_clock, UnsafeClock::Allow),
        })
    }
}

/// The blocks of a label in a PEM text (RFC 7468); at least one.
fn pem(content: &[u8], label: &str) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is no text".to_owned())?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(&begin) {
        let (body, after) = behind.split_once(&end).ok_or_else(|| format!("a block lacks `{end}`"))?;
        let body: String = body.split_ascii_whitespace().collect();
        blocks.push(Base64::decode_vec(&body).map_err(|_| "a block is no base64".to_owned())?);
        rest = after;
    }
    match blocks.is_empty() {
        true => Err(format!("it has no `{begin}`")),
        false => Ok(blocks),
    }
}
