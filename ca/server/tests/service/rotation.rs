//! Rotations of a CA that runs: what is published, who signs, what the log has of it, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use hsm_sim::persons::Persons;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use undercroft::anchors;
use undercroft_ca::approval::{NAMESPACE, PersonConfig, Roster, RosterConfig};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::rotation::{Phase, Schedule};
use undercroft_ca::service::{
    Advance, CertificateAuthority, IssueRequest, IssuedCertificate, RotateError, RotationOrder,
};
use undercroft_ca::time::Lifetime;
use undercroft_ca::verify;
use undercroft_log::leaf::{Body, Caller, Channel, Digest, Draft, RotationEvent};
use undercroft_proto::identity::{self, Side};

use crate::rig::{MoodyWitness, NextRig, Options, Rig, RootRig, ask, ask_as, csr, workload};

const PROD: &str = "prod.example";
const SPIRE: &str = "spiffe://control.example/server/prod";

/// An installation whose root of prod.example is to be rotated.
struct Place {
    rig: Rig,
    quorum: Persons,
    options: Options,
    cross: Vec<Vec<u8>>,
}

impl Place {
    fn new() -> Self {
        let (control, old, new) = (RootRig::new("control"), RootRig::new("prod"), RootRig::new("next"));
        let mut rig = Rig::with([("control.example", &control, false), (PROD, &old, false)]);
        rig.domains[1].next = Some(NextRig::new(PROD, &new));
        let quorum = Persons::new(&["alice", "bob", "carol"]).unwrap();
        let persons = quorum.keys().unwrap().into_iter();
        let persons = persons.map(|(name, key)| PersonConfig { name, keys: vec![key] }).collect();
        let roster = Roster::new(RosterConfig { quorum: 2, persons }).unwrap();
        let cross = [old.cross(&new), new.cross(&old)].map(|cross| cross.der().to_vec());
        let options = Options { roster: Some(roster), consumers: vec![SPIRE.into()], ..Options::default() };
        // The first bundle is that of the old root.
        let next = rig.domains[1].next.take();
        rig.start(&options, async |_| ()).unwrap();
        rig.domains[1].next = next;
        Self { rig, quorum, options, cross: cross.into() }
    }

    fn start<T>(&self, story: impl AsyncFnOnce(&Arc<CertificateAuthority>) -> T) -> T {
        self.rig.start(&self.options, async |ca| story(ca).await).unwrap()
    }

    fn old_root(&self) -> AuthorityCertificate {
        self.rig.domains[1].roots[0].clone()
    }

    fn new_root(&self) -> AuthorityCertificate {
        self.rig.domains[1].next.as_ref().unwrap().root.clone()
    }

    fn order(&self, schedule: Schedule) -> RotationOrder {
        let new_root = Some(self.new_root().der().to_vec());
        RotationOrder { schedule, replace: vec![("i1".into(), "i2".into())], new_root }
    }

    /// The approval of what the next phase publishes, asked for by `requester`.
    async fn approval(&self, ca: &CertificateAuthority, requester: &str, by: &[&str]) -> Advance {
        let statement = ca.rotation_statement(PROD, requester, Lifetime::days(1)).await.unwrap().unwrap();
        let signatures = by.iter().map(|name| self.quorum.sign(name, NAMESPACE, &statement).unwrap());
        Advance { approval: Some((statement.clone(), signatures.collect())), ..Advance::default() }
    }

    async fn approved(&self, ca: &CertificateAuthority) -> Option<Phase> {
        let approval = self.approval(ca, "alice", &["bob", "carol"]).await;
        advance(ca, approval).await.unwrap()
    }
}

fn caller() -> Caller {
    Caller { id: "uid:0".into(), by: Channel::UnixSocket }
}

async fn advance(ca: &CertificateAuthority, given: Advance) -> Result<Option<Phase>, RotateError> {
    Ok(ca.advance_rotation(caller(), PROD, given).await?.rotation.phase())
}

