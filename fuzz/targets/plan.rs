#![no_main]
//! Plans of ceremonies, and what they prepare.
use undercroft_ca::plan::Plan;
use undercroft_fuzz::{SERIAL, TPM_KEY as KEY};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(plan) = Plan::parse("plan.toml", text) else { return };
    assert_eq!(plan.text(), text);
    plan.roots().iter().for_each(|it| drop(it.prepare(&plan, &KEY, *SERIAL)));
    let issuer = |name| plan.root(name).unwrap().issuer(&KEY);
    for it in plan.intermediates() {
        let _ = it.prepare(&plan, &issuer(it.issuer()), &KEY, &KEY, None, *SERIAL);
    }
    plan.crls().iter().for_each(|it| drop(it.prepare(&plan, &issuer(it.issuer()), &KEY)));
});
