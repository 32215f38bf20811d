//! The policy for nodes: which TPMs are believed, what they must show, and what each may have. TOML, and the files that it names.
//!
//! ```toml
//! [tpm]
//! pcrs = { sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] }
//! event-log = true
//!
//! [[tpm.maker]]
//! file = "anchors/infineon.pem"
//! class = "discrete"
//! manufacturers = ["id:49465800"]
//!
//! [[rule]]
//! name = "prod-nodes"
//! domain = "prod.example"
//! profile = "node"
//! spiffe-id = "spiffe://prod.example/node/{ek}"
//! assurance = "hardware"
//! lifetime = { hardware = "1h", cloud-hardware = "30m" }
//! ```

mod boot;
mod reference;
mod rego;
mod rule;
mod tpm;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use undercroft_attestors::exchange::Wanted;
use undercroft_attestors::tpm::node::Policy as TpmPolicy;
use undercroft_log::leaf::{Base64Bytes, Digest};
use undercroft_tpm_wire::HashAlgorithm;
use undercroft_tpm_wire::pcr::PcrSelection;

pub use reference::{Learnt, ReferenceEvent, ReferencePcr, ReferenceSet, ReferenceValue};
use reference::{Reference, ReferenceConfig};
pub use rule::Admitted;
use rule::{Rule, RuleConfig};
use tpm::TpmConfig;

use super::claims::Claims;
use crate::policy::{Known, Refusal};
use crate::strict_toml::{self, TomlError};

/// The most bytes of a policy and all its files.
const MAX_POLICY: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    tpm: TpmConfig,
    #[serde(default, rename = "reference")]
    references: Vec<ReferenceConfig>,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleConfig>,
}

/// A policy with everything that it names, as the log keeps it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bundle {
    name: String,
    text: String,
    files: BTreeMap<String, Base64Bytes>,
}

/// A policy for nodes, whole: it needs no file any more.
#[derive(Clone, Debug)]
pub struct NodePolicy {
    tpm: TpmPolicy,
    wanted: Wanted,
    selection: PcrSelection,
    bank: HashAlgorithm,
    rules: Vec<Rule>,
    bundle: Vec<u8>,
    digest: Digest,
}

