use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;
use crate::csr::Csr;
use crate::names::parse_spiffe_id;
use crate::profile::{KeyFamily, ProfileConfig};

const POLICY: &str = r#"
[[rule]]
name = "prod-workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
dns-names = ["*.prod.example"]
max-lifetime = "2h"

[[rule]]
name = "prod-batch"
callers = ["spiffe://control.example/operator/batch"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/batch/**"]

[[rule]]
name = "prod-spire"
callers = ["spiffe://control.example/spire-server/prod-1"]
domain = "prod.example"
profile = "spire-ca"

[[rule]]
name = "edge-p256"
callers = ["spiffe://control.example/operator/*"]
domain = "edge.example"
profile = "p256"
spiffe-ids = ["spiffe://edge.example/*"]
"#;

fn domains() -> Vec<TrustDomain> {
    ["control.example", "prod.example", "edge.example"].map(|name| parse_trust_domain(name).unwrap()).to_vec()
}

fn profiles() -> Vec<Profile> {
    let mut profiles: Vec<_> = Kind::ALL.into_iter().map(Profile::standard).collect();
    let p256 = ProfileConfig {
        name: "p256".into(),
        kind: Kind::Svid,
        lifetime: None,
        max_lifetime: None,
        keys: Some(vec![KeyFamily::P256]),
        assurance: crate::profile::Assured::Signed,
    };
    profiles.push(Profile::from_config(p256).unwrap());
    profiles
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse("policy.toml", text, Known { domains: &domains(), profiles: &profiles() })
}

fn csr(names: &[&str]) -> Csr {
    csr_with(&KeyPair::generate().unwrap(), names)
}

fn csr_with(key: &KeyPair, names: &[&str]) -> Csr {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    Csr::from_der(params.serialize_request(key).unwrap().der()).unwrap()
}

const OPERATOR: &str = "spiffe://control.example/operator/alice";
const ID: &str = "spiffe://prod.example/ns/a/sa/b";

struct Ask<'a> {
    caller: &'a str,
    domain: &'a str,
    profile: &'a str,
    id: &'a str,
    dns: &'a [&'a str],
    lifetime: Option<Lifetime>,
    csr: Csr,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            caller: OPERATOR,
            domain: "prod.example",
            profile: "svid",
            id: ID,
            dns: &[],
            lifetime: None,
            csr: csr(&[]),
        }
    }
}

fn decide(ask: Ask<'_>) -> Result<Grant, &'static str> {
    let dns: Vec<_> = ask.dns.iter().map(|name| (*name).to_owned()).collect();
    let request = Request {
        domain: ask.domain,
        profile: ask.profile,
        spiffe_id: ask.id,
        dns_names: &dns,
        lifetime: ask.lifetime,
        public_key: ask.csr.public_key(),
        wishes: ask.csr.wishes(),
    };
    parse(POLICY)
        .unwrap()
        .decide(&parse_spiffe_id(ask.caller).unwrap(), &request)
        .map_err(|refusal| refusal.rule)
}

#[test]
fn what_a_rule_allows_is_granted() {
    let grant = decide(Ask { dns: &["b.prod.example"], ..Ask::default() }).unwrap();
    assert_eq!(grant.rule(), "prod-workloads");
    assert_eq!(grant.identity().uri.as_deref(), Some(ID));
    assert_eq!(grant.identity().dns_names.len(), 1);
    assert_eq!(grant.lifetime(), Lifetime::hours(1));
    assert_eq!(grant.policy(), Digest::of(POLICY.as_bytes()));
    let asked = decide(Ask { lifetime: Some(Lifetime::hours(2)), ..Ask::default() }).unwrap();
    assert_eq!(asked.lifetime(), Lifetime::hours(2));
}

#[test]
fn wishes_of_the_csr_are_granted_or_withheld() {
    let grant = decide(Ask {
        id: "",
        csr: csr(&[ID, "b.prod.example", "www.example.com", "Bad.prod.example"]),
        ..Ask::default()
    })
    .unwrap();
    assert_eq!(grant.identity().uri.as_deref(), Some(ID));
    assert_eq!(grant.identity().dns_names[0].as_str(), "b.prod.example");
    assert_eq!(grant.withheld(), ["DNS name www.example.com", "DNS name Bad.prod.example"]);
}

#[test]
fn a_spire_ca_speaks_for_its_domain() {
    let spire = |id, csr| {
        decide(Ask {
            caller: "spiffe://control.example/spire-server/prod-1",
            profile: "spire-ca",
            id,
            csr,
            ..Ask::default()
        })
    };
    let grant = spire("", csr(&["spiffe://prod.example"])).unwrap();
    assert_eq!(grant.identity().uri.as_deref(), Some("spiffe://prod.example"));
    assert_eq!(grant.lifetime(), Lifetime::hours(24));
    assert_eq!(spire("", csr(&["spiffe://edge.example"])).unwrap_err(), "id-of-another-domain");
    assert_eq!(spire("spiffe://prod.example/a", csr(&[])).unwrap_err(), "id-of-another-domain");
}

#[test]
fn what_no_rule_allows_is_refused_by_name() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (rule, ask) in [
        ("caller-unknown", Ask { caller: "spiffe://control.example/nobody", ..Ask::default() }),
        ("caller-unknown", Ask { caller: "spiffe://prod.example/operator/alice", ..Ask::default() }),
        ("no-rule", Ask { profile: "spire-ca", ..Ask::default() }),
        ("no-rule", Ask { domain: "control.example", ..Ask::default() }),
        ("no-rule", Ask { domain: "nowhere.example", ..Ask::default() }),
        ("id-missing", Ask { id: "", ..Ask::default() }),
        ("id-malformed", Ask { id: "prod", ..Ask::default() }),
        ("id-malformed", Ask { id: "spiffe://prod.example/ns/../sa/b", ..Ask::default() }),
        ("id-of-another-domain", Ask { id: "spiffe://edge.example/ns/a/sa/b", ..Ask::default() }),
        ("id-reserved", Ask { id: "spiffe://prod.example/undercroft/server", ..Ask::default() }),
        ("id-reserved", Ask { id: "spiffe://prod.example/spire/server", ..Ask::default() }),
        ("id-not-allowed", Ask { id: "spiffe://prod.example/ns/a", ..Ask::default() }),
        ("id-several", Ask { csr: csr(&[ID, ID]), ..Ask::default() }),
        ("id-contradiction", Ask { csr: csr(&["spiffe://prod.example/ns/a/sa/c"]), ..Ask::default() }),
        ("dns-not-allowed", Ask { dns: &["www.example.com"], ..Ask::default() }),
        ("dns-not-allowed", Ask { dns: &["*.prod.example"], ..Ask::default() }),
        ("lifetime-over-cap", Ask { lifetime: Some(Lifetime::seconds(7201)), ..Ask::default() }),
        (
            "key-type",
            Ask {
                domain: "edge.example",
                profile: "p256",
                id: "spiffe://edge.example/a",
                csr: csr_with(&rsa, &[]),
                ..Ask::default()
            },
        ),
    ] {
        assert_eq!(decide(ask).map(|grant| grant.rule().to_owned()), Err(rule));
    }
}

#[test]
fn of_several_rules_any_may_grant_and_the_nearest_refuses() {
    let batch = |id, lifetime| {
        decide(Ask { caller: "spiffe://control.example/operator/batch", id, lifetime, ..Ask::default() })
    };
    assert_eq!(batch("spiffe://prod.example/batch/x/y", None).unwrap().rule(), "prod-batch");
    assert_eq!(batch(ID, None).unwrap().rule(), "prod-workloads");
    assert_eq!(batch(ID, Some(Lifetime::hours(3))).unwrap_err(), "lifetime-over-cap");
}

#[test]
fn policies_that_contradict_themselves_are_refused() {
    for (from, to, part) in [
        ("name = \"prod-batch\"", "name = \"prod-workloads\"", "same name"),
        ("domain = \"edge.example\"", "domain = \"egde.example\"", "not one of this installation"),
        ("profile = \"p256\"", "profile = \"p265\"", "no profile `p265`"),
        ("profile = \"p256\"", "profile = \"intermediate\"", "made in ceremonies"),
        ("profile = \"p256\"", "profile = \"server\"", "by the daemon for itself"),
        ("\"spiffe://edge.example/*\"", "\"spiffe://prod.example/*\"", "another domain"),
        ("\"spiffe://edge.example/*\"", "\"spiffe://edge.example/spire/*\"", "reserved"),
        ("\"spiffe://edge.example/*\"", "", "grant nothing"),
        ("[\"spiffe://control.example/operator/batch\"]", "[]", "callers is empty"),
        ("max-lifetime = \"2h\"", "max-lifetime = \"8d\"", "more than profile `svid` allows"),
        ("max-lifetime = \"2h\"", "max-lifetime = \"soon\"", "policy.toml:9:16"),
        ("max-lifetime", "max-lifetimes", "did you mean `max-lifetime`?"),
        ("\"*.prod.example\"", "\"*.*.example\"", "no pattern of DNS names"),
        (
            "profile = \"spire-ca\"",
            "profile = \"spire-ca\"\ndns-names = [\"a\"]",
            "leave spiffe-ids and dns-names out",
        ),
    ] {
        let changed = POLICY.replacen(from, to, 1);
        assert_ne!(changed, POLICY, "{from}");
        let refusal = parse(&changed).unwrap_err().to_string();
        assert!(refusal.contains(part), "{to}: {refusal}");
    }
    assert!(parse(&" ".repeat(MAX_POLICY + 1)).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn an_empty_policy_grants_nothing() {
    let policy = parse("").unwrap();
    let csr = csr(&[]);
    let request = Request {
        domain: "prod.example",
        profile: "svid",
        spiffe_id: ID,
        dns_names: &[],
        lifetime: None,
        public_key: csr.public_key(),
        wishes: csr.wishes(),
    };
    assert_eq!(
        policy.decide(&parse_spiffe_id(OPERATOR).unwrap(), &request).unwrap_err().rule,
        "caller-unknown"
    );
}
