//! Statements of a plan about the roots that a domain's bundle may hold.

use super::config::BundleStatementConfig;
use super::terms::{find, follows, output, timestamp};
use super::{Plan, Root};
use crate::certificate::AuthorityCertificate;
use crate::names::{TrustDomain, parse_trust_domain};
use crate::roots_statement::RootsStatement;
use crate::time::Validity;

/// A statement about roots, which the ceremony writes and its quorum approves.
#[derive(Clone, Debug)]
pub struct BundleStatement {
    name: String,
    domain: TrustDomain,
    number: u64,
    roots: Vec<String>,
    certificates: Vec<AuthorityCertificate>,
    validity: Validity,
    pub(super) follows: String,
    output: String,
}

impl BundleStatement {
    pub(super) fn new(config: BundleStatementConfig, roots: &[Root]) -> Result<Self, String> {
        // Its approval's files are called by it.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if config.name.is_empty() || !config.name.bytes().all(is_plain) {
            return Err("its name is that of a file, too; write it with letters, digits, `-` and `_`".into());
        }
        let domain = parse_trust_domain(&config.domain).map_err(|error| error.to_string())?;
        if config.number == 0 {
            return Err("its number is 0; the first is 1, and each is greater than the one before".into());
        }
        for (at, name) in config.roots.iter().enumerate() {
            if !find(roots, name)?.domains.contains(&domain) {
                return Err(format!("`{name}` is no root of the domain `{}`; take it out", config.domain));
            }
            if config.roots[..at].contains(name) {
                return Err(format!("its roots name `{name}` twice"));
            }
        }
        let mut certificates = Vec::new();
        for pem in &config.certificates {
            let certificate = AuthorityCertificate::from_pem(pem).map_err(|error| error.to_string())?;
            if !certificate.is_self_signed() {
                return Err(format!(
                    "its certificate of {} is no root's: it does not verify under its own key",
                    certificate.subject()
                ));
            }
            let existing = roots.iter().filter(|root| config.roots.contains(&root.name));
            if certificates.contains(&certificate)
                || existing.filter_map(Root::certificate).any(|root| *root == certificate)
            {
                return Err(format!("it names the root {} twice", certificate.subject()));
            }
            certificates.push(certificate);
        }
        if config.roots.is_empty() && certificates.is_empty() {
            return Err("it names no root; give it roots of this plan, or certificates of others".into());
        }
        Ok(Self {
            name: config.name,
            domain,
            number: config.number,
            roots: config.roots,
            certificates,
            validity: Validity::new(timestamp(&config.not_before)?, timestamp(&config.not_after)?)
                .map_err(|error| error.to_string())?,
            follows: follows(config.follows)?,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain whose bundle it is about.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its number: of several about a domain the greatest counts.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The roots of the plan that it names.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The certificates of other roots that it names.
    pub fn certificates(&self) -> &[AuthorityCertificate] {
        &self.certificates
    }

    /// From when until when it is good.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The statement, once the certificates of the plan's roots are known: `made` gives those that the ceremony has made.
    ///
    /// # Errors
    /// The name of a root whose certificate is not known.
    pub fn statement(
        &self,
        plan: &Plan,
        made: impl Fn(&str) -> Option<AuthorityCertificate>,
    ) -> Result<RootsStatement, String> {
        let of = |name: &String| {
            let existing = plan.root(name).and_then(Root::certificate).cloned();
            existing.or_else(|| made(name)).ok_or_else(|| name.clone())
        };
        let own = self.roots.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> = own.iter().chain(&self.certificates).collect();
        Ok(RootsStatement::new(&self.domain, self.number, &all, self.validity))
    }

    /// Whether a statement is this one, whatever certificates it names.
    pub fn is_of(&self, stated: &RootsStatement) -> bool {
        (stated.domain.as_str(), stated.number) == (self.domain.as_str(), self.number)
            && (stated.begins, stated.ends) == (self.validity.not_before(), self.validity.not_after())
            && stated.roots.len() == self.roots.len() + self.certificates.len()
    }

    /// The name of the quorum's approval: `<name>.json` and `<name>.<person>.sig`.
    pub fn approval(&self) -> String {
        format!("statement-{}", self.name)
    }
}
