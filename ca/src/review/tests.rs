//! What a gate says to good and bad requests, by the rule.

mod case;

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, Ia5String};
use der::{Decode, Encode};
use proptest::prelude::*;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Digest;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages, SubjectAltName};

use super::*;
use crate::fixtures::{key, now};
use crate::subject::{Subject, SubjectConfig};
use case::{ALICE, Case, ID, Mangled, POLICY, SPIRE, dns, general, named, narrow, period, policy};

/// Of each channel, and at the edges of what is allowed.
#[test]
fn what_policy_gives_is_signed() {
    for (case, kind) in [
        (Case::svid(), Kind::Svid),
        (Case::spire(), Kind::SpireCa),
        (Case::daemon(), Kind::Server),
        (Case::enrolment(), Kind::Svid),
    ] {
        assert_eq!(case.judge(), Ok(kind), "{kind:?}");
    }
    let edges: Vec<(&str, &'static str)> = vec![
        ("the entry is ten minutes old", Case::svid().but(|c| c.time = now() - FRESH)),
        ("the entry is ten minutes ahead", Case::svid().but(|c| c.time = now() + FRESH)),
        ("the longest lifetime", Case::svid().but(|c| c.parts.validity = period(-10, 7200))),
        ("no DNS names", Case::svid().but(|c| c.parts.identity = named(ID, &[]))),
        ("cut to the issuer's end", {
            Case::svid().but(|c| {
                for issuer in [&mut c.parts.issuer.as_mut().unwrap().validity, &mut c.review.issuer.validity]
                {
                    *issuer = period(-1000, 60);
                }
                c.parts.validity = period(-10, 60);
            })
        }),
        ("cut to the issuer's begin", {
            Case::svid().but(|c| {
                for issuer in [&mut c.parts.issuer.as_mut().unwrap().validity, &mut c.review.issuer.validity]
                {
                    *issuer = period(-3, 10_000);
                }
                c.parts.validity = period(-3, 3600);
            })
        }),
        ("a profile that takes the key", {
            Case::svid().but(|c| {
                c.parts.profile = narrow();
                c.intent.profile = "narrow".into();
            })
        }),
        ("several names of the daemon", {
            let id = "spiffe://prod.example/undercroft/server";
            Case::daemon().but(|c| c.parts.identity = named(id, &["ca", "ca.prod.example"]))
        }),
        ("whatever the CA calls its rule and policy", {
            Case::svid().but(|c| {
                c.intent.rule.clear();
                c.intent.policy = Digest::of(b"");
            })
        }),
    ];
    for (what, rule) in edges {
        assert_eq!(rule, "ok", "{what}");
    }
}

