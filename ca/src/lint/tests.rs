use std::collections::BTreeSet;
use std::sync::LazyLock;

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, Ia5String, OctetString};
use der::{Decode, Encode, Sequence};
use undercroft_keys::KeyAlgorithm;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies,
    CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};

use super::*;
use crate::fixtures::{Parts, key, now, parts};
use crate::names::Identity;
use crate::profile::Kind;
use crate::serial::SerialNumber;
use crate::subject::Subject;
use crate::tbs::{
    self, CertificateIds, CrlScope, CrlSpec, DomainConstraints, OcspSpec, RevocationReason, Revoked,
    SignedBy, Status, ToBeSigned,
};
use crate::time::{Lifetime, Validity};

fn names(findings: Result<(), Vec<Finding>>) -> Vec<&'static str> {
    findings.err().unwrap_or_default().into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn what_is_built_passes() {
    for kind in Kind::ALL {
        for algorithm in KeyAlgorithm::ALL {
            let parts = Parts { public_key: key(algorithm), ..parts(kind) };
            let tbs = tbs::certificate(&parts.spec(), parts.signed_by()).unwrap();
            assert_eq!(certificate(&tbs, &parts.spec(), parts.signed_by()), Ok(()), "{kind:?} {algorithm}");
            assert_eq!(certificate_alone(tbs.der()), Ok(()));
        }
    }
    let constrained = Parts {
        constraints: Some(DomainConstraints {
            domain: crate::names::parse_trust_domain("prod.example").unwrap(),
            dns_names: vec!["prod.example".parse().unwrap()],
        }),
        ..parts(Kind::Intermediate)
    };
    let tbs = tbs::certificate(&constrained.spec(), constrained.signed_by()).unwrap();
    assert_eq!(certificate(&tbs, &constrained.spec(), constrained.signed_by()), Ok(()));
}

/// A certificate that was built from one specification and is held against another.
fn against(kind: Kind, change: impl FnOnce(&mut Parts)) -> Vec<&'static str> {
    let granted = parts(kind);
    let mut other = granted.clone();
    change(&mut other);
    let tbs = tbs::certificate(&other.spec(), other.signed_by()).unwrap();
    names(certificate(&tbs, &granted.spec(), granted.signed_by()))
}

/// A certificate whose fields were changed behind the builder's back.
fn mangled(kind: Kind, change: impl FnOnce(&mut Mangled)) -> Vec<&'static str> {
    let parts = parts(kind);
    let tbs = tbs::certificate(&parts.spec(), parts.signed_by()).unwrap();
    let mut mangled = Mangled::from_der(tbs.der()).unwrap();
    change(&mut mangled);
    names(certificate_alone(&mangled.to_der().unwrap()))
}

#[derive(Sequence)]
struct Mangled {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: Any,
    algorithm: Any,
    issuer: Any,
    validity: Any,
    subject: Any,
    key: Any,
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    subject_unique_id: Option<der::asn1::BitString>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

impl Mangled {
    fn set<T: Encode + AssociatedOid>(&mut self, critical: bool, value: &T) {
        self.extensions.retain(|extension| extension.extn_id != T::OID);
        self.add(T::OID, critical, value.to_der().unwrap());
    }

    fn add(&mut self, oid: ObjectIdentifier, critical: bool, value: Vec<u8>) {
        self.extensions.push(Extension {
            extn_id: oid,
            critical,
            extn_value: OctetString::new(value).unwrap(),
        });
    }

    fn read<'a, T: Decode<'a, Error = der::Error> + AssociatedOid>(&'a self) -> T {
        let extension = self.extensions.iter().find(|extension| extension.extn_id == T::OID).unwrap();
        T::from_der(extension.extn_value.as_bytes()).unwrap()
    }

    fn names(&mut self, critical: bool, change: impl FnOnce(&mut Vec<GeneralName>)) {
        let mut names = self.read::<SubjectAltName>();
        change(&mut names.0);
        self.set(critical, &names);
    }

    /// Replaces bytes of the subjectAltName by as many others.
    fn poke(&mut self, from: &[u8], to: &[u8]) {
        let mut value = self.read::<SubjectAltName>().to_der().unwrap();
        let at = value.windows(from.len()).position(|bytes| bytes == from).unwrap();
        value[at..at + to.len()].copy_from_slice(to);
        self.extensions.retain(|extension| extension.extn_id != SubjectAltName::OID);
        self.add(SubjectAltName::OID, true, value);
    }

