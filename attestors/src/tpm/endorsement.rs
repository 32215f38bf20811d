//! Endorsement keys and their certificates (TCG "EK Credential Profile for TPM 2.0", version 2.6).

use const_oid::ObjectIdentifier;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use undercroft_tpm_wire::{
    Curve, HashAlgorithm, ObjectAttributes, PublicArea, PublicKind, Scheme, Symmetric,
};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use crate::chain::{Anchors, Certificate, ChainError};

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
/// tcg-at-tpmManufacturer, tcg-at-tpmModel, tcg-at-tpmVersion.
pub const MODEL: [(ObjectIdentifier, &str); 3] = [
    (ObjectIdentifier::new_unwrap("2.23.133.2.1"), "manufacturer"),
    (ObjectIdentifier::new_unwrap("2.23.133.2.2"), "model"),
    (ObjectIdentifier::new_unwrap("2.23.133.2.3"), "version"),
];

/// What every endorsement key is: a key that decrypts what is meant for its TPM, and signs nothing.
const REQUIRED: [(u32, &str); 5] = [
    (ObjectAttributes::FIXED_TPM, "fixedTPM"),
    (ObjectAttributes::FIXED_PARENT, "fixedParent"),
    (ObjectAttributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (ObjectAttributes::RESTRICTED, "restricted"),
    (ObjectAttributes::DECRYPT, "decrypt"),
];

/// The policies of the TCG's templates (appendix B): PolicyA of SHA-256 in the low range; PolicyB of each hash in the high.
const POLICIES: [(HashAlgorithm, &str); 3] = [
    (HashAlgorithm::Sha256, "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"),
    (HashAlgorithm::Sha256, "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"),
    (
        HashAlgorithm::Sha384,
        "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
    ),
];

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const LOW_RANGE: u32 = 0x0003_00b2;
/// And userWithAuth.
const HIGH_RANGE: u32 = 0x0003_00f2;

/// An endorsement key, and the certificates that a TPM gave with it. Nothing is known of it yet.
#[derive(Clone, Debug)]
pub struct Endorsement {
    /// The public area.
    pub public: PublicArea,
    /// The key's certificate.
    pub certificate: Certificate,
    /// Certificates that may lead from there to an anchor.
    pub intermediates: Vec<Certificate>,
}

/// An endorsement key that a manufacturer vouches for.
#[derive(Clone, Debug)]
pub struct Endorsed {
    /// SHA-256 of the anchor's DER.
    pub anchor: [u8; 32],
    /// The subject of the anchor.
    pub manufacturer: String,
    /// What the certificate says that the TPM is: its manufacturer, model and version.
    pub model: String,
    /// The same, each alone.
    pub names: [String; 3],
    /// The issuers of the certificate, the nearest first, the anchor last.
    pub issuers: Vec<Certificate>,
}

impl Endorsement {
    /// An endorsement key as bytes: a TPMT_PUBLIC, and DER, the key's certificate first.
    ///
    /// # Errors
    /// One of them is malformed, or there is no certificate.
    pub fn read(public: &[u8], chain: &[Vec<u8>]) -> Result<Self, EndorsementError> {
        let public =
            PublicArea::parse(public).map_err(|error| EndorsementError::Public(error.to_string()))?;
        let chain = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let Some((certificate, intermediates)) = chain.split_first() else {
            return Err(EndorsementError::NoCertificate);
        };
        Ok(Self { public, certificate: certificate.clone(), intermediates: intermediates.to_vec() })
    }

    /// SHA-256 over the DER of all certificates, in their order.
    pub fn chain_digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.certificate.der());
        self.intermediates.iter().for_each(|certificate| hash.update(certificate.der()));
        hash.finalize().into()
    }

    /// Verifies that a manufacturer among `anchors` vouches at this time for the key, and that it is an endorsement key.
    ///
    /// # Errors
    /// See [`EndorsementError`].
    pub fn verify(&self, anchors: &Anchors, at: Timestamp) -> Result<Endorsed, EndorsementError> {
        let (anchor, issuers) = self.certificate.path(&self.intermediates, anchors, at)?;
        let names = self.is_certificate_of_endorsement()?;
        self.is_endorsement_key()?;
        let said = MODEL.iter().zip(&names).map(|((_, what), name)| format!("{what} {name}"));
        let model = said.collect::<Vec<_>>().join(", ");
        Ok(Endorsed { anchor: anchor.digest(), manufacturer: anchor.subject(), model, names, issuers })
    }

    /// The profile of the certificate (section 3.2).
    fn is_certificate_of_endorsement(&self) -> Result<[String; 3], EndorsementError> {
        let wrong = |what: &'static str| EndorsementError::Profile(what);
        let certificate = &self.certificate;
        if certificate.extension::<BasicConstraints>()?.is_some_and(|basic| basic.ca) {
            return Err(wrong("it is the certificate of a CA"));
        }
        let usage = certificate.extension::<KeyUsage>()?.ok_or_else(|| wrong("it has no key usage"))?;
        let fits = match &self.public.kind {
            PublicKind::Rsa(_) => usage.key_encipherment(),
            PublicKind::Ecc(_) => usage.key_agreement(),
        };
        if !fits {
            return Err(wrong("its key usage is not keyEncipherment (RSA) or keyAgreement (ECC)"));
        }
        if usage.key_cert_sign() || usage.digital_signature() {
            return Err(wrong("its key may sign, which no endorsement key does"));
        }
        if let Some(purposes) = certificate.extension::<ExtendedKeyUsage>()?
            && !purposes.0.contains(&EK_CERTIFICATE)
        {
            return Err(wrong("its extended key usage is not that of an endorsement key (2.23.133.8.1)"));
        }
        let names = certificate.extension::<SubjectAltName>()?;
        let names = names.ok_or_else(|| wrong("no subjectAltName says which TPM it is"))?;
        let mut directory_names = names.0.iter().filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let (Some(name), None) = (directory_names.next(), directory_names.next()) else {
            return Err(wrong("its subjectAltName has not exactly one directoryName"));
        };
        let attributes: Vec<_> = name.iter_rdn().flat_map(|rdn| rdn.iter()).collect();
        let mut said = [const { String::new() }; 3];
        for ((oid, what), said) in MODEL.into_iter().zip(&mut said) {
            let mut values = attributes.iter().filter(|attribute| attribute.oid == oid);
            let (Some(value), None) = (values.next(), values.next()) else {
                return Err(EndorsementError::Model(what));
            };
            let text = value.value.value();
            let printable = text.iter().all(|byte| (0x20..0x7f).contains(byte)) && text.len() <= 64;
            if !printable {
                return Err(EndorsementError::Model(what));
            }
            *said = String::from_utf8_lossy(text).into_owned();
        }
        Ok(said)
    }

    /// The certified key, with the attributes and the policy of a template.
    fn is_endorsement_key(&self) -> Result<(), EndorsementError> {
        let area = &self.public;
        let key = area.public_key().map_err(|error| EndorsementError::Key(error.to_string()))?;
        let certified = self.certificate.public_key()?;
        if key.spki() != certified.spki() {
            return Err(EndorsementError::OtherKey);
        }
        let not = |what: &str| EndorsementError::NotEndorsement(what.to_owned());
        if let Some((_, missing)) = REQUIRED.iter().find(|(bit, _)| !area.attributes.has(*bit)) {
            return Err(not(&format!("it is not {missing}")));
        }
        if area.attributes.has(ObjectAttributes::SIGN) {
            return Err(not("it signs"));
        }
        if area.scheme() != Scheme::None {
            return Err(not("it is fixed to a signing scheme"));
        }
        let (symmetric, known) = match &area.kind {
            PublicKind::Rsa(rsa) => (rsa.symmetric, matches!(rsa.bits, 2048 | 3072)),
            PublicKind::Ecc(ecc) => (ecc.symmetric, matches!(ecc.curve, Curve::P256 | Curve::P384)),
        };
        if !known {
            return Err(not("it is neither RSA-2048, RSA-3072, P-256 nor P-384"));
        }
        if !matches!(symmetric, Symmetric::AesCfb(128 | 256)) {
            return Err(not("it protects with no AES-128 or AES-256 in CFB mode"));
        }
        let policy = hex::encode(&area.auth_policy);
        let Some(template) = POLICIES.iter().position(|it| *it == (area.name_algorithm, policy.as_str()))
        else {
            return Err(not("its policy is none of the TCG's templates"));
        };
        // PolicyA is of the low range, where no password authorises the key (appendix B.3 and B.4).
        if area.attributes.bits() != [LOW_RANGE, HIGH_RANGE, HIGH_RANGE][template] {
            return Err(not("its attributes are not those of the template of its policy"));
        }
        let bits = if area.name_algorithm == HashAlgorithm::Sha256 { 128 } else { 256 };
        match symmetric == Symmetric::AesCfb(bits) {
            true => Ok(()),
            false => Err(not("its AES key is not as long as that of its template")),
        }
    }
}

/// Why an endorsement key is not one that a manufacturer vouches for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementError {
    /// There is none.
    #[error("no certificate of an endorsement key is given")]
    NoCertificate,
    /// Not of a manufacturer that is known here.
    #[error("the endorsement certificate does not lead to a manufacturer that is known here: {0}")]
    Chain(#[from] ChainError),
    /// Not a certificate of an endorsement key.
    #[error("the endorsement certificate is none: {0}")]
    Profile(&'static str),
    /// It does not say which TPM it is of.
    #[error("the endorsement certificate does not say once and in plain text which {0} of TPM it is of")]
    Model(&'static str),
    /// No TPMT_PUBLIC.
    #[error("the endorsement key's public area is unsound: {0}")]
    Public(String),
    /// A key that is unsound: no point of its curve, too short, or with a known weakness.
    #[error("the endorsement key is unsound: {0}")]
    Key(String),
    /// The public area of another key.
    #[error("the endorsement certificate is of another key than the public area beside it")]
    OtherKey,
    /// A key of another kind.
    #[error("the endorsement key is none: {0}")]
    NotEndorsement(String),
}