async fn blocked(ca: &CertificateAuthority, given: Advance) -> Vec<&'static str> {
    match advance(ca, given).await {
        Err(RotateError::NotYet(blockers)) => blockers.iter().map(|blocker| blocker.rule).collect(),
        other => panic!("{other:?}"),
    }
}

/// Polls as the SPIRE server.
fn poll(ca: &CertificateAuthority) -> u64 {
    let until = ca.now() + Lifetime::hours(1).0;
    ca.domain(PROD).unwrap().bundle_for(&parse_spiffe_id(SPIRE).unwrap(), until, ca.now()).sequence()
}

fn verifies(issued: &IssuedCertificate, root: &AuthorityCertificate, ca: &CertificateAuthority) -> bool {
    verify::chain(&issued.chain, std::slice::from_ref(root), ca.now()).is_ok()
}

#[test]
fn a_root_is_rotated_by_its_phases() {
    let place = Place::new();
    let (old, new) = (place.old_root(), place.new_root());
    let roots = |ca: &CertificateAuthority| ca.domain(PROD).unwrap().bundle().roots().to_vec();
    let week = 7 * 24 * 3600;

    place.start(async |ca| {
        assert!(ca.rotation_status(PROD).await.unwrap().is_none());
        let planned = ca.plan_rotation(caller(), PROD, place.order(Schedule::Planned), false).await.unwrap();
        assert_eq!((planned.rotation.phase(), roots(ca)), (None, vec![old.clone()]));
        // Nobody's word, too few persons' word, the word of whoever asks, and the word for something else.
        for (given, part) in [
            (Advance::default(), "2 of alice, bob, carol must approve"),
            (place.approval(ca, "dave", &["bob"]).await, "1 of the 2 persons"),
            (place.approval(ca, "dave", &["bob", "bob"]).await, "1 of the 2 persons"),
            (place.approval(ca, "bob", &["bob", "carol"]).await, "bob asked for it"),
            (
                {
                    let mut given = place.approval(ca, "dave", &["bob", "carol"]).await;
                    let (statement, _) = given.approval.as_mut().unwrap();
                    *statement = statement.replace("dave", "eve");
                    given
                },
                "does not verify",
            ),
        ] {
            let refused = advance(ca, given).await.unwrap_err();
            assert!(matches!(refused, RotateError::Unapproved(_)), "{refused}");
            assert!(refused.to_string().contains(part), "{part}: {refused}");
            assert_eq!(roots(ca), std::slice::from_ref(&old));
        }
        let rehearsed = Advance { dry_run: true, ..place.approval(ca, "alice", &["bob", "carol"]).await };
        assert_eq!(advance(ca, rehearsed).await.unwrap(), Some(Phase::PrePublish));
        assert_eq!(roots(ca), std::slice::from_ref(&old));
        assert_eq!(place.approved(ca).await, Some(Phase::PrePublish));
        assert_eq!(roots(ca), [old.clone(), new.clone()]);
        // The bundle is out; the SPIRE server has not taken it, nobody has made cross-certificates, and it is early.
        let rules =
            ["pre-publication", "distribution-lag", "consumer", "cross-certificate", "cross-certificate"];
        assert_eq!(blocked(ca, Advance::default()).await, rules);
        let crossed = || Advance { cross: place.cross.clone(), ..Advance::default() };
        assert_eq!(blocked(ca, Advance { dry_run: true, ..crossed() }).await, rules[..3]);
        // The new authority waits for its turn.
        let issued = ask(ca, workload()).await.unwrap();
        assert_eq!(issued.chain.len(), 2);
        assert!(verifies(&issued, &old, ca) && !verifies(&issued, &new, ca));

        place.rig.clock.advance(2 * week);
        assert_eq!(blocked(ca, crossed()).await, ["consumer"]);
        assert_eq!(poll(ca), 2);
        assert_eq!(advance(ca, crossed()).await.unwrap(), Some(Phase::CrossSign));
        let issued = ask(ca, workload()).await.unwrap();
        assert!(verifies(&issued, &new, ca), "whoever has the new root alone");
    });

    // Everything is as it was after a restart, and the consumers are to come again.
    place.start(async |ca| {
        let status = ca.rotation_status(PROD).await.unwrap().unwrap();
        assert_eq!(status.rotation.phase(), Some(Phase::CrossSign));
        assert_eq!((roots(ca), status.bundle.sequence()), (vec![old.clone(), new.clone()], 2));
        assert_eq!(status.consumers[0].holds, None);
        assert_eq!(blocked(ca, Advance::default()).await, ["distribution-lag"]);
        place.rig.clock.advance(300);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Switch));
        assert_eq!(
            blocked(ca, Advance::default()).await,
            ["settling", "distribution-lag", "consumer", "unused"]
        );
        let issued = ask(ca, workload()).await.unwrap();
        assert_eq!(issued.chain.len(), 3);
        assert!(verifies(&issued, &old, ca), "whoever has the old root alone");
        assert!(verify::chain(&issued.chain[..2], std::slice::from_ref(&new), ca.now()).is_ok());

        place.rig.clock.advance(week);
        // A SPIRE server that had its CA from the daemon has the roots that came with it.
        let request = IssueRequest {
            domain: PROD.into(),
            profile: "spire-ca".into(),
            csr: csr(&["spiffe://prod.example"]),
            ..IssueRequest::default()
        };
        ask_as(ca, SPIRE, request).await.unwrap();
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Drain));
        let bundle = ca.domain(PROD).unwrap().bundle();
        assert_eq!((bundle.sequence(), bundle.is_tainted(&old), bundle.is_tainted(&new)), (3, true, false));
        assert_eq!(bundle.roots(), [old.clone(), new.clone()]);
        assert!(!bundle.to_json().to_string().contains("taint"), "SPIFFE's document has no room for it");

        place.rig.clock.advance(300);
        let early = place.approval(ca, "alice", &["bob", "carol"]).await;
        let replayed = early.clone();
        assert_eq!(advance(ca, early).await.unwrap(), Some(Phase::Retire));
        assert_eq!((roots(ca), ca.domain(PROD).unwrap().bundle().sequence()), (vec![new.clone()], 4));
        let issued = ask(ca, workload()).await.unwrap();
        assert_eq!(issued.chain.len(), 2);
        assert!(verifies(&issued, &new, ca) && !verifies(&issued, &old, ca));
        for given in [replayed, Advance::default()] {
            let over = advance(ca, given).await.unwrap_err().to_string();
            assert!(over.contains("no rotation of `prod.example` is planned"), "{over}");
        }
        // What has retired never comes back.
        let back = RotationOrder {
            schedule: Schedule::Planned,
            replace: vec![("i2".into(), "i1".into())],
            new_root: Some(old.der().to_vec()),
        };
        let refused = ca.plan_rotation(caller(), PROD, back, false).await.unwrap_err().to_string();
        assert!(refused.contains("`i1` has retired"), "{refused}");
    });

    let log = place.rig.log_of(PROD);
    let rotations: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Rotation(rotation) => {
                Some((rotation.event, rotation.phases.last().map(|entered| entered.phase)))
            }
            _ => None,
        })
        .collect();
    let went_on: Vec<_> = rotations.iter().filter(|(event, _)| *event == RotationEvent::Advanced).collect();
    assert_eq!(rotations[0], (RotationEvent::Planned, None));
    let phases = [Phase::PrePublish, Phase::CrossSign, Phase::Switch, Phase::Drain, Phase::Retire];
    assert_eq!(went_on.iter().filter_map(|(_, phase)| *phase).collect::<Vec<_>>(), phases);
    // Each refusal, but not what was only tried.
    assert_eq!(rotations.iter().filter(|(event, _)| *event == RotationEvent::Refused).count(), 4);
    // Each change of the roots stands behind its approval, which is about those very bytes.
    let position = |wanted: &dyn Fn(&Body) -> bool| log.iter().position(wanted).unwrap();
    for sequence in [2, 4] {
        let of_sequence = |body: &Body| matches!(body, Body::Bundle(bundle) if bundle.sequence == sequence);
        let at = position(&of_sequence);
        let Body::Approval(approval) = &log[at - 1] else { panic!("{:?}", log[at - 1]) };
        let digest = Digest::of(Draft::new(&log[at]).unwrap().body().as_bytes());
        assert!(approval.statement.contains(&digest.to_string()));
        assert_eq!(approval.by, ["bob", "carol"]);
        assert!(matches!(&log[at + 1], Body::Rotation(rotation) if rotation.approval.is_some()));
    }
}

