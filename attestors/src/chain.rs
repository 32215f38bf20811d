//! Certificates of manufacturers, and chains of them up to anchors that are given as data (RFC 5280 section 6).
//!
//! Manufacturers sign with more algorithms than we do, and put critical extensions into certificates that general path
//! validators refuse, so their chains have a small validator of their own. It knows nothing of names but what stands in
//! subject and issuer, refuses every critical extension that it does not process, and reads no clock.

pub mod crl;

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use const_oid::AssociatedOid as _;
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode as _, Encode as _, Sequence};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use undercroft_keys::{KeyType, PublicKey};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

/// The longest certificate that is read.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// The most certificates between a leaf and an anchor.
pub const MAX_INTERMEDIATES: usize = 4;

/// A certificate of which nothing is known but that it is one. Copies share what was read.
#[derive(Clone)]
pub struct Certificate(Arc<Parts>);

struct Parts {
    der: Vec<u8>,
    signed: Signed,
    fields: TbsCertificate,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    /// Whether the key is sound takes longer to find out than what it signs takes to verify, so that is done once.
    key: OnceLock<Result<PublicKey, ChainError>>,
}

#[derive(Clone, Debug)]
struct Signed {
    tbs: Vec<u8>,
    algorithm: ObjectIdentifier,
    signature: Vec<u8>,
}

/// SEQUENCE { tbs, AlgorithmIdentifier, BIT STRING } (RFC 5280 section 4.1).
#[derive(Sequence)]
struct SignedRef<'a> {
    tbs: AnyRef<'a>,
    algorithm: spki::AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

impl Signed {
    fn read(der: &[u8]) -> Result<Self, ChainError> {
        let malformed = |error: der::Error| ChainError::Malformed(error.to_string());
        let outer = SignedRef::from_der(der).map_err(malformed)?;
        let tbs = outer.tbs.to_der().map_err(malformed)?;
        let signature = outer.signature.as_bytes();
        let signature = signature.ok_or_else(|| ChainError::Malformed("a signature of odd bits".into()))?;
        Ok(Self { tbs, algorithm: outer.algorithm.oid, signature: signature.to_vec() })
    }