    fn drop<T: AssociatedOid>(&mut self) {
        self.extensions.retain(|extension| extension.extn_id != T::OID);
    }

    fn flip<T: AssociatedOid>(&mut self) {
        let extension = self.extensions.iter_mut().find(|extension| extension.extn_id == T::OID).unwrap();
        extension.critical = !extension.critical;
    }
}

/// tcg-kp-AIKCertificate.
const AIK: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");

fn any(der: &[u8]) -> Any {
    Any::from_der(der).unwrap()
}

fn uri(text: &str) -> GeneralName {
    GeneralName::UniformResourceIdentifier(Ia5String::new(text).unwrap())
}

/// Each rule, and bytes that break it. A rule without a row fails `every_rule_has_a_row`.
fn certificate_rows() -> Vec<(&'static str, Vec<&'static str>)> {
    use Kind::{AttestationKey, Intermediate, OcspSigner, Root, Svid};
    let no_check = const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK;
    let null = || vec![0x05, 0x00];
    let id = "spiffe://prod.example/a";
    vec![
        ("ocsp-no-check", mangled(Svid, |m| m.add(no_check, false, null()))),
        ("ocsp-no-check", mangled(OcspSigner, |m| m.extensions.retain(|it| it.extn_id != no_check))),
        ("ocsp-no-check", {
            mangled(OcspSigner, |m| {
                m.extensions.iter_mut().for_each(|it| it.critical |= it.extn_id == no_check);
            })
        }),
        ("one-uri", mangled(OcspSigner, |m| m.set(false, &SubjectAltName(vec![uri(id)])))),
        ("extended-key-usage", {
            let both = ExtendedKeyUsage(vec![
                const_oid::db::rfc5280::ID_KP_OCSP_SIGNING,
                const_oid::db::rfc5280::ID_KP_CLIENT_AUTH,
            ]);
            mangled(OcspSigner, |m| m.set(false, &both))
        }),
        ("granted-kind", against(Svid, |p| p.profile = crate::profile::Profile::standard(OcspSigner))),
        ("subject-not-empty", mangled(AttestationKey, |m| m.subject = m.issuer.clone())),
        ("extended-key-usage", {
            let both = ExtendedKeyUsage(vec![AIK, const_oid::db::rfc5280::ID_KP_CLIENT_AUTH]);
            mangled(AttestationKey, |m| m.set(false, &both))
        }),
        ("extended-key-usage", {
            let both = ExtendedKeyUsage(vec![AIK, const_oid::db::rfc5280::ID_KP_OCSP_SIGNING]);
            mangled(AttestationKey, |m| m.set(false, &both))
        }),
        ("extended-key-usage", {
            let other = ObjectIdentifier::new_unwrap("2.23.133.8.1");
            mangled(AttestationKey, |m| m.set(false, &ExtendedKeyUsage(vec![other])))
        }),
        ("one-uri", mangled(AttestationKey, |m| m.names(true, |names| names.push(uri(id))))),
        ("alternative-names-known", mangled(AttestationKey, |m| m.names(true, |names| names.push(uri(id))))),
        ("alternative-names-known", {
            mangled(Svid, |m| {
                let tpm = parts(AttestationKey);
                let tpm = tbs::certificate(&tpm.spec(), tpm.signed_by()).unwrap();
                let names = Mangled::from_der(tpm.der()).unwrap().read::<SubjectAltName>();
                m.set(false, &SubjectAltName([vec![uri(id)], names.0].concat()));
            })
        }),
        ("tpm-names", mangled(AttestationKey, |m| m.names(false, |_| ()))),
        ("tpm-names", mangled(AttestationKey, |m| m.drop::<SubjectAltName>())),
        ("tpm-names", mangled(AttestationKey, |m| m.names(true, |names| names.truncate(1)))),
        ("tpm-names", { mangled(AttestationKey, |m| m.names(true, |names| drop(names.remove(0)))) }),
        ("tpm-names", {
            mangled(AttestationKey, |m| {
                m.names(true, |names| {
                    let twice = names[0].clone();
                    names[1] = twice;
                });
            })
        }),
        ("tpm-names", mangled(AttestationKey, |m| m.poke(b"e4e4", b"E4e4"))),
        ("tpm-names", mangled(AttestationKey, |m| m.poke(b"swtpm", b"sw\npm"))),
        ("granted-kind", against(AttestationKey, |p| p.profile = crate::profile::Profile::standard(Svid))),
        ("granted-names", {
            against(AttestationKey, |p| {
                let names = ["id:00001014", "swtpm", "id:20191023"].map(str::to_owned);
                p.identity = Identity::tpm(crate::names::TpmNames::new(names, [0xe5; 32]).unwrap());
            })
        }),
        ("granted-names", {
            against(AttestationKey, |p| {
                let names = ["id:00001014", "other", "id:20191023"].map(str::to_owned);
                p.identity = Identity::tpm(crate::names::TpmNames::new(names, [0xe4; 32]).unwrap());
            })
        }),
        ("version-3", mangled(Svid, |m| m.version = 1)),
        ("serial-16-random-bytes", mangled(Svid, |m| m.serial = any(&[2, 1, 5]))),
        (
            "serial-16-random-bytes",
            mangled(Svid, |m| m.serial = any(&[&[2, 16, 0x80][..], &[1; 15]].concat())),
        ),
        ("issuer-not-empty", mangled(Svid, |m| m.issuer = any(&[0x30, 0]))),
        ("subject-not-empty", mangled(Svid, |m| m.subject = any(&[0x30, 0]))),
        ("time-encoding", {
            let dates = b"\x30\x22\x18\x0f20261122080000Z\x18\x0f20261122090000Z";
            mangled(Svid, |m| m.validity = any(dates))
        }),
        ("validity-ordered", {
            mangled(Svid, |m| m.validity = any(b"\x30\x1e\x17\x0d261122080000Z\x17\x0d261122080000Z"))
        }),
        ("no-unique-identifiers", {
            mangled(Svid, |m| m.subject_unique_id = Some(der::asn1::BitString::from_bytes(&[1]).unwrap()))
        }),
        (
            "extensions-once",
            mangled(Svid, |m| {
                let first = m.extensions[0].clone();
                m.extensions.push(first);
            }),
        ),
        (
            "extensions-known",
            mangled(Svid, |m| {
                m.add(ObjectIdentifier::new_unwrap("1.2.3.4"), false, vec![5, 0]);
            }),
        ),
        ("basic-constraints", mangled(Svid, |m| m.drop::<BasicConstraints>())),
        ("basic-constraints", mangled(Intermediate, |m| m.flip::<BasicConstraints>())),
        (
            "basic-constraints",
            mangled(Svid, |m| {
                m.set(true, &BasicConstraints { ca: false, path_len_constraint: Some(0) });
            }),
        ),
        ("key-usage", mangled(Svid, |m| m.drop::<KeyUsage>())),
        ("key-usage", mangled(Svid, |m| m.flip::<KeyUsage>())),
        (
            "key-usage",
            mangled(Svid, |m| m.set(true, &KeyUsage(KeyUsages::DigitalSignature | KeyUsages::KeyCertSign))),
        ),
        ("key-usage", mangled(Intermediate, |m| m.set(true, &KeyUsage(KeyUsages::KeyCertSign.into())))),
        ("extended-key-usage", mangled(Svid, |m| m.drop::<ExtendedKeyUsage>())),
        (
            "extended-key-usage",
            mangled(Svid, |m| {
                m.set(false, &ExtendedKeyUsage(vec![const_oid::db::rfc5280::ID_KP_SERVER_AUTH]));
            }),
        ),
        (
            "extended-key-usage",
            mangled(Intermediate, |m| {
                m.set(false, &ExtendedKeyUsage(vec![const_oid::db::rfc5280::ID_KP_SERVER_AUTH]));
            }),
        ),
        ("subject-key-identifier", mangled(Svid, |m| m.drop::<SubjectKeyIdentifier>())),
        ("subject-key-identifier", mangled(Svid, |m| m.flip::<SubjectKeyIdentifier>())),
        (
            "subject-key-identifier",
            mangled(Svid, |m| {
                m.set(false, &SubjectKeyIdentifier(OctetString::new([1; 20]).unwrap()));
            }),
        ),
        ("authority-key-identifier", mangled(Svid, |m| m.drop::<AuthorityKeyIdentifier>())),
        ("authority-key-identifier", mangled(Svid, |m| m.flip::<AuthorityKeyIdentifier>())),
        (
            "authority-key-identifier",
            mangled(Root, |m| {
                let id = Some(OctetString::new([1; 20]).unwrap());
                m.set(
                    false,
                    &AuthorityKeyIdentifier {
                        key_identifier: id,
                        authority_cert_issuer: None,
                        authority_cert_serial_number: None,
                    },
                );
            }),
        ),
        ("certificate-policies", mangled(Svid, |m| m.drop::<CertificatePolicies>())),
        ("certificate-policies", mangled(Svid, |m| m.flip::<CertificatePolicies>())),
        (
            "certificate-policies",
            mangled(Svid, |m| {
                let extension = m.extensions.iter().find(|e| e.extn_id == CertificatePolicies::OID).unwrap();
                let mut policies = CertificatePolicies::from_der(extension.extn_value.as_bytes()).unwrap();
                policies.0.push(policies.0[0].clone());
                m.set(false, &policies);
            }),
        ),
        (
            "alternative-names-known",
            mangled(Svid, |m| {
                let address = GeneralName::IpAddress(OctetString::new([10, 0, 0, 1]).unwrap());
                m.set(false, &SubjectAltName(vec![uri(id), address]));
            }),
        ),
        ("one-uri", mangled(Svid, |m| m.set(false, &SubjectAltName(vec![uri(id), uri(id)])))),
        ("one-uri", mangled(Svid, |m| m.drop::<SubjectAltName>())),
        ("spiffe-id", mangled(Svid, |m| m.set(false, &SubjectAltName(vec![uri("spiffe://prod.example")])))),
        ("spiffe-id", mangled(Svid, |m| m.set(false, &SubjectAltName(vec![uri("https://prod.example/a")])))),
        (
            "spiffe-id",
            mangled(Svid, |m| m.set(false, &SubjectAltName(vec![uri("spiffe://prod.example/a/../b")]))),
        ),
        ("spiffe-id", mangled(Intermediate, |m| m.set(false, &SubjectAltName(vec![uri(id)])))),
        (
            "dns-names",
            mangled(Svid, |m| {
                let name = GeneralName::DnsName(Ia5String::new("*.prod.example").unwrap());
                m.set(false, &SubjectAltName(vec![uri(id), name]));
            }),
        ),
        (
            "dns-names",
            mangled(Intermediate, |m| {
                let name = GeneralName::DnsName(Ia5String::new("prod.example").unwrap());
                m.set(false, &SubjectAltName(vec![uri("spiffe://prod.example"), name]));
            }),
        ),
        (
            "name-constraints",
            mangled(Svid, |m| {
                m.set(
                    true,
                    &NameConstraints { permitted_subtrees: Some(Vec::new()), excluded_subtrees: None },
                );
            }),
        ),
        (
            "name-constraints",
            mangled(Intermediate, |m| {
                m.set(
                    false,
                    &NameConstraints { permitted_subtrees: Some(Vec::new()), excluded_subtrees: None },
                );
            }),
        ),
        ("crl-distribution-point", mangled(Svid, |m| m.drop::<CrlDistributionPoints>())),
        ("crl-distribution-point", mangled(Svid, |m| m.set(false, &CrlDistributionPoints(Vec::new())))),
        ("crl-distribution-point", mangled(Root, |m| m.set(false, &CrlDistributionPoints(Vec::new())))),
        ("authority-information-access", mangled(Svid, |m| m.drop::<AuthorityInfoAccessSyntax>())),
        ("authority-information-access", mangled(Svid, |m| m.flip::<AuthorityInfoAccessSyntax>())),
        (
            "authority-information-access",
            mangled(Root, |m| m.set(false, &AuthorityInfoAccessSyntax(Vec::new()))),
        ),
        ("granted-serial", against(Svid, |p| p.serial = SerialNumber::from_bytes([1; 16]).unwrap())),
        (
            "granted-issuer",
            against(Svid, |p| {
                p.issuer.as_mut().unwrap().name = Subject::new("other", None).unwrap();
            }),
        ),
        (
            "granted-algorithm",
            against(Svid, |p| {
                p.issuer.as_mut().unwrap().algorithm = KeyAlgorithm::EcdsaP256.signature_algorithm();
            }),
        ),
        (
            "granted-validity",
            against(Svid, |p| {
                p.validity =
                    Validity::new(p.validity.not_before(), p.validity.not_after() + Lifetime::seconds(1).0)
                        .unwrap();
            }),
        ),
        ("granted-subject", against(Svid, |p| p.subject = Subject::new("other", None).unwrap())),
        ("granted-key", against(Svid, |p| p.public_key = key(KeyAlgorithm::EcdsaP256))),
        ("granted-kind", against(Svid, |p| p.profile = parts(Intermediate).profile)),
        ("granted-path-length", against(Intermediate, |p| p.path_length = Some(2))),
        ("granted-path-length", against(Intermediate, |p| p.path_length = None)),
        ("granted-names", against(Svid, |p| p.identity.dns_names.clear())),
        (
            "granted-names",
            against(Svid, |p| {
                p.identity = Identity { uri: Some(id.into()), ..p.identity.clone() };
            }),
        ),
        ("granted-authority-key", against(Svid, |p| p.issuer.as_mut().unwrap().key_identifier = vec![1; 20])),
        ("granted-policies", against(Svid, |p| p.arc = "1.3.6.1.4.1.32473.2".parse().unwrap())),
        (
            "granted-constraints",
            against(Intermediate, |p| {
                let domain = crate::names::parse_trust_domain("prod.example").unwrap();
                p.constraints = Some(DomainConstraints { domain, dns_names: Vec::new() });
            }),
        ),
        (
            "granted-urls",
            against(Svid, |p| {
                p.issuer.as_mut().unwrap().urls.crl = "http://other.example/x".parse().unwrap();
            }),
        ),
    ]
}

fn crl_parts() -> (Parts, Vec<Revoked>) {
    let revoked = vec![
        Revoked {
            serial: SerialNumber::from_bytes([1; 16]).unwrap(),
            date: now() - Lifetime::hours(1).0,
            reason: None,
        },
        Revoked {
            serial: SerialNumber::from_bytes([2; 16]).unwrap(),
            date: now() - Lifetime::hours(2).0,
            reason: Some(RevocationReason::KeyCompromise),
        },
    ];
    (parts(Kind::Svid), revoked)
}

fn crl_against(change: impl FnOnce(&mut CrlChange)) -> Vec<&'static str> {
    crl_of_scope_against(CrlScope::default(), change)
}