impl NodePolicy {
    /// Reads a policy from the text of the file `name`. `read` gives the content of a file that it names.
    ///
    /// # Errors
    /// It is no such policy, it contradicts itself, or a file of it cannot be read or is not what it should be.
    pub fn parse(
        name: &str,
        text: &str,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, NodePolicyError> {
        let config: Config = strict_toml::parse(name, text)?;
        let mut files = BTreeMap::new();
        let mut taken = text.len();
        for file in config.files() {
            let content = read(file).map_err(|what| NodePolicyError::new(format!("file `{file}`"), what))?;
            taken += content.len();
            if taken > MAX_POLICY {
                let what = format!("the policy and its files have more than {MAX_POLICY} bytes");
                return Err(NodePolicyError::new(format!("file `{file}`"), what));
            }
            files.insert(file.to_owned(), Base64Bytes(content));
        }
        Self::build(Bundle { name: name.to_owned(), text: text.to_owned(), files })
    }

    /// Reads a policy from the blob that the log keeps of it.
    ///
    /// # Errors
    /// As [`NodePolicy::parse`].
    pub fn from_bundle(bytes: &[u8]) -> Result<Self, NodePolicyError> {
        let bundle = serde_json::from_slice(bytes)
            .map_err(|error| NodePolicyError::new("the policy's blob".to_owned(), error.to_string()))?;
        Self::build(bundle)
    }

    fn build(bundle: Bundle) -> Result<Self, NodePolicyError> {
        let config: Config = strict_toml::parse(&bundle.name, &bundle.text)?;
        let file =
            |name: &str| {
                bundle.files.get(name).map(|content| content.0.as_slice()).ok_or_else(|| {
                    NodePolicyError::new(format!("file `{name}`"), "it is not there".to_owned())
                })
            };
        let wanted = config.tpm.wanted();
        let selection = wanted.selection().ok_or_else(|| {
            let what = "name at least one PCR of 0 to 23, and no bank without one";
            NodePolicyError::new("tpm.pcrs".to_owned(), what.to_owned())
        })?;
        let bank = config.tpm.bank()?;
        let tpm = config.tpm.build(&file)?;
        let content = |name: &str| file(name).map_err(|error| error.to_string());
        let in_bank =
            |of: HashAlgorithm, index: u8| selection.iter().any(|(bank, pcr)| (bank, pcr) == (of, index));
        let mut references: Vec<Reference> = Vec::with_capacity(config.references.len());
        for reference in config.references {
            let name = format!("reference `{}`", reference.name);
            let wrong = |what: String| NodePolicyError::new(name.clone(), what);
            if references.iter().any(|other| other.name() == reference.name) {
                return Err(wrong("another reference set has the same name".to_owned()));
            }
            let reference = Reference::new(reference, content).map_err(wrong)?;
            if let Some(pcr) = reference.unquoted(in_bank) {
                return Err(wrong(format!("it has {pcr}, which `tpm.pcrs` does not quote")));
            }
            references.push(reference);
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::with_capacity(config.rules.len());
        for rule in config.rules {
            let name = format!("node rule `{}`", rule.name);
            if !names.insert(rule.name.clone()) {
                return Err(NodePolicyError::new(name, "another rule has the same name".to_owned()));
            }
            let wrong = |what: String| NodePolicyError::new(name.clone(), what);
            let rule = Rule::new(rule, &references, content).map_err(wrong)?;
            if let Some(what) = rule.is_in_vain(wanted.event_log, |pcr| in_bank(bank, pcr)) {
                return Err(wrong(what));
            }
            rules.push(rule);
        }
        // Maps are ordered, so the same policy is the same bytes.
        let bytes = serde_json::to_vec(&bundle)
            .map_err(|error| NodePolicyError::new(bundle.name.clone(), error.to_string()))?;
        let digest = Digest::of(&bytes);
        Ok(Self { tpm, wanted, selection, bank, rules, bundle: bytes, digest })
    }

    /// Checks that the installation has what its rules name.
    ///
    /// # Errors
    /// A rule names a domain or a profile that is not there, or a profile that is not one for SVIDs.
    pub fn check(&self, known: Known<'_>) -> Result<(), NodePolicyError> {
        for rule in &self.rules {
            let name = format!("node rule `{}`", rule.name());
            rule.check(known).map_err(|what| NodePolicyError::new(name, what))?;
        }
        Ok(())
    }

    /// Which TPMs are believed.
    pub fn tpm(&self) -> &TpmPolicy {
        &self.tpm
    }

    /// What a TPM is to show.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The PCRs of it.
    pub fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// The bank that the event log is replayed in: the first that is wanted.
    pub fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// The policy with everything that it names: what [`NodePolicy::from_bundle`] reads.
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    /// SHA-256 of that.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What a node may have in a domain: by the first rule, in the order of the file, that takes it.
    ///
    /// # Errors
    /// `node-no-rule` if no rule is for the domain; otherwise the refusal of the rule that it came furthest with.
    pub fn admit(&self, domain: &str, claims: &Claims) -> Result<Admitted, Refusal> {
        let mut nearest: Option<(usize, Refusal)> = None;
        for rule in self.rules.iter().filter(|rule| rule.domain().as_str() == domain) {
            match rule.admit(claims) {
                Ok(admitted) => return Ok(admitted),
                Err((step, refusal)) => {
                    if nearest.as_ref().is_none_or(|(furthest, _)| step > *furthest) {
                        nearest = Some((step, refusal));
                    }
                }
            }
        }
        Err(nearest.map(|(_, refusal)| refusal).unwrap_or_else(|| {
            Refusal::new("node-no-rule", "no rule of the node policy is for this domain".to_owned())
        }))
    }
}

impl Config {
    /// The files that it names, each once.
    fn files(&self) -> BTreeSet<&str> {
        let references = self.references.iter().filter_map(|reference| reference.file.as_deref());
        let rules = self.rules.iter().flat_map(RuleConfig::files);
        self.tpm.files().chain(references).chain(rules).collect()
    }
}

/// What is wrong with a policy for nodes.
#[derive(Debug, thiserror::Error)]
pub enum NodePolicyError {
    /// No TOML of one.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A part of it.
    #[error("{part}: {what}")]
    Part {
        /// Which.
        part: String,
        /// What is wrong with it.
        what: String,
    },
}

impl NodePolicyError {
    fn new(part: String, what: String) -> Self {
        Self::Part { part, what }
    }
}

#[cfg(test)]
mod tests;
