//! What is frozen is not issued: not what is asked for, not what is on its way into the log, not what a token is signing.

use std::process::Command;
use std::sync::Arc;

use undercroft_ca::approval::{NAMESPACE, PersonConfig, Roster, RosterConfig, Statement};
use undercroft_ca::service::{Brought, CertificateAuthority, ServiceError};
use undercroft_ca::time::Lifetime;
use undercroft_log::leaf::{
    Body, Caller, Channel, Freezable, FreezeEvent, HexKeyId, OutcomeResult, RefusedAction,
};

use crate::rig::{Mood, Options, Rig, ask, ask_as, workload};

fn uid() -> Caller {
    Caller { id: "uid:1000".into(), by: Channel::UnixSocket }
}

fn prod() -> Freezable {
    Freezable::Domain("prod.example".into())
}

fn rule(told: Result<impl Sized, ServiceError>) -> &'static str {
    match told {
        Ok(_) => "",
        Err(ServiceError::Refused(refusal)) => refusal.rule,
        Err(other) => panic!("{other}"),
    }
}

async fn freeze(ca: &CertificateAuthority, what: Freezable) {
    assert!(!ca.freeze(uid(), what, "the token is gone").await.unwrap().already);
}

#[test]
fn nothing_is_issued_for_what_is_frozen_and_the_refusal_says_how_it_is_undone() {
    let alice = "spiffe://control.example/operator/alice";
    for (what, of_bob) in [
        (None, "frozen"),
        (Some(prod()), "frozen"),
        (Some(Freezable::Caller(alice.into())), ""),
        (Some(Freezable::Domain("control.example".into())), ""),
    ] {
        let rig = Rig::new();
        let is_control = what == Some(Freezable::Domain("control.example".into()));
        rig.run(async |ca| {
            let what = what.clone().unwrap_or_else(|| {
                let authority = &ca.domain("prod.example").unwrap().authorities()[0];
                Freezable::Authority(HexKeyId(authority.certificate().public_key().id()))
            });
            ask(ca, workload()).await.unwrap();
            freeze(ca, what.clone()).await;
            if !is_control {
                let refused = ask(ca, workload()).await.unwrap_err().to_string();
                for part in ["uid:1000", "2026-11-22T08:00:00Z", "the token is gone", "undercroft unfreeze"] {
                    assert!(refused.contains(part), "{refused}");
                }
            }
            let bob = ask_as(ca, "spiffe://control.example/operator/bob", workload()).await;
            assert_eq!(rule(bob), of_bob, "{what:?}");
            // Once more is no mistake, and changes nothing.
            let again = ca.freeze(uid(), what.clone(), "another reason").await.unwrap();
            assert!(again.already && again.frozen.reason == "the token is gone");
        });
        // It holds over restarts.
        rig.run(async |ca| {
            assert_eq!(ca.freezes().len(), 1);
            let told = ask(ca, workload()).await;
            assert_eq!(rule(told), if is_control { "" } else { "frozen" });
        });
        let control = rig.log_of("control.example");
        assert_eq!(control.iter().filter(|body| matches!(body, Body::Freeze(_))).count(), 1);
        let prod = rig.log_of("prod.example");
        let refusals = prod.iter().filter(|body| matches!(body, Body::Refusal(it) if it.rule == "frozen"));
        assert_eq!(refusals.count() >= 2, !is_control);
    }
}

#[test]
fn enrolments_and_the_daemons_own_certificates_are_frozen_too() {
    let rig = Rig::new();
    rig.run(async |ca| {
        let id = "spiffe://control.example/operator/carol";
        let (token, _) = ca.create_enrolment(uid(), id, Lifetime::hours(1)).await.unwrap();
        freeze(ca, Freezable::Caller(id.into())).await;
        assert_eq!(rule(ca.enrol(&token, &crate::rig::csr(&[])).await), "frozen");
        freeze(ca, Freezable::Domain("control.example".into())).await;
        let key = ca.domains()[0].authorities()[0].certificate().public_key();
        let own = ca.issue_server_certificate(ca.control(), &[], key).await;
        assert_eq!(rule(own), "frozen");
    });
}