fn crl_of_scope_against(scope: CrlScope<'static>, change: impl FnOnce(&mut CrlChange)) -> Vec<&'static str> {
    let (parts, revoked) = crl_parts();
    let issuer = parts.issuer.unwrap();
    let period = Validity::new(now(), now() + Lifetime::days(7).0).unwrap();
    let granted = CrlSpec { issuer: &issuer, number: 7, period, revoked: &revoked, scope };
    let mut other = CrlChange {
        issuer: issuer.clone(),
        number: 7,
        period,
        revoked: revoked.clone(),
        scope,
        der: |der| der,
    };
    change(&mut other);
    let spec = CrlSpec {
        issuer: &other.issuer,
        number: other.number,
        period: other.period,
        revoked: &other.revoked,
        scope: other.scope,
    };
    let der = (other.der)(tbs::crl(&spec).unwrap().der().to_vec());
    names(crl(&ToBeSigned::from_der_unchecked(der), &granted))
}

struct CrlChange {
    issuer: tbs::Issuer,
    number: u64,
    period: Validity,
    revoked: Vec<Revoked>,
    scope: CrlScope<'static>,
    der: fn(Vec<u8>) -> Vec<u8>,
}

#[derive(Sequence)]
struct MangledCrl {
    version: u8,
    algorithm: Any,
    issuer: Any,
    this_update: Any,
    next_update: Any,
    #[asn1(optional = "true")]
    revoked: Option<Vec<Any>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

fn mangled_crl(der: Vec<u8>, change: impl FnOnce(&mut MangledCrl)) -> Vec<u8> {
    let mut mangled = MangledCrl::from_der(&der).unwrap();
    change(&mut mangled);
    mangled.to_der().unwrap()
}

fn a_url() -> &'static tbs::HttpUrl {
    static URL: LazyLock<tbs::HttpUrl> = LazyLock::new(|| "http://pki.example/a.crl".parse().unwrap());
    &URL
}

fn b_url() -> &'static tbs::HttpUrl {
    static URL: LazyLock<tbs::HttpUrl> = LazyLock::new(|| "http://pki.example/b.crl".parse().unwrap());
    &URL
}

