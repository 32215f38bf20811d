//! A compromised authority is replaced by the quorum's word, and by nobody else's.

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::compromise::{CompromisePlan, RecoveryStep, Standing};
use undercroft_ca::service::{Brought, CertificateAuthority, ServiceError};
use undercroft_ca::time::Lifetime;
use undercroft_log::leaf::{Body, Caller, Channel, HexKeyId, RecoveryWay, RefusedAction};

use crate::freeze::People;
use crate::rig::{Options, Rig, RootRig, ask, software, workload};

fn uid() -> Caller {
    Caller { id: "uid:1000".into(), by: Channel::UnixSocket }
}

/// A plan that replaces the authority of prod.example.
fn plan(ca: &CertificateAuthority, replacement: &AuthorityCertificate) -> CompromisePlan {
    let authority = &ca.domain("prod.example").unwrap().authorities()[0];
    let compromised = HexKeyId(authority.certificate().public_key().id());
    let domain = "prod.example".to_owned();
    CompromisePlan::new(domain, compromised, replacement, Vec::new(), "the token is gone".into(), ca.now())
}

fn rule(told: Result<impl Sized, ServiceError>) -> &'static str {
    match told {
        Ok(_) => "",
        Err(ServiceError::Refused(refusal)) => refusal.rule,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_quorum_replaces_a_compromised_authority_and_the_command_may_be_repeated() {
    let (control, prod) = (RootRig::new("control"), RootRig::new("prod"));
    let rig = Rig::with([("control.example", &control, false), ("prod.example", &prod, false)]);
    let key = software(undercroft_keys::KeyAlgorithm::EcdsaP256);
    let certificate = |root: &RootRig, domain| root.intermediate(domain, key.signer.public_key(), false);
    let people = People::new(&["alice", "bob", "carol"]);
    let roster = Some(people.roster(2, &["alice", "bob", "carol"]));
    let options = Options { roster, ..Options::default() };
    rig.start(&options, async |ca| {
        let good = plan(ca, &certificate(&prod, "prod.example"));
        let text = good.text().unwrap();
        let state = |plan: &str| ca.recovery_statement(plan, "carol", Lifetime::hours(1));
        let both = ["alice", "bob"];
        // What is no plan, or not ours, is not even put to the quorum.
        let old = ca.domain("prod.example").unwrap().authorities()[0].certificate().clone();
        let root = ca.domain("prod.example").unwrap().bundle().roots()[0].clone();
        let mut tainted = good.clone();
        tainted.tainted_roots = vec![HexKeyId(root.public_key().id())];
        let mut silent = good.clone();
        silent.reason = " ".into();
        for wrong in [
            "{}".to_owned(),
            text.replace("undercroft-compromise-v1", "undercroft-compromise-v2"),
            text.replace("prod.example", "edge.example"),
            plan(ca, &old).text().unwrap(),
            plan(ca, &root).text().unwrap(),
            plan(ca, &certificate(&prod, "control.example")).text().unwrap(),
            plan(ca, &certificate(&RootRig::new("thief"), "prod.example")).text().unwrap(),
            tainted.text().unwrap(),
            silent.text().unwrap(),
        ] {
            assert_eq!(rule(state(&wrong)), "recovery-plan", "{wrong}");
        }
        let statement = state(&text).unwrap().text().unwrap();
        let signed = people.sign(&statement, &both);
        let recover = async |plan: &str, brought: &Brought, dry_run| {
            ca.recover_compromise(uid(), plan, brought, dry_run).await
        };
        for (plan, brought) in [
            (&text, people.sign(&statement, &["alice"])),
            (&text, people.sign(&statement, &["alice", "carol"])),
            (&text, people.sign(&statement.replace("\"recover\"", "\"unfreeze\""), &both)),
            (&text, Brought { statement: statement.replace("carol", "dave"), ..signed.clone() }),
            (&text.replace("is gone", "is here"), signed.clone()),
        ] {
            assert_eq!(rule(recover(plan, &brought, false).await), "approval");
        }
        assert!(ca.freezes().is_empty());
        // A dry run changes nothing.
        let told = recover(&text, &signed, true).await.unwrap();
        assert!(matches!(told.steps[0], (RecoveryStep::Freeze, Standing::Open(_))));
        ask(ca, workload()).await.unwrap();
        // And then again and again, also when the approval would have been too old by now.
        for _ in 0..2 {
            let told = recover(&text, &signed, false).await.unwrap();
            assert_eq!(told.approved_by, both);
            let done = told.steps.iter().filter(|(_, standing)| *standing == Standing::Done);
            let done: Vec<_> = done.map(|(step, _)| *step).collect();
            assert_eq!(done, [RecoveryStep::Freeze, RecoveryStep::Record]);
            assert_eq!(rule(ask(ca, workload()).await), "frozen");
            rig.clock.advance(7200);
        }
        let late = people.sign(&state(&text).unwrap().text().unwrap(), &both);
        rig.clock.advance(7200);
        assert_eq!(rule(recover(&text, &late, false).await), "approval");
    })
    .unwrap();
    let log = rig.log_of("control.example");
    let count = |wanted: fn(&Body) -> bool| log.iter().filter(|body| wanted(body)).count();
    assert_eq!(count(|body| matches!(body, Body::Approval(_))), 1);
    assert_eq!(count(|body| matches!(body, Body::Freeze(_))), 1);
    assert_eq!(count(|body| matches!(body, Body::Recovery(it) if it.way == RecoveryWay::Compromise)), 1);
    assert_eq!(count(|body| matches!(body, Body::Refusal(it) if it.action == RefusedAction::Recover)), 6);
}
