//! Lint before any key is made: every object of the plan, built for throwaway keys of the same algorithms.

use std::collections::BTreeMap;
use std::sync::Arc;

use undercroft_ca::plan::{Keys, Plan, PlannedKey, StepError};
use undercroft_cli::{Failure, Progress};
use undercroft_keymgr::{SigningKey, Tokens};

use crate::requests::Request;

/// How many objects there are to lint.
pub(crate) fn objects(plan: &Plan) -> u64 {
    plan.steps().iter().filter(|step| step.signer().is_some()).count() as u64
}

/// Builds and lints everything that the plan will have signed. Whatever has no request yet has a throwaway key, too.
///
/// Each root's device makes a throwaway key of the planned algorithm and signs with it, so that a device which cannot
/// do what the plan wants is found now.
pub(crate) async fn lint(
    plan: &Plan,
    tokens: &Tokens,
    requests: &[Request<'_>],
    bar: &Progress,
) -> Result<(), Failure> {
    let mut roots: BTreeMap<&str, Arc<dyn SigningKey>> = BTreeMap::new();
    let mut keys = Keys::default();
    for root in plan.roots() {
        let key = throwaway(tokens, root.key()).await.map_err(|failure| failure.during(root.name()))?;
        keys.roots.insert(root.name().to_owned(), key.public_key().clone());
        roots.insert(root.name(), key);
    }
    for requested in plan.requested() {
        let request = requests.iter().find(|request| request.of.name == requested.name);
        let root = plan.root(requested.issuer);
        let own = match (request, root) {
            (Some(request), _) => (request.csr.public_key().clone(), Some(request.csr.digest())),
            // A throwaway key of the root's device serves: what is linted is the certificate, not the device.
            (None, Some(root)) => {
                let planned = PlannedKey { algorithm: requested.algorithm, ..root.key().clone() };
                (throwaway(tokens, &planned).await?.public_key().clone(), None)
            }
            (None, None) => continue,
        };
        keys.requests.insert(requested.name.to_owned(), own);
    }
    for step in plan.steps() {
        let prepared = step.prepare(plan, &keys, 1).map_err(|error| refused(step.name(), &error))?;
        let (Some(prepared), Some(key)) = (prepared, step.signer().and_then(|name| roots.get(name))) else {
            continue;
        };
        let signature = key.sign(prepared.to_be_signed()).await?;
        key.public_key()
            .verify(key.algorithm().signature_algorithm(), prepared.to_be_signed(), &signature)
            .map_err(|error| Failure::failed(format!("`{}`: a throwaway key: {error}", step.name())))?;
        bar.advance(1);
    }
    Ok(())
}

async fn throwaway(tokens: &Tokens, planned: &PlannedKey) -> Result<Arc<dyn SigningKey>, Failure> {
    let device = tokens.device(&planned.device)?;
    Ok(tokens.manager(device)?.throwaway(planned.algorithm).await?)
}

/// The plan wants something that lint refuses: it is the plan that must change.
pub(crate) fn refused(artefact: &str, error: &StepError) -> Failure {
    Failure::usage(format!("`{artefact}` in the plan: {error}"))
}
