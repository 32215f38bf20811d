use undercroft_keys::KeyAlgorithm;

use super::*;
use crate::fixtures::{Counter, key};
use crate::serial::SerialNumber;

pub(crate) const PLAN: &str = r#"
version = 1
title = "First ceremony of Example"
operator = "ca.example"
name = "2026-11"
policy-arc = "1.3.6.1.4.1.32473.1"
transcript = { device = "roots", label = "ceremony-log" }
entropy = "84bf18a1d5097b444b5724eab0d501df28d470fb0ad060c73d7e89e6c705dd5a"

[[root]]
name = "prod-root"
domains = ["prod.example"]
key = { device = "roots", label = "prod-root-r1", algorithm = "ecdsa-p384" }
subject = { organization = "Example", common-name = "prod.example Root R1" }
not-before = 2026-11-22T00:00:00Z
not-after = 2046-11-22T00:00:00Z
urls = { crl = "http://pki.ca.example/prod/root.crl", certificate = "http://pki.ca.example/prod/root.cer" }
follows = "CP 1.0 section 7.1.1"
output = "prod.example/root.pem"

[[root]]
name = "shared-root"
domains = ["edge.example", "lab.example"]
key = { device = "roots", label = "shared-root-r1", algorithm = "ecdsa-p384" }
subject = { organization = "Example", common-name = "Shared Root R1" }
not-before = 2026-11-22T00:00:00Z
not-after = 2046-11-22T00:00:00Z
urls = { crl = "http://pki.ca.example/shared/root.crl", certificate = "http://pki.ca.example/shared/root.cer" }
follows = "CP 1.0 section 7.1.1"
output = "shared/root.pem"

[[intermediate]]
name = "prod-intermediate"
domain = "prod.example"
issuer = "prod-root"
request = "prod.example/intermediate"
algorithm = "ecdsa-p256"
subject = { organization = "Example", common-name = "prod.example Intermediate I1" }
not-before = 2026-11-22T00:00:00Z
not-after = 2027-11-22T00:00:00Z
follows = "CP 1.0 section 7.1.2"
output = "prod.example/intermediate.pem"

[[intermediate]]
name = "edge-intermediate"
domain = "edge.example"
issuer = "shared-root"
request = "edge.example/intermediate"
algorithm = "ecdsa-p256"
subject = { organization = "Example", common-name = "edge.example Intermediate I1" }
not-before = 2026-11-22T00:00:00Z
not-after = 2027-11-22T00:00:00Z
nesting = 1
constraints = { dns-names = ["edge.example"] }
follows = "CP 1.0 section 7.1.2"
output = "edge.example/intermediate.pem"

[[crl]]
name = "prod-root-crl"
issuer = "prod-root"
number = 1
this-update = 2026-11-22T00:00:00Z
next-update = 2027-05-22T00:00:00Z
revoked = [{ serial = "01010101010101010101010101010101", date = 2026-11-21T00:00:00Z, reason = "superseded" }]
follows = "CP 1.0 section 7.2"
output = "prod.example/root.crl"
"#;

fn refusal(text: &str) -> String {
    Plan::parse("plan.toml", text).unwrap_err().to_string()
}

#[test]
fn everything_in_a_sound_plan_can_be_prepared() {
    let plan = Plan::parse("plan.toml", PLAN).unwrap();
    assert_eq!(plan.origin().as_str(), "ca.example/undercroft/ceremony/2026-11/1");
    assert_eq!(plan.custody(), Demand::Declared);
    let entropy = Counter::default();
    let serial = || SerialNumber::random(&entropy).unwrap();
    let root_key = key(KeyAlgorithm::EcdsaP384);
    for root in plan.roots() {
        root.prepare(&plan, &root_key, serial()).unwrap();
    }
    for intermediate in plan.intermediates() {
        let issuer = plan.root(intermediate.issuer()).unwrap().issuer(&root_key);
        let own = key(intermediate.algorithm());
        intermediate.prepare(&plan, &issuer, &root_key, &own, None, serial()).unwrap();
    }
    for crl in plan.crls() {
        let issuer = plan.root(crl.issuer()).unwrap().issuer(&root_key);
        crl.prepare(&plan, &issuer, &root_key).unwrap();
    }
}

/// The plan in `tests/golden`: it has terms, an OCSP signer and a statement about roots.
const GOLDEN: &str = include_str!("../../../tests/golden/plan.toml");

