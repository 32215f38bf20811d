#![no_main]
//! Policies that say whose cosignatures a checkpoint needs.
use std::collections::BTreeSet;
use undercroft_fuzz::COSIGNED;
use undercroft_log::witnesses::WitnessPolicy;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(policy) = text.parse::<WitnessPolicy>() else { return };
    let all: BTreeSet<_> = policy.witnesses().iter().map(|witness| witness.name.as_str()).collect();
    // Everybody is always enough, and nobody is only where nobody is needed.
    assert!(policy.is_met_by(&all));
    assert_eq!(policy.is_met_by(&BTreeSet::new()), !policy.needs_witnesses());
    let _ = policy.open(COSIGNED);
});
