//! Ceremony plans: one strict TOML file that says what will exist and who signs it.
//!
//! A plan holds no paths of machines, no slots and no PINs: those are in the environment, so that the plan is
//! byte-identical from review to production and its digest can be read aloud.
//!
//! ```toml
//! version = 1
//! title = "First ceremony of Example"
//! operator = "ca.example"
//! name = "2026-11"                       # the transcript's origin is ca.example/undercroft/ceremony/2026-11/1
//! policy-arc = "1.3.6.1.4.1.32473.1"
//! transcript = { device = "roots", label = "ceremony-log" }
//! entropy = "…"                          # 32 random bytes: serial numbers come from them
//!
//! [[root]]
//! name = "prod-root"
//! domains = ["prod.example"]
//! key = { device = "roots", label = "prod-root-r1", algorithm = "ecdsa-p384" }
//! subject = { organization = "Example", common-name = "prod.example Root R1" }
//! not-before = 2026-11-22T00:00:00Z
//! not-after = 2046-11-22T00:00:00Z
//! urls = { crl = "http://pki.ca.example/prod/root.crl", certificate = "http://pki.ca.example/prod/root.cer" }
//! follows = "CP 1.0 section 7.1.1"
//! output = "prod.example/root.pem"
//!
//! [[intermediate]]
//! name = "prod-intermediate"
//! domain = "prod.example"
//! issuer = "prod-root"
//! request = "prod.example/intermediate"  # .csr.pem and .custody.json, made where the key lives
//! …
//! ```

mod bundle_statement;
mod config;
mod corporate;
mod crl;
mod cross_certificate;
mod entropy;
mod hands;
mod intermediate;
mod ocsp_signer;
mod requested;
mod root;
mod steps;
mod terms;

use std::collections::BTreeSet;

use undercroft_attestors::chain::Anchors;
use undercroft_attestors::custody::{CardAnchors, Demand, HsmAnchors};
use undercroft_attestors::trust::Trust;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::leaf::Digest;
use undercroft_log::note::KeyName;

pub use bundle_statement::BundleStatement;
use config::PlanConfig;
pub use config::PlannedKey;
pub use corporate::{CertificateRequest, Import};
pub use crl::Crl;
pub use cross_certificate::CrossCertificate;
use entropy::PlanEntropy;
pub use hands::{Destruction, Manual, PlannedDevice, When, Window};
pub use intermediate::Intermediate;
pub use ocsp_signer::OcspSigner;
pub use requested::Requested;
pub use root::Root;
pub use steps::{Keys, Step, StepError, What};

use crate::approval::Roster;
use crate::certificate::AuthorityCertificate;
use crate::log_key::{LogOf, origin};
use crate::names::TrustDomain;
use crate::profile::PolicyArc;
use crate::serial::{NoEntropy, SerialNumber};
use crate::strict_toml::{self, TomlError};

/// The version of plans that this program reads.
const VERSION: u32 = 1;

/// The longest plan that is read: it should be short enough for a witness to read.
const MAX_PLAN: usize = 256 * 1024;

/// A plan whose parts agree with each other.
#[derive(Clone, Debug)]
pub struct Plan {
    text: String,
    digest: Digest,
    title: String,
    name: String,
    operator: String,
    origin: KeyName,
    mode: Mode,
    entropy: PlanEntropy,
    terms: Option<Terms>,
    previous: Option<Digest>,
    policy_arc: PolicyArc,
    custody: Demand,
    activators: Vec<WitnessKey>,
    endorsement_anchors: Vec<Digest>,
    transcript: PlannedKey,
    roots: Vec<Root>,
    intermediates: Vec<Intermediate>,
    ocsp_signers: Vec<OcspSigner>,
    crls: Vec<Crl>,
    bundle_statements: Vec<BundleStatement>,
    cross_certificates: Vec<CrossCertificate>,
    certificate_requests: Vec<CertificateRequest>,
    imports: Vec<Import>,
    manual: Vec<Manual>,
    destructions: Vec<Destruction>,
}

/// Whether a ceremony counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Production,
    /// It is a rehearsal, with keys that nobody trusts.
    Rehearsal,
}

/// On what terms a plan may be carried out. A plan without any is only carried out in development mode.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who approves it, and its result.
    pub roster: Roster,
    /// Who asks for it, and so does not approve.
    pub requester: String,
    /// When.
    pub window: Window,
    /// With which devices.
    pub devices: Vec<PlannedDevice>,
    /// Whether the next ceremony is rehearsed, from what this one has made, before this one closes.
    pub rehearse_next: bool,
}