/// Who asks for what, and when.
#[test]
fn what_policy_does_not_give_is_refused_by_name() {
    let second = Duration::from_secs(1);
    let other_id = |id: &'static str| Case::svid().but(|c| c.parts.identity = named(id, &["b.prod.example"]));
    let by = |by| Case::svid().but(|c| c.intent.caller.by = by);
    for (row, (rule, got)) in [
        ("stale", Case::svid().but(|c| c.time = now() - FRESH - second)),
        ("stale", Case::svid().but(|c| c.time = now() + FRESH + second)),
        ("stale", Case::svid().but(|c| c.time = Timestamp::MAX)),
        ("stale", Case::svid().but(|c| c.time = Timestamp::MIN)),
        ("object", Case::svid().but(|c| c.intent.object = Object::Crl)),
        ("domain", Case::svid().but(|c| c.intent.domain = "edge.example".into())),
        ("domain", Case::svid().but(|c| c.intent.domain.clear())),
        ("algorithm", {
            Case::svid().but(|c| c.intent.algorithm = KeyAlgorithm::EcdsaP256.signature_algorithm())
        }),
        // Callers.
        ("caller-unknown", Case::svid().but(|c| c.intent.caller.id = "alice".into())),
        ("caller-unknown", Case::svid().but(|c| c.intent.caller.id = "uid:0".into())),
        ("caller-unknown", Case::svid().but(|c| c.intent.caller.id = format!("{ALICE}/deeper"))),
        ("caller-unknown", by(Channel::UnixSocket)),
        ("caller-unknown", by(Channel::Anonymous)),
        ("caller-unknown", by(Channel::Ceremony)),
        ("no-rule", Case::svid().but(|c| c.intent.caller.id = SPIRE.into())),
        ("no-rule", Case::svid().but(|c| c.intent.profile = "server".into())),
        ("no-rule", Case::spire().but(|c| c.intent.caller.id = ALICE.into())),
        // Names.
        ("id-not-allowed", other_id("spiffe://prod.example/admin")),
        ("id-not-allowed", other_id("spiffe://prod.example/ns/a/sa/b/c")),
        ("id-not-allowed", other_id("spiffe://prod.example")),
        ("id-reserved", other_id("spiffe://prod.example/spire/agent/x")),
        ("id-reserved", other_id("spiffe://prod.example/undercroft/server")),
        ("id-of-another-domain", other_id("spiffe://edge.example/ns/a/sa/b")),
        ("id-malformed", other_id("spiffe://Prod.example/ns/a/sa/b")),
        ("id-malformed", other_id("https://prod.example/ns/a/sa/b")),
        ("id-missing", Case::svid().but(|c| c.parts.identity.uri = None)),
        ("id-of-another-domain", Case::spire().but(|c| c.parts.identity.uri = Some(ID.into()))),
        ("dns-not-allowed", Case::svid().but(|c| c.parts.identity = named(ID, &["b.edge.example"]))),
        ("dns-not-allowed", {
            Case::svid().but(|c| c.parts.identity = named(ID, &["b.prod.example", "example"]))
        }),
        // Keys and periods.
        ("key-type", {
            Case::svid().but(|c| {
                c.parts.profile = narrow();
                c.intent.profile = "narrow".into();
                c.parts.public_key = key(KeyAlgorithm::EcdsaP384);
            })
        }),
        ("lifetime-over-cap", Case::svid().but(|c| c.parts.validity = period(-10, 7201))),
        ("lifetime-over-cap", Case::svid().but(|c| c.parts.validity = period(-11, 7200))),
        ("lifetime-over-cap", Case::spire().but(|c| c.parts.validity = period(-10, 8 * 24 * 3600))),
        ("lifetime-over-cap", Case::daemon().but(|c| c.parts.validity = period(-10, 24 * 3600 + 1))),
        ("lifetime-over-cap", Case::enrolment().but(|c| c.parts.validity = period(-10, 3601))),
        ("not-from-now", Case::svid().but(|c| c.parts.validity = period(7 * 24 * 3600, 7 * 24 * 3600 + 60))),
        ("not-from-now", Case::svid().but(|c| c.parts.validity = period(-7200, -3600))),
        ("not-from-now", Case::daemon().but(|c| c.parts.validity = period(-24 * 3600, 3600))),
        ("not-from-now", Case::enrolment().but(|c| c.parts.validity = period(3600, 3660))),
        ("not-from-now", {
            // So far away that nothing can be added to it.
            let end = Timestamp::MAX.as_second() - now().as_second();
            Case::svid().but(|c| c.parts.validity = period(end - 5, end))
        }),
        ("outlives-issuer", { Case::svid().but(|c| c.review.issuer.validity = period(-1000, 3599)) }),
        ("outlives-issuer", Case::svid().but(|c| c.review.issuer.validity = period(-9, 10_000))),
        ("outlives-issuer", Case::svid().but(|c| c.review.issuer.validity = period(-10_000, -1))),
        // CA certificates.
        ("authority-not-approved", Case::spire().but(|c| c.review.authorities.clear())),
        ("authority-not-approved", {
            Case::spire().but(|c| c.intent.caller.id = "spiffe://control.example/server/other".into())
        }),
        // The daemon.
        ("dns-not-allowed", Case::daemon().but(|c| c.review.server_names.clear())),
        ("dns-not-allowed", Case::daemon().but(|c| c.parts.identity.dns_names.clear())),
        ("dns-not-allowed", {
            Case::daemon().but(|c| c.parts.identity.dns_names.push("www.prod.example".parse().unwrap()))
        }),
        ("profile", Case::daemon().but(|c| c.intent.profile = "svid".into())),
        ("not-what-was-granted", Case::daemon().but(|c| c.parts.identity.uri = Some(ID.into()))),
        // Who enrols.
        ("enrolment", Case::enrolment().but(|c| c.review.enrols = None)),
        ("profile", Case::enrolment().but(|c| c.intent.profile = "spire-ca".into())),
        ("caller-unknown", Case::enrolment().but(|c| c.intent.caller.id.clear())),
        ("id-of-another-domain", Case::enrolment().but(|c| c.intent.caller.id = ID.into())),
        ("id-reserved", {
            Case::enrolment()
                .but(|c| c.intent.caller.id = "spiffe://control.example/undercroft/server".into())
        }),
        ("id-reserved", Case::enrolment().but(|c| c.intent.caller.id = "spiffe://control.example".into())),
        ("key-type", {
            Case::enrolment().but(|c| {
                c.review.enrols = Some(narrow());
                c.intent.profile = "narrow".into();
                c.parts.public_key = key(KeyAlgorithm::Ed25519);
            })
        }),
        ("not-what-was-granted", Case::enrolment().but(|c| c.intent.caller.id = ALICE.into())),
        ("not-what-was-granted", {
            let id = "spiffe://control.example/operator/bob";
            Case::enrolment().but(|c| c.parts.identity = named(id, &["b.control.example"]))
        }),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(got, rule, "row {row}");
    }
}

