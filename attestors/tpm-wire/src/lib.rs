//! TPM 2.0 structures (TCG "TPM 2.0 Library, Part 2: Structures", revision 1.59), without a TPM.
//!
//! What a TPM says is parsed here from bytes that anyone may have made, so every length is bounded by the input,
//! unknown algorithms are refused, trailing bytes are refused, and what was parsed must encode to exactly the
//! bytes that were given: a Name computed from it is then the Name that the TPM computed.

pub mod attest;
pub mod command;
pub mod creation;
pub mod endorsement;
mod object_attributes;
pub mod pcr;
pub mod policy;
mod public_area;
mod signature;
mod wire;

pub use object_attributes::ObjectAttributes;
pub use public_area::{
    Curve, EccParameters, HashAlgorithm, Hierarchy, Name, PublicArea, PublicKind, RsaParameters, Scheme,
    Symmetric,
};
pub use signature::Signature;
pub use wire::WireError;
