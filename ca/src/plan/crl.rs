//! CRLs of a plan.

use undercroft_keys::PublicKey;

use super::config::CrlConfig;
use super::terms::{decision, find, follows, output, timestamp};
use super::{Plan, Root};
use crate::issuance::{PrepareError, Prepared};
use crate::profile::{Kind, Profile};
use crate::serial::SerialNumber;
use crate::tbs::{CrlScope, CrlSpec, Issuer, Revoked};
use crate::time::Validity;

/// A CRL that the ceremony signs.
#[derive(Clone, Debug)]
pub struct Crl {
    name: String,
    issuer: String,
    number: u64,
    period: Validity,
    revoked: Vec<Revoked>,
    pub(super) follows: String,
    output: String,
}

impl Crl {
    pub(super) fn new(config: CrlConfig, roots: &[Root]) -> Result<Self, String> {
        let root = find(roots, &config.issuer)?;
        let period = Validity::new(timestamp(&config.this_update)?, timestamp(&config.next_update)?)
            .map_err(|error| error.to_string())?;
        if !root.validity.covers(&period) {
            return Err(format!("its period ({period}) is not within the validity of `{}`", config.issuer));
        }
        let revoked = config
            .revoked
            .into_iter()
            .map(|revoked| {
                let mut bytes = [0; 16];
                let serial = hex::decode_to_slice(&revoked.serial, &mut bytes)
                    .ok()
                    .and_then(|()| SerialNumber::from_bytes(bytes));
                Ok(Revoked {
                    serial: serial
                        .ok_or_else(|| format!("`{}` is no serial number of ours", revoked.serial))?,
                    date: timestamp(&revoked.date)?,
                    reason: revoked.reason,
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            name: config.name,
            issuer: config.issuer,
            number: config.number,
            period,
            revoked,
            follows: follows(config.follows)?,
            output: output(config.output)?,
        })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// thisUpdate and nextUpdate.
    pub fn period(&self) -> Validity {
        self.period
    }

    /// The name of its root in the plan.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The file that it is written to, relative to the output folder.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Builds and lints it, to be signed by `root_key`.
    ///
    /// # Errors
    /// Lint refuses it.
    pub fn prepare(
        &self,
        plan: &Plan,
        issuer: &Issuer,
        root_key: &PublicKey,
    ) -> Result<Prepared, PrepareError> {
        let spec = CrlSpec {
            issuer,
            number: self.number,
            period: self.period,
            revoked: &self.revoked,
            scope: CrlScope::default(),
        };
        let domains = plan.root(&self.issuer).map(Root::domains_in_words).unwrap_or_default();
        let mut decision = decision(plan, &domains, &Profile::standard(Kind::Root), &self.name, None);
        decision.profile = "crl".to_owned();
        Prepared::crl(&spec, root_key, decision)
    }
}
