mod pki;
mod walk;

use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::{Channel, HexKeyId};

use self::pki::{Pki, Signer, at};
use super::*;
use crate::names::parse_trust_domain;
use crate::tbs::DomainConstraints;

const HOUR: Lifetime = Lifetime::hours(1);
const HINT: Lifetime = Lifetime::seconds(300);

fn facts(authorities: &[(String, AuthorityCertificate)]) -> Facts<'_> {
    Facts {
        leaf_lifetime: HOUR,
        refresh_hint: HINT,
        bundle: 2,
        consumers: &[],
        authorities,
        last_of_old: None,
        new_has_issued: true,
    }
}

fn named(pki: &Pki) -> Vec<(String, AuthorityCertificate)> {
    vec![
        ("i1".into(), pki.old_authority.certificate.clone()),
        ("i2".into(), pki.new_authority.certificate.clone()),
    ]
}

fn planned(pki: &Pki, schedule: Schedule) -> Rotation {
    let roots = Roots::new(pki.old_root.certificate.clone(), pki.new_root.certificate.clone()).unwrap();
    let rotation =
        Rotation::plan("prod.example".into(), 1, schedule, pki.replaced(), Some(roots), at(0)).unwrap();
    rotation.with_cross(vec![pki.new_by_old.clone(), pki.old_by_new.clone()], 1, at(0)).unwrap()
}

/// In `phase` since the beginning, whatever it took.
fn in_phase(pki: &Pki, schedule: Schedule, phase: Phase) -> Rotation {
    let mut rotation = planned(pki, schedule);
    rotation.phases.push(EnteredPhase { phase, since: at(0) });
    rotation
}

#[test]
fn no_schedule_leaves_out_what_keeps_certificates_verifying() {
    for schedule in [Schedule::Planned, Schedule::Accelerated, Schedule::Emergency] {
        for of_root in [true, false] {
            let table = steps(of_root, schedule);
            assert!(table.is_sorted_by(|one, next| one.phase < next.phase), "{schedule}");
            assert_eq!(table.last().unwrap().phase, Phase::Retire);
            let step = |phase| table.iter().find(|step| step.phase == phase);
            assert!(step(Phase::Switch).unwrap().used && step(Phase::Drain).unwrap().ended);
            let published = step(Phase::PrePublish).unwrap();
            if of_root {
                assert!(published.taken && published.refresh_hints >= 1);
                let is_emergency = schedule == Schedule::Emergency;
                assert_eq!(published.leaf_lifetimes >= 1, !is_emergency);
                assert_eq!(published.refresh_hints >= 3, !is_emergency);
                assert_eq!(step(Phase::CrossSign).is_some(), !is_emergency);
            } else {
                assert!(step(Phase::CrossSign).is_none());
            }
        }
    }
}

