//! The daemon and the operator's commands.
//!
//! This crate wires: it reads the configuration, opens the database, tokens and logs, starts the CA and serves it.
//! What the CA decides is in `undercroft-ca`; what the wire says is in `undercroft-upstream`. Only `store` names sqlx.

mod acme;
pub mod anchors;
mod backup;
mod ceremonies;
pub mod commands;
pub mod config;
mod custody;
mod gates;
mod http;
mod keepers;
mod published;
mod scrub;
mod serve;
pub mod store;
mod tiles;
mod witnesses;

use undercroft_keymgr::{Backend, Secrecy};

/// The backends that this program was built with. `secrecy` says which credentials those of clouds take.
#[cfg_attr(
    not(any(feature = "awskms", feature = "gcpkms", feature = "azurekv")),
    expect(unused_variables, reason = "backends of clouds alone have credentials")
)]
pub fn backends(secrecy: Secrecy) -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "pkcs11")]
        Box::new(undercroft_pkcs11::Pkcs11Backend),
        #[cfg(feature = "tpm")]
        Box::new(undercroft_tpm::TpmBackend),
        #[cfg(feature = "awskms")]
        Box::new(undercroft_kms::AwsKmsBackend { secrecy }),
        #[cfg(feature = "gcpkms")]
        Box::new(undercroft_kms::GcpKmsBackend { secrecy }),
        #[cfg(feature = "azurekv")]
        Box::new(undercroft_kms::AzureKvBackend { secrecy }),
    ]
}
