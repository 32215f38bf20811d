//! What must be true before the first request, and what a start writes into the logs.

use undercroft_ca::service::StartError;
use undercroft_log::leaf::{Body, KeyEvent};

use crate::rig::{Options, POLICY, Rig, RootRig, ask, workload};

#[test]
fn policy_and_bundle_are_logged_when_they_change_and_custody_at_each_start() {
    let rig = Rig::new();
    let start = |options: &Options| rig.start(options, async |_| ()).unwrap();
    let count =
        |domain, wanted: fn(&Body) -> bool| rig.log_of(domain).iter().filter(|body| wanted(body)).count();
    let policies = || count("control.example", |body| matches!(body, Body::Policy(_)));
    let bundles = || count("prod.example", |body| matches!(body, Body::Bundle(_)));
    let custody =
        || count("prod.example", |body| matches!(body, Body::Key(key) if key.event == KeyEvent::Opened));
    start(&Options::default());
    assert_eq!((policies(), bundles(), custody()), (1, 1, 2));
    start(&Options::default());
    assert_eq!((policies(), bundles(), custody()), (1, 1, 4));
    start(&Options { policy: format!("# changed\n{POLICY}"), ..Options::default() });
    assert_eq!((policies(), bundles()), (2, 1));
    // A root comes into a published bundle by a rotation, and never by configuration.
    let published = rig.start(&Options { more_roots: true, ..Options::default() }, async |ca| {
        ca.domain("prod.example").unwrap().bundle().roots().to_vec()
    });
    assert_eq!((published.unwrap(), bundles()), (rig.domains[1].roots.clone(), 1));
}

#[test]
fn a_policy_too_long_for_an_entry_is_a_blob_beside_it() {
    let rig = Rig::new();
    let policy = format!("# {}\n{POLICY}", "x".repeat(40_000));
    rig.start(&Options { policy, ..Options::default() }, async |ca| drop(ask(ca, workload()).await.unwrap()))
        .unwrap();
    let control = rig.log_of("control.example");
    let policy = control.iter().find(|body| matches!(body, Body::Policy(_))).unwrap();
    let (_, length) = policy.blobs()[0];
    assert!(length > 40_000);
}

#[test]
fn keys_in_software_are_refused_outside_development() {
    let rig = Rig::new();
    let options = Options { development: false, ..Options::default() };
    let refused = rig.start(&options, async |_| ()).unwrap_err();
    assert!(matches!(&refused, StartError::Custody(_)), "{refused}");
    // What was found is in the log all the same.
    let log = rig.log_of("control.example");
    assert!(matches!(log.last(), Some(Body::Key(_))), "{log:?}");
}

/// Invariant 7.
#[test]
fn domains_that_share_a_root_without_constraints_do_not_start() {
    let shared = RootRig::new("shared");
    let start = |first, second| {
        let rig = Rig::with([("control.example", &shared, first), ("prod.example", &shared, second)]);
        rig.start(&Options::default(), async |_| ())
    };
    // rcgen knows no URI constraints, and constraints on DNS names alone keep no SPIFFE ID apart.
    for (first, second) in [(false, false), (true, false), (true, true)] {
        let refused = start(first, second).unwrap_err().to_string();
        assert!(refused.contains("share the root") && refused.contains("prod.example"), "{refused}");
    }
    let rig = Rig::with([("control.example", &shared, false), ("control.example", &shared, false)]);
    let options = Options { policy: String::new(), ..Options::default() };
    let refused = rig.start(&options, async |_| ()).unwrap_err().to_string();
    assert!(refused.contains("stands twice"), "{refused}");
}
