//! Certificates that we hold: parsed once, with the bytes that others must match.

use std::fmt;
use std::sync::Arc;

use der::{Decode, Encode};
use jiff::Timestamp;
use undercroft_keys::{PublicKey, PublicKeyError};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, NameConstraints, SubjectAltName, SubjectKeyIdentifier};

use crate::signed::{Signed, SignedError};
use crate::subject::{Subject, SubjectError};
use crate::time::{EmptyValidity, Validity};

/// The longest certificate that is read.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// The certificate of an authority: a root or an intermediate. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityCertificate(Arc<Fields>);

#[derive(PartialEq, Eq)]
struct Fields {
    der: Vec<u8>,
    issuer: Vec<u8>,
    subject: Subject,
    validity: Validity,
    public_key: PublicKey,
    subject_key_identifier: Vec<u8>,
    path_length: Option<u8>,
    uris: Vec<String>,
    constraints: Constraints,
    signed: Signed,
}

/// The name constraints of an authority, as far as they tell domains apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraints {
    /// There are none: it may speak for every name.
    None,
    /// Critical, with these hosts of URIs permitted and no others, and with DNS names listed.
    Uris(Vec<String>),
    /// Something else, which does not keep trust domains apart.
    Other,
}

impl AuthorityCertificate {
    /// Reads the certificate of an authority.
    ///
    /// # Errors
    /// It is malformed or not one of an authority: no CA, no subject key identifier, a key or signature algorithm
    /// that we do not use.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong(der.len()));
        }
        let signed = Signed::from_der(der)?;
        let parsed = x509_cert::Certificate::from_der(der)?;
        let fields = parsed.tbs_certificate();
        // RFC 5280 section 4.1.1.2: both algorithm fields must be the same.
        if fields.signature().to_der()? != signed.algorithm.der() {
            return Err(CertificateError::Algorithm);
        }
        let basic = fields
            .get_extension::<BasicConstraints>()
            .map_err(|_| CertificateError::NoAuthority)?
            .filter(|(_, basic)| basic.ca)
            .ok_or(CertificateError::NoAuthority)?;
        let (_, ski) = fields
            .get_extension::<SubjectKeyIdentifier>()
            .ok()
            .flatten()
            .ok_or(CertificateError::NoKeyIdentifier)?;
        let constraints =
            match fields.get_extension::<NameConstraints>().map_err(|_| CertificateError::NoAuthority)? {
                None => Constraints::None,
                Some((critical, constraints)) => Constraints::read(critical, &constraints),
            };
        Ok(Self(Arc::new(Fields {
            der: der.to_vec(),
            issuer: fields.issuer().to_der()?,
            subject: Subject::from_der(&fields.subject().to_der()?)?,
            validity: validity_of(fields)?,
            public_key: PublicKey::from_spki(&fields.subject_public_key_info().to_der()?)?,
            subject_key_identifier: ski.0.as_bytes().to_vec(),
            path_length: basic.1.path_len_constraint,
            uris: uris_in_subject(fields),
            constraints,
            signed,
        })))
    }

    /// Reads a PEM file with one certificate in it.
    ///
    /// # Errors
    /// It is no PEM of one certificate, or as [`AuthorityCertificate::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        match &certificates_from_pem(pem)?[..] {
            [der] => Self::from_der(der),
            several => Err(CertificateError::Count(several.len())),
        }
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The subject.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The validity period.
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The subject key identifier as it stands in the extension, by whatever method it was computed.
    pub fn subject_key_identifier(&self) -> &[u8] {
        &self.0.subject_key_identifier
    }

    /// The path length constraint; none if the certificate has none.
    pub fn path_length(&self) -> Option<u8> {
        self.0.path_length
    }

    /// The URIs in its subjectAltName: for an authority of one trust domain, that domain's ID.
    pub fn uris(&self) -> &[String] {
        &self.0.uris
    }

    /// Its name constraints.
    pub fn constraints(&self) -> &Constraints {
        &self.0.constraints
    }

    /// Whether it names itself as issuer and its own key verifies it.
    pub fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Whether `issuer`'s name stands in it as issuer and `issuer`'s key verifies it.
    ///
    /// Validity, path lengths and constraints are a path validator's business.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.0.issuer == issuer.0.subject.der() && self.0.signed.verify(&issuer.0.public_key).is_ok()
    }
}

impl Constraints {
    fn read(critical: bool, constraints: &NameConstraints) -> Self {
        let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
        let hosts = uris_in(permitted.iter().map(|subtree| &subtree.base));
        // Without a permitted DNS name, every DNS name is open.
        let dns = permitted.iter().any(|subtree| matches!(subtree.base, GeneralName::DnsName(_)));
        if critical && dns && !hosts.is_empty() { Self::Uris(hosts) } else { Self::Other }
    }
}