/// Everything in the bytes that is neither the caller's to choose nor what the gate knows of the authority.
#[test]
fn what_nobody_granted_is_not_in_the_bytes() {
    let issuer = |change: fn(&mut Issuer)| Case::svid().but(|c| change(c.parts.issuer.as_mut().unwrap()));
    let mangled = |mangle: fn(&mut Mangled)| Case::svid().but(|c| c.mangle = mangle);
    let ca = |mangle: fn(&mut Mangled)| Case::spire().but(|c| c.mangle = mangle);
    let subject = |config: SubjectConfig| {
        Case::svid().but(|c| c.parts.subject = Subject::from_config(&config).unwrap())
    };
    let text = |text: &str| Some(text.to_owned());
    for (row, (rule, got)) in [
        // Another authority.
        ("not-what-was-granted", issuer(|i| i.name = Subject::new("prod.example", Some("other")).unwrap())),
        ("not-what-was-granted", issuer(|i| i.key_identifier[0] ^= 1)),
        ("not-what-was-granted", issuer(|i| i.key_identifier.clear())),
        ("not-what-was-granted", issuer(|i| i.urls.crl = "http://evil.example/crl".parse().unwrap())),
        ("not-what-was-granted", issuer(|i| i.urls.certificate = "http://evil.example/".parse().unwrap())),
        ("not-what-was-granted", issuer(|i| i.algorithm = KeyAlgorithm::EcdsaP256.signature_algorithm())),
        ("not-what-was-granted", Case::svid().but(|c| c.parts.arc = "1.3.6.1.4.1.32473.2".parse().unwrap())),
        // Names that some verifiers read in the subject, whatever stands in the subjectAltName.
        ("not-what-was-granted", subject(SubjectConfig { common_name: text("admin"), ..<_>::default() })),
        ("not-what-was-granted", {
            subject(SubjectConfig { organization: text("system:masters"), ..<_>::default() })
        }),
        ("not-what-was-granted", {
            let (organization, common_name) = (text("prod.example"), text("www.bank.example"));
            subject(SubjectConfig { organization, common_name, ..<_>::default() })
        }),
        ("not-what-was-granted", {
            let organization = text("prod.example");
            Case::spire().but(|c| {
                let config = SubjectConfig { organization, ..<_>::default() };
                c.parts.subject = Subject::from_config(&config).unwrap();
            })
        }),
        // Another kind of certificate.
        ("not-what-was-granted", ca(|m| m.put(&BasicConstraints { ca: true, path_len_constraint: Some(1) }))),
        ("not-what-was-granted", ca(|m| m.put(&BasicConstraints { ca: true, path_len_constraint: None }))),
        ("not-what-was-granted", Case::spire().but(|c| c.parts.path_length = Some(1))),
        ("not-what-was-granted", {
            mangled(|m| m.put(&BasicConstraints { ca: true, path_len_constraint: None }))
        }),
        ("not-what-was-granted", mangled(|m| m.put(&KeyUsage(KeyUsages::KeyCertSign.into())))),
        ("not-what-was-granted", {
            mangled(|m| m.put(&KeyUsage(KeyUsages::DigitalSignature | KeyUsages::KeyAgreement)))
        }),
        ("not-what-was-granted", {
            // A SPIRE CA in the name of a rule for workloads.
            Case::svid().but(|c| {
                c.parts.profile = Profile::standard(Kind::SpireCa);
                c.parts.path_length = Some(0);
            })
        }),
        // Extensions.
        ("not-what-was-granted", mangled(|m| m.add("1.2.3.4"))),
        ("not-what-was-granted", mangled(|m| drop(m.extensions.pop()))),
        ("not-what-was-granted", mangled(|m| m.extensions.swap(0, 1))),
        ("not-what-was-granted", mangled(|m| m.extensions[0].critical = false)),
        // More names than were judged, and in other ways.
        ("unreadable", mangled(|m| m.put(&SubjectAltName(vec![general(ID), general(ID)])))),
        ("unreadable", {
            let mail = GeneralName::Rfc822Name(Ia5String::new("root@prod.example").unwrap());
            let mut case = Case::svid();
            case.mangle = |_| {};
            let mut m = Mangled::from_der(&case.tbs()).unwrap();
            m.put(&SubjectAltName(vec![general(ID), mail]));
            let judged = case.review.judge(&case.intent, &m.to_der().unwrap(), now(), now());
            judged.map_or_else(|refusal| refusal.rule, |_| "ok")
        }),
        (
            "not-what-was-granted",
            mangled(|m| m.put(&SubjectAltName(vec![dns("b.prod.example"), general(ID)]))),
        ),
        ("not-what-was-granted", {
            mangled(|m| {
                m.put(&SubjectAltName(vec![general(ID), dns("b.prod.example"), dns("b.prod.example")]))
            })
        }),
        ("not-what-was-granted", {
            // The same extension twice: one is read by us, the other by somebody else.
            mangled(|m| {
                let san = m.extensions.iter().find(|e| e.extn_id == SubjectAltName::OID).unwrap().clone();
                m.extensions.push(Extension { extn_id: ObjectIdentifier::new_unwrap("2.5.29.18"), ..san });
            })
        }),
        // Serial numbers.
        ("unreadable", mangled(|m| m.serial = Any::from_der(&[2, 1, 5]).unwrap())),
        ("unreadable", {
            mangled(|m| m.serial = Any::from_der(&[&[2, 16, 0x80][..], &[1; 15]].concat()).unwrap())
        }),
        ("unreadable", {
            mangled(|m| m.serial = Any::from_der(&[&[2, 17, 0][..], &[0xff; 16]].concat()).unwrap())
        }),
        // Bytes.
        ("unreadable", Case::svid().but(|c| c.tail = &[0])),
        ("unreadable", Case::svid().but(|c| c.tail = &[0x30, 0])),
        ("not-what-was-granted", mangled(|m| m.version = 1)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(got, rule, "row {row}");
    }
    for tbs in [&[][..], &[0x30], &[0x30, 0], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0; 64]] {
        let refused = Case::svid().review.judge(&Case::svid().intent, tbs, now(), now()).unwrap_err();
        assert_eq!(refused.rule, "unreadable", "{tbs:?}");
    }
}

