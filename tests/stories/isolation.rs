//! Isolation: whoever has the use of one domain's intermediate key makes nothing that passes for another domain.

use e2e::forge::{Forgery, dns, uri};
use e2e::verifiers::{Verdict, Verifier};
use e2e::{Caller, Domain, Issue, request};

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
