//! Keys in Google Cloud KMS, by Google's own library.
//!
//! A device is a key ring. A key made here has one version, 1, in an HSM; a key with several usable versions is
//! refused unless the URI names one, since Google's rotation makes versions behind our back. Digests go out with their
//! CRC-32C, and what comes back is believed only if Google says that it has checked it, the signature's own checksum is
//! right, and the answer names the version that was asked.

mod credentials;
mod custody;
mod error;
mod key;
mod ring;
mod version;

use std::sync::Arc;

use undercroft_keymgr::{Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Secrecy};

pub use custody::CUSTODY_FORMAT;

use ring::Ring;

/// The backend of `gcpkms:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcpKmsBackend {
    /// With [`Secrecy::Strict`], credentials that somebody wrote into a file or the environment are refused, with where
    /// they were found.
    pub secrecy: Secrecy,
}

impl Backend for GcpKmsBackend {
    fn scheme(&self) -> Scheme {
        Scheme::GcpKms
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::GcpKms(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no key ring of Google's: {}", device.name, device.uri),
            ));
        };
        Ok(Arc::new(Ring::open(device, uri, self.secrecy)?))
    }
}
