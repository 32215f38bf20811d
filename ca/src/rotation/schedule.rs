//! The phases of rotations, as data.

use undercroft_log::leaf::{RotationPhase as Phase, RotationSchedule as Schedule};

use crate::time::Lifetime;

/// A phase, and what must be true before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// It lasts so many leaf lifetimes at least: as long as it takes those consumers to hear of it who learn of roots
    /// together with a certificate.
    pub leaf_lifetimes: u32,
    /// And so many refresh hints: as long as it takes those who poll (SPIFFE Trust Domain and Bundle section 4.1
    /// recommends three to five before a new key is used).
    pub refresh_hints: u32,
    /// Whether every known consumer must hold its bundle.
    pub taken: bool,
    /// Whether a new authority must have issued something. A SPIRE server that is told of a taint and can have no CA from
    /// another root gives up on taints for good.
    pub used: bool,
    /// Whether nothing that the old authorities issued may be alive.
    pub ended: bool,
}

const fn step(phase: Phase) -> Step {
    Step { phase, leaf_lifetimes: 0, refresh_hints: 0, taken: false, used: false, ended: false }
}

const RETIRE: Step = step(Phase::Retire);

const ROOT_PLANNED: [Step; 5] = [
    Step { leaf_lifetimes: 2, refresh_hints: 5, taken: true, ..step(Phase::PrePublish) },
    Step { refresh_hints: 1, ..step(Phase::CrossSign) },
    Step { leaf_lifetimes: 1, refresh_hints: 1, taken: true, used: true, ..step(Phase::Switch) },
    Step { refresh_hints: 1, ended: true, ..step(Phase::Drain) },
    RETIRE,
];

const ROOT_ACCELERATED: [Step; 5] = [
    Step { leaf_lifetimes: 1, refresh_hints: 3, taken: true, ..step(Phase::PrePublish) },
    step(Phase::CrossSign),
    Step { taken: true, used: true, ..step(Phase::Switch) },
    Step { refresh_hints: 1, ended: true, ..step(Phase::Drain) },
    RETIRE,
];

/// Nobody certifies the other: what the old key says is worth nothing any more, and the new root is not to vouch for it.
const ROOT_EMERGENCY: [Step; 4] = [
    Step { refresh_hints: 1, taken: true, ..step(Phase::PrePublish) },
    Step { used: true, ..step(Phase::Switch) },
    Step { ended: true, ..step(Phase::Drain) },
    RETIRE,
];

/// Intermediates come with the chain and need nobody's trust, so that what is waited for is what runs out.
const INTERMEDIATE_PLANNED: [Step; 4] = [
    Step { refresh_hints: 1, ..step(Phase::PrePublish) },
    Step { leaf_lifetimes: 1, used: true, ..step(Phase::Switch) },
    Step { ended: true, ..step(Phase::Drain) },
    RETIRE,
];

const INTERMEDIATE_SOON: [Step; 4] = [
    step(Phase::PrePublish),
    Step { used: true, ..step(Phase::Switch) },
    Step { ended: true, ..step(Phase::Drain) },
    RETIRE,
];

/// The phases of a rotation of a root (`of_root`) or of an intermediate, in order. `retire` is the last.
pub const fn steps(of_root: bool, schedule: Schedule) -> &'static [Step] {
    match (of_root, schedule) {
        (true, Schedule::Planned) => &ROOT_PLANNED,
        (true, Schedule::Accelerated) => &ROOT_ACCELERATED,
        (true, Schedule::Emergency) => &ROOT_EMERGENCY,
        (false, Schedule::Planned) => &INTERMEDIATE_PLANNED,
        (false, Schedule::Accelerated | Schedule::Emergency) => &INTERMEDIATE_SOON,
    }
}

impl Step {
    /// How long it lasts at the least.
    pub fn least(&self, leaf_lifetime: Lifetime, refresh_hint: Lifetime) -> Lifetime {
        self.of_leaves(leaf_lifetime).max(self.of_hints(refresh_hint))
    }

    pub(super) fn of_leaves(&self, leaf_lifetime: Lifetime) -> Lifetime {
        Lifetime(leaf_lifetime.0.saturating_mul(self.leaf_lifetimes))
    }

    pub(super) fn of_hints(&self, refresh_hint: Lifetime) -> Lifetime {
        Lifetime(refresh_hint.0.saturating_mul(self.refresh_hints))
    }
}
