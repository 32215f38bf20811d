//! Whom a judge trusts: data, given by whoever judges.

use undercroft_log::cosignature::WitnessKey;

use crate::chain::Anchors;
use crate::custody::{CardAnchors, HsmAnchors};

/// Whom a judge trusts. The default is nobody, which proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Manufacturers of TPMs and tokens.
    pub endorsement: Anchors,
    /// Roots of SmartCard-HSMs.
    pub cards: CardAnchors,
    /// Who may certify attestation keys: parties other than the CA.
    pub activators: Vec<WitnessKey>,
    /// Makers and owners of the HSMs of clouds.
    pub hsm: HsmAnchors,
}
