//! What a TPM can prove of itself and of its keys, judged without a TPM (TCG "TPM 2.0 Library", revision 1.59).
//!
//! The way of the proof: a manufacturer's anchor vouches for an endorsement key ([`endorsement`]); a credential that only
//! the TPM with that key can open shows that an attestation key lives in the same TPM ([`credential`],
//! [`attestation_key`]); whoever saw it opened says so in a certificate that others can verify ([`activation`]); and the
//! attestation key certifies the CA's key ([`certify`]). [`evidence`] is all of it in one document.
//!
//! [`node`] is the same way for nodes, with quotes and policy, as steps of which none can be left out.

pub mod activation;
pub mod attestation_key;
pub mod certify;
pub mod credential;
pub mod endorsement;
pub mod event_log;
pub mod evidence;
pub mod exchange;
pub mod node;
