//! An intent and its bytes before a gate, to be changed.

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, Ia5String, OctetString};
use der::{Decode, Encode, Sequence};
use undercroft_log::leaf::{Base64Bytes, Caller, Digest, HexKeyId, ToBeSigned};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;

use super::super::*;
use crate::fixtures::{Parts, now, parts};
use crate::names::parse_trust_domain;
use crate::policy::Known;
use crate::profile::{KeyFamily, ProfileConfig};
use crate::tbs;

pub(super) const ALICE: &str = "spiffe://control.example/operator/alice";
pub(super) const SPIRE: &str = "spiffe://control.example/server/prod";

pub(super) const POLICY: &str = r#"
[[rule]]
name = "workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "svid"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
dns-names = ["*.prod.example"]
max-lifetime = "2h"

[[rule]]
name = "narrow"
callers = ["spiffe://control.example/operator/*"]
domain = "prod.example"
profile = "narrow"
spiffe-ids = ["spiffe://prod.example/ns/*/sa/*"]
dns-names = ["*.prod.example"]

[[rule]]
name = "spire"
callers = ["spiffe://control.example/server/*"]
domain = "prod.example"
profile = "spire-ca"
"#;

/// Takes P-256 keys alone.
pub(super) fn narrow() -> Profile {
    let config = ProfileConfig {
        name: "narrow".into(),
        kind: Kind::Svid,
        lifetime: None,
        max_lifetime: None,
        keys: Some(vec![KeyFamily::P256]),
        assurance: crate::profile::Assured::Signed,
    };
    Profile::from_config(config).unwrap()
}

pub(super) fn policy(text: &str) -> Policy {
    let domains = ["control.example", "prod.example"].map(|name| parse_trust_domain(name).unwrap());
    let mut profiles: Vec<_> = Kind::ALL.into_iter().map(Profile::standard).collect();
    profiles.push(narrow());
    Policy::parse("policy.toml", text, Known { domains: &domains, profiles: &profiles }).unwrap()
}

/// An intent and its bytes, before a gate.
pub(super) struct Case {
    pub(super) review: Review,
    pub(super) parts: Parts,
    pub(super) intent: Intent,
    pub(super) time: Timestamp,
    /// Done to the bytes behind the builder's back.
    pub(super) mangle: fn(&mut Mangled),
    pub(super) tail: &'static [u8],
}

impl Case {
    fn new(kind: Kind, domain: &str, caller: &str, by: Channel) -> Self {
        let mut parts = parts(kind);
        let domain = parse_trust_domain(domain).unwrap();
        parts.subject = subject(&domain, kind, &parts.serial).unwrap();
        let issuer = parts.issuer.clone().unwrap();
        let intent = Intent {
            object: Object::Certificate,
            domain: domain.as_str().to_owned(),
            profile: parts.profile.name().to_owned(),
            key_id: HexKeyId([7; 32].into()),
            algorithm: issuer.algorithm,
            // What is signed is an argument of its own; the gate compares the two.
            tbs: ToBeSigned::Der(Base64Bytes(Vec::new())),
            caller: Caller { id: caller.to_owned(), by },
            rule: "whatever the CA says".into(),
            policy: Digest::of(b"the CA's own policy"),
            request: None,
            withheld: Vec::new(),
            evidence: Vec::new(),
        };
        let review = Review {
            domain,
            issuer,
            policy: policy(POLICY),
            arc: parts.arc,
            enrols: None,
            server_names: vec!["ca.prod.example".parse().unwrap(), "ca".parse().unwrap()],
            authorities: [SPIRE.to_owned()].into(),
            crls: Some(Lifetime::days(7)),
        };
        Self { review, parts, intent, time: now(), mangle: |_| {}, tail: &[] }
    }

    pub(super) fn svid() -> Self {
        Self::new(Kind::Svid, "prod.example", ALICE, Channel::Mtls)
    }

    pub(super) fn spire() -> Self {
        Self::new(Kind::SpireCa, "prod.example", SPIRE, Channel::Mtls)
    }

    pub(super) fn daemon() -> Self {
        Self::new(Kind::Server, "prod.example", "spiffe://prod.example/undercroft/server", Channel::Daemon)
    }

    pub(super) fn enrolment() -> Self {
        let id = "spiffe://control.example/operator/bob";
        let mut case = Self::new(Kind::Svid, "control.example", id, Channel::EnrolmentToken);
        case.parts.identity = named(id, &[]);
        case.review.enrols = Some(Profile::standard(Kind::Svid));
        case
    }

    pub(super) fn tbs(&self) -> Vec<u8> {
        let built = tbs::certificate(&self.parts.spec(), self.parts.signed_by()).unwrap();
        let mut mangled = Mangled::from_der(built.der()).unwrap();
        (self.mangle)(&mut mangled);
        let mut tbs = mangled.to_der().unwrap();
        tbs.extend(self.tail);
        tbs
    }

    pub(super) fn judge(&self) -> Result<Kind, Refusal> {
        self.review.judge(&self.intent, &self.tbs(), self.time, now())
    }

    /// The rule that a changed case breaks; `ok` if it breaks none.
    pub(super) fn but(mut self, change: impl FnOnce(&mut Self)) -> &'static str {
        change(&mut self);
        self.judge().map_or_else(|refusal| refusal.rule, |_| "ok")
    }
}

pub(super) fn named(id: &str, dns_names: &[&str]) -> Identity {
    let dns_names = dns_names.iter().map(|name| name.parse().unwrap()).collect();
    Identity { uri: Some(id.to_owned()), dns_names, tpm: None }
}

/// From `begin` to `end` seconds from now.
pub(super) fn period(begin: i64, end: i64) -> Validity {
    let at = |second| Timestamp::from_second(now().as_second() + second).unwrap();
    Validity::new(at(begin), at(end)).unwrap()
}

#[derive(Sequence)]
pub(super) struct Mangled {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) version: u8,
    pub(super) serial: Any,
    pub(super) algorithm: Any,
    pub(super) issuer: Any,
    pub(super) validity: Any,
    pub(super) subject: Any,
    pub(super) key: Any,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    pub(super) extensions: Vec<Extension>,
}

impl Mangled {
    pub(super) fn put<T: Encode + AssociatedOid>(&mut self, value: &T) {
        let extension = self.extensions.iter_mut().find(|extension| extension.extn_id == T::OID).unwrap();
        extension.extn_value = OctetString::new(value.to_der().unwrap()).unwrap();
    }

    pub(super) fn add(&mut self, oid: &str) {
        let extn_id = ObjectIdentifier::new_unwrap(oid);
        let extn_value = OctetString::new([5, 0]).unwrap();
        self.extensions.push(Extension { extn_id, critical: false, extn_value });
    }
}

pub(super) fn general(id: &str) -> GeneralName {
    GeneralName::UniformResourceIdentifier(Ia5String::new(id).unwrap())
}

pub(super) fn dns(name: &str) -> GeneralName {
    GeneralName::DnsName(Ia5String::new(name).unwrap())
}

pub(super) const ID: &str = "spiffe://prod.example/ns/a/sa/b";
