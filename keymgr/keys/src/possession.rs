//! Proof that whoever asks for a certificate holds its key (RFC 2986 section 3).
//!
//! Requests are made by programs that we do not choose. OpenSSL signs them with SHA-256 whatever the key is, others
//! take SHA-512; so more digests are good here than the ones that our own keys sign with. SHA-1 is not.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::algorithm::{KeyType, SignatureAlgorithm};
use crate::public_key::PublicKey;

/// ecdsa-with-SHA512 (RFC 5758 section 3.2).
const ECDSA_SHA512: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
/// sha384WithRSAEncryption (RFC 4055 section 5).
const RSA_SHA384: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05, 0x00];
/// sha512WithRSAEncryption (RFC 4055 section 5).
const RSA_SHA512: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05, 0x00];

/// Verifies the signature of a request, whose AlgorithmIdentifier has the DER `algorithm`.
///
/// # Errors
/// See [`NoPossession`].
pub fn verify_possession(
    key: &PublicKey,
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), NoPossession> {
    let verifier = verifier(key.key_type(), algorithm).ok_or(NoPossession::Algorithm)?;
    let verified = UnparsedPublicKey::new(verifier, key.key_bits()).verify(message, signature);
    verified.map_err(|_| NoPossession::Signature)
}

fn verifier(key_type: KeyType, algorithm: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    let ecdsa_sha256 = SignatureAlgorithm::EcdsaP256Sha256.der();
    let ecdsa_sha384 = SignatureAlgorithm::EcdsaP384Sha384.der();
    Some(match (key_type, algorithm) {
        (KeyType::P256, a) if a == ecdsa_sha256 => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyType::P256, a) if a == ecdsa_sha384 => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyType::P256, ECDSA_SHA512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyType::P384, a) if a == ecdsa_sha256 => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyType::P384, a) if a == ecdsa_sha384 => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyType::P384, ECDSA_SHA512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyType::Rsa(_), a) if a == SignatureAlgorithm::RsaPssSha256.der() => {
            &signature::RSA_PSS_2048_8192_SHA256
        }
        (KeyType::Rsa(_), a) if a == SignatureAlgorithm::RsaPkcs1Sha256.der() => {
            &signature::RSA_PKCS1_2048_8192_SHA256
        }
        (KeyType::Rsa(_), RSA_SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyType::Rsa(_), RSA_SHA512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (KeyType::Ed25519, a) if a == SignatureAlgorithm::Ed25519.der() => &signature::ED25519,
        _ => return None,
    })
}

/// Why a request does not show that its key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPossession {
    /// Signed in a way that is not taken, or that is none of the key's.
    #[error("the signature algorithm is not one that is taken")]
    Algorithm,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding};

    use super::*;

    const SHA1_WITH_RSA: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00];

    fn ecdsa(signing: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"request").unwrap();
        (pair.public_key().as_der().unwrap().as_ref().to_vec(), signature.as_ref().to_vec())
    }

    fn verify(spki: &[u8], algorithm: &[u8], signature: &[u8]) -> Result<(), NoPossession> {
        verify_possession(&PublicKey::from_spki(spki).unwrap(), algorithm, b"request", signature)
    }

    #[test]
    fn ecdsa_with_any_sha2_digest_proves_possession() {
        let (sha256, sha384) =
            (SignatureAlgorithm::EcdsaP256Sha256.der(), SignatureAlgorithm::EcdsaP384Sha384.der());
        for (signing, algorithm, others) in [
            (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, sha256, [sha384, ECDSA_SHA512]),
            (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, sha384, [sha256, ECDSA_SHA512]),
        ] {
            let (spki, signed) = ecdsa(signing);
            assert_eq!(verify(&spki, algorithm, &signed), Ok(()));
            for other in others {
                assert_eq!(verify(&spki, other, &signed), Err(NoPossession::Signature));
            }
            assert_eq!(verify(&spki, RSA_SHA512, &signed), Err(NoPossession::Algorithm));
        }
    }

    #[test]
    fn rsa_with_sha2_proves_possession_and_sha1_does_not() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let sign = |encoding: &'static dyn RsaEncoding| {
            let mut signed = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), b"request", &mut signed).unwrap();
            signed
        };
        let sha512 = sign(&signature::RSA_PKCS1_SHA512);
        assert_eq!(verify(&spki, RSA_SHA512, &sha512), Ok(()));
        assert_eq!(verify(&spki, RSA_SHA384, &sha512), Err(NoPossession::Signature));
        assert_eq!(verify(&spki, RSA_SHA384, &sign(&signature::RSA_PKCS1_SHA384)), Ok(()));
        let pss = SignatureAlgorithm::RsaPssSha256.der();
        assert_eq!(verify(&spki, pss, &sign(&signature::RSA_PSS_SHA256)), Ok(()));
        assert_eq!(verify(&spki, SHA1_WITH_RSA, &sha512), Err(NoPossession::Algorithm));
        assert_eq!(verify(&spki, ECDSA_SHA512, &sha512), Err(NoPossession::Algorithm));
    }
}