#[test]
fn what_blocks_is_named_with_its_date() {
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let all = named(&pki);
    let hour = at(3600);
    let rotation = |phase| in_phase(&pki, Schedule::Planned, phase);
    let blocked = |rotation: &Rotation, facts: &Facts<'_>, now: i64| -> Vec<(&str, Option<Timestamp>)> {
        let refused = rotation.advance(facts, at(now)).map(|gone_on| gone_on.phase());
        refused.unwrap_err().into_iter().map(|blocker| (blocker.rule, blocker.until)).collect()
    };

    // Two leaf lifetimes, five refresh hints, each to the second.
    let published = rotation(Phase::PrePublish);
    let both = [("pre-publication", Some(at(7200))), ("distribution-lag", Some(at(1500)))];
    assert_eq!(blocked(&published, &facts(&all), 0), both);
    assert_eq!(blocked(&published, &facts(&all), 1499), both);
    assert_eq!(blocked(&published, &facts(&all), 1500), both[..1]);
    assert_eq!(blocked(&published, &facts(&all), 7199), both[..1]);
    assert_eq!(published.advance(&facts(&all), at(7200)).unwrap().phase(), Some(Phase::CrossSign));

    // Consumers that do not have the bundle: named by configuration, seen, and gone.
    let consumer = |holds, until: Option<i64>, is_spire_server| Consumer {
        id: "spiffe://control.example/server/prod".into(),
        holds,
        is_spire_server,
        until: until.map(at),
    };
    for (consumer, expected) in [
        (consumer(None, None, false), Some(("consumer", None))),
        (consumer(Some(1), None, true), Some(("spire-server", None))),
        (consumer(Some(1), Some(9000), true), Some(("spire-server", Some(at(9000))))),
        (consumer(Some(1), Some(7200), true), None),
        (consumer(Some(2), None, true), None),
        (consumer(Some(3), None, false), None),
    ] {
        let consumers = [consumer];
        let facts = Facts { consumers: &consumers, ..facts(&all) };
        match expected {
            Some(blocker) => assert_eq!(blocked(&published, &facts, 7200), [blocker]),
            None => assert!(published.advance(&facts, at(7200)).is_ok(), "{consumers:?}"),
        }
    }

    // Cross-certificates, in both directions.
    let mut bare = published.clone();
    let roots = bare.roots.as_mut().unwrap();
    (roots.new_by_old, roots.old_by_new) = (None, None);
    assert_eq!(blocked(&bare, &facts(&all), 7200), [("cross-certificate", None); 2]);
    let one = bare.with_cross(vec![pki.new_by_old.clone()], 1, at(0)).unwrap();
    assert_eq!(blocked(&one, &facts(&all), 7200), [("cross-certificate", None)]);

    // The new authority: there, below the new root, and begun.
    let crossed = rotation(Phase::CrossSign);
    assert_eq!(blocked(&crossed, &facts(&all[..1]), 300), [("authority", None)]);
    let other = [("i2".to_owned(), pki.old_authority.certificate.clone())];
    assert_eq!(blocked(&crossed, &facts(&other), 300), [("authority", None)]);
    let later = pki.authority_of_new_root(hour);
    let later = [("i2".to_owned(), later.certificate)];
    assert_eq!(blocked(&crossed, &facts(&later), 300), [("not-valid-yet", Some(hour))]);
    assert_eq!(crossed.advance(&facts(&later), hour).unwrap().phase(), Some(Phase::Switch));

    let switched = rotation(Phase::Switch);
    let unused = Facts { new_has_issued: false, ..facts(&all) };
    assert_eq!(blocked(&switched, &unused, 3600), [("unused", None)]);
    assert_eq!(blocked(&switched, &facts(&all), 3599), [("settling", Some(hour))]);

    // The longest live certificate: its last second counts.
    let draining = rotation(Phase::Drain);
    let live = Live { name: "spiffe://prod.example/a".into(), not_after: hour };
    let alive = Facts { last_of_old: Some(&live), ..facts(&all) };
    for now in [300, 3600] {
        assert_eq!(blocked(&draining, &alive, now), [("longest-live", Some(at(3601)))]);
    }
    let text = draining.advance(&alive, at(300)).unwrap_err()[0].to_string();
    assert!(text.contains("spiffe://prod.example/a") && text.contains("until 2026-"), "{text}");
    let over = draining.advance(&alive, at(3601)).unwrap();
    assert!(over.is_over() && over.next().is_none() && over.blockers(&alive, at(9999)).is_empty());
}

