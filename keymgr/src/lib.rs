//! The one joint between Undercroft and key hardware.
//!
//! A private key of an authority, a log, a witness or a gate lives in a token and never leaves it; what our code
//! holds is an [`Arc<dyn SigningKey>`](SigningKey). This crate says what a token must be able to do
//! ([`KeyManager`], [`SigningKey`]), how keys are named ([`KeyUri`]), where tokens are and how they are unlocked
//! ([`Device`], [`SecretSource`]), and how a failure is told ([`Error`]). It names no vendor library and has no
//! features: each backend is a crate of its own that only binaries depend on, and [`Tokens`] is the one place
//! where a URI meets the backend that opens it.

mod activation;
mod ceremony;
mod deadlines;
mod device;
mod error;
mod gate;
mod key;
mod ledger;
mod prehashed;
mod replicas;
mod secret;
mod session_threads;
mod survey;
mod time_limit;
mod tokens;
mod uri;

pub use activation::{Activate, AttestationPlace, EndorsementKey};
pub use ceremony::{DestroyKey, TokenIdentity};
pub use deadlines::{Pace, Recently};
pub use device::{Device, DeviceConfig, DeviceError};
pub use error::{Error, ErrorKind};
pub use gate::{Authorisation, Gate, SignGated};
pub use key::{Counted, CustodyEvidence, Key, KeyManager, ProveCustody, SigningKey, StoredKey};
pub use ledger::{Attestation, CommandNumber, Ledger, LedgerPlaces, TokenNote};
pub use prehashed::{SignPrehashed, ToSign};
pub use replicas::{ReplicaNews, Replicas};
pub use secret::{Pin, Secrecy, Secret, SecretError, SecretSource};
pub use session_threads::{MOST_LEFT_BEHIND, SessionThreads};
pub use survey::Sighting;
pub use time_limit::{NoTimeLimit, TimeLimit};
pub use tokens::{Backend, Tokens};
pub use uri::{AwsKmsUri, AzureKvUri, GcpKmsUri, KeyUri, Pkcs11Uri, Scheme, TpmUri, UriError};
