//! `[[rule]]`: who may have what.

use std::collections::BTreeMap;

use serde::Deserialize;
use undercroft_attestors::tpm::node::Assurance;
use undercroft_log::leaf::Digest;

use super::boot::{BootConfig, BootWishes, FirmwareFloors};
use super::reference::Reference;
use super::rego::Rego;
use crate::names::{SpiffeId, TrustDomain, is_reserved, parse_spiffe_id, parse_trust_domain};
use crate::nodes::claims::{Attestor, Claims};
use crate::policy::{Known, Refusal};
use crate::profile::Kind;
use crate::time::Lifetime;

/// What stands for the endorsement key's hash in a SPIFFE ID.
const ENDORSEMENT: &str = "{ek}";
/// What stands for the name that the rule gives to it.
const NAME: &str = "{name}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RuleConfig {
    pub(super) name: String,
    domain: String,
    profile: String,
    /// With `{ek}` or `{name}` in it.
    spiffe_id: String,
    /// Names of TPMs, by SHA-256 of the SubjectPublicKeyInfo of their endorsement keys.
    #[serde(default)]
    names: BTreeMap<String, String>,
    /// Selectors, all of which must hold.
    #[serde(default)]
    select: Vec<String>,
    #[serde(default)]
    assurance: Class,
    /// How long a certificate lives, by assurance; the profile's own where it is not said.
    #[serde(default)]
    lifetime: BTreeMap<Class, Lifetime>,
    /// Attestors that must all have spoken.
    #[serde(default)]
    require: Vec<Attestor>,
    /// The least firmware of TPMs, by manufacturer.
    #[serde(default)]
    firmware_at_least: BTreeMap<String, String>,
    #[serde(default)]
    secure_boot: bool,
    /// A file.
    dbx_at_least: Option<String>,
    db_only: Option<Vec<Digest>>,
    authorities: Option<Vec<Digest>>,
    #[serde(default)]
    sbat_at_least: BTreeMap<String, u32>,
    #[serde(default)]
    dma_protection: bool,
    #[serde(default)]
    event_log_exited: bool,
    /// Sets of reference values, one of which must fit.
    references: Option<Vec<String>>,
    /// A file.
    rego: Option<String>,
}

impl RuleConfig {
    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.dbx_at_least.as_deref().into_iter().chain(self.rego.as_deref())
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Class {
    Software,
    CloudHardware,
    /// Whoever wants less says so.
    #[default]
    Hardware,
}

impl From<Class> for Assurance {
    fn from(class: Class) -> Self {
        match class {
            Class::Software => Self::Software,
            Class::CloudHardware => Self::CloudHardware,
            Class::Hardware => Self::Hardware,
        }
    }
}

/// A rule whose parts agree with each other.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    name: String,
    domain: TrustDomain,
    profile: String,
    spiffe_id: String,
    names: BTreeMap<Digest, String>,
    select: Vec<String>,
    assurance: Assurance,
    lifetimes: Vec<(Assurance, Lifetime)>,
    require: Vec<Attestor>,
    firmware: FirmwareFloors,
    boot: BootWishes,
    /// None if none is wanted.
    references: Option<Vec<Reference>>,
    rego: Option<Rego>,
}

/// What a node may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The rule that takes it.
    pub rule: String,
    /// The trust domain.
    pub domain: TrustDomain,
    /// The profile.
    pub profile: String,
    /// Who it is.
    pub spiffe_id: SpiffeId,
    /// How long its certificate lives; none for the profile's own.
    pub lifetime: Option<Lifetime>,
}

