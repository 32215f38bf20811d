//! Versions of a key: which algorithms they sign by, and in which states they sign.

use google_cloud_kms_v1::model::CryptoKeyVersion;
use google_cloud_kms_v1::model::crypto_key_version::{
    CryptoKeyVersionAlgorithm as Google, CryptoKeyVersionState as State,
};
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{KeyAlgorithm, RsaBits};

/// What Google calls an algorithm of ours. Google binds padding and digest to the key, as we do.
pub(super) fn to_google(algorithm: KeyAlgorithm) -> Google {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Google::EcSignP256Sha256,
        KeyAlgorithm::EcdsaP384 => Google::EcSignP384Sha384,
        KeyAlgorithm::RsaPss(RsaBits::B2048) => Google::RsaSignPss2048Sha256,
        KeyAlgorithm::RsaPss(RsaBits::B3072) => Google::RsaSignPss3072Sha256,
        KeyAlgorithm::RsaPss(RsaBits::B4096) => Google::RsaSignPss4096Sha256,
        KeyAlgorithm::RsaPkcs1(RsaBits::B2048) => Google::RsaSignPkcs12048Sha256,
        KeyAlgorithm::RsaPkcs1(RsaBits::B3072) => Google::RsaSignPkcs13072Sha256,
        KeyAlgorithm::RsaPkcs1(RsaBits::B4096) => Google::RsaSignPkcs14096Sha256,
        KeyAlgorithm::Ed25519 => Google::EcSignEd25519,
    }
}

/// The version that a key stands for: the only one that can sign.
///
/// # Errors
/// `NotFound` if several can; `Denied` if none can, with the state of each; `Unavailable` if one is being made.
pub(super) fn only_usable(versions: Vec<CryptoKeyVersion>, subject: &str) -> Result<CryptoKeyVersion, Error> {
    let states: Vec<_> = versions
        .iter()
        .map(|version| format!("{} {}", number(&version.name), name(&version.state)))
        .collect();
    let pending = versions.iter().any(|version| version.state == State::PendingGeneration);
    let mut usable = versions.into_iter().filter(|version| version.state == State::Enabled);
    match (usable.next(), usable.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "{subject} has more than one version that signs ({}); add version=… to the URI",
                states.join(", ")
            ),
        )),
        (None, _) => Err(Error::new(
            if pending { ErrorKind::Unavailable } else { ErrorKind::Denied },
            match states.is_empty() {
                true => format!("{subject} has no version"),
                false => format!("{subject} has no version that signs: {}", states.join(", ")),
            },
        )),
    }
}

/// Refuses a version that cannot sign, or signs in another way.
///
/// # Errors
/// `Denied` for its state, `Unavailable` if it is being made, `Unsupported` for its algorithm.
pub(super) fn must_sign(
    version: &CryptoKeyVersion,
    algorithm: KeyAlgorithm,
    subject: &str,
) -> Result<(), Error> {
    match version.state {
        State::Enabled => {}
        State::PendingGeneration => {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{subject} is being made (PENDING_GENERATION); try again in a moment"),
            ));
        }
        _ => {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "{subject} is in the state {}, and signs only when ENABLED; restore or enable it, or name another key",
                    name(&version.state)
                ),
            ));
        }
    }
    match version.algorithm == to_google(algorithm) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{subject} is a key for {}, but {algorithm} was expected; correct the algorithm or the URI",
                version.algorithm.name().unwrap_or("an algorithm without a name")
            ),
        )),
    }
}

/// The number at the end of a version's name.
pub(super) fn number(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

fn name(state: &State) -> &str {
    state.name().unwrap_or("a state without a name")
}
