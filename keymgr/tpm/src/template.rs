//! What our keys look like to a TPM.

use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder, RsaExponent,
    RsaScheme, SignatureScheme, SymmetricDefinitionObject,
};
use undercroft_keymgr::{Error, ErrorKind};
use undercroft_keys::{KeyAlgorithm, RsaBits};

const SHA256: HashScheme = HashScheme::new(HashingAlgorithm::Sha256);
const SHA384: HashScheme = HashScheme::new(HashingAlgorithm::Sha384);

/// Whether wrong authValues count against the TPM's lockout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guessing {
    /// They do: for keys with an authValue.
    Counted,
    /// They do not (`noDA`): for keys without one, which a lockout that others caused must not stop.
    Exempt,
}

/// The storage key above our keys: the TCG's ECC storage root template (Part 1 annex C; "TPM v2.0 Provisioning
/// Guidance" section 7.5.1), so that it is the same key that other tools call the SRK.
pub(crate) fn storage_root() -> Result<Public, Error> {
    built((|| {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_restricted(true)
            .with_decrypt(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(
                PublicEccParametersBuilder::new_restricted_decryption_key(
                    SymmetricDefinitionObject::AES_128_CFB,
                    EccCurve::NistP256,
                )
                .build()?,
            )
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
    })())
}

/// Who may use a signing key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use<'a> {
    /// Whoever knows the authValue.
    ByAuth(Guessing),
    /// Only a session that satisfies this policy. userWithAuth and adminWithPolicy are both clear: the authValue can
    /// still have the key certified (which proves custody), and cannot sign with it.
    ByPolicy(&'a [u8; 32]),
}

/// A signing key that is fixed to its TPM, its parent and its one scheme.
///
/// `unique` is mixed into primary keys (Part 1, section 27.2.6): other bytes give another key. It is empty for the
/// rest.
pub(crate) fn signing_key(algorithm: KeyAlgorithm, usable: Use<'_>, unique: &[u8]) -> Result<Public, Error> {
    built((|| {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(matches!(usable, Use::ByAuth(_)))
            .with_no_da(usable != Use::ByAuth(Guessing::Counted))
            .with_sign_encrypt(true)
            .build()?;
        let policy = match usable {
            Use::ByAuth(_) => Digest::default(),
            Use::ByPolicy(policy) => Digest::try_from(policy.as_slice())?,
        };
        let key = PublicBuilder::new()
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_auth_policy(policy);
        match algorithm {
            KeyAlgorithm::EcdsaP256 => ecc(key, EccCurve::NistP256, SHA256, unique),
            KeyAlgorithm::EcdsaP384 => ecc(key, EccCurve::NistP384, SHA384, unique),
            KeyAlgorithm::RsaPss(bits) => rsa(key, bits, RsaScheme::RsaPss(SHA256), unique),
            KeyAlgorithm::RsaPkcs1(bits) => rsa(key, bits, RsaScheme::RsaSsa(SHA256), unique),
            KeyAlgorithm::Ed25519 => {
                Err(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::UnsupportedParam))
            }
        }
    })())
}

/// The key by which a TPM attests: it signs what the TPM itself says and nothing from outside (restricted).
pub(crate) fn attestation_key() -> Result<Public, Error> {
    built((|| {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_restricted(true)
            .with_sign_encrypt(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(
                PublicEccParametersBuilder::new()
                    .with_symmetric(SymmetricDefinitionObject::Null)
                    .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                    .with_ecc_scheme(EccScheme::EcDsa(SHA256))
                    .with_curve(EccCurve::NistP256)
                    .with_is_signing_key(true)
                    .with_is_decryption_key(false)
                    .with_restricted(true)
                    .build()?,
            )
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
    })())
}

/// The key of a node's certificate: P-256, without an authValue, and with the scheme left to each signature, since tpm2-pkcs11 takes
/// no key that is fixed to one.
pub(crate) fn node_key() -> Result<Public, Error> {
    built((|| {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_sign_encrypt(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(
                // The builder would have a signing key fixed to a scheme; what the key is for stands in its attributes.
                PublicEccParametersBuilder::new()
                    .with_symmetric(SymmetricDefinitionObject::Null)
                    .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                    .with_ecc_scheme(EccScheme::Null)
                    .with_curve(EccCurve::NistP256)
                    .build()?,
            )
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
    })())
}

/// How a key of `algorithm` signs.
pub(crate) fn signature_scheme(algorithm: KeyAlgorithm) -> Result<SignatureScheme, Error> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Ok(SignatureScheme::EcDsa { hash_scheme: SHA256 }),
        KeyAlgorithm::EcdsaP384 => Ok(SignatureScheme::EcDsa { hash_scheme: SHA384 }),
        KeyAlgorithm::RsaPss(_) => Ok(SignatureScheme::RsaPss { hash_scheme: SHA256 }),
        KeyAlgorithm::RsaPkcs1(_) => Ok(SignatureScheme::RsaSsa { hash_scheme: SHA256 }),
        KeyAlgorithm::Ed25519 => Err(no_ed25519()),
    }
}

/// TPM 2.0 revision 1.59 has no EdDSA.
pub(crate) fn no_ed25519() -> Error {
    Error::new(ErrorKind::Unsupported, "TPMs have no Ed25519 keys; use ecdsa-p256 or ecdsa-p384")
}

fn ecc(key: PublicBuilder, curve: EccCurve, hash: HashScheme, unique: &[u8]) -> tss_esapi::Result<Public> {
    key.with_public_algorithm(PublicAlgorithm::Ecc)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new_unrestricted_signing_key(EccScheme::EcDsa(hash), curve)
                .build()?,
        )
        .with_ecc_unique_identifier(EccPoint::new(EccParameter::try_from(unique)?, EccParameter::default()))
        .build()
}

fn rsa(key: PublicBuilder, bits: RsaBits, scheme: RsaScheme, unique: &[u8]) -> tss_esapi::Result<Public> {
    let bits = match bits {
        RsaBits::B2048 => RsaKeyBits::Rsa2048,
        RsaBits::B3072 => RsaKeyBits::Rsa3072,
        RsaBits::B4096 => RsaKeyBits::Rsa4096,
    };
    key.with_public_algorithm(PublicAlgorithm::Rsa)
        .with_rsa_parameters(
            PublicRsaParametersBuilder::new_unrestricted_signing_key(scheme, bits, RsaExponent::default())
                .build()?,
        )
        .with_rsa_unique_identifier(PublicKeyRsa::try_from(unique)?)
        .build()
}

fn built(template: tss_esapi::Result<Public>) -> Result<Public, Error> {
    template
        .map_err(|error| Error::with_source(ErrorKind::Unsupported, "no TPM key can be described so", error))
}