    /// Whether the key of `issuer` signed it; `what` is what it is, for errors.
    fn is_by(&self, issuer: &Certificate, what: &dyn Fn() -> String) -> Result<(), ChainError> {
        let key = issuer.public_key()?;
        let bits = issuer.0.fields.subject_public_key_info().subject_public_key.as_bytes();
        let bits = bits.ok_or_else(|| ChainError::Malformed("a key of odd bits".into()))?;
        let algorithm = algorithm(self.algorithm, key.key_type())
            .ok_or_else(|| ChainError::Algorithm(what(), self.algorithm.to_string()))?;
        UnparsedPublicKey::new(algorithm, bits)
            .verify(&self.tbs, &self.signature)
            .map_err(|_| ChainError::Signature(what(), issuer.subject()))
    }
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// It is no DER of an X.509 certificate, has bytes behind it, or more of them than any certificate needs.
    pub fn from_der(der: &[u8]) -> Result<Self, ChainError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(ChainError::Malformed(format!(
                "it has {} bytes, more than {MAX_CERTIFICATE}",
                der.len()
            )));
        }
        let malformed = |error: der::Error| ChainError::Malformed(error.to_string());
        let signed = Signed::read(der)?;
        let fields = x509_cert::Certificate::from_der(der).map_err(malformed)?.tbs_certificate().clone();
        // RFC 5280 section 4.1.1.2: both algorithm fields must be the same.
        if fields.signature().oid != signed.algorithm {
            return Err(ChainError::Malformed("its two signature algorithms differ".into()));
        }
        let (subject, issuer) = (fields.subject().to_der(), fields.issuer().to_der());
        Ok(Self(Arc::new(Parts {
            der: der.to_vec(),
            signed,
            subject: subject.map_err(malformed)?,
            issuer: issuer.map_err(malformed)?,
            fields,
            key: OnceLock::new(),
        })))
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the DER.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0.der).into()
    }

    /// What is signed.
    pub fn fields(&self) -> &TbsCertificate {
        &self.0.fields
    }

    /// The subject, as text.
    pub fn subject(&self) -> String {
        self.0.fields.subject().to_string()
    }

    /// DER of the issuer's name.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer
    }

    /// The key, if it is of a kind that we use.
    ///
    /// # Errors
    /// It is of another kind, or unsound.
    pub fn public_key(&self) -> Result<PublicKey, ChainError> {
        let read = || {
            let spki = self.0.fields.subject_public_key_info().to_der();
            let spki = spki.map_err(|error| ChainError::Malformed(error.to_string()))?;
            PublicKey::from_spki(&spki).map_err(|error| ChainError::Key(self.subject(), error.to_string()))
        };
        self.0.key.get_or_init(read).clone()
    }

    /// Verifies the certificate up to one of `anchors`, at a time. `intermediates` may stand in any order.
    ///
    /// # Errors
    /// No chain of valid certificates leads to an anchor. Of several reasons, that of the longest chain is told.
    pub fn verify<'a>(
        &self,
        intermediates: &[Certificate],
        anchors: &'a Anchors,
        at: Timestamp,
    ) -> Result<&'a Certificate, ChainError> {
        Ok(self.path(intermediates, anchors, at)?.0)
    }

    /// As [`Certificate::verify`]: the anchor, and each issuer on the way to it, the nearest first and the anchor last.
    ///
    /// # Errors
    /// As there.
    pub fn path<'a>(
        &self,
        intermediates: &[Certificate],
        anchors: &'a Anchors,
        at: Timestamp,
    ) -> Result<(&'a Certificate, Vec<Certificate>), ChainError> {
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(ChainError::TooLong(intermediates.len()));
        }
        self.is_valid(at)?;
        self.knows_its_extensions()?;
        self.climb(intermediates, anchors, at, 0)
    }

    /// From a certificate that is sound itself, with `below` certificates of CAs under it, itself not counted.
    fn climb<'a>(
        &self,
        intermediates: &[Certificate],
        anchors: &'a Anchors,
        at: Timestamp,
        below: usize,
    ) -> Result<(&'a Certificate, Vec<Certificate>), ChainError> {
        let mut reason = None;
        for anchor in anchors.0.iter().filter(|anchor| anchor.0.subject == self.0.issuer) {
            match self.is_issued_by(anchor).and_then(|()| anchor.may_issue(below, at)) {
                Ok(()) => return Ok((anchor, vec![anchor.clone()])),
                Err(error) => reason = Some(error),
            }
        }
        for (number, issuer) in intermediates.iter().enumerate() {
            if issuer.0.subject != self.0.issuer || issuer.0.der == self.0.der {
                continue;
            }
            let rest: Vec<_> = [&intermediates[..number], &intermediates[number + 1..]].concat();
            let above = self
                .is_issued_by(issuer)
                .and_then(|()| issuer.may_issue(below, at))
                .and_then(|()| issuer.climb(&rest, anchors, at, below + 1));
            match above {
                Ok((anchor, mut path)) => {
                    path.insert(0, issuer.clone());
                    return Ok((anchor, path));
                }
                Err(error) => reason = Some(error),
            }
        }
        Err(reason.unwrap_or_else(|| ChainError::UnknownIssuer(self.0.fields.issuer().to_string())))
    }

    fn is_issued_by(&self, issuer: &Certificate) -> Result<(), ChainError> {
        self.0.signed.is_by(issuer, &|| self.subject())
    }

    /// Whether it is one of a CA that may have so many CAs below it (RFC 5280 section 6.1.4).
    fn may_issue(&self, below: usize, at: Timestamp) -> Result<(), ChainError> {
        self.is_valid(at)?;
        self.knows_its_extensions()?;
        let no_ca = |what: &str| ChainError::NoAuthority(self.subject(), what.to_owned());
        match self.extension::<BasicConstraints>()? {
            Some(basic) if basic.ca => match basic.path_len_constraint {
                Some(length) if usize::from(length) < below => {
                    return Err(no_ca("its path length is exceeded"));
                }
                _ => {}
            },
            _ => return Err(no_ca("it is not one of a CA")),
        }
        match self.extension::<KeyUsage>()? {
            Some(usage) if !usage.key_cert_sign() => Err(no_ca("its key may not sign certificates")),
            _ => Ok(()),
        }
    }

    fn is_valid(&self, at: Timestamp) -> Result<(), ChainError> {
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        let validity = self.0.fields.validity();
        let at_seconds = u64::try_from(at.as_second()).unwrap_or(0);
        match (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&at_seconds) {
            true => Ok(()),
            false => Err(ChainError::NotValid(self.subject(), at)),
        }
    }

    /// An extension, decoded.
    ///
    /// # Errors
    /// It is malformed or stands twice.
    pub fn extension<'a, T: der::Decode<'a> + const_oid::AssociatedOid>(
        &'a self,
    ) -> Result<Option<T>, ChainError>
    where
        <T as der::Decode<'a>>::Error: fmt::Display,
    {
        let mut found = None;
        for extension in self.0.fields.extensions().into_iter().flatten() {
            if extension.extn_id != T::OID {
                continue;
            }
            let read = T::from_der(extension.extn_value.as_bytes());
            let read =
                read.map_err(|error| ChainError::Malformed(format!("extension {}: {error}", T::OID)))?;
            if found.replace(read).is_some() {
                return Err(ChainError::Malformed(format!("extension {} stands twice", T::OID)));
            }
        }
        Ok(found)
    }

    /// Every critical extension is one that this file or its callers process.
    fn knows_its_extensions(&self) -> Result<(), ChainError> {
        const KNOWN: [ObjectIdentifier; 4] =
            [BasicConstraints::OID, KeyUsage::OID, ExtendedKeyUsage::OID, SubjectAltName::OID];
        let extensions = self.0.fields.extensions().into_iter().flatten();
        match extensions.into_iter().find(|it| it.critical && !KNOWN.contains(&it.extn_id)) {
            None => Ok(()),
            Some(unknown) => Err(ChainError::Critical(self.subject(), unknown.extn_id.to_string())),
        }
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}

