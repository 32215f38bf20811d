//! Keys in Azure Key Vault and Managed HSM, by Microsoft's own library.
//!
//! A device is a vault. A key made here has one version, in an HSM; a key with several usable versions is refused
//! unless the URI names one, since a vault's rotation makes versions behind our back. The library sends its requests
//! through our own connections (`transport.rs`), so that no second HTTP client and no second TLS comes with it, and no
//! token goes to another host than the vault.

mod credentials;
mod custody;
mod error;
mod jwk;
mod key;
mod transport;
mod vault;
mod version;

use std::sync::Arc;

use undercroft_keymgr::{Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Secrecy};

pub use custody::CUSTODY_FORMAT;
use vault::Vault;

/// The backend of `azurekv:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct AzureKvBackend {
    /// With [`Secrecy::Strict`], credentials that somebody wrote into a file or the environment are refused, with where
    /// they were found.
    pub secrecy: Secrecy,
}

impl Backend for AzureKvBackend {
    fn scheme(&self) -> Scheme {
        Scheme::AzureKv
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::AzureKv(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no vault of Azure's: {}", device.name, device.uri),
            ));
        };
        Ok(Arc::new(Vault::open(device, uri, self.secrecy)?))
    }
}
