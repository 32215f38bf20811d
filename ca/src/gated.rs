//! How an authority's key is used: directly, or only with the word of a gate (`docs/gate.md`).

use std::fmt;

use async_trait::async_trait;
use undercroft_keymgr::{Authorisation, Counted, Error, ErrorKind, Gate, SignGated, SigningKey};
use undercroft_keys::PublicKey;
use undercroft_log::{Logged, Receipt};

/// The gates of one authority, and how they are reached.
#[async_trait]
pub trait Gatekeepers: Send + Sync {
    /// Their keys, in the order in which the authority's key was made with them.
    fn keys(&self) -> &[PublicKey];

    /// The word of one of them, for the intent that `receipt` is of, whose bytes are `tbs`, to the session with this
    /// nonce.
    ///
    /// # Errors
    /// `Unavailable` if no gate answers, `Denied` if one refuses.
    async fn authorise(&self, receipt: &Receipt, tbs: &[u8], nonce: &[u8]) -> Result<Authorisation, Error>;
}

/// A key, and what it takes to use it.
#[derive(Clone, Copy)]
pub enum Signing<'a> {
    /// Nothing but its token.
    Directly(&'a dyn SigningKey),
    /// One of its gates.
    AtGates(&'a dyn SignGated, &'a dyn Gatekeepers),
}

impl Signing<'_> {
    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        match self {
            Self::Directly(key) => key.public_key(),
            Self::AtGates(key, _) => key.public_key(),
        }
    }

    /// Signs `message`, which the entry that was `logged` is about. Gates want its receipt.
    pub(crate) async fn sign(&self, logged: &impl Logged, message: &[u8]) -> Result<Counted, Error> {
        match (self, logged.receipt()) {
            (Self::Directly(key), _) => key.sign_counted(message).await,
            (Self::AtGates(key, _), None) => Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "{key:?} signs what stands under a signed checkpoint, and entry {} does not yet",
                    logged.index()
                ),
            )),
            (Self::AtGates(key, gates), Some(receipt)) => {
                key.sign(message, gates.keys(), &Application { gates: *gates, receipt, message }).await
            }
        }
    }
}

impl fmt::Debug for Signing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directly(key) => write!(f, "{key:?}"),
            Self::AtGates(key, _) => write!(f, "{key:?}"),
        }
    }
}

struct Application<'a> {
    gates: &'a dyn Gatekeepers,
    receipt: &'a Receipt,
    message: &'a [u8],
}

#[async_trait]
impl Gate for Application<'_> {
    async fn authorise(&self, nonce: &[u8]) -> Result<Authorisation, Error> {
        self.gates.authorise(self.receipt, self.message, nonce).await
    }
}