#[test]
fn an_ocsp_signer_answers_for_its_root_alone_and_nobody_asks_about_it() {
    let plan = Plan::parse("plan.toml", GOLDEN).unwrap();
    let [signer] = plan.ocsp_signers() else { panic!("{:?}", plan.ocsp_signers()) };
    let root_key = key(KeyAlgorithm::EcdsaP384);
    let issuer = plan.root(signer.issuer()).unwrap().issuer(&root_key);
    let serial = SerialNumber::random(&Counter::default()).unwrap();
    let own = key(signer.algorithm());
    let prepared = signer.prepare(&plan, &issuer, &root_key, &own, None, serial).unwrap();
    let tbs = prepared.to_be_signed();
    let has = |oid: &str| {
        let oid = const_oid::ObjectIdentifier::new_unwrap(oid);
        tbs.windows(oid.as_bytes().len()).any(|window| window == oid.as_bytes())
    };
    // id-pkix-ocsp-nocheck, id-kp-OCSPSigning; none of id-kp-serverAuth, id-kp-clientAuth, id-ad-ocsp.
    assert!(has("1.3.6.1.5.5.7.48.1.5") && has("1.3.6.1.5.5.7.3.9"));
    assert!(!has("1.3.6.1.5.5.7.3.1") && !has("1.3.6.1.5.5.7.3.2"));
    assert!(!tbs.windows(9).any(|window| window == b"spiffe://"));
    // Where the responder is stands in what it answers for, and not in its own certificate.
    let asks = |tbs: &[u8]| tbs.windows(10).any(|window| window == b"/root/ocsp");
    let intermediate = &plan.intermediates()[0];
    let below = intermediate.prepare(&plan, &issuer, &root_key, &own, None, serial).unwrap();
    assert!(!asks(tbs) && asks(below.to_be_signed()));
}