/// A request that leaves the gate no choice of names.
fn exact() -> (Case, Vec<u8>) {
    let mut case = Case::svid();
    case.review.policy =
        policy(&POLICY.replace("/ns/*/sa/*", "/ns/a/sa/b").replace("*.prod.example", "b.prod.example"));
    let tbs = case.tbs();
    (case, tbs)
}

/// Where some bytes stand in others.
fn place(of: &[u8], within: &[u8]) -> std::ops::Range<usize> {
    let at = within.windows(of.len()).position(|window| window == of).unwrap();
    at..at + of.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The serial number and the period are the CA's to choose, and nothing else: a certificate that differs in any
    /// other byte is refused.
    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (case, good) = exact();
        let at = at.index(good.len());
        let mut tbs = good.clone();
        tbs[at] = to;
        let judged = case.review.judge(&case.intent, &tbs, now(), now());
        if tbs != good && judged.is_ok() {
            let serial = place(case.parts.serial.as_bytes(), &good);
            let period = place(b"261122075950Z\x17\x0d261122090000Z", &good);
            prop_assert!(serial.contains(&at) || period.contains(&at), "byte {} may be {}", at, to);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        let (case, good) = exact();
        let _ = case.review.judge(&case.intent, &bytes, now(), now());
        // Behind a good beginning, too.
        let mut tbs = good[..at.index(good.len())].to_vec();
        tbs.extend(bytes);
        let _ = case.review.judge(&case.intent, &tbs, now(), now());
    }
}

#[test]
fn a_good_one_stays_good_with_another_serial_and_a_shorter_period() {
    let (case, good) = exact();
    let serial = place(case.parts.serial.as_bytes(), &good);
    let mut tbs = good.clone();
    tbs[serial.start + 3] ^= 0x55;
    assert!(case.review.judge(&case.intent, &tbs, now(), now()).is_ok());
    assert!(case.review.judge(&case.intent, &good, now(), now()).is_ok());
}
