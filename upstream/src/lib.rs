//! Between the wire and the CA: gRPC services, the TLS acceptor, and what errors become.
//!
//! Messages become domain types here and nowhere else; [`undercroft_ca`] knows no gRPC and the generated code knows no
//! policy. Authentication is here too: [`acceptor`] finds out who a peer is, and each method says whom it serves.

pub mod acceptor;
mod admin;
mod attestation;
mod issuance;
mod nodes;
mod recovery;
mod revocation;
mod rotation;
mod server_certificates;
mod status;

pub use admin::{AdminApi, AdminSetup, Administrators};
pub use attestation::AttestationApi;
pub use issuance::IssuanceApi;
pub use nodes::NodesApi;
pub use recovery::{RecoveryApi, RecoverySetup, StateCopy, TakeBackup};
pub use revocation::RevocationApi;
pub use server_certificates::{CertificateForNames, ServerCertificates};
