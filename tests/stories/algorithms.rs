//! Authorities with every algorithm that tokens have, judged by strangers.

use e2e::Domain;
use e2e::verifiers::{Verdict, Verifier};

use crate::judges::{judge_certificates, judge_crls};
use crate::place::Place;

/// What accepts no Ed25519 in certificates.
const WITHOUT_ED25519: [Verifier; 2] = [Verifier::Nss, Verifier::Python];

#[test]
fn authorities_of_every_algorithm_make_chains_that_strangers_accept() {
    let algorithms = [
        ("p384.example", "ecdsa-p384"),
        ("rsa2048.example", "rsa-2048-pkcs1"),
        ("pss2048.example", "rsa-2048-pss"),
        ("rsa3072.example", "rsa-3072-pkcs1"),
        ("ed25519.example", "ed25519"),
    ];
    let domains = algorithms.map(|(name, algorithm)| Domain::softhsm(name, algorithm));
    let tpm = Domain::tpm("tpm.example", "rsa-2048-pss");
    let mut place = Place::new(domains.into_iter().chain([tpm]).collect());
    let scratch = place.path("scratch");
    let mut files = Vec::new();
    for domain in &place.site.domains()[1..] {
        place.issue(&domain.name, &domain.name, &[]).expect(0).unwrap();
        let file = |name: &str| place.path(&domain.folder).join(name);
        for verifier in Verifier::ALL.into_iter().filter(|verifier| verifier.is_present()) {
            let verdict = verifier.verify(&file("root.pem"), &file("chain.pem"), &scratch).unwrap();
            if domain.algorithm == "ed25519" && WITHOUT_ED25519.contains(&verifier) {
                assert!(matches!(verdict, Verdict::Refused(_)), "{verifier} knows Ed25519 by now");
            } else {
                assert_eq!(verdict, Verdict::Accepted, "{verifier}: {}", domain.algorithm);
            }
        }
        files.extend(["intermediate.pem", "leaf.pem"].map(file));
    }
    judge_certificates(&files);
    let crls: Vec<_> = place.site.domains()[1..]
        .iter()
        .map(|domain| {
            (place.path(&domain.folder).join("root.crl"), place.path(&domain.folder).join("root.pem"))
        })
        .collect();
    judge_crls(&crls);
    place.export_and_audit();
    place.stop();
}