/// How a key verifies what a certificate's signature algorithm names.
fn algorithm(oid: ObjectIdentifier, key: KeyType) -> Option<&'static dyn VerificationAlgorithm> {
    use const_oid::db::rfc5912::{
        ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
        SHA_512_WITH_RSA_ENCRYPTION,
    };
    Some(match (key, oid) {
        (KeyType::Rsa(_), SHA_256_WITH_RSA_ENCRYPTION) => &RSA_PKCS1_2048_8192_SHA256,
        (KeyType::Rsa(_), SHA_384_WITH_RSA_ENCRYPTION) => &RSA_PKCS1_2048_8192_SHA384,
        (KeyType::Rsa(_), SHA_512_WITH_RSA_ENCRYPTION) => &RSA_PKCS1_2048_8192_SHA512,
        (KeyType::P256, ECDSA_WITH_SHA_256) => &ECDSA_P256_SHA256_ASN1,
        (KeyType::P256, ECDSA_WITH_SHA_384) => &ECDSA_P256_SHA384_ASN1,
        (KeyType::P384, ECDSA_WITH_SHA_256) => &ECDSA_P384_SHA256_ASN1,
        (KeyType::P384, ECDSA_WITH_SHA_384) => &ECDSA_P384_SHA384_ASN1,
        (KeyType::Ed25519, const_oid::db::rfc8410::ID_ED_25519) => &signature::ED25519,
        _ => return None,
    })
}

/// Certificates that are trusted because somebody gave them: manufacturers' roots, or intermediates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(Vec<Certificate>);

impl Anchors {
    /// Some anchors.
    pub fn new(anchors: Vec<Certificate>) -> Self {
        Self(anchors)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one has this subject, in DER.
    pub fn has_subject(&self, name: &[u8]) -> bool {
        self.0.iter().any(|anchor| anchor.0.subject == name)
    }

    /// The anchor whose DER has this SHA-256.
    pub fn with_digest(&self, digest: &[u8; 32]) -> Option<&Certificate> {
        self.0.iter().find(|anchor| anchor.digest() == *digest)
    }
}

/// Why a certificate leads to no anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No certificate.
    #[error("a certificate is malformed: {0}")]
    Malformed(String),
    /// More intermediates than any manufacturer has.
    #[error("{0} intermediate certificates are given, more than {MAX_INTERMEDIATES}")]
    TooLong(usize),
    /// A key that we do not take.
    #[error("the key of the certificate of `{0}`: {1}")]
    Key(String, String),
    /// Nobody is known by the issuer's name.
    #[error("the issuer `{0}` is neither an anchor nor among the intermediates")]
    UnknownIssuer(String),
    /// A signature algorithm that we do not take, or none of the issuer's key.
    #[error(
        "the certificate of `{0}` is signed by the algorithm {1}, which is not taken with its issuer's key"
    )]
    Algorithm(String, String),
    /// Not made by the issuer's key.
    #[error("the signature of the certificate of `{0}` is not by the key of `{1}`")]
    Signature(String, String),
    /// An issuer that is none.
    #[error("`{0}` may not have issued a certificate: {1}")]
    NoAuthority(String, String),
    /// Not yet, or no longer.
    #[error("the certificate of `{0}` is not valid at {1}")]
    NotValid(String, Timestamp),
    /// A list of revoked certificates that is no list of this issuer, or none for all of its certificates.
    #[error("the CRL of `{0}` is not taken: {1}")]
    Crl(String, &'static str),
    /// The list is of another time.
    #[error("the CRL of `{0}` is stale, or not yet valid, at {1}")]
    StaleCrl(String, Timestamp),
    /// On the list.
    #[error("the certificate of `{0}` is revoked by `{1}`")]
    Revoked(String, String),
    /// A critical extension that nothing here processes.
    #[error("the certificate of `{0}` has the critical extension {1}, which is not known here")]
    Critical(String, String),
}

#[cfg(test)]
mod tests;