/// What was built for handshakes is the same until a bundle changes, and another one right after.
#[test]
fn a_handshake_trusts_the_bundle_of_its_moment() {
    let place = Place::new();
    place.start(async |ca| {
        let vouching = anchors::of(ca.clone());
        let known = |issued: &IssuedCertificate, at: Timestamp| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().unsigned_abs()));
            let leaf = CertificateDer::from_slice(&issued.chain[0]);
            identity::verify(&vouching(), &leaf, &[], Side::Client, at)
        };
        let (first, then) = (ask(ca, workload()).await.unwrap(), ca.now());
        assert!(known(&first, then).is_ok());
        ca.plan_rotation(caller(), PROD, place.order(Schedule::Emergency), false).await.unwrap();
        let before = vouching();
        assert!(Arc::ptr_eq(&before, &vouching()), "nothing has changed");
        assert_eq!(place.approved(ca).await, Some(Phase::PrePublish));
        let after = vouching();
        assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(&after, &vouching()));
        place.rig.clock.advance(300);
        poll(ca);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Switch));
        let second = ask(ca, workload()).await.unwrap();
        assert!(known(&second, ca.now()).is_ok(), "it is under the new root");
        assert!(known(&first, then).is_ok(), "the old root is published still");
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Drain));
        assert!(known(&first, then).is_ok(), "a tainted root goes on verifying");
        place.rig.clock.advance(7 * 24 * 3600);
        assert_eq!(place.approved(ca).await, Some(Phase::Retire));
        assert!(known(&first, then).is_err(), "its root has retired");
        let third = ask(ca, workload()).await.unwrap();
        assert!(known(&third, ca.now()).is_ok());
    });
}

