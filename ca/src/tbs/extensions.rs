//! Extensions, each with its criticality.

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, Ia5String, OctetString, SetOfVec, Utf8StringRef};
use der::{Decode, Encode};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, NameConstraints};
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName, OtherName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
    CertificatePolicies, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier, certpolicy::PolicyInformation,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use crate::names::{DnsName, Identity, PERMANENT_IDENTIFIER, TpmNames, TrustDomain};
use crate::profile::Kind;
use crate::revocation::Shards;
use crate::serial::SerialNumber;

/// Where an authority publishes its CRL and its own certificate. Both are plain HTTP: what is fetched is signed, and
/// HTTPS would need a chain to verify a chain (RFC 5280 section 8).
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Urls {
    /// Its CRL.
    pub crl: HttpUrl,
    /// Its certificate, DER.
    pub certificate: HttpUrl,
    /// Its OCSP responder, if there is one.
    pub ocsp: Option<HttpUrl>,
    /// How many shards its CRL is cut into; certificates then name the CRL of their shard.
    pub crl_shards: Option<Shards>,
}

impl Urls {
    /// The CRL that a certificate with this serial number names.
    pub fn crl_of(&self, serial: &SerialNumber) -> HttpUrl {
        match self.crl_shards {
            Some(shards) => self.shard(shards.of(serial)),
            None => self.crl.clone(),
        }
    }

    /// The CRL of a shard: the number is put in front of the ending of the whole CRL's URL.
    pub fn shard(&self, shard: u16) -> HttpUrl {
        self.crl.with(&format!("-{shard}"))
    }
}

impl HttpUrl {
    /// Where the delta CRLs of the CRL at this URL are.
    #[must_use]
    pub fn delta(&self) -> Self {
        self.with("-delta")
    }

    /// The path at the host.
    pub fn path(&self) -> &str {
        let rest = self.0.strip_prefix("http://").unwrap_or_default();
        rest.find('/').map_or("/", |at| &rest[at..])
    }

    fn with(&self, part: &str) -> Self {
        match self.0.strip_suffix(".crl") {
            Some(stem) => Self(format!("{stem}{part}.crl")),
            None => Self(format!("{}{part}", self.0)),
        }
    }
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

/// tcg-kp-AIKCertificate.
const AIK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");

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

pub(super) fn extended_key_usage(kind: Kind) -> Result<Extension, der::Error> {
    if kind == Kind::OcspSigner {
        // RFC 6960 section 4.2.2.2: by this an authority delegates.
        return plain(&ExtendedKeyUsage(vec![const_oid::db::rfc5280::ID_KP_OCSP_SIGNING]));
    }
    if kind == Kind::AttestationKey {
        // WebAuthn level 2, section 8.3.1; alone, so that nobody takes it for anything else.
        return plain(&ExtendedKeyUsage(vec![AIK_CERTIFICATE]));
    }
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
    if let Some(tpm) = &identity.tpm {
        names.extend(tpm_names(tpm)?);
        // The subject is empty, so that it must be critical (RFC 5280 section 4.2.1.6).
        return critical(&SubjectAltName(names)).map(Some);
    }
    if let Some(uri) = &identity.uri {
        names.push(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?));
    }
    for name in &identity.dns_names {
        names.push(GeneralName::DnsName(Ia5String::new(name.as_str())?));
    }
    // Other subjects are never empty, so it need not be critical (RFC 5280 section 4.2.1.6).
    (!names.is_empty()).then(|| plain(&SubjectAltName(names))).transpose()
}