impl Rule {
    /// Reads a rule. `file` gives the content of a file that it names.
    pub(super) fn new<'a>(
        config: RuleConfig,
        references: &[Reference],
        file: impl Fn(&str) -> Result<&'a [u8], String>,
    ) -> Result<Self, String> {
        let domain = parse_trust_domain(&config.domain).map_err(|error| error.to_string())?;
        let names = config.names.into_iter().map(|(key, name)| Ok((digest(&key)?, name)));
        let names: BTreeMap<_, _> = names.collect::<Result<_, String>>()?;
        let in_file = |name: &str, what: String| format!("file `{name}`: {what}");
        let dbx = config.dbx_at_least.as_deref();
        let boot = BootWishes::new(&BootConfig {
            secure_boot: config.secure_boot,
            dbx: dbx.map(&file).transpose()?,
            db: config.db_only.as_deref(),
            authorities: config.authorities.as_deref(),
            sbat: &config.sbat_at_least,
            dma_protection: config.dma_protection,
            exited: config.event_log_exited,
        });
        let boot = boot.map_err(|what| in_file(dbx.unwrap_or_default(), what))?;
        let rego =
            config.rego.map(|name| Rego::new(&name, file(&name)?).map_err(|what| in_file(&name, what)));
        let rule = Self {
            require: config.require,
            firmware: FirmwareFloors::new(&config.firmware_at_least)?,
            boot,
            references: config.references.map(|names| chosen(&names, references)).transpose()?,
            rego: rego.transpose()?,
            name: config.name,
            domain,
            profile: config.profile,
            spiffe_id: config.spiffe_id,
            names,
            select: config.select,
            assurance: config.assurance.into(),
            lifetimes: config.lifetime.into_iter().map(|(class, life)| (class.into(), life)).collect(),
        };
        let places = [ENDORSEMENT, NAME].map(|place| rule.spiffe_id.contains(place));
        match places {
            [true, false] => drop(rule.id(Digest([0; 32]), "")?),
            [false, true] => rule.names.iter().try_for_each(|(key, name)| rule.id(*key, name).map(drop))?,
            _ => {
                return Err(format!(
                    "spiffe-id must have one of {ENDORSEMENT} and {NAME} in it, or every TPM would be the same node"
                ));
            }
        }
        let mut given: Vec<_> = rule.names.values().collect();
        given.sort_unstable();
        if let Some(pair) = given.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two TPMs have the name `{}`", pair[0]));
        }
        Ok(rule)
    }

    pub(super) fn check(&self, known: Known<'_>) -> Result<(), String> {
        if !known.domains.contains(&self.domain) {
            return Err(format!("the domain `{}` is not one of this installation", self.domain.as_str()));
        }
        let profile = known.profiles.iter().find(|profile| profile.name() == self.profile);
        let profile = profile.ok_or_else(|| {
            let names: Vec<_> = known.profiles.iter().map(crate::profile::Profile::name).collect();
            format!("there is no profile `{}`; known are {}", self.profile, names.join(", "))
        })?;
        if profile.kind() != Kind::Svid {
            return Err(format!("the profile `{}` is not one for SVIDs", self.profile));
        }
        let longest = self.lifetimes.iter().map(|(_, lifetime)| *lifetime).max();
        match longest.filter(|longest| *longest > profile.max_lifetime()) {
            Some(longest) => Err(format!(
                "the lifetime {longest} is more than profile `{}` allows ({})",
                self.profile,
                profile.max_lifetime()
            )),
            None => Ok(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Why nothing that is asked of a TPM could satisfy the rule.
    pub(super) fn is_in_vain(&self, event_log: bool, quoted: impl Fn(u8) -> bool) -> Option<String> {
        let pcrs = self.boot.pcrs();
        if !pcrs.is_empty() && !event_log {
            return Some("it says how a node must boot, and `tpm.event-log` is false".to_owned());
        }
        let missing = pcrs.into_iter().find(|pcr| !quoted(*pcr))?;
        Some(format!("it needs PCR {missing}, which `tpm.pcrs` does not quote in its first bank"))
    }

    pub(super) fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What the rule gives to a node, or why it does not, and how many of its checks were passed.
    pub(super) fn admit(&self, claims: &Claims) -> Result<Admitted, (usize, Refusal)> {
        let refuse = |step, rule, what: String| Err((step, Refusal::new(rule, what)));
        let selectors = claims.selectors();
        if let Some(missing) = self.select.iter().find(|wanted| !selectors.contains(*wanted)) {
            let what = format!("rule `{}` is for nodes with the selector {missing}", self.name);
            return refuse(0, "node-selector", what);
        }
        if let Some(missing) = self.require.iter().find(|attestor| !claims.attestors().contains(attestor)) {
            let what = format!("rule `{}` wants the word of `{}`", self.name, missing.as_str());
            return refuse(1, "node-attestor", what);
        }
        let endorsement = claims.endorsement();
        let name = match (self.spiffe_id.contains(NAME), self.names.get(&endorsement)) {
            (true, None) => {
                let what = format!("rule `{}` has no name for the TPM {endorsement}", self.name);
                return refuse(2, "node-unnamed", what);
            }
            (_, name) => name.map_or("", String::as_str),
        };
        let assurance = claims.attested.assurance();
        if assurance < self.assurance {
            let what = format!(
                "rule `{}` wants an assurance of {} at least, and this node's is {}",
                self.name,
                self.assurance.as_str(),
                assurance.as_str()
            );
            return refuse(3, "node-assurance", what);
        }
        self.firmware.admit(&self.name, &claims.attested).map_err(|refusal| (4, refusal))?;
        self.boot.admit(&self.name, claims).map_err(|refusal| (5, refusal))?;
        self.fits(claims).map_err(|what| (6, Refusal::new("node-reference", what)))?;
        if let Some(rego) = &self.rego {
            let allowed = rego.admit(&claims.as_input(self.domain.as_str()));
            allowed
                .map_err(|what| (7, Refusal::new("node-rego", format!("rule `{}`: {what}", self.name))))?;
        }
        let spiffe_id = self.id(endorsement, name).map_err(|what| (8, Refusal::new("id-malformed", what)))?;
        let lifetime = self.lifetimes.iter().find(|(of, _)| *of == assurance).map(|(_, lifetime)| *lifetime);
        Ok(Admitted {
            rule: self.name.clone(),
            domain: self.domain.clone(),
            profile: self.profile.clone(),
            spiffe_id,
            lifetime,
        })
    }

    /// Whether one of the reference sets fits wholly; otherwise what differs from the nearest.
    fn fits(&self, claims: &Claims) -> Result<(), String> {
        let Some(references) = &self.references else { return Ok(()) };
        let differences = references.iter().map(|set| (set.name(), set.differences(claims)));
        match differences.min_by_key(|(_, differences)| differences.len()) {
            Some((_, differences)) if differences.is_empty() => Ok(()),
            Some((nearest, differences)) => Err(format!(
                "no reference set of rule `{}` fits; from the nearest, `{nearest}`, differ: {}",
                self.name,
                differences.join("; ")
            )),
            None => Err(format!("rule `{}` names no reference set", self.name)),
        }
    }

    /// The SPIFFE ID of a TPM. Whatever is put into it is one segment.
    fn id(&self, endorsement: Digest, name: &str) -> Result<SpiffeId, String> {
        if name.contains('/') {
            return Err(format!("the name `{name}` is more than one segment of a SPIFFE ID"));
        }
        let text = self.spiffe_id.replace(ENDORSEMENT, &endorsement.to_string()).replace(NAME, name);
        let id = parse_spiffe_id(&text).map_err(|error| format!("spiffe-id: {error}"))?;
        if *id.trust_domain() != self.domain {
            return Err(format!("spiffe-id: {id} is not of the domain `{}`", self.domain.as_str()));
        }
        match is_reserved(&id) || id.path().is_empty() {
            true => Err(format!("spiffe-id: {id} is reserved, or has no path")),
            false => Ok(id),
        }
    }
}

/// The sets of these names.
fn chosen(names: &[String], known: &[Reference]) -> Result<Vec<Reference>, String> {
    if names.is_empty() {
        return Err("references names no set, so that no node would fit".to_owned());
    }
    let find = |name: &String| {
        let found = known.iter().find(|set| set.name() == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<_> = known.iter().map(Reference::name).collect();
            format!("there is no reference set `{name}`; known are {}", names.join(", "))
        })
    };
    names.iter().map(find).collect()
}

fn digest(text: &str) -> Result<Digest, String> {
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let bytes = hex::decode(text).ok().filter(|_| lower).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Digest).ok_or_else(|| format!("`{text}` is no SHA-256 in lower-case hexadecimal"))
}
