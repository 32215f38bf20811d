//! Isolation: whoever has the use of one domain's intermediate key makes nothing that passes for another domain.

use e2e::forge::{Forgery, dns, uri};
use e2e::verifiers::{Verdict, Verifier};
use e2e::{Caller, Domain, Issue, Tool, request};

use crate::place::Place;

#[test]
fn a_certificate_forged_with_another_domains_key_is_worth_nothing() {
    let domains =
        vec![Domain::softhsm("prod.example", "ecdsa-p256"), Domain::tpm("edge.example", "ecdsa-p256")];
    let mut place = Place::new(domains);
    let folder = place.path("forged");
    let forge = |name: &str, names: &[_]| {
        let forgery = Forgery {
            devices: &place.site.devices(),
            key: &place.site.domains()[2].key,
            intermediate: &place.path("edge.example/intermediate.pem"),
            names,
        };
        forgery.write(&folder, name).unwrap();
        Caller { cert: folder.join(format!("{name}.chain.pem")), key: folder.join(format!("{name}.key")) }
    };
    let workload = forge(
        "workload",
        &[uri("spiffe://prod.example/ns/pay/sa/ledger").unwrap(), dns("ledger.prod.example").unwrap()],
    );
    let operator = forge("operator", &[uri("spiffe://control.example/operator/alice").unwrap()]);
    let honest = forge("honest", &[uri("spiffe://edge.example/ns/pay/sa/ledger").unwrap()]);

    let scratch = place.path("scratch");
    for verifier in Verifier::ALL.into_iter().filter(|verifier| verifier.is_present()) {
        let verify =
            |root: &str, caller: &Caller| verifier.verify(&place.path(root), &caller.cert, &scratch).unwrap();
        // The forgery is sound in itself: under its own domain's root, what it says of that domain is believed.
        assert_eq!(verify("edge.example/root.pem", &honest), Verdict::Accepted, "{verifier}");
        for root in ["prod.example/root.pem", "control/root.pem"] {
            for caller in [&workload, &operator, &honest] {
                assert!(matches!(verify(root, caller), Verdict::Refused(_)), "{verifier}: {root}");
            }
        }
    }

    // What the thief made does not stand in the log of the key that he used, and that is how he is found.
    place.issue("edge.example", "honest", &[]).expect(0).unwrap();
    place.export_and_audit();
    let reconcile = |what: &[&str]| {
        let log = place.path("edge.example");
        let audit = Tool::ours("undercroft-audit").unwrap().arg("reconcile").arg(log.join("log"));
        let audit =
            audit.arg("--key").arg(log.join("log.vkey")).args(what.iter().map(|name| place.path(name)));
        audit.args(["--output", "json"]).run().unwrap()
    };
    let good = reconcile(&["honest/chain.pem", "prod.example/root.pem"]).expect(0).unwrap();
    let good: Vec<serde_json::Value> = serde_json::from_str(&good.stdout).unwrap();
    let standings: Vec<_> = good.iter().map(|met| met["standing"].as_str().unwrap()).collect();
    assert_eq!(standings, ["logged", "foreign", "foreign"]);
    let found =
        reconcile(&["honest/leaf.pem", "forged"]).expect(5).unwrap().says("signed past the log").unwrap();
    let found: Vec<serde_json::Value> = serde_json::from_str(&found.stdout).unwrap();
    let alarms = found.iter().filter(|met| met["alarm"] == true).count();
    // Three forgeries, each alone and in its chain.
    assert_eq!((found.len(), alarms), (1 + 3 * 3, 6));

    let out = place.path("refused");
    let (_, csr) = request(&out, "leaf", "P-256", Some("spiffe://prod.example/ns/a/sa/b")).unwrap();
    let issue = Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more: &[] };
    for caller in [&workload, &operator] {
        place.ask(caller, &issue).expect(4).unwrap().says("turned the client certificate away").unwrap();
    }
    // With a name of its own domain the thief gets through the door, as any workload of it, and policy knows it not.
    place.ask(&honest, &issue).expect(4).unwrap().says("caller-unknown").unwrap();
    place.stop();
}
