//! The rules for certificates.

use std::collections::BTreeSet;

use jiff::Timestamp;
use undercroft_attestors::tpm::endorsement::MODEL;
use x509_parser::extensions::{DistributionPointName, GeneralName, GeneralSubtree};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use super::read::{Certificate, Extension, Granted};
use super::{Finding, Rule, hold, unreadable};
use crate::names::{TpmNames, parse_spiffe_id, parse_trust_domain};
use crate::profile::Kind;
use crate::tbs::{CertificateSpec, HttpUrl, NO_MAILBOX, SignedBy, ToBeSigned};
use crate::time::{BACKDATE, Validity};

/// Checks to-be-signed bytes against every rule: those that hold for all certificates of ours, and those that compare
/// them with what was granted.
///
/// # Errors
/// The rules that they break.
pub fn certificate(
    tbs: &ToBeSigned,
    spec: &CertificateSpec<'_>,
    signed_by: SignedBy<'_>,
) -> Result<(), Vec<Finding>> {
    let certificate = Certificate::read(tbs.der()).map_err(unreadable)?;
    let mut findings = standing_findings(&certificate);
    let granted = Granted { certificate, spec, signed_by };
    findings.extend(GRANT_RULES.iter().filter_map(|(rule, check)| rule.judge(check(&granted))));
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// Checks the DER of a TBSCertificate against the rules that hold for all certificates of ours, without knowing what
/// was granted: for auditors.
///
/// # Errors
/// The rules that it breaks.
pub fn certificate_alone(tbs: &[u8]) -> Result<(), Vec<Finding>> {
    let findings = standing_findings(&Certificate::read(tbs).map_err(unreadable)?);
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

fn standing_findings(certificate: &Certificate<'_>) -> Vec<Finding> {
    RULES.iter().filter_map(|(rule, check)| rule.judge(check(certificate))).collect()
}

type Check = fn(&Certificate<'_>) -> Result<(), String>;
type GrantCheck = fn(&Granted<'_>) -> Result<(), String>;

/// Rules for every certificate of ours, whatever was granted.
pub(super) const RULES: &[(Rule, Check)] = &[
    (Rule::new("version-3", "RFC 5280 4.1.2.1"), |c| {
        hold(c.tbs.version.0 == 2, || format!("version is {}", c.tbs.version.0 + 1))
    }),
    (Rule::new("serial-16-random-bytes", "RFC 5280 4.1.2.2"), |c| {
        let serial = c.tbs.raw_serial();
        hold(serial.len() == 16 && (0x01..=0x7f).contains(&serial[0]), || {
            format!("the serial number has {} bytes and begins with {:#04x?}", serial.len(), serial.first())
        })
    }),
    (Rule::new("issuer-not-empty", "RFC 5280 4.1.2.4"), |c| {
        hold(c.tbs.issuer.iter().next().is_some(), || "the issuer is empty".into())
    }),
    (Rule::new("subject-not-empty", "RFC 5280 4.1.2.6, WebAuthn 8.3.1"), |c| {
        if c.is_attestation_key() {
            return hold(c.tbs.subject.as_raw() == [0x30, 0], || "an attestation key has a subject".into());
        }
        hold(c.tbs.subject.iter().next().is_some(), || "the subject is empty".into())
    }),
    (Rule::new("time-encoding", "RFC 5280 4.1.2.5"), |c| {
        let wrong = [c.tbs.validity.not_before, c.tbs.validity.not_after]
            .into_iter()
            .find(|time| time.is_utctime() != (time.to_datetime().year() < 2050));
        hold(wrong.is_none(), || "a date through 2049 must be UTCTime, a later one GeneralizedTime".into())
    }),
    (Rule::new("validity-ordered", "RFC 5280 4.1.2.5"), |c| {
        hold(c.tbs.validity.not_before.timestamp() < c.tbs.validity.not_after.timestamp(), || {
            "notAfter is not after notBefore".into()
        })
    }),
    (Rule::new("no-unique-identifiers", "RFC 5280 4.1.2.8"), |c| {
        hold(c.tbs.issuer_uid.is_none() && c.tbs.subject_uid.is_none(), || {
            "it has a unique identifier, which CAs must not make".into()
        })
    }),
    (Rule::new("extensions-once", "RFC 5280 4.2"), |c| {
        hold(c.repeated.is_empty(), || format!("these stand twice: {}", c.repeated.join(", ")))
    }),
    (Rule::new("extensions-known", "Undercroft profiles"), |c| {
        hold(c.foreign.is_empty(), || format!("no profile has these extensions: {}", c.foreign.join(", ")))
    }),
    (Rule::new("basic-constraints", "RFC 5280 4.2.1.9, X509-SVID 4.1"), |c| {
        present(&c.basic_constraints, "basicConstraints", true).and_then(|basic| {
            hold(basic.ca || basic.path_len_constraint.is_none(), || "a leaf has a path length".into())
        })
    }),
    (Rule::new("key-usage", "RFC 5280 4.2.1.3, X509-SVID 4.3"), |c| {
        present(&c.key_usage, "keyUsage", true).and_then(|usage| {
            let expected = if c.is_authority() { KEY_CERT_SIGN | CRL_SIGN } else { DIGITAL_SIGNATURE };
            hold(usage.flags == expected, || format!("the usages are {usage}, and nothing else may be"))
        })
    }),
    (Rule::new("extended-key-usage", "RFC 5280 4.2.1.12, X509-SVID 4.4, WebAuthn 8.3.1"), |c| {
        if c.is_authority() {
            return hold(c.extended_key_usage.is_none(), || "an authority has extended key usages".into());
        }
        present(&c.extended_key_usage, "extKeyUsage", false).and_then(|usage| {
            let others = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping;
            if c.is_attestation_key() {
                let alone = usage.other.len() == 1
                    && !(others || usage.server_auth || usage.client_auth || usage.ocsp_signing);
                return hold(alone, || "an attestation key has more than tcg-kp-AIKCertificate".into());
            }
            let others = others || !usage.other.is_empty();
            let peer = usage.server_auth && usage.client_auth && !usage.ocsp_signing;
            let responder = usage.ocsp_signing && !usage.server_auth && !usage.client_auth;
            hold((peer || responder) && !others, || {
                "a leaf must have serverAuth and clientAuth, or OCSPSigning, or tcg-kp-AIKCertificate, and nothing else".into()
            })
        })
    }),
    (Rule::new("ocsp-no-check", "RFC 6960 4.2.2.2.1"), |c| {
        if !c.is_responder() {
            return hold(c.ocsp_no_check.is_none(), || "it is no OCSP responder's".into());
        }
        present(&c.ocsp_no_check, "id-pkix-ocsp-nocheck", false)
            .and_then(|value| hold(*value == [0x05, 0x00], || "its value is not NULL".into()))
    }),
    (Rule::new("subject-key-identifier", "RFC 5280 4.2.1.2, method 1"), |c| {
        let key = undercroft_keys::PublicKey::from_spki(c.tbs.subject_pki.raw)
            .map_err(|error| format!("the subject's key: {error}"))?;
        present(&c.subject_key_identifier, "subjectKeyIdentifier", false).and_then(|id| {
            hold(**id == key.subject_key_identifier().as_bytes()[..], || {
                "it is not the SHA-1 of the key".into()
            })
        })
    }),
    (Rule::new("authority-key-identifier", "RFC 5280 4.2.1.1"), |c| {
        if is_self_issued(c) {
            return hold(c.authority_key_identifier.is_none(), || "a root needs none".into());
        }
        present(&c.authority_key_identifier, "authorityKeyIdentifier", false).and_then(|id| {
            hold(
                id.key_identifier.is_some()
                    && id.authority_cert_issuer.is_none()
                    && id.authority_cert_serial.is_none(),
                || "it must be the issuer's key identifier and nothing else".into(),
            )
        })
    }),
    (Rule::new("certificate-policies", "RFC 5280 4.2.1.4"), |c| {
        present(&c.policies, "certificatePolicies", false).and_then(|policies| {
            let distinct: BTreeSet<_> = policies.iter().map(|p| p.policy_id.to_id_string()).collect();
            hold(distinct.len() == policies.len() && !policies.is_empty(), || {
                "a policy stands twice".into()
            })?;
            hold(policies.iter().all(|p| p.policy_qualifiers.is_none()), || "a policy has qualifiers".into())
        })
    }),
    (Rule::new("alternative-names-known", "X509-SVID 2, WebAuthn 8.3.1"), |c| {
        if c.is_attestation_key() {
            let known = c
                .general_names()
                .all(|name| matches!(name, GeneralName::DirectoryName(_) | GeneralName::OtherName(..)));
            return hold(known && c.general_names().count() == 2, || {
                "the names of an attestation key are a directoryName and a permanentIdentifier".into()
            });
        }
        let other =
            c.general_names().find(|name| !matches!(name, GeneralName::URI(_) | GeneralName::DNSName(_)));
        hold(other.is_none(), || format!("the only names are URIs and DNS names, not {other:?}"))
    }),
    (Rule::new("one-uri", "X509-SVID 2"), |c| {
        let uris = c.uris().len();
        // An OCSP responder is no workload, and nobody takes it for one.
        if c.is_responder() {
            return hold(c.names.is_none(), || "an OCSP responder has names".into());
        }
        // Neither is an attestation key.
        if c.is_attestation_key() {
            return hold(uris == 0, || "an attestation key has URI names".into());
        }
        // A root that several domains share is no domain's own, and neither is its cross-certificate.
        let shared = is_self_issued(c) || c.path_length().is_some_and(|length| length >= CROSS_PATH_LENGTH);
        hold(uris == 1 || (uris == 0 && shared), || format!("it has {uris} URI names instead of one"))
    }),
    (Rule::new("spiffe-id", "SPIFFE-ID 2, X509-SVID 3"), |c| match c.uris()[..] {
        [uri] if c.is_authority() => {
            let name = uri.strip_prefix("spiffe://").ok_or("an authority's URI is no trust domain")?;
            parse_trust_domain(name).map(|_| ()).map_err(|error| error.to_string())
        }
        [uri] => {
            let id = parse_spiffe_id(uri).map_err(|error| error.to_string())?;
            hold(!id.path().is_empty(), || "a leaf's SPIFFE ID must have a path".into())
        }
        _ => Ok(()),
    }),
    (Rule::new("tpm-names", "WebAuthn 8.3.1, TCG EK Credential Profile 3.1.2, RFC 4043 2"), |c| {
        if !c.is_attestation_key() {
            return Ok(());
        }
        present(&c.names, "subjectAltName", true)?;
        let directory = c.general_names().filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let said: Vec<_> = directory.flat_map(X509Name::iter_attributes).collect();
        let named = said.iter().map(|attribute| attribute.attr_type().to_id_string());
        hold(named.eq(MODEL.iter().map(|(oid, _)| oid.to_string())), || {
            "its directoryName is not tPMManufacturer, tPMModel and tPMVersion".into()
        })?;
        let legible = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        hold(said.iter().all(|attribute| attribute.as_str().is_ok_and(legible)), || {
            "which TPM it is, is not told in 1 to 64 printable characters".into()
        })?;
        let identifier = c.permanent_identifier();
        hold(identifier.as_deref().is_some_and(is_sha256), || {
            "its permanentIdentifier is not the SHA-256 of an endorsement key, in hexadecimal".into()
        })
    }),
    (Rule::new("dns-names", "RFC 5280 4.2.1.6"), |c| {
        let names = c.dns_names();
        hold(names.is_empty() || !c.is_authority(), || "an authority has DNS names".into())?;
        let wrong = names.iter().find(|name| name.parse::<crate::names::DnsName>().is_err());
        hold(wrong.is_none(), || format!("{wrong:?} may not stand in a certificate"))
    }),
    (Rule::new("name-constraints", "RFC 5280 4.2.1.10"), |c| match &c.name_constraints {
        None => Ok(()),
        Some(constraints) => {
            hold(c.is_authority(), || "a leaf has name constraints".into())?;
            hold(constraints.critical, || "nameConstraints must be critical".into())
        }
    }),
    (Rule::new("crl-distribution-point", "RFC 5280 4.2.1.13"), |c| {
        if is_self_issued(c) {
            return hold(c.crl_points.is_none(), || "a root has a CRL distribution point".into());
        }
        present(&c.crl_points, "cRLDistributionPoints", false).and_then(|points| {
            let sound = points.iter().all(|point| {
                point.reasons.is_none()
                    && point.crl_issuer.is_none()
                    && matches!(
                        &point.distribution_point,
                        Some(DistributionPointName::FullName(names))
                            if matches!(names[..], [GeneralName::URI(uri)] if uri.starts_with("http://"))
                    )
            });
            hold(points.len() == 1 && sound, || "it must be one http:// URL for all reasons".into())
        })
    }),
    (Rule::new("authority-information-access", "RFC 5280 4.2.2.1"), |c| {
        if is_self_issued(c) {
            return hold(c.authority_access.is_none(), || "a root says where its issuer is".into());
        }
        present(&c.authority_access, "authorityInfoAccess", false).and_then(|access| {
            let http = access.accessdescs.iter().all(|description| {
                matches!(&description.access_location, GeneralName::URI(uri) if uri.starts_with("http://"))
            });
            let methods: Vec<_> =
                access.accessdescs.iter().map(|place| place.access_method.to_id_string()).collect();
            let methods: Vec<_> = methods.iter().map(String::as_str).collect();
            let sound = matches!(methods[..], [CA_ISSUERS]) || methods == [CA_ISSUERS, OCSP];
            hold(sound && http, || {
                "it must be one http:// URL of the issuer, and one of its OCSP responder at most".into()
            })
        })
    }),
];

/// Rules that compare a certificate with what was granted: it carries no field that profile and grant do not give.
pub(super) const GRANT_RULES: &[(Rule, GrantCheck)] = &[
    (Rule::new("granted-serial", "Undercroft issuance"), |g| {
        hold(g.certificate.tbs.raw_serial() == g.spec.serial.as_bytes(), || "another serial number".into())
    }),
    (Rule::new("granted-issuer", "RFC 5280 4.1.2.4"), |g| {
        let name = match g.signed_by {
            SignedBy::Issuer(issuer) => &issuer.name,
            SignedBy::Itself(_) => g.spec.subject,
        };
        hold(g.certificate.tbs.issuer.as_raw() == name.der(), || {
            "the issuer is not the subject of whoever signs, byte for byte".into()
        })
    }),
    (Rule::new("granted-algorithm", "RFC 5280 4.1.2.3"), |g| {
        let algorithm = match g.signed_by {
            SignedBy::Issuer(issuer) => issuer.algorithm,
            SignedBy::Itself(algorithm) => algorithm,
        };
        let (_, expected) =
            AlgorithmIdentifier::from_der(algorithm.der()).map_err(|error| error.to_string())?;
        hold(g.certificate.tbs.signature == expected, || {
            format!("the signature algorithm is not {algorithm}")
        })
    }),
    (Rule::new("granted-validity", "Undercroft invariant 6"), |g| {
        let validity = &g.certificate.tbs.validity;
        let at = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
        let read = Validity::new(at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?)
            .map_err(|error| error.to_string())?;
        hold(read == g.spec.validity, || format!("the validity is {read}"))?;
        if let SignedBy::Issuer(issuer) = g.signed_by {
            hold(issuer.validity.covers(&read), || format!("it outlives its issuer ({})", issuer.validity))?;
        }
        let length = read.not_after().as_second() - read.not_before().as_second();
        let longest = g.spec.profile.max_lifetime().as_seconds() + BACKDATE.as_secs();
        hold(u64::try_from(length).is_ok_and(|length| length <= longest), || {
            format!("it is valid for {length} s, longer than profile `{}` allows", g.spec.profile.name())
        })
    }),
    (Rule::new("granted-subject", "Undercroft invariant 6"), |g| {
        hold(g.certificate.tbs.subject.as_raw() == g.spec.subject.der(), || "another subject".into())
    }),
    (Rule::new("granted-key", "Undercroft issuance"), |g| {
        hold(g.certificate.tbs.subject_pki.raw == g.spec.public_key.spki(), || "another key".into())?;
        let key_type = g.spec.public_key.key_type();
        hold(g.spec.profile.takes(key_type), || {
            format!("profile `{}` takes no {key_type} keys", g.spec.profile.name())
        })
    }),
    (Rule::new("granted-kind", "Undercroft profiles"), |g| {
        let kind = g.spec.profile.kind();
        hold(g.certificate.is_authority() == kind.is_authority(), || format!("it is no {kind:?}"))?;
        hold(g.certificate.is_responder() == (kind == Kind::OcspSigner), || format!("it is no {kind:?}"))?;
        hold(g.certificate.is_attestation_key() == (kind == Kind::AttestationKey), || {
            format!("it is no {kind:?}")
        })?;
        hold(is_self_issued(&g.certificate) == (kind == Kind::Root), || {
            "roots, and only roots, are issued by themselves".into()
        })
    }),
    (Rule::new("granted-path-length", "RFC 5280 4.2.1.9"), |g| {
        let read = g.certificate.basic_constraints.as_ref().and_then(|basic| basic.value.path_len_constraint);
        hold(read == g.spec.path_length.map(u32::from), || {
            format!("the path length is {read:?} instead of {:?}", g.spec.path_length)
        })?;
        // Roots are not limited: a path length there breaks cross-signing.
        let limited =
            matches!(g.spec.profile.kind(), Kind::Intermediate | Kind::SpireCa | Kind::CrossCertificate);
        hold(read.is_some() == limited, || {
            "intermediates and cross-certificates have a path length, roots and leaves have none".into()
        })
    }),
    (Rule::new("granted-names", "Undercroft invariant 6"), |g| {
        let uris: Vec<_> = g.spec.identity.uri.iter().map(String::as_str).collect();
        let dns_names: Vec<_> = g.spec.identity.dns_names.iter().map(|name| name.as_str()).collect();
        hold(g.certificate.uris() == uris && g.certificate.dns_names() == dns_names, || {
            format!("the names are {:?} and {:?}", g.certificate.uris(), g.certificate.dns_names())
        })?;
        let granted = g.spec.identity.tpm.as_ref();
        hold(g.certificate.permanent_identifier().as_deref() == granted.map(TpmNames::identifier), || {
            "the permanentIdentifier is another".into()
        })?;
        let granted: Vec<_> =
            granted.iter().flat_map(|tpm| tpm.attributes()).map(|(_, name)| name.clone()).collect();
        hold(g.certificate.directory_texts() == granted, || "it is of another TPM".into())
    }),
    (Rule::new("granted-authority-key", "RFC 5280 4.2.1.1"), |g| {
        let SignedBy::Issuer(issuer) = g.signed_by else { return Ok(()) };
        let id = g.certificate.authority_key_identifier.as_ref().and_then(|a| a.value.key_identifier.clone());
        hold(id.is_some_and(|id| id.0 == issuer.key_identifier), || {
            "the authority key identifier is not the issuer's subject key identifier".into()
        })
    }),
    (Rule::new("granted-policies", "RFC 5280 4.2.1.4"), |g| {
        let expected = g.spec.profile.policies(g.spec.policy_arc).map_err(|error| error.to_string())?;
        let read = g.certificate.policies.iter().flat_map(|p| &p.value).map(|p| p.policy_id.to_id_string());
        hold(read.eq(expected.iter().map(ToString::to_string)), || "other certificate policies".into())
    }),
    (Rule::new("granted-constraints", "RFC 5280 4.2.1.10"), |g| {
        let read = g.certificate.name_constraints.as_ref().map(|extension| &extension.value);
        let (Some(read), Some(granted)) = (read, g.spec.constraints) else {
            return hold(read.is_none() && g.spec.constraints.is_none(), || "other name constraints".into());
        };
        let bases = |subtrees: &Option<Vec<GeneralSubtree<'_>>>| -> Vec<String> {
            subtrees.iter().flatten().map(|subtree| format!("{:?}", subtree.base)).collect()
        };
        let mut permitted = vec![format!("{:?}", GeneralName::URI(granted.domain.as_str()))];
        permitted.extend(
            granted.dns_names.iter().map(|name| format!("{:?}", GeneralName::DNSName(name.as_str()))),
        );
        permitted.push(format!("{:?}", GeneralName::RFC822Name(NO_MAILBOX)));
        let excluded = [GeneralName::IPAddress(&[0; 8]), GeneralName::IPAddress(&[0; 32])]
            .map(|name| format!("{name:?}"));
        hold(
            bases(&read.permitted_subtrees) == permitted && bases(&read.excluded_subtrees) == excluded,
            || "other name constraints".into(),
        )
    }),
    (Rule::new("granted-urls", "RFC 5280 4.2.1.13, 4.2.2.1"), |g| {
        let SignedBy::Issuer(issuer) = g.signed_by else { return Ok(()) };
        let shard = issuer.urls.crl_of(&g.spec.serial);
        let crl = g.certificate.crl_points.iter().flat_map(|points| points.value.iter()).any(|point| {
            matches!(&point.distribution_point, Some(DistributionPointName::FullName(names))
                if matches!(names[..], [GeneralName::URI(uri)] if uri == shard.as_str()))
        });
        let access = g.certificate.authority_access.iter().flat_map(|access| &access.value.accessdescs);
        let access: Vec<_> = access
            .map(|place| match &place.access_location {
                GeneralName::URI(uri) => *uri,
                _ => "",
            })
            .collect();
        let ocsp = issuer.urls.ocsp.as_ref().filter(|_| g.spec.profile.kind() != Kind::OcspSigner);
        let expected: Vec<_> =
            std::iter::once(&issuer.urls.certificate).chain(ocsp).map(HttpUrl::as_str).collect();
        hold(crl && access == expected, || "other URLs than the issuer's".into())
    }),
];

/// The least path length of a cross-certificate: below it lie a root's own intermediates.
pub(crate) const CROSS_PATH_LENGTH: u32 = 3;

/// Bits of keyUsage as x509-parser numbers them.
const DIGITAL_SIGNATURE: u16 = 1;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;

const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
const OCSP: &str = "1.3.6.1.5.5.7.48.1";

/// SHA-256 in lower-case hexadecimal.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_self_issued(certificate: &Certificate<'_>) -> bool {
    certificate.tbs.issuer.as_raw() == certificate.tbs.subject.as_raw()
}

/// The value of an extension that must be there and be critical or not.
fn present<'e, T>(extension: &'e Option<Extension<T>>, name: &str, critical: bool) -> Result<&'e T, String> {
    match extension {
        None => Err(format!("{name} is missing")),
        Some(found) if found.critical != critical => {
            Err(format!("{name} must {}be critical", if critical { "" } else { "not " }))
        }
        Some(found) => Ok(&found.value),
    }
}