/// Which TPM it is (TCG EK Credential Profile 2.6, section 3.1.2), and who (RFC 4043 section 2).
fn tpm_names(tpm: &TpmNames) -> Result<Vec<GeneralName>, der::Error> {
    let rdn = |(oid, value): (ObjectIdentifier, &String)| {
        let value = Any::encode_from(&Utf8StringRef::new(value)?)?;
        let attribute = AttributeTypeAndValue { oid, value };
        Ok(RelativeDistinguishedName::from(SetOfVec::try_from(vec![attribute])?))
    };
    let rdns = tpm.attributes().map(rdn).collect::<Result<Vec<_>, der::Error>>()?;
    let name = Name::from_der(&RdnSequence::from(rdns).to_der()?)?;
    let value = Any::from_der(&tpm.permanent_identifier_der()?)?;
    let identifier = GeneralName::OtherName(OtherName { type_id: PERMANENT_IDENTIFIER, value });
    Ok(vec![GeneralName::DirectoryName(name), identifier])
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
    plain(&CrlDistributionPoints(vec![point(url)?]))
}

/// A place where a CRL is, for all reasons and of the issuer itself.
pub(super) fn point(url: &HttpUrl) -> Result<DistributionPoint, der::Error> {
    Ok(DistributionPoint { distribution_point: Some(full_name(url)?), reasons: None, crl_issuer: None })
}

pub(super) fn full_name(url: &HttpUrl) -> Result<DistributionPointName, der::Error> {
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(url.as_str())?);
    Ok(DistributionPointName::FullName(vec![name]))
}

pub(super) fn authority_information_access(
    certificate: &HttpUrl,
    ocsp: Option<&HttpUrl>,
) -> Result<Extension, der::Error> {
    let description = |(access_method, url): (ObjectIdentifier, &HttpUrl)| {
        let access_location = GeneralName::UniformResourceIdentifier(Ia5String::new(url.as_str())?);
        Ok(AccessDescription { access_method, access_location })
    };
    let certificate = (const_oid::db::rfc5280::ID_AD_CA_ISSUERS, certificate);
    let ocsp = ocsp.map(|url| (const_oid::db::rfc5280::ID_AD_OCSP, url));
    let places = std::iter::once(certificate).chain(ocsp);
    plain(&AuthorityInfoAccessSyntax(places.map(description).collect::<Result<_, der::Error>>()?))
}

/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1): a responder's certificate is good as long as it lives, which is not long.
pub(super) fn ocsp_no_check() -> Result<Extension, der::Error> {
    Ok(Extension {
        extn_id: const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK,
        critical: false,
        extn_value: OctetString::new(der::asn1::Null.to_der()?)?,
    })
}

pub(super) fn plain<T: Encode + AssociatedOid>(value: &T) -> Result<Extension, der::Error> {
    Ok(Extension { extn_id: T::OID, critical: false, extn_value: OctetString::new(value.to_der()?)? })
}

pub(super) fn critical<T: Encode + AssociatedOid>(value: &T) -> Result<Extension, der::Error> {
    Ok(Extension { critical: true, ..plain(value)? })
}

#[cfg(test)]
mod tests {
    use super::{HttpUrl, Urls};
    use crate::serial::SerialNumber;

    #[test]
    fn each_crl_has_a_url_of_its_own_and_certificates_name_the_one_of_their_shard() {
        let url = |text: &str| text.parse::<HttpUrl>().unwrap();
        let mut urls = Urls {
            crl: url("http://pki.example/prod/i1.crl"),
            certificate: url("http://pki.example/prod/i1.cer"),
            ocsp: None,
            crl_shards: None,
        };
        let serial = SerialNumber::from_bytes([0x40; 16]).unwrap();
        assert_eq!(urls.crl_of(&serial), urls.crl);
        assert_eq!(urls.crl.delta(), url("http://pki.example/prod/i1-delta.crl"));
        assert_eq!(urls.crl.path(), "/prod/i1.crl");
        urls.crl_shards = Some("4".parse().unwrap());
        assert_eq!(urls.crl_of(&serial), url("http://pki.example/prod/i1-1.crl"));
        assert_eq!(url("http://pki.example/list").delta(), url("http://pki.example/list-delta"));
        assert_eq!(url("http://pki.example").path(), "/");
    }

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
