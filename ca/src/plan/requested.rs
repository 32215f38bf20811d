//! Keys that come to a ceremony by a request: those of intermediates and of OCSP signers, made where they will be used.

use undercroft_attestors::custody::Demand;
use undercroft_keys::KeyAlgorithm;

use super::{Plan, Step, What};
use crate::transcript::{purpose_of_intermediate, purpose_of_ocsp_signer};

/// What a plan says of such a key.
#[derive(Clone, Debug)]
pub struct Requested<'a> {
    /// The name of the artefact that certifies it.
    pub name: &'a str,
    /// The root that does.
    pub issuer: &'a str,
    /// The request: `<request>.csr.pem` and `<request>.custody.json` in the requests folder.
    pub request: &'a str,
    /// What it must be.
    pub algorithm: KeyAlgorithm,
    /// What custody it must have, if the plan says so for this one.
    pub custody: Option<Demand>,
    /// The purpose in its custody record.
    pub purpose: String,
}

impl Plan {
    /// Every key that comes by a request, in the order of the steps.
    pub fn requested(&self) -> Vec<Requested<'_>> {
        self.steps().iter().filter_map(Step::requested).collect()
    }
}

impl<'a> Step<'a> {
    /// The key that comes to this step by a request.
    pub fn requested(&self) -> Option<Requested<'a>> {
        match self.what {
            What::Intermediate(it) => Some(Requested {
                name: it.name(),
                issuer: it.issuer(),
                request: it.request(),
                algorithm: it.algorithm(),
                custody: it.custody(),
                purpose: purpose_of_intermediate(it.name(), it.domain().as_str()),
            }),
            What::OcspSigner(it) => Some(Requested {
                name: it.name(),
                issuer: it.issuer(),
                request: it.request(),
                algorithm: it.algorithm(),
                custody: it.custody(),
                purpose: purpose_of_ocsp_signer(it.name(), it.issuer()),
            }),
            _ => None,
        }
    }
}