/// What takes a root out of the bundle again, approved by these.
async fn undoing(place: &Place, ca: &CertificateAuthority, by: &[&str]) -> (String, Vec<String>) {
    let statement = ca.abandonment_statement(PROD, "alice", Lifetime::days(1)).await.unwrap().unwrap();
    let signatures = by.iter().map(|name| place.quorum.sign(name, NAMESPACE, &statement).unwrap());
    (statement.clone(), signatures.collect())
}

#[test]
fn a_rotation_is_abandoned_before_it_switches_and_never_after() {
    let place = Place::new();
    let (old, new) = (place.old_root(), place.new_root());
    let roots = |ca: &CertificateAuthority| ca.domain(PROD).unwrap().bundle().roots().to_vec();
    let plan = async |ca: &CertificateAuthority, schedule| {
        ca.plan_rotation(caller(), PROD, place.order(schedule), false).await.unwrap().rotation.number()
    };
    let abandon = async |ca: &CertificateAuthority, approval: Option<&(String, Vec<String>)>| {
        ca.abandon_rotation(caller(), PROD, approval, false).await
    };
    place.start(async |ca| {
        let none = abandon(ca, None).await.unwrap_err().to_string();
        assert!(none.contains("no rotation of `prod.example` is planned"), "{none}");
        // What was only planned is nobody's word but an administrator's.
        assert_eq!(plan(ca, Schedule::Planned).await, 1);
        assert_eq!(ca.abandonment_statement(PROD, "alice", Lifetime::days(1)).await.unwrap(), None);
        assert!(abandon(ca, None).await.unwrap().rotation.is_abandoned());
        let again = abandon(ca, None).await.unwrap_err().to_string();
        assert!(again.contains("no rotation of `prod.example` is planned"), "{again}");
        assert!(advance(ca, Advance::default()).await.is_err());

        // A published root is taken out by the quorum's word.
        assert_eq!(plan(ca, Schedule::Planned).await, 2);
        assert_eq!(place.approved(ca).await, Some(Phase::PrePublish));
        let good = undoing(&place, ca, &["bob", "carol"]).await;
        let one = undoing(&place, ca, &["bob"]).await;
        let own = undoing(&place, ca, &["alice", "bob"]).await;
        let forged = (good.0.replace("alice", "dave"), good.1.clone());
        for (approval, part) in [
            (None, "2 of alice, bob, carol must approve"),
            (Some(&one), "1 of the 2 persons"),
            (Some(&own), "alice asked for it"),
            (Some(&forged), "does not verify"),
        ] {
            let refused = abandon(ca, approval).await.unwrap_err();
            assert!(matches!(refused, RotateError::Unapproved(_)), "{refused}");
            assert!(refused.to_string().contains(part), "{part}: {refused}");
        }
        let tried = ca.abandon_rotation(caller(), PROD, Some(&good), true).await.unwrap();
        assert!(tried.rotation.is_abandoned());
        assert_eq!(roots(ca), [old.clone(), new.clone()], "a dry run changes nothing");
        assert!(!ca.rotation_status(PROD).await.unwrap().unwrap().rotation.is_abandoned());
        let status = abandon(ca, Some(&good)).await.unwrap();
        assert_eq!((roots(ca), status.bundle.sequence()), (vec![old.clone()], 3));
        assert!(status.rotation.next().is_none() && status.blockers.is_empty());
        assert!(status.calendar.iter().all(|span| span.begun));

        // Its statement was good for that bundle; the next one is another.
        assert_eq!(plan(ca, Schedule::Planned).await, 3);
        assert_eq!(place.approved(ca).await, Some(Phase::PrePublish));
        let refused = abandon(ca, Some(&good)).await.unwrap_err();
        assert!(matches!(refused, RotateError::Unapproved(_)), "{refused}");
        // What goes with chains while both roots certify each other goes no more.
        place.rig.clock.advance(14 * 24 * 3600);
        poll(ca);
        let crossed = Advance { cross: place.cross.clone(), ..Advance::default() };
        assert_eq!(advance(ca, crossed).await.unwrap(), Some(Phase::CrossSign));
        assert_eq!(ask(ca, workload()).await.unwrap().chain.len(), 3);
        let good = undoing(&place, ca, &["bob", "carol"]).await;
        abandon(ca, Some(&good)).await.unwrap();
        let issued = ask(ca, workload()).await.unwrap();
        assert_eq!(issued.chain.len(), 2);
        assert!(verifies(&issued, &old, ca) && !verifies(&issued, &new, ca));
    });

    // It is so after a restart, and what was given up may be begun again.
    place.start(async |ca| {
        let status = ca.rotation_status(PROD).await.unwrap().unwrap();
        assert!(status.rotation.is_abandoned());
        assert_eq!((status.rotation.number(), status.rotation.phase()), (3, Some(Phase::CrossSign)));
        assert_eq!((roots(ca), status.bundle.sequence()), (vec![old.clone()], 5));
        assert_eq!(ask(ca, workload()).await.unwrap().chain.len(), 2);
        assert_eq!(plan(ca, Schedule::Emergency).await, 4);
        assert_eq!(place.approved(ca).await, Some(Phase::PrePublish));
        place.rig.clock.advance(300);
        poll(ca);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Switch));
        // From here on the new authority signs, and what it has signed needs its root.
        for _ in 0..2 {
            let late = abandon(ca, None).await.unwrap_err();
            assert!(matches!(late, RotateError::TooLate(_)), "{late}");
            assert!(late.to_string().contains("the way back is another rotation"), "{late}");
            assert!(ca.abandonment_statement(PROD, "alice", Lifetime::days(1)).await.is_err());
            assert_eq!(roots(ca), [old.clone(), new.clone()]);
            let issued = ask(ca, workload()).await.unwrap();
            assert!(verifies(&issued, &new, ca));
            if ca.rotation_status(PROD).await.unwrap().unwrap().rotation.phase() == Some(Phase::Switch) {
                assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Drain));
            }
        }
    });
    let events: Vec<_> = place
        .rig
        .log_of(PROD)
        .into_iter()
        .filter_map(|body| match body {
            Body::Rotation(rotation) if rotation.event == RotationEvent::Abandoned => {
                Some((rotation.number, rotation.approval.is_some()))
            }
            Body::Rotation(rotation) if rotation.event == RotationEvent::Refused => {
                assert_eq!(rotation.blockers[0].rule, "switched");
                Some((0, false))
            }
            _ => None,
        })
        .collect();
    assert_eq!(events, [(1, false), (2, true), (3, true), (0, false), (0, false)]);
}