#[test]
fn ocsp_signers_and_statements_that_make_no_sense_are_refused() {
    let signer = "not-before = 2026-11-22T00:00:00Z\nnot-after = 2027-02-20T00:00:00Z";
    let statement = "not-before = 2026-11-22T00:00:00Z\nnot-after = 2027-12-31T00:00:00Z";
    for (from, to, part) in [
        ("2027-02-20T00:00:00Z", "2027-02-20T00:00:01Z", "valid for longer than 90d"),
        ("2027-02-20T00:00:00Z", "2026-11-22T00:00:00Z", "nothing is left"),
        (signer, "not-before = 2046-11-21T00:00:00Z\nnot-after = 2046-11-23T00:00:00Z", "is not within"),
        (", ocsp = \"http://pki.ca.example/prod/root/ocsp\"", "", "have no ocsp"),
        (
            "request = \"prod.example/root-ocsp\"",
            "request = \"prod.example/intermediate\"",
            "a key of its own",
        ),
        (
            "name = \"prod-root-ocsp\"\nissuer = \"prod-root\"",
            "name = \"o\"\nissuer = \"r\"",
            "no root of this plan",
        ),
        ("follows = \"CP 1.0 section 7.3\"", "follows = \"\"", "follows is empty"),
        ("number = 1\nroots", "number = 0\nroots", "its number is 0"),
        ("roots = [\"prod-root\"]", "roots = []", "names no root"),
        ("roots = [\"prod-root\"]", "roots = [\"prod-rot\"]", "no root of this plan"),
        ("roots = [\"prod-root\"]", "roots = [\"edge-root\"]", "is no root of the domain `prod.example`"),
        ("roots = [\"prod-root\"]", "roots = [\"prod-root\", \"prod-root\"]", "name `prod-root` twice"),
        ("domain = \"prod.example\"\nnumber", "domain = \"Prod\"\nnumber", "no trust domain"),
        ("name = \"prod-roots\"", "name = \"../roots\"", "its name is that of a file"),
        (statement, "not-before = 2027-12-31T00:00:00Z\nnot-after = 2026-11-22T00:00:00Z", "nothing is left"),
        ("follows = \"CP 1.0 section 6.1.4\"", "follows = \" \"", "follows is empty"),
    ] {
        let changed = GOLDEN.replacen(from, to, 1);
        assert_ne!(changed, GOLDEN, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
    let again = GOLDEN.split("[[bundle-statement]]").nth(1).unwrap().split("[[destruction]]").next().unwrap();
    let again = again.replace("prod-roots", "again").replace("roots.json", "again.json");
    let twice = refusal(&format!("{GOLDEN}\n[[bundle-statement]]{again}"));
    assert!(twice.contains("another statement of this plan is about `prod.example`"), "{twice}");
    // Without terms nobody could approve it.
    let alone = refusal(&format!("{PLAN}\n[[bundle-statement]]{again}"));
    assert!(alone.contains("no roster that could approve it"), "{alone}");
}

#[test]
fn a_statement_counts_more_than_the_one_before_or_is_noticed() {
    let plan = |number: &str| Plan::parse("plan.toml", &GOLDEN.replace("number = 1\nroots", number)).unwrap();
    let (first, second) = (plan("number = 1\nroots"), plan("number = 2\nroots"));
    assert!(second.statement_not_after(&first).is_none());
    assert_eq!(first.statement_not_after(&second).unwrap().1, 2);
    assert_eq!(first.statement_not_after(&first).unwrap().0.name(), "prod-roots");
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    for (from, to, part) in [
        ("version = 1", "version = 2", "version 2"),
        ("entropy = \"", "entropy = \"00", "32 random bytes"),
        ("policy-arc", "requester = \"carol\"\npolicy-arc", "belong together"),
        ("title", "titel", "did you mean `title`?"),
        ("operator = \"ca.example\"", "operator = \"ca example\"", "cannot be the name"),
        (
            "issuer = \"prod-root\"\nrequest",
            "issuer = \"prod-rot\"\nrequest",
            "no root of this plan; known are prod-root, shared-root",
        ),
        ("domain = \"prod.example\"", "domain = \"edge.example\"", "is no root of the domain `edge.example`"),
        ("[\"prod.example\"]", "[]", "at least one trust domain"),
        ("[\"prod.example\"]", "[\"prod.example\", \"edge.example\"]", "has another root"),
        ("[\"prod.example\"]", "[\"Prod.example\"]", "no trust domain"),
        ("not-after = 2046-11-22", "not-after = 2027-01-22", "not within that of its issuer"),
        ("not-after = 2046-11-22", "not-after = 2026-11-22", "nothing is left"),
        ("not-after = 2046-11-22", "not-after = 2066-11-22", "longer than"),
        ("not-after = 2027-11-22", "not-after = 2029-11-22", "longer than"),
        ("2026-11-22T00:00:00Z", "2026-11-22T00:00:00", "no time in UTC"),
        ("2026-11-22T00:00:00Z", "2026-11-22T00:00:00.5Z", "no time in UTC"),
        ("\"ecdsa-p384\"", "\"ecdsa-p521\"", "no key algorithm"),
        ("label = \"shared-root-r1\"", "label = \"prod-root-r1\"", "planned twice"),
        ("label = \"shared-root-r1\"", "label = \"ceremony-log\"", "planned twice"),
        (
            "common-name = \"Shared Root R1\"",
            "common-name = \"prod.example Root R1\"",
            "a new root has a new name",
        ),
        ("name = \"edge-intermediate\"", "name = \"prod-intermediate\"", "same name"),
        ("output = \"shared/root.pem\"", "output = \"prod.example/root.pem\"", "same output"),
        (
            "request = \"edge.example/intermediate\"",
            "request = \"prod.example/intermediate\"",
            "a key of its own",
        ),
        ("output = \"shared/root.pem\"", "output = \"../root.pem\"", "no relative path"),
        ("output = \"shared/root.pem\"", "output = \"/root.pem\"", "no relative path"),
        ("constraints = { dns-names = [\"edge.example\"] }", "", "give it constraints"),
        ("dns-names = [\"edge.example\"]", "dns-names = []", "would leave every DNS name open"),
        ("nesting = 1", "nesting = 9", "8 levels of SPIRE servers are the most"),
        ("\"CP 1.0 section 7.1.2\"", "\" \"", "follows is empty"),
        ("http://pki.ca.example/prod/root.crl", "https://pki.ca.example/prod/root.crl", "no http:// URL"),
        ("01010101010101010101010101010101", "01", "no serial number"),
        ("organization = \"Example\", common-name = \"prod.example Root R1\"", "", "subject is empty"),
    ] {
        let changed = PLAN.replacen(from, to, 1);
        assert_ne!(changed, PLAN, "{from}");
        assert!(refusal(&changed).contains(part), "{to}: {}", refusal(&changed));
    }
    assert!(refusal(&" ".repeat(MAX_PLAN + 1)).contains("bytes"));
}

#[test]
fn a_crl_that_lint_refuses_is_not_prepared() {
    let plan = Plan::parse("plan.toml", &PLAN.replace("number = 1\n", "number = 0\n")).unwrap();
    let root_key = key(KeyAlgorithm::EcdsaP384);
    let issuer = plan.roots()[0].issuer(&root_key);
    let refused = plan.crls()[0].prepare(&plan, &issuer, &root_key).unwrap_err().to_string();
    assert!(refused.contains("crl-number"), "{refused}");
}

#[test]
fn the_digest_is_that_of_the_text() {
    let plan = Plan::parse("plan.toml", PLAN).unwrap();
    assert_eq!(plan.digest(), Digest::of(PLAN.as_bytes()));
    assert_ne!(Plan::parse("plan.toml", &format!("{PLAN}\n")).unwrap().digest(), plan.digest());
}

#[test]
fn the_plan_in_the_docs_is_one() {
    let page = include_str!("../../../docs/ceremony.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let plan = Plan::parse("docs/ceremony.md", text).unwrap();
    assert_eq!((plan.roots().len(), plan.intermediates().len(), plan.crls().len()), (1, 1, 1));
}

#[test]
fn the_tables_of_ocsp_signers_and_statements_in_the_docs_are_read() {
    let page = include_str!("../../../docs/ceremony.md");
    let part = |text: &str| {
        let begin = text.find("[[ocsp-signer]]").unwrap();
        let end = text.find("[[destruction]]").unwrap();
        (text[..begin].to_owned(), text[begin..end].to_owned(), text[end..].to_owned())
    };
    let (_, tables, _) = part(page);
    let (before, own, behind) = part(GOLDEN);
    let crl = &own[own.find("[[crl]]").unwrap()..own.find("[[bundle-statement]]").unwrap()];
    let tables = tables.replace(", \"old-root\"", "");
    let plan = Plan::parse("docs/ceremony.md", &format!("{before}{tables}{crl}{behind}")).unwrap();
    assert_eq!((plan.ocsp_signers().len(), plan.bundle_statements().len()), (1, 1));
}