fn delta() -> CrlScope<'static> {
    CrlScope { delta_of: Some(6), ..CrlScope::default() }
}

fn shard() -> CrlScope<'static> {
    CrlScope { shard: Some(a_url()), delta_of: None, freshest: Some(b_url()) }
}

fn uncritical(der: Vec<u8>) -> Vec<u8> {
    mangled_crl(der, |m| m.extensions.iter_mut().for_each(|extension| extension.critical = false))
}

#[test]
fn deltas_and_shards_pass() {
    for scope in [delta(), shard(), CrlScope { delta_of: Some(6), freshest: None, ..shard() }] {
        assert_eq!(crl_of_scope_against(scope, |_| ()), Vec::<&str>::new(), "{scope:?}");
    }
}

/// It was decided so, and built so.
fn crl_with_one_twice() -> Vec<&'static str> {
    let (parts, mut revoked) = crl_parts();
    revoked.push(revoked[0].clone());
    let issuer = parts.issuer.unwrap();
    let period = Validity::new(now(), now() + Lifetime::days(7).0).unwrap();
    let spec = CrlSpec { issuer: &issuer, number: 7, period, revoked: &revoked, scope: CrlScope::default() };
    names(crl(&tbs::crl(&spec).unwrap(), &spec))
}

fn crl_rows() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("crl-version-2", crl_against(|c| c.der = |der| mangled_crl(der, |m| m.version = 0))),
        ("crl-algorithm", crl_against(|c| c.issuer.algorithm = KeyAlgorithm::Ed25519.signature_algorithm())),
        ("crl-issuer", crl_against(|c| c.issuer.name = Subject::new("other", None).unwrap())),
        (
            "crl-period",
            crl_against(|c| {
                c.period = Validity::new(now(), now() + Lifetime::days(8).0).unwrap();
            }),
        ),
        ("crl-entries", crl_against(|c| c.revoked.truncate(1))),
        ("crl-reasons", crl_against(|c| c.revoked[1].reason = None)),
        ("crl-number", crl_against(|c| c.number = 6)),
        ("crl-entries-once", crl_with_one_twice()),
        ("crl-delta-indicator", crl_against(|c| c.scope.delta_of = Some(6))),
        ("crl-delta-indicator", crl_of_scope_against(delta(), |c| c.scope.delta_of = None)),
        ("crl-delta-indicator", crl_of_scope_against(delta(), |c| c.scope.delta_of = Some(5))),
        ("crl-delta-indicator", crl_of_scope_against(CrlScope { delta_of: Some(7), ..delta() }, |_| ())),
        ("crl-delta-indicator", crl_of_scope_against(delta(), |c| c.der = uncritical)),
        ("crl-issuing-distribution-point", crl_against(|c| c.scope.shard = Some(a_url()))),
        ("crl-issuing-distribution-point", crl_of_scope_against(shard(), |c| c.scope.shard = None)),
        ("crl-issuing-distribution-point", crl_of_scope_against(shard(), |c| c.scope.shard = Some(b_url()))),
        ("crl-issuing-distribution-point", crl_of_scope_against(shard(), |c| c.der = uncritical)),
        ("crl-freshest", crl_against(|c| c.scope.freshest = Some(a_url()))),
        ("crl-freshest", crl_of_scope_against(shard(), |c| c.scope.freshest = None)),
        ("crl-freshest", crl_of_scope_against(shard(), |c| c.scope.freshest = Some(a_url()))),
        ("crl-freshest", crl_of_scope_against(CrlScope { freshest: Some(a_url()), ..delta() }, |_| ())),
        ("crl-authority-key", crl_against(|c| c.issuer.key_identifier = vec![9; 20])),
        (
            "crl-extensions-known",
            crl_against(|c| {
                c.der = |der| mangled_crl(der, |m| m.extensions.push(m.extensions[0].clone()));
            }),
        ),
    ]
}