#[test]
fn bundles_signers_and_chains_follow_from_the_phase() {
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let (old, new) = (&pki.old_root.certificate, &pki.new_root.certificate);
    let domain = parse_trust_domain("prod.example").unwrap();
    let other = pki::root("Another root", at(0)).certificate;
    let mut published = Bundle::first(domain, vec![old.clone(), other.clone()], HINT);
    let mut rotation = planned(&pki, Schedule::Planned);
    assert_eq!((rotation.signer("i1"), rotation.signer("i2"), rotation.signer("i3")), ("i1", "i1", "i3"));
    for (phase, roots, tainted, signer, beside_old, beside_new) in [
        (Phase::PrePublish, vec![&other, old, new], None, "i1", None, None),
        (Phase::CrossSign, vec![&other, old, new], None, "i1", Some(&pki.old_by_new), Some(&pki.new_by_old)),
        (Phase::Switch, vec![&other, old, new], None, "i2", Some(&pki.old_by_new), Some(&pki.new_by_old)),
        (Phase::Drain, vec![&other, old, new], Some(old), "i2", Some(&pki.old_by_new), Some(&pki.new_by_old)),
        (Phase::Retire, vec![&other, new], None, "i2", None, None),
    ] {
        let before = published.clone();
        if let Some(bundle) = rotation.bundle(phase, &published) {
            assert_eq!(bundle.sequence(), published.sequence() + 1);
            published = bundle;
            assert_eq!(rotation.bundle(phase, &published), None, "what is published is not published again");
        }
        let changes_roots = matches!(phase, Phase::PrePublish | Phase::Retire);
        assert_eq!(published.has_roots_of(&before), !changes_roots, "{phase}");
        rotation.phases.push(EnteredPhase { phase, since: at(0) });
        assert_eq!(published.roots().iter().collect::<Vec<_>>(), roots, "{phase}");
        for root in roots {
            assert_eq!(published.is_tainted(root), Some(root) == tainted, "{phase}");
        }
        assert_eq!((rotation.signer("i1"), rotation.signer("i2")), (signer, signer), "{phase}");
        assert_eq!(rotation.beside(old, at(0)), beside_old, "{phase}");
        assert_eq!(rotation.beside(new, at(0)), beside_new, "{phase}");
        assert_eq!(rotation.beside(&other, at(0)), None);
        // Nobody is given a cross-certificate that has ended.
        assert_eq!(rotation.beside(new, at(400 * 24 * 3600)), None);
        let caller = Caller { id: "uid:0".into(), by: Channel::UnixSocket };
        let entry = rotation.entry(RotationEvent::Advanced, caller, &[], None);
        assert_eq!(Rotation::read(&entry).unwrap(), rotation);
    }
    assert_eq!(published.sequence(), 4);

    // What has retired stays retired when another rotation comes.
    let keys = vec![Replacement { old: "i2".into(), old_key: HexKeyId([1; 32].into()), new: "i3".into() }];
    let next = Rotation::plan("prod.example".into(), 2, Schedule::Planned, keys, None, at(0)).unwrap();
    let both = Rotations(vec![rotation.clone()]).with(next.clone());
    assert_eq!((both.signer("i1"), both.signer("i3"), both.0.len()), ("i2", "i2", 2));
    assert!(both.has_retired("i1") && !both.has_retired("i2"));
    assert_eq!(both.with(next).0.len(), 2);
}