/// The new root was published for another purpose before: what lives below it goes on verifying.
#[test]
fn nothing_that_lives_below_a_new_root_loses_it() {
    let mut place = Place::new();
    let (control, one, other) = (RootRig::new("control"), RootRig::new("prod"), RootRig::new("next"));
    place.rig = Rig::with([("control.example", &control, false), (PROD, &one, false)]);
    place.rig.domains[1].next = Some(NextRig::new(PROD, &other));
    place.start(async |ca| {
        // Both roots are in the first bundle, and i2 is an authority like the other.
        assert_eq!(ca.domain(PROD).unwrap().bundle().roots().len(), 2);
        let order = RotationOrder {
            schedule: Schedule::Emergency,
            replace: vec![("i2".into(), "i1".into())],
            new_root: Some(place.old_root().der().to_vec()),
        };
        let first = ask(ca, workload()).await.unwrap();
        assert!(verifies(&first, &place.old_root(), ca));
        ca.plan_rotation(caller(), PROD, order, false).await.unwrap();
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::PrePublish));
        let refused = ca.abandon_rotation(caller(), PROD, None, false).await.unwrap_err();
        let RotateError::NotYet(blockers) = refused else { panic!("{refused}") };
        assert_eq!(blockers[0].rule, "longest-live");
        assert!(blockers[0].until.is_some_and(|until| until > ca.now()));
        assert!(verifies(&first, &place.old_root(), ca));
        assert_eq!(ca.domain(PROD).unwrap().bundle().roots().len(), 2);
    });
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let place = Place::new();
    place.start(async |ca| {
        let control = ca.control().as_str().to_owned();
        let control_root = ca.domain(&control).unwrap().bundle().roots()[0].clone();
        let order = |replace: &[(&str, &str)], new_root: Option<&AuthorityCertificate>| RotationOrder {
            schedule: Schedule::Planned,
            replace: replace.iter().map(|(old, new)| ((*old).into(), (*new).into())).collect(),
            new_root: new_root.map(|root| root.der().to_vec()),
        };
        let (old, new) = (place.old_root(), place.new_root());
        for (domain, order, part) in [
            ("edge.example", order(&[("i1", "i2")], Some(&new)), "no domain `edge.example`"),
            (PROD, order(&[("i7", "i2")], Some(&new)), "no authority `i7`"),
            (PROD, order(&[("i1", "i1")], Some(&new)), "named twice"),
            (PROD, order(&[("i1", "i2")], Some(&old)), "has the key of the old one"),
            (PROD, order(&[("i1", "i2")], Some(&control_root)), "one of `control.example`"),
            (PROD, order(&[("i2", "i3")], Some(&old)), "is not published"),
        ] {
            let refused = ca.plan_rotation(caller(), domain, order, false).await.unwrap_err().to_string();
            assert!(refused.contains(part), "{part}: {refused}");
        }
        let none = advance(ca, Advance::default()).await.unwrap_err().to_string();
        assert!(none.contains("no rotation"), "{none}");
        let rehearsed = order(&[("i1", "i2")], Some(&new));
        ca.plan_rotation(caller(), PROD, rehearsed.clone(), true).await.unwrap();
        assert!(ca.rotation_status(PROD).await.unwrap().is_none(), "a dry run plans nothing");

        // What has not begun is replaced; what has is hastened, and nothing else.
        ca.plan_rotation(caller(), PROD, rehearsed, false).await.unwrap();
        place.approved(ca).await;
        let other = order(&[("i1", "i2")], None);
        let refused = ca.plan_rotation(caller(), PROD, other, false).await.unwrap_err().to_string();
        assert!(refused.contains("is under way"), "{refused}");
        let hastened = place.order(Schedule::Emergency);
        let hastened = ca.plan_rotation(caller(), PROD, hastened, false).await.unwrap().rotation;
        assert_eq!((hastened.schedule(), hastened.phase()), (Schedule::Emergency, Some(Phase::PrePublish)));
        assert_eq!(blocked(ca, Advance::default()).await, ["distribution-lag", "consumer"]);
        place.rig.clock.advance(300);
        assert_eq!(poll(ca), 2);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Switch));
    });
}

