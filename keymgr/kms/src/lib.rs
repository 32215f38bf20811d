//! Keys in the key management services of clouds: AWS KMS (`awskms:`), Google Cloud KMS (`gcpkms:`), and Azure Key Vault
//! and Managed HSM (`azurekv:`), each behind the feature that its scheme is called.
//!
//! A cloud's key is as far away as its network: `calls.rs` keeps what `docs/keys.md` promises of every call, and the
//! folder of each cloud alone names its vendor's library. Credentials are the ambient identity of the machine; there
//! is no place in a configuration to write one down, and with `Secrecy::Strict` those that somebody wrote into a file or
//! the environment are refused.

#[cfg(feature = "awskms")]
mod aws;
#[cfg(any(feature = "awskms", feature = "gcpkms", feature = "azurekv", test))]
mod calls;
#[cfg(any(feature = "awskms", feature = "gcpkms", feature = "azurekv"))]
mod signing;

#[cfg(feature = "awskms")]
pub use aws::{AwsKmsBackend, CUSTODY_FORMAT as AWS_CUSTODY_FORMAT};
