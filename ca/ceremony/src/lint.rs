//! Lint before any key is made: every object of the plan, built for throwaway keys of the same algorithms.

use std::collections::BTreeMap;
use std::sync::Arc;

use undercroft_ca::plan::{Plan, PlannedKey};
use undercroft_ca::serial::SerialNumber;
use undercroft_cli::system::SystemEntropy;
use undercroft_cli::{Failure, Progress};
use undercroft_keymgr::{SigningKey, Tokens};
use undercroft_keys::PublicKey;

/// How many objects there are to lint.
pub(crate) fn objects(plan: &Plan) -> u64 {
    (plan.roots().len() + plan.intermediates().len() + plan.crls().len()) as u64
}

/// Builds and lints everything that the plan will have signed. `subject_key` gives the key of an intermediate: the
/// real one if it is known already, or else a throwaway one.
///
/// Each root's device makes a throwaway key of the planned algorithm and signs with it, so that a device which cannot
/// do what the plan wants is found now.
pub(crate) async fn lint(
    plan: &Plan,
    tokens: &Tokens,
    subject_key: impl Fn(&str) -> Option<PublicKey>,
    step: &Progress,
) -> Result<(), Failure> {
    let mut roots: BTreeMap<&str, Arc<dyn SigningKey>> = BTreeMap::new();
    for root in plan.roots() {
        let key = throwaway(tokens, root.key()).await.map_err(|failure| failure.during(root.name()))?;
        let prepared =
            root.prepare(plan, key.public_key(), serial()?).map_err(|error| refused(root.name(), &error))?;
        let signature = key.sign(prepared.to_be_signed()).await?;
        key.public_key()
            .verify(key.algorithm().signature_algorithm(), prepared.to_be_signed(), &signature)
            .map_err(|error| Failure::failed(format!("`{}`: a throwaway key: {error}", root.name())))?;
        roots.insert(root.name(), key);
        step.advance(1);
    }
    for intermediate in plan.intermediates() {
        let Some((root, root_key)) = plan.root(intermediate.issuer()).zip(roots.get(intermediate.issuer()))
        else {
            continue;
        };
        let issuer = root.issuer(root_key.public_key());
        // A throwaway key of the root's device serves: what is linted is the certificate, not the device.
        let own = match subject_key(intermediate.name()) {
            Some(key) => key,
            None => {
                let planned = PlannedKey { algorithm: intermediate.algorithm(), ..root.key().clone() };
                throwaway(tokens, &planned).await?.public_key().clone()
            }
        };
        intermediate
            .prepare(plan, &issuer, root_key.public_key(), &own, None, serial()?)
            .map_err(|error| refused(intermediate.name(), &error))?;
        step.advance(1);
    }
    for crl in plan.crls() {
        let Some((root, root_key)) = plan.root(crl.issuer()).zip(roots.get(crl.issuer())) else { continue };
        crl.prepare(plan, &root.issuer(root_key.public_key()), root_key.public_key())
            .map_err(|error| refused(crl.name(), &error))?;
        step.advance(1);
    }
    Ok(())
}

async fn throwaway(tokens: &Tokens, planned: &PlannedKey) -> Result<Arc<dyn SigningKey>, Failure> {
    let device = tokens.device(&planned.device)?;
    Ok(tokens.manager(device)?.throwaway(planned.algorithm).await?)
}

pub(crate) fn serial() -> Result<SerialNumber, Failure> {
    SerialNumber::random(&SystemEntropy).map_err(|error| Failure::failed(error.to_string()))
}

/// The plan wants something that lint refuses: it is the plan that must change.
pub(crate) fn refused(artefact: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("`{artefact}` in the plan: {error}. No key was made"))
}