/// The old authority's certificates keep the old one in the configuration, and the drain going, until the last has ended.
#[test]
fn an_intermediate_alone_is_rotated_without_touching_the_bundle() {
    let mut place = Place::new();
    let (control, root) = (RootRig::new("control"), RootRig::new("prod"));
    place.rig = Rig::with([("control.example", &control, false), (PROD, &root, false)]);
    place.rig.domains[1].next = Some(NextRig::new(PROD, &root));
    place.start(async |ca| {
        let first = ask(ca, workload()).await.unwrap();
        let order = RotationOrder { new_root: None, ..place.order(Schedule::Accelerated) };
        ca.plan_rotation(caller(), PROD, order, false).await.unwrap();
        for phase in [Phase::PrePublish, Phase::Switch] {
            assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(phase));
        }
        assert_eq!(blocked(ca, Advance::default()).await, ["unused"]);
        let second = ask(ca, workload()).await.unwrap();
        assert_ne!(first.chain[1], second.chain[1]);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Drain));
        assert_eq!(blocked(ca, Advance::default()).await, ["longest-live"]);
        place.rig.clock.advance(3600);
        assert_eq!(blocked(ca, Advance::default()).await, ["longest-live"], "its last second counts");
        place.rig.clock.advance(1);
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::Retire));
        assert_eq!(ca.domain(PROD).unwrap().bundle().sequence(), 1);
    });
}

