//! Certification requests (PKCS #10, RFC 2986): a key that proves itself, and wishes.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Sequence};
use undercroft_keymgr::SigningKey;
use undercroft_keys::{KeyAlgorithm, NoPossession, PublicKey, PublicKeyError, verify_possession};
use undercroft_log::leaf::Digest;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::request::{CertReqInfo, ExtensionReq};

use crate::certificate::{CertificateError, pem_blocks};
use crate::signed::{Parts, SignedError, assemble};
use crate::subject::Subject;

/// The longest request that is read. An RSA-4096 request with a dozen names has 2 KiB.
pub const MAX_CSR: usize = 16 * 1024;

/// The most names that are read from a request.
const MAX_NAMES: usize = 100;

/// A request whose self-signature has verified: whoever made it held the private key.
///
/// Nothing in it but the key is ever copied into a certificate. The rest are wishes: policy looks at them, and what
/// it does not grant is recorded.
#[derive(Clone, Debug)]
pub struct Csr {
    digest: Digest,
    public_key: PublicKey,
    wishes: Wishes,
}

/// What a request asks for besides a certificate for its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// URI names, as written.
    pub uris: Vec<String>,
    /// DNS names, as written.
    pub dns_names: Vec<String>,
    /// Everything else, in words: the subject, other names, other extensions.
    pub others: Vec<String>,
}

impl Wishes {
    /// All of them in words, for what grants none.
    pub fn in_words(&self) -> Vec<String> {
        let uris = self.uris.iter().map(|uri| format!("URI {uri}"));
        let dns_names = self.dns_names.iter().map(|name| format!("DNS name {name}"));
        uris.chain(dns_names).chain(self.others.iter().cloned()).collect()
    }
}

impl Csr {
    /// Reads a request and verifies its self-signature.
    ///
    /// # Errors
    /// It is too long, malformed or has trailing bytes; its key is weak or of a kind that we do not take; its
    /// signature algorithm is none of ours; or the signature does not verify.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::TooLong(der.len()));
        }
        let signed = Parts::from_der(der).map_err(|error| match error {
            SignedError::Der(error) => CsrError::Der(error),
            SignedError::Algorithm => CsrError::Algorithm,
            SignedError::UnusedBits => CsrError::Signature,
        })?;
        let info = CertReqInfo::from_der(&signed.tbs)?;
        let public_key = PublicKey::from_spki(&info.public_key.to_der()?)?;
        verify_possession(&public_key, &signed.algorithm, &signed.tbs, &signed.signature).map_err(
            |error| match error {
                NoPossession::Algorithm => CsrError::Algorithm,
                NoPossession::Signature => CsrError::Signature,
            },
        )?;
        Ok(Self { digest: Digest::of(der), public_key, wishes: Wishes::read(&info)? })
    }

    /// Reads a PEM file with one request in it (`CERTIFICATE REQUEST`, RFC 7468 section 7).
    ///
    /// # Errors
    /// It is no such PEM, or as [`Csr::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, CsrError> {
        Self::from_der(&der_from_pem(pem)?)
    }

    /// SHA-256 of the DER.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The key that made the request.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// What it asks for.
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }
}

/// Makes a request for a key in a token: its public key, an empty subject and no wishes, signed by the key.
///
/// # Errors
/// The token does not sign, or its signature does not verify.
pub async fn request_for(key: &dyn SigningKey) -> Result<Vec<u8>, RequestError> {
    let info = request_info(key.public_key())?;
    let signature = key.sign(&info).await?;
    signed_request(&info, key.algorithm(), &signature)
}

/// A request from what [`request_info`] gave and the key's signature over it.
///
/// # Errors
/// The signature does not verify.
pub fn signed_request(
    info: &[u8],
    algorithm: KeyAlgorithm,
    signature: &[u8],
) -> Result<Vec<u8>, RequestError> {
    let der = assemble(info, algorithm.signature_algorithm(), signature)?;
    // Whoever reads it will do the same; a token that signs wrongly is told now.
    Csr::from_der(&der)?;
    Ok(der)
}

/// What a key signs in the request that [`request_for`] makes: the DER of its CertificationRequestInfo. The key alone
/// decides it, and nothing else of ours begins like it, so that a signature over it says nothing but "this is my key".
///
/// # Errors
/// The key cannot be encoded.
pub fn request_info(key: &PublicKey) -> Result<Vec<u8>, der::Error> {
    info(key, &[0x30, 0])
}

/// The same with a subject, for a root that asks somebody else's root for a certificate.
pub(crate) fn request_info_of(key: &PublicKey, subject: &Subject) -> Result<Vec<u8>, der::Error> {
    info(key, subject.der())
}

/// The key that a CertificationRequestInfo asks a certificate for.
///
/// # Errors
/// The bytes are none.
pub fn requested_key(info: &[u8]) -> Result<PublicKey, CsrError> {
    let info = CertReqInfo::from_der(info)?;
    Ok(PublicKey::from_spki(&info.public_key.to_der()?)?)
}

fn info(key: &PublicKey, subject: &[u8]) -> Result<Vec<u8>, der::Error> {
    Info {
        version: 0,
        subject: AnyRef::from_der(subject)?,
        public_key: AnyRef::from_der(key.spki())?,
        attributes: der::asn1::SetOfVec::new(),
    }
    .to_der()
}

