//! Versions of a key, and which of them sign.

use azure_core::time::OffsetDateTime;
use azure_security_keyvault_keys::models::{Key, KeyAttributes, KeyProperties, KeyType as AzureKeyType};
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use super::jwk;

/// A version as the vault lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// 32 hexadecimal digits.
    pub(super) id: String,
    /// Why it does not sign now; nothing if it does.
    pub(super) unusable: Option<String>,
}

impl Listed {
    /// `now` is the vault's own clock, which decides when it is asked to sign.
    pub(super) fn of(properties: KeyProperties, now: Option<OffsetDateTime>) -> Self {
        let kid = properties.kid.unwrap_or_default();
        let attributes = properties.attributes.unwrap_or_default();
        Self {
            id: kid.rsplit('/').next().unwrap_or_default().to_owned(),
            unusable: unusable(&attributes, now),
        }
    }

    fn told(&self) -> String {
        format!("{} {}", self.id, self.unusable.as_deref().unwrap_or("enabled"))
    }
}

fn unusable(attributes: &KeyAttributes, now: Option<OffsetDateTime>) -> Option<String> {
    if attributes.enabled == Some(false) {
        return Some("disabled".into());
    }
    match (now?, attributes.not_before, attributes.expires) {
        (now, Some(begins), _) if now < begins => Some(format!("not valid before {begins}")),
        (now, _, Some(ends)) if now >= ends => Some(format!("expired since {ends}")),
        _ => None,
    }
}

/// The version that a key stands for: the one that the URI names, or the only one that signs.
///
/// # Errors
/// `NotFound` if there is none, or several sign; `Denied` if it does not sign, with why.
pub(super) fn choose(versions: &[Listed], named: Option<&str>, subject: &str) -> Result<Listed, Error> {
    let all = || versions.iter().map(Listed::told).collect::<Vec<_>>().join(", ");
    if let Some(named) = named {
        let found = versions.iter().find(|version| version.id == named);
        let found = found.ok_or_else(|| {
            let message = format!("{subject} is not there; the versions of the key are: {}", all());
            Error::new(ErrorKind::NotFound, message)
        })?;
        return match &found.unusable {
            None => Ok(found.clone()),
            Some(why) => Err(Error::new(
                ErrorKind::Denied,
                format!("{subject} is {why}; the vault signs with it no more than with none"),
            )),
        };
    }
    let mut usable = versions.iter().filter(|version| version.unusable.is_none());
    match (usable.next(), usable.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::NotFound,
            format!("{subject} has more than one version that signs ({}); add version=… to the URI", all()),
        )),
        (None, _) => {
            Err(Error::new(ErrorKind::Denied, format!("{subject} has no version that signs: {}", all())))
        }
    }
}

/// Refuses a key that does not sign as expected, or may leave its vault.
///
/// # Errors
/// `Denied` if it may leave or does not sign, `Unsupported` if it is of another kind, `Fault` if its answer is about
/// another.
pub(super) fn must_sign(
    key: &Key,
    kid: &str,
    algorithm: KeyAlgorithm,
    subject: &str,
) -> Result<PublicKey, Error> {
    let error = |kind, what: String| Err(Error::new(kind, format!("{subject} {what}")));
    let web_key = key.key.clone().unwrap_or_default();
    if web_key.kid.as_deref() != Some(kid) {
        return error(ErrorKind::Fault, format!("was asked for as {kid} and came as {:?}", web_key.kid));
    }
    if key.attributes.as_ref().and_then(|attributes| attributes.exportable) == Some(true)
        || key.release_policy.is_some()
    {
        return error(
            ErrorKind::Denied,
            "is exportable: the vault gives it out under its release policy; use a key that is not".into(),
        );
    }
    if !web_key.key_ops.iter().flatten().any(|operation| operation == "sign") {
        return error(
            ErrorKind::Denied,
            format!("does not sign: its key_ops are {:?}", web_key.key_ops.unwrap_or_default()),
        );
    }
    let public_key = match jwk::public_key(&web_key) {
        Ok(public_key) => public_key,
        Err(why) => return error(ErrorKind::Unsupported, format!("is a key that is not used here: {why}")),
    };
    match public_key.key_type() == algorithm.key_type() {
        true => Ok(public_key),
        false => error(
            ErrorKind::Unsupported,
            format!(
                "is a {} key, but {algorithm} was expected; correct the algorithm or the URI",
                public_key.key_type()
            ),
        ),
    }
}

/// Whether the vault says that an HSM holds the key.
pub(super) fn is_in_hsm(key: &Key) -> bool {
    let kty = key.key.as_ref().and_then(|key| key.kty.clone());
    matches!(kty, Some(AzureKeyType::EcHsm | AzureKeyType::RsaHsm))
}
