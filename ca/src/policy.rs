//! Policy: who may have which certificate.
//!
//! A policy is a TOML file of rules. Each rule names callers, a domain and a profile, and what may be in the
//! certificates that they get. What no rule grants is refused; there is no rule that forbids, so no order matters.
//!
//! ```toml
//! [[rule]]
//! name = "prod-workloads"
//! callers = ["spiffe://control.example/operator/*"]
//! domain = "prod.example"
//! profile = "workload"
//! spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
//! dns-names = ["*.prod.example"]
//! max-lifetime = "1h"
//! ```

mod decide;
mod pattern;

use std::collections::BTreeSet;

use serde::Deserialize;
use undercroft_log::leaf::Digest;

pub use decide::{Grant, Refusal, Request};
pub use pattern::{DnsPattern, IdPattern};

use crate::names::{TrustDomain, parse_trust_domain};
use crate::profile::{Kind, Profile};
use crate::strict_toml::{self, TomlError};
use crate::time::Lifetime;

/// The longest policy that is read.
const MAX_POLICY: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PolicyConfig {
    #[serde(default, rename = "rule")]
    rules: Vec<RuleConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleConfig {
    name: String,
    callers: Vec<String>,
    domain: String,
    profile: String,
    authority: Option<String>,
    #[serde(default)]
    spiffe_ids: Vec<String>,
    #[serde(default)]
    dns_names: Vec<String>,
    max_lifetime: Option<Lifetime>,
}

/// What a policy's rules may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The domains that this installation issues for.
    pub domains: &'a [TrustDomain],
    /// Its profiles.
    pub profiles: &'a [Profile],
}

/// A rule whose parts agree with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    callers: Vec<IdPattern>,
    domain: TrustDomain,
    profile: Profile,
    authority: Option<String>,
    spiffe_ids: Vec<IdPattern>,
    dns_names: Vec<DnsPattern>,
    max_lifetime: Lifetime,
}

/// A policy, validated against the installation that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    text: String,
    digest: Digest,
}

impl Policy {
    /// Reads a policy from the text of the file `file`.
    ///
    /// # Errors
    /// It is no TOML of a policy, or a rule contradicts itself or the installation.
    pub fn parse(file: &str, text: &str, known: Known<'_>) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::TooLong(text.len()));
        }
        let config: PolicyConfig = strict_toml::parse(file, text)?;
        let mut names = BTreeSet::new();
        let mut rules = Vec::with_capacity(config.rules.len());
        for rule in config.rules {
            if !names.insert(rule.name.clone()) {
                return Err(PolicyError::Rule {
                    rule: rule.name,
                    what: "another rule has the same name".into(),
                });
            }
            let name = rule.name.clone();
            rules.push(Rule::new(rule, known).map_err(|what| PolicyError::Rule { rule: name, what })?);
        }
        Ok(Self { rules, text: text.to_owned(), digest: Digest::of(text.as_bytes()) })
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text: how the log names it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The authorities that rules name: rule, domain and authority.
    pub fn named_authorities(&self) -> impl Iterator<Item = (&str, &TrustDomain, &str)> {
        self.rules.iter().filter_map(|rule| Some((&*rule.name, &rule.domain, rule.authority.as_deref()?)))
    }

    /// The longest lifetime that a rule grants in a domain; none if no rule is for it.
    pub fn longest_lifetime(&self, domain: &TrustDomain) -> Option<Lifetime> {
        self.rules.iter().filter(|rule| rule.domain == *domain).map(|rule| rule.max_lifetime).max()
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }
}

impl Rule {
    fn new(config: RuleConfig, known: Known<'_>) -> Result<Self, String> {
        let domain = parse_trust_domain(&config.domain).map_err(|error| error.to_string())?;
        if !known.domains.contains(&domain) {
            let names: Vec<_> = known.domains.iter().map(TrustDomain::as_str).collect();
            return Err(format!(
                "the domain `{}` is not one of this installation: {}",
                config.domain,
                names.join(", ")
            ));
        }
        let profile =
            known.profiles.iter().find(|profile| profile.name() == config.profile).ok_or_else(|| {
                let names: Vec<_> = known.profiles.iter().map(Profile::name).collect();
                format!("there is no profile `{}`; known are {}", config.profile, names.join(", "))
            })?;
        let max_lifetime = config.max_lifetime.unwrap_or(profile.max_lifetime());
        if max_lifetime > profile.max_lifetime() {
            return Err(format!(
                "max-lifetime {max_lifetime} is more than profile `{}` allows ({})",
                config.profile,
                profile.max_lifetime()
            ));
        }
        if config.callers.is_empty() {
            return Err("callers is empty, so that it would grant nothing".into());
        }
        let callers =
            config.callers.iter().map(|text| IdPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let spiffe_ids =
            config.spiffe_ids.iter().map(|text| IdPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let dns_names =
            config.dns_names.iter().map(|text| text.parse()).collect::<Result<Vec<DnsPattern>, _>>()?;
        match profile.kind() {
            Kind::Svid => {
                if spiffe_ids.is_empty() {
                    return Err("spiffe-ids is empty, so that it would grant nothing".into());
                }
                if let Some(other) = spiffe_ids.iter().find(|pattern| *pattern.domain() != domain) {
                    return Err(format!(
                        "the pattern {other} is of another domain than {}; a domain issues for itself alone",
                        config.domain
                    ));
                }
                if let Some(reserved) = spiffe_ids.iter().find(|pattern| pattern.is_reserved()) {
                    return Err(format!(
                        "the pattern {reserved} is below /undercroft or /spire, which are reserved"
                    ));
                }
            }
            Kind::SpireCa => {
                if !spiffe_ids.is_empty() || !dns_names.is_empty() {
                    return Err(
                        "a SPIRE CA speaks for the domain itself; leave spiffe-ids and dns-names out".into(),
                    );
                }
            }
            Kind::Root
            | Kind::Intermediate
            | Kind::CrossCertificate
            | Kind::Server
            | Kind::OcspSigner
            | Kind::AttestationKey => {
                return Err(format!(
                    "certificates of profile `{}` are not given to callers: roots and intermediates are made in \
                     ceremonies, server certificates and those of OCSP responders by the daemon for itself, and \
                     those of attestation keys are given for an activation",
                    config.profile
                ));
            }
        }
        Ok(Self {
            name: config.name,
            callers,
            domain,
            profile: profile.clone(),
            authority: config.authority,
            spiffe_ids,
            dns_names,
            max_lifetime,
        })
    }
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Longer than any policy.
    #[error("the policy has {0} bytes, more than {MAX_POLICY}")]
    TooLong(usize),
    /// No TOML of a policy.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A rule.
    #[error("policy rule `{rule}`: {what}")]
    Rule {
        /// Its name.
        rule: String,
        /// What is wrong with it.
        what: String,
    },
}

#[cfg(test)]
mod tests;