#[test]
fn roots_that_cannot_follow_each_other_are_refused() {
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let (old, new) = (&pki.old_root, &pki.new_root);
    let refused = |old: &AuthorityCertificate, new: &AuthorityCertificate| {
        Roots::new(old.clone(), new.clone()).unwrap_err().to_string()
    };
    let of = |signer: &Signer| signer.certificate.clone();
    let limited = pki::root_with("Limited Root", Some(2), "prod.example", at(0));
    let foreign = pki::root_with("Foreign Root", None, "other.example", at(0));
    let renamed = pki::signed_again(old, "Another name", at(0));
    let namesake = pki::root(&pki::name_of(old), at(0));
    for (old, new, part) in [
        (of(old), of(&pki.new_authority), "not signed by itself"),
        (of(&pki.old_authority), of(new), "not signed by itself"),
        (of(old), of(old), "has the key"),
        (of(old), of(&renamed), "has the key"),
        (of(old), of(&namesake), "has the name"),
        (of(old), of(&limited), "path length"),
        (of(old), of(&foreign), "other.example"),
    ] {
        let text = refused(&old, &new);
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_cross_certificate_stands_for_one_root_and_is_signed_by_the_other() {
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let (old, new) = (&pki.old_root, &pki.new_root);
    let roots = || Roots::new(old.certificate.clone(), new.certificate.clone()).unwrap();
    let both = roots().with_cross(pki.new_by_old.clone(), 1, at(0)).unwrap();
    let both = both.with_cross(pki.old_by_new.clone(), 1, at(0)).unwrap();
    assert_eq!(
        (both.new_by_old, both.old_by_new),
        (Some(pki.new_by_old.clone()), Some(pki.old_by_new.clone()))
    );

    let third = pki::root("A third root", at(0));
    let cross = |subject: &Signer, issuer: &Signer, path_length| {
        pki::cross(subject, issuer, path_length, None, at(0)).certificate
    };
    let constrained = DomainConstraints {
        domain: parse_trust_domain("prod.example").unwrap(),
        dns_names: vec!["prod.example".parse().unwrap()],
    };
    let constrained = pki::cross(new, old, Some(3), Some(&constrained), at(0)).certificate;
    let renamed = pki::signed_again(new, "Another name", at(0));
    let day = 24 * 3600;
    for (certificate, now, part) in [
        (cross(&third, old, Some(3)), 0, "stands for none"),
        (cross(&renamed, old, Some(3)), 0, "stands for none"),
        (cross(new, &third, Some(3)), 0, "is not signed by"),
        (cross(old, &third, Some(3)), 0, "is not signed by"),
        (new.certificate.clone(), 0, "is not signed by"),
        (old.certificate.clone(), 0, "is not signed by"),
        (cross(new, old, Some(2)), 0, "path length 2, and needs 3"),
        (cross(new, old, Some(0)), 0, "path length 0, and needs 3"),
        (cross(new, old, None), 0, "path length none, and needs 3"),
        (constrained, 0, "name constraints"),
        (pki.new_by_old.clone(), 400 * day, "has ended"),
        (pki.old_authority.certificate.clone(), 0, "stands for none"),
    ] {
        let text = roots().with_cross(certificate, 1, at(now)).unwrap_err().to_string();
        assert!(text.contains(part), "{part}: {text}");
    }
    // Intermediates that are nested need more.
    let text = roots().with_cross(pki.new_by_old.clone(), 2, at(0)).unwrap_err().to_string();
    assert!(text.contains("needs 4"), "{text}");
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let pair = |old: &str, new: &str| Replacement {
        old: old.into(),
        old_key: HexKeyId([1; 32].into()),
        new: new.into(),
    };
    let plan =
        |authorities| Rotation::plan("prod.example".into(), 1, Schedule::Planned, authorities, None, at(0));
    for (authorities, part) in [
        (vec![], "no authority"),
        (vec![pair("i1", "i1")], "`i1` is named twice"),
        (vec![pair("i1", "i2"), pair("i1", "i3")], "`i1` is named twice"),
        (vec![pair("i1", "i3"), pair("i2", "i3")], "`i3` is named twice"),
        (vec![pair("i1", "i2"), pair("i2", "i3")], "`i2` is named twice"),
    ] {
        let text = plan(authorities).unwrap_err().to_string();
        assert!(text.contains(part), "{part}: {text}");
    }
    let alone = plan(vec![pair("i1", "i2")]).unwrap();
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let text = alone.with_cross(vec![pki.new_by_old], 1, at(0)).unwrap_err().to_string();
    assert!(text.contains("needs no cross-certificates"), "{text}");
}

#[test]
fn the_calendar_ends_no_phase_before_it_may() {
    let pki = Pki::new(KeyAlgorithm::EcdsaP256, true, at(0));
    let all = named(&pki);
    let rotation = in_phase(&pki, Schedule::Planned, Phase::PrePublish);
    let spans = rotation.calendar(&facts(&all), at(60));
    let told: Vec<_> = spans.iter().map(|span| (span.phase, span.from, span.until, span.begun)).collect();
    assert_eq!(
        told,
        [
            (Phase::PrePublish, at(0), Some(at(7200)), true),
            (Phase::CrossSign, at(7200), Some(at(7500)), false),
            (Phase::Switch, at(7500), Some(at(11100)), false),
            (Phase::Drain, at(11100), Some(at(11400)), false),
            (Phase::Retire, at(11400), None, false),
        ]
    );
}
