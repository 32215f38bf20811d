//! Extensions, each with its criticality.

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::Encode;
use der::asn1::{Ia5String, OctetString};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, NameConstraints};
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
    CertificatePolicies, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier, certpolicy::PolicyInformation,
};

use crate::names::{DnsName, Identity, TrustDomain};
use crate::profile::Kind;

/// Where an authority publishes its CRL and its own certificate. Both are plain HTTP: what is fetched is signed, and
/// HTTPS would need a chain to verify a chain (RFC 5280 section 8).
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Urls {
    /// Its CRL.
    pub crl: HttpUrl,
    /// Its certificate, DER.
    pub certificate: HttpUrl,
}

/// An `http://` URL that may stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sound = text.strip_prefix("http://").is_some_and(|rest| {
            let host = rest.split('/').next().unwrap_or_default();
            !host.is_empty()
                && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
        });
        if sound && text.len() <= 512 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is no http:// URL that may stand in a certificate"))
        }
    }
}

impl<'de> serde::Deserialize<'de> for HttpUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an intermediate below a shared root may speak for: one trust domain, its DNS names, and nothing else.
///
/// URI and DNS permits alone leave IP addresses and e-mail open, so those are shut out altogether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainConstraints {
    /// The host of SPIFFE IDs.
    pub domain: TrustDomain,
    /// DNS names, each with everything below it.
    pub dns_names: Vec<DnsName>,
}

pub(super) fn basic_constraints(kind: Kind, path_length: Option<u8>) -> Result<Extension, der::Error> {
    let ca = kind.is_authority();
    // RFC 5280 section 4.2.1.9: MUST be critical in CA certificates; SPIRE's leaves have it critical too.
    critical(&BasicConstraints { ca, path_len_constraint: path_length.filter(|_| ca) })
}

pub(super) fn key_usage(kind: Kind) -> Result<Extension, der::Error> {
    // X509-SVID section 4.3: authorities MUST set keyCertSign and MAY set cRLSign; leaves MUST set digitalSignature
    // and MUST NOT set the others. It MUST be critical.
    critical(&match kind.is_authority() {
        true => KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign),
        false => KeyUsage(KeyUsages::DigitalSignature.into()),
    })
}

pub(super) fn extended_key_usage() -> Result<Extension, der::Error> {
    // X509-SVID section 4.4: if present, both.
    plain(&ExtendedKeyUsage(vec![
        const_oid::db::rfc5280::ID_KP_SERVER_AUTH,
        const_oid::db::rfc5280::ID_KP_CLIENT_AUTH,
    ]))
}

pub(super) fn subject_key_identifier(id: &[u8]) -> Result<Extension, der::Error> {
    plain(&SubjectKeyIdentifier(OctetString::new(id)?))
}

pub(super) fn authority_key_identifier(id: &[u8]) -> Result<Extension, der::Error> {
    plain(&AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(id)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    })
}

pub(super) fn certificate_policies(policies: &[ObjectIdentifier]) -> Result<Extension, der::Error> {
    let information =
        |oid: &ObjectIdentifier| PolicyInformation { policy_identifier: *oid, policy_qualifiers: None };
    plain(&CertificatePolicies(policies.iter().map(information).collect()))
}

pub(super) fn subject_alt_name(identity: &Identity) -> Result<Option<Extension>, der::Error> {
    let mut names = Vec::new();
    if let Some(uri) = &identity.uri {
        names.push(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?));
    }
    for name in &identity.dns_names {
        names.push(GeneralName::DnsName(Ia5String::new(name.as_str())?));
    }
    // Subjects are never empty, so it need not be critical (RFC 5280 section 4.2.1.6).
    (!names.is_empty()).then(|| plain(&SubjectAltName(names))).transpose()
}

/// This mailbox is permitted and no other, so none that there is (RFC 2606 section 2). The excluded subtree "" would say
/// it more plainly, but Java's certificate parser refuses an empty rfc822Name.
pub(crate) const NO_MAILBOX: &str = "nobody@mail.invalid";

pub(super) fn name_constraints(constraints: &DomainConstraints) -> Result<Extension, der::Error> {
    let subtree = |base| GeneralSubtree { base, minimum: 0, maximum: None };
    let mut permitted =
        vec![subtree(GeneralName::UniformResourceIdentifier(Ia5String::new(constraints.domain.as_str())?))];
    for name in &constraints.dns_names {
        permitted.push(subtree(GeneralName::DnsName(Ia5String::new(name.as_str())?)));
    }
    permitted.push(subtree(GeneralName::Rfc822Name(Ia5String::new(NO_MAILBOX)?)));
    let excluded = vec![
        // Every IPv4 and every IPv6 address: address and mask of zeros (RFC 5280 section 4.2.1.10).
        subtree(GeneralName::IpAddress(OctetString::new(vec![0; 8])?)),
        subtree(GeneralName::IpAddress(OctetString::new(vec![0; 32])?)),
    ];
    critical(&NameConstraints { permitted_subtrees: Some(permitted), excluded_subtrees: Some(excluded) })
}

pub(super) fn crl_distribution_point(url: &HttpUrl) -> Result<Extension, der::Error> {
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(url.as_str())?);
    plain(&CrlDistributionPoints(vec![DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![name])),
        reasons: None,
        crl_issuer: None,
    }]))
}

pub(super) fn authority_information_access(url: &HttpUrl) -> Result<Extension, der::Error> {
    plain(&AuthorityInfoAccessSyntax(vec![AccessDescription {
        access_method: const_oid::db::rfc5280::ID_AD_CA_ISSUERS,
        access_location: GeneralName::UniformResourceIdentifier(Ia5String::new(url.as_str())?),
    }]))
}

pub(super) fn plain<T: Encode + AssociatedOid>(value: &T) -> Result<Extension, der::Error> {
    Ok(Extension { extn_id: T::OID, critical: false, extn_value: OctetString::new(value.to_der()?)? })
}

fn critical<T: Encode + AssociatedOid>(value: &T) -> Result<Extension, der::Error> {
    Ok(Extension { critical: true, ..plain(value)? })
}

#[cfg(test)]
mod tests {
    use super::HttpUrl;

    #[test]
    fn only_plain_http_urls_may_stand_in_certificates() {
        "http://pki.example/prod/root.crl".parse::<HttpUrl>().unwrap();
        for url in [
            "",
            "https://a/b",
            "http://",
            "http:///a",
            "http://a/b c",
            "http://a/\u{e4}",
            "ldap://a",
            "http://a/\"b",
        ] {
            assert!(url.parse::<HttpUrl>().is_err(), "{url}");
        }
    }
}