/// CertificationRequestInfo (RFC 2986 section 4.1) without attributes.
#[derive(Sequence)]
struct Info<'a> {
    version: u8,
    subject: AnyRef<'a>,
    public_key: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    attributes: der::asn1::SetOfVec<der::asn1::Any>,
}

/// Why no request was made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The token.
    #[error(transparent)]
    Token(#[from] undercroft_keymgr::Error),
    /// It does not read back.
    #[error("the request that was just made does not read back: {0}")]
    Csr(#[from] CsrError),
    /// It cannot be encoded.
    #[error("the request cannot be encoded: {0}")]
    Der(#[from] der::Error),
}

/// The DER in a PEM file with one request in it.
///
/// # Errors
/// It is no PEM of one `CERTIFICATE REQUEST`.
pub fn der_from_pem(pem: &str) -> Result<Vec<u8>, CsrError> {
    let mut blocks = pem_blocks(pem, "CERTIFICATE REQUEST").map_err(CsrError::Pem)?;
    match (blocks.pop(), blocks.len()) {
        (Some(der), 0) => Ok(der),
        (_, others) => Err(CsrError::Count(others + 1)),
    }
}

impl Wishes {
    fn read(info: &CertReqInfo) -> Result<Self, CsrError> {
        const EXTENSION_REQUEST: ObjectIdentifier = const_oid::db::rfc5912::ID_EXTENSION_REQ;
        let mut wishes = Self::default();
        if !info.subject.is_empty() {
            wishes.others.push(format!("subject {}", info.subject));
        }
        let mut extensions: Vec<Extension> = Vec::new();
        for attribute in info.attributes.iter() {
            if attribute.oid != EXTENSION_REQUEST {
                wishes.others.push(format!("attribute {}", attribute.oid));
                continue;
            }
            for value in attribute.values.iter() {
                extensions.extend(ExtensionReq::from_der(&value.to_der()?)?.0);
            }
        }
        for extension in extensions {
            wishes.take(&extension)?;
        }
        if wishes.uris.len() + wishes.dns_names.len() + wishes.others.len() > MAX_NAMES {
            return Err(CsrError::TooMany);
        }
        Ok(wishes)
    }

    fn take(&mut self, extension: &Extension) -> Result<(), CsrError> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME => {
                for name in SubjectAltName::from_der(value)?.0 {
                    match name {
                        GeneralName::UniformResourceIdentifier(uri) => self.uris.push(printable(&uri)?),
                        GeneralName::DnsName(name) => self.dns_names.push(printable(&name)?),
                        GeneralName::Rfc822Name(name) => {
                            self.others.push(format!("e-mail {}", printable(&name)?));
                        }
                        GeneralName::IpAddress(_) => self.others.push("an IP address".into()),
                        _ => self.others.push("a name of another kind".into()),
                    }
                }
            }
            const_oid::db::rfc5280::ID_CE_BASIC_CONSTRAINTS => {
                if BasicConstraints::from_der(value)?.ca {
                    self.others.push("basicConstraints CA:TRUE".into());
                }
            }
            other => self.others.push(format!("extension {other}")),
        }
        Ok(())
    }
}

/// A name without control characters: none that anybody could mean has them, and the log would hold six bytes for each.
fn printable(name: &impl AsRef<str>) -> Result<String, CsrError> {
    let name = name.as_ref();
    match name.chars().any(char::is_control) {
        true => Err(CsrError::ControlCharacter),
        false => Ok(name.to_owned()),
    }
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than any that we read.
    #[error("the request has {0} bytes, more than the {MAX_CSR} that are read")]
    TooLong(usize),
    /// Not PEM of a request.
    #[error("the request: {0}")]
    Pem(CertificateError),
    /// None, or more than one.
    #[error("the file holds {0} requests instead of one")]
    Count(usize),
    /// Not DER of a request, or trailing bytes.
    #[error("the request is not the DER of a PKCS #10 request: {0}")]
    Der(#[from] der::Error),
    /// A name with a control character in it.
    #[error("a name in the request has control characters")]
    ControlCharacter,
    /// Its key.
    #[error("the request: {0}")]
    Key(#[from] PublicKeyError),
    /// Signed in a way that we do not know.
    #[error(
        "the request is signed with an algorithm that is not supported; use ECDSA or RSA with SHA-256, SHA-384 or SHA-512, or Ed25519"
    )]
    Algorithm,
    /// The self-signature.
    #[error(
        "the signature of the request does not verify: it was changed, or whoever made it does not hold its key"
    )]
    Signature,
    /// More names than anyone needs.
    #[error("the request asks for more than {MAX_NAMES} things")]
    TooMany,
}

impl CsrError {
    /// The rule of a refusal that it is (`docs/issuance.md`, "Refusals").
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Signature => "csr-signature",
            Self::Key(_) => "csr-key",
            Self::Algorithm => "csr-algorithm",
            Self::TooLong(_)
            | Self::Pem(_)
            | Self::Count(_)
            | Self::Der(_)
            | Self::ControlCharacter
            | Self::TooMany => "csr-malformed",
        }
    }
}

#[cfg(test)]
mod tests;