#[test]
fn a_freeze_wants_a_reason() {
    let rig = Rig::new();
    rig.run(async |ca| {
        assert_eq!(rule(ca.freeze(uid(), prod(), "  ").await), "freeze-reason");
        assert!(ca.freezes().is_empty());
        ask(ca, workload()).await.unwrap();
    });
}

/// An intent is durable, and its head is being signed, when the freeze comes: its key never signs.
#[test]
fn what_is_on_its_way_into_the_log_is_abandoned() {
    let rig = Rig::new();
    rig.run(async |ca| {
        // Nothing was asked for before: what waits below is the head over this intent, and not over another's outcome.
        rig.domains[1].log_key.set(Mood::Waits);
        let asked = tokio::spawn({
            let ca = ca.clone();
            async move { ask(&ca, workload()).await.map(drop) }
        });
        while rig.domains[1].log_key.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        freeze(ca, prod()).await;
        rig.domains[1].log_key.set(Mood::Signs);
        assert_eq!(rule(asked.await.unwrap()), "frozen");
        assert_eq!(rig.domains[1].key.signatures(), 0);
    });
    is_abandoned(&rig);
}

/// A token is signing when the freeze comes: nobody sees the signature.
#[test]
fn what_a_token_is_signing_is_thrown_away() {
    let rig = Rig::new();
    rig.run(async |ca| {
        ask(ca, workload()).await.unwrap();
        rig.domains[1].key.set(Mood::Waits);
        let asked = tokio::spawn({
            let ca = ca.clone();
            async move { ask(&ca, workload()).await.map(drop) }
        });
        while rig.domains[1].key.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        freeze(ca, prod()).await;
        rig.domains[1].key.set(Mood::Signs);
        assert_eq!(rule(asked.await.unwrap()), "frozen");
    });
    is_abandoned(&rig);
}

/// The last intent of the log has an outcome, which says why it has no certificate.
fn is_abandoned(rig: &Rig) {
    let log = rig.log_of("prod.example");
    let intents = log.iter().filter(|body| matches!(body, Body::Intent(_))).count();
    let outcomes: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Outcome(outcome) => Some(&outcome.result),
            _ => None,
        })
        .collect();
    assert_eq!(intents, outcomes.len());
    assert!(
        matches!(outcomes.last(), Some(OutcomeResult::Abandoned(why)) if why.contains("frozen by uid:1000")),
        "{outcomes:?}"
    );
}

/// Persons with keys that OpenSSH has made.
pub(crate) struct People(tempfile::TempDir);

impl People {
    pub(crate) fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            keygen(folder.path(), &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
        Self(folder)
    }

    pub(crate) fn roster(&self, quorum: usize, names: &[&str]) -> Roster {
        let person = |name: &&str| PersonConfig {
            name: (*name).to_owned(),
            keys: vec![std::fs::read_to_string(self.0.path().join(format!("{name}.pub"))).unwrap()],
        };
        Roster::new(RosterConfig { quorum, persons: names.iter().map(person).collect() }).unwrap()
    }

    pub(crate) fn sign(&self, statement: &str, names: &[&str]) -> Brought {
        let signatures = names.iter().map(|name| {
            std::fs::write(self.0.path().join("s"), statement).unwrap();
            let _ = std::fs::remove_file(self.0.path().join("s.sig"));
            keygen(self.0.path(), &["-q", "-Y", "sign", "-f", name, "-n", NAMESPACE, "s"]);
            std::fs::read_to_string(self.0.path().join("s.sig")).unwrap()
        });
        Brought { statement: statement.to_owned(), signatures: signatures.collect() }
    }
}

