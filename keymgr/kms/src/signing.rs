//! What is looked at before the signature of a cloud's key is believed.

use std::sync::atomic::{AtomicU64, Ordering};

use undercroft_keymgr::{Error, ErrorKind, ToSign};
use undercroft_keys::{KeyAlgorithm, PublicKey};

/// Remembers since when a key has shown that it is the one which was opened. Until it has, after opening it and after
/// each outage, its signatures are verified before they are given out.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// One more than the number of outages before the signature that was verified last.
    before: AtomicU64,
}

impl Shown {
    /// Gives out a signature that was asked for after `outages` (of `Calls::outages`, read before the call).
    ///
    /// # Errors
    /// `Fault` if it had to be verified and is not the key's.
    pub(crate) fn release(
        &self,
        outages: u64,
        (algorithm, key): (KeyAlgorithm, &PublicKey),
        signed: &ToSign,
        signature: Vec<u8>,
        subject: &str,
    ) -> Result<Vec<u8>, Error> {
        if self.before.load(Ordering::SeqCst) > outages {
            return Ok(signature);
        }
        signed.verify(key, algorithm, &signature).map_err(|error| {
            let message = format!(
                "the first signature by {subject} does not verify under its public key; it is not given out"
            );
            Error::with_source(ErrorKind::Fault, message, error)
        })?;
        self.before.fetch_max(outages + 1, Ordering::SeqCst);
        Ok(signature)
    }
}
