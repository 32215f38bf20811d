//! A ceremony as it should be.

use undercroft_audit::ceremony::{Outcome, Status};

use crate::world::WORLD;

#[test]
fn an_honest_ceremony_with_every_kind_of_artefact_is_accepted() {
    let verdict = WORLD.copy().verify_files();
    assert_eq!(verdict.outcome, Outcome::Accepted, "{}", verdict.text());
    assert!(verdict.passed);
    for check in &verdict.checks {
        assert_eq!(check.status, Status::Ok, "{}", check.check.name());
    }
    // Written anew from its entries it is the same.
    let again = WORLD.copy().verify();
    assert_eq!(again, verdict);
}