/// A batch of two, one of which is revoked.
struct Batch {
    ids: CertificateIds,
    responder: [u8; 20],
    period: Validity,
    statuses: Vec<Status>,
}

impl Batch {
    fn new() -> Self {
        let issuer = key(KeyAlgorithm::EcdsaP256);
        let (_, revoked) = crl_parts();
        let name = Subject::new("prod.example", Some("issuer")).unwrap();
        Self {
            ids: CertificateIds::new(&name, &issuer).unwrap(),
            responder: [3; 20],
            period: Validity::new(now(), now() + Lifetime::hours(1).0).unwrap(),
            statuses: vec![
                Status { serial: revoked[0].serial, revoked: None },
                Status { serial: revoked[1].serial, revoked: Some(revoked[1].clone()) },
            ],
        }
    }

    fn spec(&self) -> OcspSpec<'_> {
        let Self { ids, responder, period, statuses } = self;
        OcspSpec { issuer: ids, responder: *responder, period: *period, statuses }
    }
}

/// A batch that was built from one specification and is held against another.
fn batch_against(change: impl FnOnce(&mut Batch)) -> Vec<&'static str> {
    let granted = Batch::new();
    let mut other = Batch { ids: granted.ids.clone(), ..Batch::new() };
    change(&mut other);
    let (tbs, _) = tbs::ocsp_responses(&other.spec()).unwrap();
    names(ocsp_responses(&tbs, &granted.spec()))
}

