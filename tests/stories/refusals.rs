//! Refusals: each exits with 4, names its rule, writes nothing, and stands in the log.

use std::fs;

use e2e::{Domain, Issue, break_signature, request};

use crate::place::{Place, files};

#[test]
fn each_refusal_names_its_rule_exits_with_4_and_stands_in_the_log() {
    let mut place = Place::new(vec![
        Domain::softhsm("prod.example", "ecdsa-p256"),
        Domain::softhsm("edge.example", "ecdsa-p256"),
    ]);
    let folder = place.path("requests");
    let named = |name: &str, id: Option<&str>| request(&folder, name, "P-256", id).unwrap().1;
    let good = named("good", Some("spiffe://prod.example/ns/pay/sa/ledger"));
    let nameless = named("nameless", None);
    let other = named("other", Some("spiffe://edge.example/ns/pay/sa/ledger"));
    let reserved = named("reserved", Some("spiffe://prod.example/spire/server"));
    let forbidden = named("forbidden", Some("spiffe://prod.example/db/main"));
    let broken = folder.join("broken.csr.pem");
    break_signature(&good, &broken).unwrap();
    let mallory = place.site.enrolled(place.daemon(), "/visitor/mallory").unwrap();

    let out = place.path("refused");
    let issue = |csr, profile, more| Issue { domain: "prod.example", profile, csr, out: &out, more };
    let alice = place.operator.clone();
    let table = [
        ("caller-unknown", &mallory, issue(&good, "svid", &[])),
        ("no-rule", &alice, issue(&good, "spire-ca", &[])),
        ("id-missing", &alice, issue(&nameless, "svid", &[])),
        ("id-of-another-domain", &alice, issue(&other, "svid", &[])),
        ("id-reserved", &alice, issue(&reserved, "svid", &[])),
        ("id-not-allowed", &alice, issue(&forbidden, "svid", &[])),
        ("id-contradiction", &alice, issue(&good, "svid", &["--id", "spiffe://prod.example/ns/a/sa/b"])),
        ("dns-not-allowed", &alice, issue(&good, "svid", &["--dns", "www.edge.example"])),
        ("lifetime-over-cap", &alice, issue(&good, "svid", &["--lifetime", "48h"])),
        ("csr-signature", &alice, issue(&broken, "svid", &[])),
    ];
    for (rule, caller, issue) in &table {
        place.ask(caller, issue).expect(4).unwrap().says(&format!("({rule})")).unwrap();
        // What would be issued is refused in the same way.
        let more: Vec<_> = issue.more.iter().copied().chain(["--dry-run"]).collect();
        let dry = Issue { more: &more, ..issue.clone() };
        place.ask(caller, &dry).expect(4).unwrap().says(&format!("({rule})")).unwrap();
    }
    assert_eq!(files(&out).len(), 0, "a refused request left files");

    // An error for programs: the same words, the rule and the status.
    let ran = place.ask(&alice, &issue(&good, "svid", &["--lifetime", "48h", "--output", "json"]));
    let error: serde_json::Value = serde_json::from_str(&ran.expect(4).unwrap().stderr).unwrap();
    assert!(error.to_string().contains("lifetime-over-cap"), "{error}");

    place.export_and_audit();
    let logged = place.refusals("prod.example");
    for (rule, caller, _) in &table {
        let id = if caller.cert == alice.cert { "/operator/alice" } else { "/visitor/mallory" };
        let times = logged.iter().filter(|leaf| leaf.rule == *rule && leaf.caller.id.ends_with(id)).count();
        let expected = if *rule == "lifetime-over-cap" { 3 } else { 2 };
        assert_eq!(times, expected, "{rule}");
    }
    assert_eq!(logged.len(), 2 * table.len() + 1);
    place.stop();
}

#[test]
fn a_token_is_good_once_and_a_policy_that_changed_is_in_force_at_the_next_start() {
    let mut place = Place::prod();
    let (_, csr) = request(&place.path("second"), "leaf", "P-256", None).unwrap();
    let token = place.path("control/operator-alice/token");
    let again = place.site.enrol(place.daemon(), &token, &csr, &place.path("second")).unwrap();
    again.run().unwrap().expect(4).unwrap().says("token-used").unwrap();
    fs::write(place.path("made-up"), "c29tZSB0b2tlbg\n").unwrap();
    let made_up =
        place.site.enrol(place.daemon(), &place.path("made-up"), &csr, &place.path("second")).unwrap();
    made_up.run().unwrap().expect(4).unwrap().says("token-unknown").unwrap();

    place.issue("prod.example", "before", &[]).expect(0).unwrap();
    place.stop();
    let policy = place.site.policy().replace("operator/*", "operator/bob");
    place.site.set_policy(&policy).unwrap();
    place.start();
    place.issue("prod.example", "after", &[]).expect(4).unwrap().says("caller-unknown").unwrap();
    place.export_and_audit();
    assert_eq!(place.refusals("control").len(), 1);
    place.stop();
}