fn keygen(folder: &std::path::Path, arguments: &[&str]) {
    let ran = Command::new("ssh-keygen").args(arguments).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

fn state(ca: &Arc<CertificateAuthority>, what: &Freezable, requester: &str) -> String {
    ca.unfreeze_statement(what, requester, Lifetime::hours(1)).unwrap().text().unwrap()
}

#[test]
fn the_quorum_releases_and_nobody_else_and_once() {
    let rig = Rig::new();
    let people = People::new(&["alice", "bob", "carol", "mallory"]);
    let roster = people.roster(2, &["alice", "bob", "carol"]);
    let options = Options { roster: Some(roster), ..Options::default() };
    let both = ["alice", "bob"];
    let used = rig
        .start(&options, async |ca| {
            let release = async |what: Freezable, brought: &Brought| {
                rule(ca.unfreeze(uid(), what, brought, false).await)
            };
            assert_eq!(rule(ca.unfreeze_statement(&prod(), "carol", Lifetime::hours(1))), "not-frozen");
            freeze(ca, prod()).await;
            for (requester, wait) in [("", Lifetime::hours(1)), ("carol", Lifetime::days(8))] {
                assert_eq!(rule(ca.unfreeze_statement(&prod(), requester, wait)), "approval");
            }
            let good = state(ca, &prod(), "carol");
            let other = "spiffe://control.example/operator/dave";
            let caller = Freezable::Caller(other.into());
            freeze(ca, caller.clone()).await;
            let wrong = [
                // Too few, one twice, a stranger, the one who asks, somebody whose signature is of something else.
                people.sign(&good, &["alice"]),
                people.sign(&good, &["alice", "alice"]),
                people.sign(&good, &["alice", "mallory"]),
                people.sign(&good, &["alice", "bob", "carol"]),
                people.sign(&good, &["alice", "carol"]),
                Brought { statement: good.replace("carol", "dave"), ..people.sign(&good, &both) },
                Brought { statement: "{}".into(), ..people.sign(&good, &both) },
                // For another thing that is frozen; for another action; for another log.
                people.sign(&state(ca, &caller, "carol"), &both),
                people.sign(&good.replace("\"unfreeze\"", "\"recover\""), &both),
                people.sign(&good.replace("/control/1", "/control/2"), &both),
            ];
            for (number, brought) in wrong.iter().enumerate() {
                assert_eq!(release(prod(), brought).await, "approval", "case {number}");
            }
            assert_eq!(ca.freezes().len(), 2);
            let signed = people.sign(&good, &both);
            // A dry run releases nothing, and uses nothing up.
            assert_eq!(ca.unfreeze(uid(), prod(), &signed, true).await.unwrap(), both);
            assert_eq!(ca.freezes().len(), 2);
            assert_eq!(rule(ask(ca, workload()).await), "frozen");
            assert_eq!(ca.unfreeze(uid(), prod(), &signed, false).await.unwrap(), both);
            ask(ca, workload()).await.unwrap();
            // It is not frozen any more; and frozen again, it is another freeze.
            assert_eq!(release(prod(), &signed).await, "not-frozen");
            freeze(ca, prod()).await;
            assert_eq!(release(prod(), &signed).await, "approval");
            let late = people.sign(&state(ca, &prod(), "carol"), &both);
            rig.clock.advance(3601);
            assert_eq!(release(prod(), &late).await, "approval");
            signed
        })
        .unwrap();
    // Without a roster nobody releases anything.
    rig.run(async |ca| {
        assert_eq!(rule(ca.unfreeze(uid(), prod(), &used, false).await), "approval");
    });
    let control = rig.log_of("control.example");
    let refused = control
        .iter()
        .filter(|body| matches!(body, Body::Refusal(refusal) if refusal.action == RefusedAction::Unfreeze));
    assert_eq!(refused.count(), 14);
    let (mut approval, mut released) = (None, None);
    for (index, body) in (0u64..).zip(&control) {
        match body {
            Body::Approval(entry) => {
                assert_eq!(approval.replace(index), None);
                assert_eq!(entry.by, both);
            }
            Body::Freeze(freeze) => {
                if let FreezeEvent::Unfrozen { approval: of, nonce, .. } = &freeze.event {
                    assert_eq!(Some(*of), approval);
                    assert_eq!(*nonce, Statement::parse(&used.statement).unwrap().nonce);
                    assert_eq!(released.replace(index), None);
                }
            }
            _ => {}
        }
    }
    assert!(released > approval && approval.is_some());
}
