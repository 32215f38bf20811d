//! The daemon and the operator's commands.
//!
//! This crate wires: it reads the configuration, opens the database, tokens and logs, starts the CA and serves it.
//! What the CA decides is in `undercroft-ca`; what the wire says is in `undercroft-upstream`. Only `store` names sqlx.

pub mod commands;
pub mod config;
mod custody;
mod gates;
mod http;
mod keepers;
mod scrub;
mod serve;
pub mod store;
mod tiles;
mod witnesses;

use undercroft_keymgr::Backend;

/// The backends that this program was built with.
pub fn backends() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "pkcs11")]
        Box::new(undercroft_pkcs11::Pkcs11Backend),
        #[cfg(feature = "tpm")]
        Box::new(undercroft_tpm::TpmBackend),
    ]
}