/// The period in which a certificate is valid.
pub(crate) fn validity_of(fields: &TbsCertificate) -> Result<Validity, EmptyValidity> {
    let timestamp = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    Validity::new(timestamp(fields.validity().not_before), timestamp(fields.validity().not_after))
}

/// The URIs that a certificate speaks for.
pub(crate) fn uris_in_subject(fields: &TbsCertificate) -> Vec<String> {
    let names = fields.get_extension::<SubjectAltName>().ok().flatten();
    names.map(|(_, names)| uris_in(names.0.iter())).unwrap_or_default()
}

fn uris_in<'a>(names: impl Iterator<Item = &'a GeneralName>) -> Vec<String> {
    names
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        })
        .collect()
}

impl fmt::Debug for AuthorityCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityCertificate({}, {})", self.0.subject, self.0.validity)
    }
}

/// The DER of each certificate in a PEM text (RFC 7468), which may hold nothing else.
///
/// # Errors
/// It is no PEM, holds something else, or a certificate longer than [`MAX_CERTIFICATE`].
pub fn certificates_from_pem(pem: &str) -> Result<Vec<Vec<u8>>, CertificateError> {
    pem_blocks(pem, "CERTIFICATE")
}

/// The key of a PEM text (`PUBLIC KEY`, RFC 7468 section 13).
///
/// # Errors
/// It is no such PEM, has another number of keys, or a key that we do not take.
pub fn public_key_from_pem(pem: &str) -> Result<PublicKey, CertificateError> {
    let blocks = pem_blocks(pem, "PUBLIC KEY")?;
    let [spki] = &blocks[..] else {
        return Err(CertificateError::Pem(format!("it has {} keys and must have one", blocks.len())));
    };
    PublicKey::from_spki(spki).map_err(|error| CertificateError::Pem(error.to_string()))
}

/// The DER of each block of a PEM text, all of which must have `label`.
pub(crate) fn pem_blocks(pem: &str, label: &str) -> Result<Vec<Vec<u8>>, CertificateError> {
    const END: &str = "-----END ";
    let mut blocks = Vec::new();
    let mut rest = pem.trim_start();
    while !rest.is_empty() {
        let end = rest.find(END).map(|at| at + rest[at..].find('\n').unwrap_or(rest.len() - at));
        let (block, after) = rest.split_at(end.ok_or(CertificateError::Pem("no END line".into()))?);
        let (found, der) = der::pem::decode_vec(block.as_bytes())
            .map_err(|error| CertificateError::Pem(error.to_string()))?;
        if found != label {
            return Err(CertificateError::Label { expected: label.to_owned(), found: found.to_owned() });
        }
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong(der.len()));
        }
        blocks.push(der);
        rest = after.trim_start();
    }
    if blocks.is_empty() { Err(CertificateError::Count(0)) } else { Ok(blocks) }
}

/// Writes DER as PEM (RFC 7468), with `\n` at line ends.
///
/// # Errors
/// The label cannot stand in PEM.
pub fn to_pem(label: &str, der: &[u8]) -> Result<String, CertificateError> {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der)
        .map_err(|error| CertificateError::Pem(error.to_string()))
}

/// What is wrong with a certificate or its PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any that we read.
    #[error("{0} bytes are more than a certificate may have ({MAX_CERTIFICATE})")]
    TooLong(usize),
    /// Not PEM.
    #[error("it is no PEM: {0}")]
    Pem(String),
    /// PEM of something else.
    #[error("it holds a `{found}` where a `{expected}` belongs")]
    Label {
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// None, or more than one.
    #[error("it holds {0} certificates instead of one")]
    Count(usize),
    /// Not DER of a certificate, or trailing bytes.
    #[error("it is not the DER of a certificate: {0}")]
    Der(#[from] der::Error),
    /// Not signed DER of a kind that we know.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Two signature algorithms.
    #[error("its two signature algorithm fields disagree (RFC 5280 section 4.1.1.2)")]
    Algorithm,
    /// A leaf.
    #[error("it is not the certificate of an authority (basicConstraints says no CA)")]
    NoAuthority,
    /// No subjectKeyIdentifier.
    #[error("it has no subject key identifier (RFC 5280 section 4.2.1.2)")]
    NoKeyIdentifier,
    /// Its subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Its validity.
    #[error(transparent)]
    Validity(#[from] EmptyValidity),
    /// Its key.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
}
