//! Attestation keys: restricted signing keys, which sign what their TPM itself says and nothing that comes from outside.

use undercroft_tpm_wire::{
    EccParameters, ObjectAttributes, PublicArea, PublicKind, RsaParameters, Scheme, Signature, Symmetric,
};

use undercroft_keys::SignatureAlgorithm;

/// What an attestation key must be. Without `restricted`, whoever may use it could have it sign a forged attestation;
/// without the others, it could live elsewhere, too.
const REQUIRED: [(u32, &str); 5] = [
    (ObjectAttributes::FIXED_TPM, "fixedTPM"),
    (ObjectAttributes::FIXED_PARENT, "fixedParent"),
    (ObjectAttributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (ObjectAttributes::RESTRICTED, "restricted"),
    (ObjectAttributes::SIGN, "sign"),
];

/// Checks that `area` is that of an attestation key.
///
/// # Errors
/// It lacks an attribute, decrypts, or is fixed to no signing scheme that we know.
pub fn check(area: &PublicArea) -> Result<(), AttestationKeyError> {
    if let Some((_, missing)) = REQUIRED.iter().find(|(bit, _)| !area.attributes.has(*bit)) {
        return Err(AttestationKeyError::Lacks(missing));
    }
    if area.attributes.has(ObjectAttributes::DECRYPT) {
        return Err(AttestationKeyError::Decrypts);
    }
    let (PublicKind::Ecc(EccParameters { symmetric, .. }) | PublicKind::Rsa(RsaParameters { symmetric, .. })) =
        &area.kind;
    if *symmetric != Symmetric::None {
        return Err(AttestationKeyError::Decrypts);
    }
    scheme_of(area).ok_or(AttestationKeyError::Scheme(area.scheme()))?;
    area.public_key().map_err(|error| AttestationKeyError::Key(error.to_string()))?;
    Ok(())
}

/// The Name of the key that a TPMT_PUBLIC is of, in hexadecimal.
///
/// # Errors
/// It is no TPMT_PUBLIC.
pub fn name(public: &[u8]) -> Result<String, String> {
    Ok(PublicArea::parse(public).map_err(|error| error.to_string())?.name().to_string())
}

/// Verifies a TPMT_SIGNATURE by an attestation key over exactly these bytes.
///
/// # Errors
/// It is malformed, of another scheme than the key's, or does not verify.
pub fn verify(area: &PublicArea, message: &[u8], signature: &[u8]) -> Result<(), AttestationKeyError> {
    let algorithm = scheme_of(area).ok_or(AttestationKeyError::Scheme(area.scheme()))?;
    let key = area.public_key().map_err(|error| AttestationKeyError::Key(error.to_string()))?;
    let signature =
        Signature::parse(signature).map_err(|error| AttestationKeyError::Signature(error.to_string()))?;
    let made_as = match &signature {
        Signature::Ecdsa { hash, .. } => Scheme::Ecdsa(*hash),
        Signature::RsaSsa(hash, _) => Scheme::RsaSsa(*hash),
        Signature::RsaPss(hash, _) => Scheme::RsaPss(*hash),
    };
    if made_as != area.scheme() {
        return Err(AttestationKeyError::OtherScheme(made_as));
    }
    let der = signature.to_x509().map_err(|error| AttestationKeyError::Signature(error.to_string()))?;
    key.verify(algorithm, message, &der).map_err(|_| AttestationKeyError::DoesNotVerify)
}

/// The algorithm that verifies what a key signs by the scheme that it is fixed to.
fn scheme_of(area: &PublicArea) -> Option<SignatureAlgorithm> {
    use undercroft_tpm_wire::Curve::{P256, P384};
    use undercroft_tpm_wire::HashAlgorithm::{Sha256, Sha384};
    match (area.scheme(), area.curve()) {
        (Scheme::Ecdsa(Sha256), Some(P256)) => Some(SignatureAlgorithm::EcdsaP256Sha256),
        (Scheme::Ecdsa(Sha384), Some(P384)) => Some(SignatureAlgorithm::EcdsaP384Sha384),
        (Scheme::RsaSsa(Sha256), None) => Some(SignatureAlgorithm::RsaPkcs1Sha256),
        (Scheme::RsaPss(Sha256), None) => Some(SignatureAlgorithm::RsaPssSha256),
        _ => None,
    }
}

/// Why a key is no attestation key, or something was not signed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestationKeyError {
    /// An attribute is missing.
    #[error("the attestation key is not {0}: it could sign what its TPM never said, or live elsewhere")]
    Lacks(&'static str),
    /// It decrypts, too.
    #[error("the attestation key decrypts, which no attestation key does")]
    Decrypts,
    /// No scheme, or one that we do not take.
    #[error(
        "the attestation key is fixed to the scheme {0:?}; known are ECDSA with SHA-256 on P-256, with SHA-384 on P-384, and RSA with SHA-256"
    )]
    Scheme(Scheme),
    /// Its key is unsound.
    #[error("the attestation key is unsound: {0}")]
    Key(String),
    /// No TPMT_SIGNATURE.
    #[error("the signature of the attestation key cannot be read: {0}")]
    Signature(String),
    /// A signature of another scheme.
    #[error("the signature is of the scheme {0:?}, which is not that of the attestation key")]
    OtherScheme(Scheme),
    /// A signature by another key, or over something else.
    #[error("the signature is not by the attestation key over this attestation")]
    DoesNotVerify,
}
