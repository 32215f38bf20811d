//! Certificates of attestation keys (WebAuthn level 2, section 8.3.1).

use const_oid::{AssociatedOid as _, ObjectIdentifier};
use der::asn1::Utf8StringRef;
use der::{Decode as _, Encode as _, Sequence};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use super::{Code, Refusal};
use crate::chain::{Certificate, ChainError};
use crate::tpm::endorsement::MODEL;

/// tcg-kp-AIKCertificate.
const AIK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");
/// id-on-permanentIdentifier (RFC 4043 section 2).
const PERMANENT_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.3");

/// The longest identifier that is read.
const MAX_IDENTIFIER: usize = 256;

/// PermanentIdentifier (RFC 4043 section 2).
#[derive(Sequence)]
struct PermanentIdentifier<'a> {
    #[asn1(optional = "true")]
    identifier_value: Option<Utf8StringRef<'a>>,
    #[asn1(optional = "true")]
    assigner: Option<ObjectIdentifier>,
}

/// Checks the profile. Gives the permanentIdentifier, if there is exactly one that says something.
pub(super) fn check(certificate: &Certificate) -> Result<Option<String>, Refusal> {
    let wrong = |why: &str| Refusal::new(Code::AkCertificate, why);
    let malformed = |error: ChainError| Refusal::new(Code::AkCertificate, error);
    let fields = certificate.fields();
    if fields.version() != x509_cert::Version::V3 {
        return Err(wrong("the certificate of the attestation key is not of version 3"));
    }
    if !fields.subject().is_empty() {
        return Err(wrong("the certificate of the attestation key has a subject"));
    }
    // `ca` must be false, and the extension be there.
    match certificate.extension::<BasicConstraints>().map_err(malformed)? {
        Some(basic) if !basic.ca => {}
        _ => {
            return Err(wrong(
                "basicConstraints do not say that the attestation key's certificate is not a CA's",
            ));
        }
    }
    match certificate.extension::<ExtendedKeyUsage>().map_err(malformed)? {
        Some(usage) if usage.0 == [AIK_CERTIFICATE] => {}
        _ => return Err(wrong("the extended key usage is not tcg-kp-AIKCertificate (2.23.133.8.3) alone")),
    }
    let usage = certificate.extension::<KeyUsage>().map_err(malformed)?;
    if usage.is_some_and(|usage| !usage.digital_signature() || usage.key_cert_sign()) {
        return Err(wrong("the key usage is not digitalSignature"));
    }
    let names = certificate.extension::<SubjectAltName>().map_err(malformed)?;
    let names = names.ok_or_else(|| wrong("no subjectAltName says which TPM it is"))?;
    // The subject is empty (RFC 5280 section 4.2.1.6).
    let extensions = fields.extensions().into_iter().flatten();
    if !extensions.into_iter().any(|it| it.extn_id == SubjectAltName::OID && it.critical) {
        return Err(wrong("the subjectAltName is not critical, and the subject is empty"));
    }
    let mut directory_names = names.0.iter().filter_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name),
        _ => None,
    });
    let (Some(directory), None) = (directory_names.next(), directory_names.next()) else {
        return Err(wrong("the subjectAltName has not exactly one directoryName"));
    };
    for (oid, _) in MODEL {
        let said = directory.iter_rdn().flat_map(|rdn| rdn.iter()).filter(|attribute| attribute.oid == oid);
        let said: Vec<_> = said.map(|attribute| attribute.value.value()).collect();
        if !matches!(said[..], [value] if !value.is_empty()) {
            return Err(wrong("the directoryName does not say once each manufacturer, model and version"));
        }
    }
    identifier(&names)
}

fn identifier(names: &SubjectAltName) -> Result<Option<String>, Refusal> {
    let mut found = names.0.iter().filter_map(|name| match name {
        GeneralName::OtherName(other) if other.type_id == PERMANENT_IDENTIFIER => Some(&other.value),
        _ => None,
    });
    let (Some(value), None) = (found.next(), found.next()) else { return Ok(None) };
    let wrong = |error: der::Error| Refusal::new(Code::AkCertificate, error);
    let der = value.to_der().map_err(wrong)?;
    let read = PermanentIdentifier::from_der(&der).map_err(wrong)?;
    let value = read.identifier_value.map(|value| value.as_str().to_owned());
    Ok(value.filter(|value| (1..=MAX_IDENTIFIER).contains(&value.len())))
}