fn ocsp_rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let end = now() + Lifetime::hours(2).0;
    vec![
        ("ocsp-responder", batch_against(|b| b.responder[0] = 9)),
        ("ocsp-period", batch_against(|b| b.period = Validity::new(now(), end).unwrap())),
        ("ocsp-certificates", batch_against(|b| b.statuses.truncate(1))),
        ("ocsp-certificates", batch_against(|b| b.statuses.swap(0, 1))),
        ("ocsp-certificates", batch_against(|b| b.ids.hashes[0].2[0] ^= 1)),
        ("ocsp-certificates", batch_against(|b| b.ids.hashes[1].1[0] ^= 1)),
        ("ocsp-certificates", batch_against(|b| b.ids.hashes.swap(0, 1))),
        ("ocsp-status", batch_against(|b| b.statuses[1].revoked = None)),
        ("ocsp-status", batch_against(|b| b.statuses[0].revoked = b.statuses[1].revoked.clone())),
        ("ocsp-status", batch_against(|b| b.statuses[1].revoked.as_mut().unwrap().reason = None)),
    ]
}

#[test]
fn batches_of_responses_pass_and_impossible_ones_do_not() {
    assert_eq!(batch_against(|_| ()), Vec::<&str>::new());
    let alone = |change: fn(&mut Revoked)| {
        let mut batch = Batch::new();
        change(batch.statuses[1].revoked.as_mut().unwrap());
        let (tbs, _) = tbs::ocsp_responses(&batch.spec()).unwrap();
        names(ocsp_responses(&tbs, &batch.spec()))
    };
    assert_eq!(alone(|revoked| revoked.date = now() + Lifetime::hours(1).0), ["ocsp-status"]);
    assert_eq!(alone(|revoked| revoked.reason = Some(RevocationReason::RemoveFromCrl)), ["ocsp-status"]);
    let batch = Batch::new();
    let (tbs, each) = tbs::ocsp_responses(&batch.spec()).unwrap();
    assert_eq!(crate::revocation::ocsp::each_response(tbs.der()).unwrap(), each);
    // Bytes that end too early, or go on.
    for end in 0..tbs.der().len() {
        let cut = ToBeSigned::from_der_unchecked(tbs.der()[..end].to_vec());
        assert_eq!(names(ocsp_responses(&cut, &batch.spec())), ["readable"], "{end}");
    }
    let longer = ToBeSigned::from_der_unchecked([tbs.der(), &[0x05, 0x00]].concat());
    assert_eq!(names(ocsp_responses(&longer, &batch.spec())), ["readable"]);
}

