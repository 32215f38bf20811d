//! Two domains below one root, kept apart by critical name constraints: which verifiers keep them apart, and which
//! refuse the good certificates along with the bad ones. `docs/name-constraints.md` shows the table.

use std::fs;
use std::path::Path;

use e2e::Domain;
use e2e::forge::{Forgery, dns, uri};
use e2e::verifiers::{Verdict, Verifier};

use crate::judges::judge_certificates;
use crate::place::Place;

/// What should have been refused and is not: GnuTLS 3.7 does not look at URI constraints at all. The docs warn of it.
const NOT_ENFORCED: [(Verifier, &str); 1] = [(Verifier::GnuTls, OTHER_ID)];

const GOOD: &str = "good leaf";
const OTHER_ID: &str = "SPIFFE ID of the other domain";

/// The table stands between these lines of the page.
const BEGIN: &str = "<!-- made by tests/stories/shared_root.rs; run it with UPDATE_DOCS=1 to renew -->\n";
const END: &str = "<!-- end -->";

#[test]
fn constraints_keep_domains_apart_and_the_docs_say_for_whom() {
    let domains = vec![
        Domain::softhsm("prod.example", "ecdsa-p256").under("example"),
        Domain::tpm("edge.example", "ecdsa-p256").under("example"),
    ];
    let mut place = Place::new(domains);
    place.issue("prod.example", "good", &["--dns", "ledger.prod.example"]).expect(0).unwrap();
    let folder = place.path("forged");
    let forge = |name: &str, names: &[_]| {
        let forgery = Forgery {
            devices: &place.site.devices(),
            key: &place.site.domains()[2].key,
            intermediate: &place.path("edge.example/intermediate.pem"),
            names,
        };
        forgery.write(&folder, name).unwrap();
        folder.join(format!("{name}.chain.pem"))
    };
    let id = uri("spiffe://edge.example/ns/a/sa/b").unwrap();
    let cases = [
        (GOOD, place.path("good/chain.pem")),
        (OTHER_ID, forge("id", &[uri("spiffe://prod.example/ns/pay/sa/ledger").unwrap()])),
        ("DNS name of the other domain", forge("dns", &[id.clone(), dns("ledger.prod.example").unwrap()])),
        ("IP address", forge("ip", &[id, rcgen::SanType::IpAddress([192, 0, 2, 1].into())])),
    ];
    let root = place.path("example/root.pem");
    let scratch = place.path("scratch");
    let columns = cases.each_ref().map(|(what, _)| format!(" {what} |")).concat();
    let mut table = format!("| verifier |{columns}\n|{}\n", " --- |".repeat(cases.len() + 1));
    for verifier in Verifier::ALL.into_iter().filter(|verifier| verifier.is_present()) {
        let verdicts = cases.each_ref().map(|(what, chain)| {
            let accepted = verifier.verify(&root, chain, &scratch).unwrap() == Verdict::Accepted;
            let forged = *what != GOOD;
            let known_hole = NOT_ENFORCED.contains(&(verifier, *what));
            assert_eq!(forged && accepted, known_hole, "{verifier}, {what}: accepted = {accepted}");
            match (accepted, known_hole) {
                (true, true) => " **accepted** |",
                (true, false) => " accepted |",
                (false, _) => " refused |",
            }
        });
        table += &format!("| {verifier} |{}\n", verdicts.concat());
    }
    judge_certificates(&[place.path("prod.example/intermediate.pem"), place.path("good/leaf.pem")]);
    place.export_and_audit();
    place.stop();
    compare_with_docs(&table);
}

/// Each line of the table stands in the docs. A machine may have fewer verifiers than the docs name.
fn compare_with_docs(table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/name-constraints.md");
    let text = fs::read_to_string(&page).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (shown, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, format!("{head}{BEGIN}\n{table}\n{END}{tail}")).unwrap();
        return;
    }
    for line in table.lines() {
        assert!(shown.contains(line), "docs/name-constraints.md does not show: {line}");
    }
}
