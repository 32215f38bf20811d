//! AWS KMS.
//!
//! A key is found by its alias or its ID and is its ARN from then on: aliases can be made to point elsewhere, and what
//! was opened, shown to be sound and logged is signed with until it is opened again. Asymmetric keys of KMS cannot leave
//! it, but whoever may administer them may let others sign; `custody.rs` collects who that is.

mod credentials;
mod custody;
mod error;
mod key;
mod keys;
mod service;

use std::sync::Arc;

use undercroft_keymgr::{Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Secrecy, Sighting};

pub use custody::CUSTODY_FORMAT;
use keys::AwsKms;
use service::Service;

/// The backend of `awskms:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsKmsBackend {
    /// With [`Secrecy::Strict`], only credentials that AWS itself gives to this machine or workload are used, and which
    /// it changes by itself: those of a web identity, a container's or an instance's role. Keys in the environment or in
    /// the files of a profile are refused, with where they were found.
    pub secrecy: Secrecy,
}

impl Backend for AwsKmsBackend {
    fn scheme(&self) -> Scheme {
        Scheme::AwsKms
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::AwsKms(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no AWS KMS: {}", device.name, device.uri),
            ));
        };
        Ok(Arc::new(AwsKms(Arc::new(Service::of(device, uri, self.secrecy)?))))
    }

    fn survey(&self) -> Vec<Sighting> {
        vec![service::survey(self.secrecy)]
    }
}
