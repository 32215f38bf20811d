//! Keys in PKCS#11 tokens (PKCS #11 Specification 3.1).
//!
//! Only this crate names `cryptoki`. A module is loaded and initialised once a process, however many tokens it
//! serves. Each token has a few threads that own its sessions; a key is looked up again by CKA_ID in every new
//! session, its public half is compared, and the first signature after that is verified, so that a token which
//! was pulled, reset or swapped never signs for us unnoticed.
//!
//! Messages are hashed here and signed with the mechanisms that take digests (`CKM_ECDSA`, `CKM_RSA_PKCS`,
//! `CKM_RSA_PKCS_PSS`), since SoftHSM and many HSMs have no others; Ed25519 takes the message itself.

mod attributes;
mod create;
mod custody;
mod destroy;
mod error;
mod mechanism;
mod module;
mod note;
mod session;
mod survey;
mod token;

use std::sync::Arc;

use undercroft_keymgr::{Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Sighting};

pub use custody::CUSTODY_FORMAT;
use token::Token;

/// The backend of `pkcs11:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pkcs11Backend;

impl Backend for Pkcs11Backend {
    fn scheme(&self) -> Scheme {
        Scheme::Pkcs11
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::Pkcs11(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no PKCS#11 token: {}", device.name, device.uri),
            ));
        };
        Ok(Arc::new(Token::open(device, uri)?))
    }

    fn survey(&self) -> Vec<Sighting> {
        survey::survey()
    }
}
