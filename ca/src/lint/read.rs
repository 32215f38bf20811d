//! Certificates as x509-parser reads them, each extension in its place.

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::{
    AuthorityInfoAccess, AuthorityKeyIdentifier, BasicConstraints, CRLDistributionPoints,
    CertificatePolicies, ExtendedKeyUsage, GeneralName, KeyUsage, NameConstraints, ParsedExtension,
};
use x509_parser::prelude::FromDer;

use crate::names::{PERMANENT_IDENTIFIER, read_permanent_identifier};
use crate::tbs::{CertificateSpec, SignedBy};

/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
const OCSP_NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";
/// tcg-kp-AIKCertificate.
const AIK_CERTIFICATE: &str = "2.23.133.8.3";

/// An extension, and whether it is critical.
pub(super) struct Extension<T> {
    pub(super) critical: bool,
    pub(super) value: T,
}

/// A TBSCertificate, and what it should say if that is known.
pub(super) struct Certificate<'a> {
    pub(super) tbs: TbsCertificate<'a>,
    pub(super) basic_constraints: Option<Extension<BasicConstraints>>,
    pub(super) key_usage: Option<Extension<KeyUsage>>,
    pub(super) extended_key_usage: Option<Extension<ExtendedKeyUsage<'a>>>,
    pub(super) subject_key_identifier: Option<Extension<&'a [u8]>>,
    pub(super) authority_key_identifier: Option<Extension<AuthorityKeyIdentifier<'a>>>,
    pub(super) policies: Option<Extension<CertificatePolicies<'a>>>,
    pub(super) names: Option<Extension<Vec<GeneralName<'a>>>>,
    pub(super) name_constraints: Option<Extension<NameConstraints<'a>>>,
    pub(super) crl_points: Option<Extension<CRLDistributionPoints<'a>>>,
    pub(super) authority_access: Option<Extension<AuthorityInfoAccess<'a>>>,
    /// id-pkix-ocsp-nocheck, as it is encoded.
    pub(super) ocsp_no_check: Option<Extension<&'a [u8]>>,
    /// Extensions that no profile has, or that cannot be read.
    pub(super) foreign: Vec<String>,
    /// Object identifiers that stand twice.
    pub(super) repeated: Vec<String>,
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, String> {
        let (rest, tbs) = TbsCertificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the TBSCertificate", rest.len()));
        }
        let mut certificate = Self {
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: None,
            subject_key_identifier: None,
            authority_key_identifier: None,
            policies: None,
            names: None,
            name_constraints: None,
            crl_points: None,
            authority_access: None,
            ocsp_no_check: None,
            foreign: Vec::new(),
            repeated: Vec::new(),
            tbs,
        };
        for extension in certificate.tbs.extensions().to_vec() {
            let critical = extension.critical;
            let oid = extension.oid.to_id_string();
            let twice = match extension.parsed_extension().clone() {
                ParsedExtension::BasicConstraints(value) => {
                    certificate.basic_constraints.put(critical, value)
                }
                ParsedExtension::KeyUsage(value) => certificate.key_usage.put(critical, value),
                ParsedExtension::ExtendedKeyUsage(value) => {
                    certificate.extended_key_usage.put(critical, value)
                }
                ParsedExtension::SubjectKeyIdentifier(value) => {
                    certificate.subject_key_identifier.put(critical, value.0)
                }
                ParsedExtension::AuthorityKeyIdentifier(value) => {
                    certificate.authority_key_identifier.put(critical, value)
                }
                ParsedExtension::CertificatePolicies(value) => certificate.policies.put(critical, value),
                ParsedExtension::SubjectAlternativeName(value) => {
                    certificate.names.put(critical, value.general_names)
                }
                ParsedExtension::NameConstraints(value) => certificate.name_constraints.put(critical, value),
                ParsedExtension::CRLDistributionPoints(value) => certificate.crl_points.put(critical, value),
                ParsedExtension::AuthorityInfoAccess(value) => {
                    certificate.authority_access.put(critical, value)
                }
                _ if oid == OCSP_NO_CHECK => certificate.ocsp_no_check.put(critical, extension.value),
                _ => {
                    certificate.foreign.push(oid.clone());
                    false
                }
            };
            if twice {
                certificate.repeated.push(oid);
            }
        }
        Ok(certificate)
    }

    /// Whether basicConstraints says CA.
    pub(super) fn is_authority(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|extension| extension.value.ca)
    }

    /// Whether an authority has delegated to it that it answers for it (RFC 6960 section 4.2.2.2).
    pub(super) fn is_responder(&self) -> bool {
        self.extended_key_usage.as_ref().is_some_and(|usage| usage.value.ocsp_signing)
    }

    /// Whether it is the certificate of a TPM's attestation key (tcg-kp-AIKCertificate).
    pub(super) fn is_attestation_key(&self) -> bool {
        let usage = self.extended_key_usage.as_ref();
        usage.is_some_and(|usage| usage.value.other.iter().any(|oid| oid.to_id_string() == AIK_CERTIFICATE))
    }

    /// The value of its permanentIdentifier, if it has exactly one that can be read.
    pub(super) fn permanent_identifier(&self) -> Option<String> {
        let mut found = self.general_names().filter_map(|name| match name {
            GeneralName::OtherName(of, value) => Some((of.to_id_string(), *value)),
            _ => None,
        });
        let (of, value) = found.next()?;
        let is_one = found.next().is_none() && of == PERMANENT_IDENTIFIER.to_string();
        is_one.then(|| read_permanent_identifier(value))?
    }

    /// The attributes of its directoryNames, as text.
    pub(super) fn directory_texts(&self) -> Vec<String> {
        let directory = self.general_names().filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let texts = directory.flat_map(|name| name.iter_attributes());
        texts.map(|attribute| attribute.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The path length.
    pub(super) fn path_length(&self) -> Option<u32> {
        self.basic_constraints.as_ref().and_then(|basic| basic.value.path_len_constraint)
    }

    /// The URI names.
    pub(super) fn uris(&self) -> Vec<&'a str> {
        self.general_names()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect()
    }

    /// The DNS names.
    pub(super) fn dns_names(&self) -> Vec<&'a str> {
        self.general_names()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
            .collect()
    }

    pub(super) fn general_names(&self) -> impl Iterator<Item = &GeneralName<'a>> {
        self.names.iter().flat_map(|extension| &extension.value)
    }
}

trait Put<T> {
    /// Takes a value; says whether there was one already.
    fn put(&mut self, critical: bool, value: T) -> bool;
}

impl<T> Put<T> for Option<Extension<T>> {
    fn put(&mut self, critical: bool, value: T) -> bool {
        self.replace(Extension { critical, value }).is_some()
    }
}

/// A certificate and what it must say.
pub(super) struct Granted<'a> {
    pub(super) certificate: Certificate<'a>,
    pub(super) spec: &'a CertificateSpec<'a>,
    pub(super) signed_by: SignedBy<'a>,
}
