//! Keys in TPM 2.0 devices (TCG "TPM 2.0 Library", revision 1.59).
//!
//! Only this crate names `tss_esapi`, and `esys.rs` is the one file of Undercroft that holds `unsafe`: it owns an
//! ESYS context and wraps every command that we use. tss-esapi 7.7's own `Context` hides the pointer that a gated
//! signature needs (a policy session's nonce, PolicySigned and Sign must share one context), so the context is ours
//! from the start; types and templates are tss-esapi's.
//!
//! A TPM executes one command at a time, so each device has one thread. Keys are persistent objects under the
//! owner's storage hierarchy; the few transient slots of a TPM are given back after each use.

mod activation;
mod attestation_key;
mod custody;
mod error;
mod esys;
mod gated;
mod key;
mod ledger;
mod node;
mod survey;
mod template;
mod tpm;

use std::sync::Arc;

use undercroft_keymgr::{Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Sighting};

pub use custody::{CERTIFIED_FORMAT, CUSTODY_FORMAT};
pub use node::{NodeKey, NodeQuote, NodeTpm, Statement};
use tpm::Tpm;

/// The backend of `tpm:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct TpmBackend;

impl Backend for TpmBackend {
    fn scheme(&self) -> Scheme {
        Scheme::Tpm
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::Tpm(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no TPM: {}", device.name, device.uri),
            ));
        };
        Ok(Arc::new(Tpm::open(device, uri)?))
    }

    fn survey(&self) -> Vec<Sighting> {
        survey::survey()
    }
}
