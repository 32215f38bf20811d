#![no_main]
//! Policies, and what they decide.
use undercroft_ca::{names::parse_spiffe_id, policy::Policy};
use undercroft_fuzz::{known, request_for};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(policy) = Policy::parse("policy.toml", text, known()) else { return };
    let caller = parse_spiffe_id("spiffe://control.example/operator/alice").unwrap();
    for id in ["spiffe://prod.example/ns/pay/sa/ledger", "spiffe://prod.example/spire/agent/a"] {
        let Ok(grant) = policy.decide(&caller, &request_for(id)) else { continue };
        assert_eq!(grant.identity().uri.as_deref(), Some(id));
        assert!(!id.contains("/spire/"), "reserved");
    }
});