#[test]
fn each_row_breaks_its_rule() {
    for (rule, found) in certificate_rows().into_iter().chain(crl_rows()).chain(ocsp_rows()) {
        assert!(found.contains(&rule), "{rule} was not found, only {found:?}");
    }
}

#[test]
fn every_rule_has_a_row() {
    let rows = certificate_rows().into_iter().chain(crl_rows()).chain(ocsp_rows());
    let rows: BTreeSet<_> = rows.map(|(rule, _)| rule).collect();
    let without: Vec<_> = rules()
        .map(|rule| rule.name)
        .filter(|name| !rows.contains(name) && *name != "crl-empty-list-absent")
        .collect();
    assert_eq!(without, Vec::<&str>::new());
}

#[test]
fn a_crl_without_entries_has_no_list_at_all() {
    let (parts, _) = crl_parts();
    let issuer = parts.issuer.unwrap();
    let period = Validity::new(now(), now() + Lifetime::days(7).0).unwrap();
    let scope = CrlScope::default();
    let spec = CrlSpec { issuer: &issuer, number: 7, period, revoked: &[], scope };
    let tbs = tbs::crl(&spec).unwrap();
    assert_eq!(crl(&tbs, &spec), Ok(()));
    let with_empty_list = mangled_crl(tbs.der().to_vec(), |m| m.revoked = Some(Vec::new()));
    let found = names(crl(&ToBeSigned::from_der_unchecked(with_empty_list), &spec));
    assert_eq!(found, ["crl-empty-list-absent"]);
    // Its bytes may stand anywhere else: in the key identifier of an issuer, which is a digest.
    let issuer = tbs::Issuer { key_identifier: [[0x30, 0x00]; 10].concat(), ..issuer.clone() };
    let spec = CrlSpec { issuer: &issuer, ..spec };
    assert_eq!(crl(&tbs::crl(&spec).unwrap(), &spec), Ok(()));
}

