//! The devices of a ceremony: found by the names that plan and environment give them, and recognised.

use std::sync::Arc;

use undercroft_ca::plan::{Mode, Plan, PlannedKey};
use undercroft_cli::{Environment, Failure};
use undercroft_keymgr::{ErrorKind, Key, KeyManager, KeyUri, Pkcs11Uri, TokenIdentity, Tokens};

/// The key manager of a planned key's device, and the key's URI.
pub(crate) fn locate(
    tokens: &Tokens,
    planned: &PlannedKey,
) -> Result<(Arc<dyn KeyManager>, KeyUri), Failure> {
    let device = tokens.device(&planned.device)?;
    let uri = match &device.uri {
        KeyUri::Pkcs11(uri) => {
            KeyUri::Pkcs11(Pkcs11Uri { object: Some(planned.label.clone()), ..uri.clone() })
        }
        KeyUri::Tpm(_) => {
            return Err(Failure::usage(format!(
                "the plan wants the key `{}` in device `{}`, which is a TPM: keys there have handles and no labels. Use a PKCS#11 token for roots",
                planned.label, planned.device
            )));
        }
        KeyUri::AwsKms(_) | KeyUri::GcpKms(_) | KeyUri::AzureKv(_) => {
            return Err(Failure::usage(format!(
                "the plan wants the key `{}` in device `{}`, which is a cloud's, and a ceremony is offline. Use a PKCS#11 token for roots",
                planned.label, planned.device
            )));
        }
    };
    Ok((tokens.manager(device)?, uri))
}

/// The key, if it is there.
pub(crate) async fn find(tokens: &Tokens, planned: &PlannedKey) -> Result<Option<Key>, Failure> {
    let (manager, uri) = locate(tokens, planned)?;
    match manager.open(&uri, planned.algorithm).await {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A device that is what the plan says.
pub(crate) struct Recognised {
    pub(crate) name: String,
    pub(crate) identity: TokenIdentity,
}

impl Recognised {
    /// As the transcript has it.
    pub(crate) fn in_words(&self) -> String {
        format!("{}: {}", self.name, self.identity)
    }
}

/// Every device that a plan with terms names, as it says of itself. In a rehearsal, whose devices are simulators, model and
/// firmware are written down and not compared.
pub(crate) async fn recognise(plan: &Plan, environment: &Environment) -> Result<Vec<Recognised>, Failure> {
    let Some(terms) = plan.terms() else { return Ok(Vec::new()) };
    let mut recognised = Vec::new();
    for planned in &terms.devices {
        let device = environment.tokens.device(&planned.name)?;
        let identity = environment.tokens.manager(device)?.identity().await?;
        if plan.mode() == Mode::Production {
            if !matches!(&device.uri, KeyUri::Pkcs11(uri) if uri.serial.is_some()) {
                return Err(Failure::usage(format!(
                    "device `{}`: the environment must name its serial number; write pkcs11:token=…;serial={}",
                    planned.name, identity.serial
                )));
            }
            if (&identity.model, &identity.firmware) != (&planned.model, &planned.firmware) {
                return Err(Failure::refused(format!(
                    "device `{}` is a {identity}, and the plan says {}, firmware {}; connect the device of the plan, or have another plan approved",
                    planned.name, planned.model, planned.firmware
                )));
            }
        }
        recognised.push(Recognised { name: planned.name.clone(), identity });
    }
    Ok(recognised)
}