impl Plan {
    /// Reads a plan from the text of the file `file`.
    ///
    /// # Errors
    /// It is no TOML of a plan, or contradicts itself; the error names the artefact and what to change.
    pub fn parse(file: &str, text: &str) -> Result<Self, PlanError> {
        if text.len() > MAX_PLAN {
            return Err(PlanError::TooLong(text.len()));
        }
        let config: PlanConfig = strict_toml::parse(file, text)?;
        if config.version != VERSION {
            return Err(PlanError::Version(config.version));
        }
        let wrong =
            |artefact: &str, what: String| PlanError::Artefact { artefact: artefact.to_owned(), what };
        let origin = origin(&config.operator, LogOf::Ceremony(&config.name), 1)
            .map_err(|error| wrong("plan", error.to_string()))?;
        let mut roots = each(config.existing_roots, |it| it.name.clone(), Root::existing)?;
        roots.extend(each(config.roots, |it| it.name.clone(), Root::new)?);
        let intermediates =
            each(config.intermediates, |it| it.name.clone(), |it| Intermediate::new(it, &roots))?;
        let ocsp_signers = each(config.ocsp_signers, |it| it.name.clone(), |it| OcspSigner::new(it, &roots))?;
        let bundle_statements =
            each(config.bundle_statements, |it| it.name.clone(), |it| BundleStatement::new(it, &roots))?;
        let crls = each(config.crls, |it| it.name.clone(), |it| Crl::new(it, &roots))?;
        let cross_certificates =
            each(config.cross_certificates, |it| it.name.clone(), |it| CrossCertificate::new(it, &roots))?;
        let certificate_requests = each(
            config.certificate_requests,
            |it| it.name.clone(),
            |it| CertificateRequest::new(it, &roots),
        )?;
        let imports = each(config.imports, |it| it.name.clone(), |it| Import::new(it, &roots))?;
        let manual = each(config.manual, |it| it.name.clone(), Manual::new)?;
        let destructions = each(config.destructions, |it| it.name.clone(), Destruction::new)?;
        let terms = match (config.roster, config.requester, config.window) {
            (Some(roster), Some(requester), Some(window)) => Some(Terms {
                roster: Roster::new(roster).map_err(|error| wrong("roster", error.to_string()))?,
                requester,
                window: Window::new(&window).map_err(|what| wrong("window", what))?,
                devices: config.devices.into_iter().map(PlannedDevice::new).collect(),
                rehearse_next: config.rehearse_next,
            }),
            (None, None, None) if config.devices.is_empty() && !config.rehearse_next => None,
            _ => {
                return Err(wrong(
                    "plan",
                    "roster, requester, window and [[device]] belong together, and rehearse-next wants them: give it all of them, or none for a plan that is only for development".to_owned(),
                ));
            }
        };
        let activators = config.activators.iter().map(|vkey| vkey.parse()).collect::<Result<Vec<_>, _>>();
        let activators = activators.map_err(|error| wrong("activators", format!("{error}")))?;
        let plan = Self {
            digest: Digest::of(text.as_bytes()),
            text: text.to_owned(),
            title: config.title,
            entropy: PlanEntropy::parse(&config.entropy).map_err(|what| wrong("entropy", what))?,
            name: config.name,
            operator: config.operator,
            origin,
            mode: Mode::Production,
            terms,
            previous: config.previous,
            policy_arc: config.policy_arc,
            custody: config.custody,
            activators,
            endorsement_anchors: config.endorsement_anchors,
            transcript: config.transcript.key(),
            roots,
            intermediates,
            ocsp_signers,
            crls,
            bundle_statements,
            cross_certificates,
            certificate_requests,
            imports,
            manual,
            destructions,
        };
        plan.names_are_distinct()?;
        plan.keys_are_distinct()?;
        plan.roots_have_domains_of_their_own()?;
        plan.devices_are_named()?;
        plan.statements_have_a_quorum()?;
        Ok(plan)
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text: what people approve.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The origin of the transcript.
    pub fn origin(&self) -> &KeyName {
        &self.origin
    }

    /// The same plan, to be rehearsed: the same artefacts, and a transcript that cannot be taken for that of the ceremony.
    ///
    /// # Errors
    /// None that the plan's own origin would not have had.
    pub fn rehearsed(mut self) -> Result<Self, PlanError> {
        self.origin = origin(&self.operator, LogOf::Rehearsal(&self.name), 1)
            .map_err(|error| PlanError::Artefact { artefact: "plan".to_owned(), what: error.to_string() })?;
        self.mode = Mode::Rehearsal;
        Ok(self)
    }

    /// Whether it is carried out or rehearsed.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The roots whose keys are still there when it is carried out.
    pub fn staying_roots(&self) -> impl Iterator<Item = &Root> {
        let is_destroyed = |root: &&Root| {
            let place = |key: &PlannedKey| (key.device.clone(), key.label.clone());
            self.destructions.iter().any(|it| place(it.key()) == place(root.key()))
        };
        self.roots.iter().filter(move |root| !is_destroyed(root))
    }

    /// Whether it has this very certificate as that of an existing root.
    pub fn takes_over(&self, certificate: &AuthorityCertificate) -> bool {
        self.roots.iter().any(|root| root.certificate() == Some(certificate))
    }

    /// On what terms it may be carried out.
    pub fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    /// SHA-256 of the text of the last checkpoint of the ceremony before, if there was one.
    pub fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// The serial number of an artefact: the same in a rehearsal and in production, another for each attempt.
    ///
    /// # Errors
    /// None that a digest of the plan's random bytes can cause in practice.
    pub fn serial(&self, artefact: &str, attempt: u32) -> Result<SerialNumber, NoEntropy> {
        SerialNumber::random(&self.entropy.of(artefact, attempt))
    }

    /// The arc of the certificate policies.
    pub fn policy_arc(&self) -> &PolicyArc {
        &self.policy_arc
    }

    /// What custody every key must have, save an intermediate's for which the plan says something else.
    pub fn custody(&self) -> Demand {
        self.custody
    }

    /// Whom the plan believes about TPMs: its activators, and of these manufacturers those that it names by SHA-256.
    ///
    /// # Errors
    /// It names one that is not among them.
    pub fn trust(&self, environment: &Trust) -> Result<Trust, PlanError> {
        let (mut anchors, mut cards) = (Vec::new(), CardAnchors::default());
        for digest in &self.endorsement_anchors {
            let card = environment.cards.with_digest(&digest.0);
            match environment.endorsement.with_digest(&digest.0) {
                Some(anchor) => anchors.push(anchor.clone()),
                None if !card.is_empty() => cards = cards.and(card),
                None => {
                    return Err(PlanError::Artefact {
                        artefact: "endorsement-anchors".to_owned(),
                        what: format!("no certificate in the environment's folder has the SHA-256 {digest}"),
                    });
                }
            }
        }
        Ok(Trust {
            endorsement: Anchors::new(anchors),
            cards,
            activators: self.activators.clone(),
            // A ceremony reaches no cloud.
            hsm: HsmAnchors::default(),
        })
    }

    /// The Ed25519 key that signs the transcript.
    pub fn transcript(&self) -> &PlannedKey {
        &self.transcript
    }

    /// The roots that sign: those that exist, and those that will be made.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The intermediates that will be signed.
    pub fn intermediates(&self) -> &[Intermediate] {
        &self.intermediates
    }

    /// The OCSP signers that will be signed.
    pub fn ocsp_signers(&self) -> &[OcspSigner] {
        &self.ocsp_signers
    }

    /// The statements about roots that the quorum approves.
    pub fn bundle_statements(&self) -> &[BundleStatement] {
        &self.bundle_statements
    }

    /// The statement about a domain's roots that does not count more than that of the ceremony before, if there is one.
    pub fn statement_not_after(&self, before: &Self) -> Option<(&BundleStatement, u64)> {
        self.bundle_statements.iter().find_map(|statement| {
            let old = before.bundle_statements.iter().find(|old| old.domain() == statement.domain())?;
            (statement.number() <= old.number()).then_some((statement, old.number()))
        })
    }

    /// The CRLs that will be signed.
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// The cross-certificates that will be signed.
    pub fn cross_certificates(&self) -> &[CrossCertificate] {
        &self.cross_certificates
    }

    /// The requests that go to other roots.
    pub fn certificate_requests(&self) -> &[CertificateRequest] {
        &self.certificate_requests
    }

    /// The answers to such requests.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// What people do.
    pub fn manual(&self) -> &[Manual] {
        &self.manual
    }

    /// The keys that will be destroyed.
    pub fn destructions(&self) -> &[Destruction] {
        &self.destructions
    }

    /// The root of that name, which the plan's own artefacts refer to.
    pub fn root(&self, name: &str) -> Option<&Root> {
        self.roots.iter().find(|root| root.name() == name)
    }

    fn names_are_distinct(&self) -> Result<(), PlanError> {
        let (mut names, mut outputs) = (BTreeSet::new(), BTreeSet::new());
        for step in self.steps() {
            let name = step.name();
            let twice = |what: &str| PlanError::Artefact { artefact: name.to_owned(), what: what.to_owned() };
            if !names.insert(name) {
                return Err(twice("another artefact has the same name"));
            }
            if step.output().is_some_and(|output| !outputs.insert(output)) {
                return Err(twice("another artefact has the same output"));
            }
        }
        let mut requests = BTreeSet::new();
        for requested in self.requested() {
            if !requests.insert(requested.request) {
                return Err(PlanError::Artefact {
                    artefact: requested.name.to_owned(),
                    what: format!(
                        "another artefact has the request `{}`; each has a key of its own",
                        requested.request
                    ),
                });
            }
        }
        Ok(())
    }

    fn keys_are_distinct(&self) -> Result<(), PlanError> {
        let mut keys = BTreeSet::from([(&self.transcript.device, &self.transcript.label)]);
        for root in &self.roots {
            let key = root.key();
            if !keys.insert((&key.device, &key.label)) {
                return Err(PlanError::Artefact {
                    artefact: root.name().to_owned(),
                    what: format!("its key `{}` in device `{}` is planned twice", key.label, key.device),
                });
            }
        }
        let mut subjects = BTreeSet::new();
        for root in &self.roots {
            if !subjects.insert(root.subject().der().to_vec()) {
                return Err(PlanError::Artefact {
                    artefact: root.name().to_owned(),
                    what: format!(
                        "another root has the subject {}; a new root has a new name",
                        root.subject()
                    ),
                });
            }
        }
        Ok(())
    }

    /// A plan with terms names every device that it uses, as it says of itself.
    fn devices_are_named(&self) -> Result<(), PlanError> {
        let Some(terms) = &self.terms else { return Ok(()) };
        let keys = self.roots.iter().map(|root| (root.name(), root.key()));
        let keys = keys.chain(self.destructions.iter().map(|it| (it.name(), it.key())));
        for (name, key) in keys.chain([("transcript", &self.transcript)]) {
            if !terms.devices.iter().any(|device| device.name == key.device) {
                return Err(PlanError::Artefact {
                    artefact: name.to_owned(),
                    what: format!(
                        "its device `{}` is not in the plan; add a [[device]] with its model and firmware",
                        key.device
                    ),
                });
            }
        }
        Ok(())
    }

    /// What nobody could approve says nothing, and of two statements about a domain one would not count.
    fn statements_have_a_quorum(&self) -> Result<(), PlanError> {
        let mut domains = BTreeSet::new();
        for statement in &self.bundle_statements {
            let wrong =
                |what: String| Err(PlanError::Artefact { artefact: statement.name().to_owned(), what });
            if self.terms.is_none() {
                return wrong("the plan has no roster that could approve it; add [roster], requester, window and [[device]]".into());
            }
            let domain = statement.domain().as_str();
            if !domains.insert(domain) {
                return wrong(format!("another statement of this plan is about `{domain}`; make it one"));
            }
        }
        Ok(())
    }

    /// Each domain has one new root in a plan, and a root for several domains has intermediates with constraints.
    fn roots_have_domains_of_their_own(&self) -> Result<(), PlanError> {
        let mut domains: BTreeSet<&str> = BTreeSet::new();
        for root in self.roots.iter().filter(|root| root.output().is_some()) {
            for domain in root.domains().iter().map(TrustDomain::as_str) {
                if !domains.insert(domain) {
                    return Err(PlanError::Artefact {
                        artefact: root.name().to_owned(),
                        what: format!("the domain `{domain}` has another root in this plan"),
                    });
                }
            }
        }
        for intermediate in &self.intermediates {
            let shared = self.root(intermediate.issuer()).is_some_and(|root| root.domains().len() > 1);
            if shared && intermediate.constraints().is_none() {
                return Err(PlanError::Artefact {
                    artefact: intermediate.name().to_owned(),
                    what: format!(
                        "its root `{}` is shared by several domains, so that it could speak for all of them; give it constraints = {{ dns-names = […] }}, or give each domain a root of its own",
                        intermediate.issuer()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Reads the tables of one kind of artefact.
fn each<C, A>(
    configs: Vec<C>,
    name: impl Fn(&C) -> String,
    read: impl Fn(C) -> Result<A, String>,
) -> Result<Vec<A>, PlanError> {
    configs
        .into_iter()
        .map(|config| {
            let artefact = name(&config);
            read(config).map_err(|what| PlanError::Artefact { artefact, what })
        })
        .collect()
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Longer than a witness would read.
    #[error("the plan has {0} bytes, more than {MAX_PLAN}")]
    TooLong(usize),
    /// No TOML of a plan.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// Another version.
    #[error("the plan has version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// An artefact.
    #[error("`{artefact}` in the plan: {what}")]
    Artefact {
        /// Its name.
        artefact: String,
        /// What is wrong with it, and what to change.
        what: String,
    },
}

#[cfg(test)]
mod tests;
