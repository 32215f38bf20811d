//! What a key of a cloud signs, and what is looked at before a signature is believed.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::calls::Calls;

/// The digest that `algorithm` signs; none for Ed25519, which signs the message itself.
pub(crate) fn message_digest(algorithm: KeyAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
    let hash = match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::RsaPss(_) | KeyAlgorithm::RsaPkcs1(_) => &SHA256,
        KeyAlgorithm::EcdsaP384 => &SHA384,
        KeyAlgorithm::Ed25519 => return None,
    };
    Some(digest(hash, message).as_ref().to_vec())
}

/// Remembers since when a key has shown that it is the one which was opened. Until it has, after opening it and after
/// each outage, its signatures are verified before they are given out.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// One more than the number of outages before the signature that was verified last.
    before: AtomicU64,
}

impl Shown {
    /// Gives out a signature that was asked for after `outages` (of [`Calls::outages`], read before the call).
    ///
    /// # Errors
    /// `Fault` if it had to be verified and is not the key's.
    pub(crate) fn release(
        &self,
        outages: u64,
        (algorithm, key): (KeyAlgorithm, &PublicKey),
        message: &[u8],
        signature: Vec<u8>,
        subject: &str,
    ) -> Result<Vec<u8>, Error> {
        if self.before.load(Ordering::SeqCst) > outages {
            return Ok(signature);
        }
        key.verify(algorithm.signature_algorithm(), message, &signature).map_err(|error| {
            Error::with_source(
                ErrorKind::Fault,
                format!("the first signature by {subject} does not verify under its public key; it is not given out"),
                error,
            )
        })?;
        self.before.fetch_max(outages + 1, Ordering::SeqCst);
        Ok(signature)
    }
}