#[test]
fn a_crl_with_sound_entries_passes_and_impossible_ones_do_not() {
    let (parts, revoked) = crl_parts();
    let issuer = parts.issuer.unwrap();
    let period = Validity::new(now(), now() + Lifetime::days(7).0).unwrap();
    let check = |revoked: &[Revoked]| {
        let scope = CrlScope::default();
        let spec = CrlSpec { issuer: &issuer, number: 7, period, revoked, scope };
        names(crl(&tbs::crl(&spec).unwrap(), &spec))
    };
    assert_eq!(check(&revoked), Vec::<&str>::new());
    let twice = vec![revoked[0].clone(), revoked[0].clone()];
    assert_eq!(check(&twice), ["crl-entries-once"]);
    let apart = vec![revoked[0].clone(), revoked[1].clone(), revoked[0].clone()];
    assert_eq!(check(&apart), ["crl-entries-once"]);
    let removed = Revoked { reason: Some(RevocationReason::RemoveFromCrl), ..revoked[0].clone() };
    assert_eq!(check(&[removed]), ["crl-reasons"]);
    let later = vec![Revoked { date: now() + Lifetime::hours(1).0, ..revoked[0].clone() }];
    assert_eq!(check(&later), ["crl-entries"]);
}

#[test]
fn a_leaf_that_outlives_its_issuer_or_its_profile_is_refused() {
    let mut parts = parts(Kind::Svid);
    let issuer = parts.issuer.as_mut().unwrap();
    issuer.validity = Validity::new(now() - Lifetime::hours(1).0, now() + Lifetime::hours(1).0).unwrap();
    let mut check = |end: Lifetime| {
        parts.validity = Validity::new(now(), now() + end.0).unwrap();
        let tbs = tbs::certificate(&parts.spec(), parts.signed_by()).unwrap();
        names(certificate(&tbs, &parts.spec(), parts.signed_by()))
    };
    assert_eq!(check(Lifetime::hours(1)), Vec::<&str>::new());
    assert_eq!(check(Lifetime::seconds(3601)), ["granted-validity"]);
}

#[test]
fn bytes_that_cannot_be_read_are_a_finding() {
    assert_eq!(names(certificate_alone(&[])), ["readable"]);
    assert_eq!(names(certificate_alone(&[0x30, 0x01])), ["readable"]);
    let parts = parts(Kind::Svid);
    let mut tbs = tbs::certificate(&parts.spec(), parts.signed_by()).unwrap().der().to_vec();
    tbs.push(0);
    assert_eq!(names(certificate_alone(&tbs)), ["readable"]);
    let root = SignedBy::Itself(KeyAlgorithm::EcdsaP256.signature_algorithm());
    assert!(!names(certificate(&ToBeSigned::from_der_unchecked(vec![0]), &parts.spec(), root)).is_empty());
}