#[test]
fn a_bundle_is_published_when_witnesses_have_seen_it() {
    let mut place = Place::new();
    let witness = std::sync::Arc::new(MoodyWitness::default());
    place.rig.witness = Some(witness.clone());
    let away = |is_away: bool| witness.is_away.store(is_away, std::sync::atomic::Ordering::SeqCst);
    place.start(async |ca| {
        ca.plan_rotation(caller(), PROD, place.order(Schedule::Emergency), false).await.unwrap();
        away(true);
        let approval = place.approval(ca, "alice", &["bob", "carol"]).await;
        let refused = advance(ca, approval).await.unwrap_err();
        assert!(matches!(refused, RotateError::Log(_)), "{refused}");
        let bundle = || ca.domain(PROD).unwrap().bundle().sequence();
        assert_eq!(bundle(), 1, "nobody has witnessed it");
        let rehearsed = Advance { dry_run: true, ..Advance::default() };
        let refused = advance(ca, rehearsed).await.unwrap_err().to_string();
        assert!(refused.contains("bundle 2 is in the log"), "{refused}");
        away(false);
        // It was approved, and is in the log: it goes on from there.
        assert_eq!(advance(ca, Advance::default()).await.unwrap(), Some(Phase::PrePublish));
        assert_eq!(bundle(), 2);
    });
}

#[test]
fn without_a_roster_no_root_changes() {
    let mut place = Place::new();
    place.options.roster = None;
    place.start(async |ca| {
        ca.plan_rotation(caller(), PROD, place.order(Schedule::Planned), false).await.unwrap();
        let refused = advance(ca, Advance::default()).await.unwrap_err();
        assert!(
            matches!(&refused, RotateError::Unapproved(what) if what.contains("[recovery]")),
            "{refused}"
        );
        assert_eq!(ca.domain(PROD).unwrap().bundle().sequence(), 1);
    });
}
