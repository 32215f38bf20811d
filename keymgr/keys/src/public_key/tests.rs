use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use proptest::prelude::*;

use super::*;
use crate::algorithm::SignatureAlgorithm as Alg;

fn p256() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()
}

fn modulus_of(pair: &RsaKeyPair) -> Vec<u8> {
    let spki = spki_of(pair);
    let info = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
    let key = RsaPublicKey::from_der(info.subject_public_key.as_bytes().unwrap()).unwrap();
    key.modulus.as_bytes().to_vec()
}

fn spki_of(pair: &impl KeyPair<PublicKey: AsDerBytes>) -> Vec<u8> {
    pair.public_key().der_bytes()
}

trait AsDerBytes {
    fn der_bytes(&self) -> Vec<u8>;
}

impl AsDerBytes for aws_lc_rs::signature::EcdsaPublicKey {
    fn der_bytes(&self) -> Vec<u8> {
        self.as_der().unwrap().as_ref().to_vec()
    }
}

impl AsDerBytes for aws_lc_rs::rsa::PublicKey {
    fn der_bytes(&self) -> Vec<u8> {
        self.as_der().unwrap().as_ref().to_vec()
    }
}

#[test]
fn signatures_of_each_kind_verify_and_only_under_their_own_algorithm() {
    let message = b"to be signed";
    let rng = SystemRandom::new();
    let rsa = rsa();
    let mut pss = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PSS_SHA256, &rng, message, &mut pss).unwrap();
    let mut pkcs1 = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PKCS1_SHA256, &rng, message, &mut pkcs1).unwrap();
    let p256 = p256();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa_key = PublicKey::from_spki(&spki_of(&rsa)).unwrap();
    let signed = [
        (rsa_key.clone(), Alg::RsaPssSha256, pss),
        (rsa_key, Alg::RsaPkcs1Sha256, pkcs1),
        (
            PublicKey::from_spki(&spki_of(&p256)).unwrap(),
            Alg::EcdsaP256Sha256,
            p256.sign(&rng, message).unwrap().as_ref().to_vec(),
        ),
        (
            PublicKey::from_spki(&spki_of(&p384)).unwrap(),
            Alg::EcdsaP384Sha384,
            p384.sign(&rng, message).unwrap().as_ref().to_vec(),
        ),
        (
            PublicKey::from_ed25519(ed.public_key().as_ref()).unwrap(),
            Alg::Ed25519,
            ed.sign(message).as_ref().to_vec(),
        ),
    ];
    for (key, algorithm, signature) in &signed {
        key.verify(*algorithm, message, signature).unwrap();
        for (_, other, _) in signed.iter().filter(|(_, other, _)| other != algorithm) {
            assert_eq!(key.verify(*other, message, signature), Err(BadSignature));
        }
        assert_eq!(key.verify(*algorithm, b"to be signeD", signature), Err(BadSignature));
        assert_eq!(key.verify(*algorithm, message, &signature[1..]), Err(BadSignature));
        assert_eq!(key.verify(*algorithm, message, &[]), Err(BadSignature));
    }
}

#[test]
fn constructors_agree_with_the_encoding_of_another_library() {
    let p256 = p256();
    let point = p256.public_key().as_ref();
    assert_eq!(PublicKey::from_ec_point(KeyType::P256, point).unwrap().spki(), spki_of(&p256));
    let rsa = rsa();
    assert_eq!(PublicKey::from_rsa_modulus(&modulus_of(&rsa)).unwrap().spki(), spki_of(&rsa));
}

/// RFC 8410 section 10.1 prints this key and its encoding.
#[test]
fn ed25519_of_rfc_8410() {
    let der = hex::decode(
        "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1",
    )
    .unwrap();
    let key = PublicKey::from_spki(&der).unwrap();
    assert_eq!(key.key_type(), KeyType::Ed25519);
    assert_eq!(key.ed25519_bytes().unwrap()[..2], [0x19, 0xbf]);
}

#[test]
fn wrong_encodings_are_refused() {
    let good = spki_of(&p256());
    let mut trailing = good.clone();
    trailing.push(0);
    assert!(matches!(PublicKey::from_spki(&trailing), Err(PublicKeyError::Der(_))));
    assert!(matches!(PublicKey::from_spki(&good[..good.len() - 1]), Err(PublicKeyError::Der(_))));
    assert!(matches!(PublicKey::from_spki(&[]), Err(PublicKeyError::Der(_))));
    assert_eq!(PublicKey::from_spki(&[0x30; 2000]), Err(PublicKeyError::TooLong(2000)));

    let mut off_curve = good.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(PublicKey::from_spki(&off_curve), Err(PublicKeyError::InvalidPoint));

    let point = &good[good.len() - 65..];
    let mut compressed = point[..33].to_vec();
    compressed[0] = 0x02 | (point[64] & 1);
    assert_eq!(PublicKey::from_ec_point(KeyType::P256, &compressed), Err(PublicKeyError::CompressedPoint));
    assert_eq!(PublicKey::from_ec_point(KeyType::P384, point), Err(PublicKeyError::InvalidPoint));
}

#[test]
fn weak_rsa_keys_are_refused() {
    let rsa = rsa();
    let modulus = modulus_of(&rsa);
    assert!(matches!(PublicKey::from_rsa_modulus(&modulus[128..]), Err(PublicKeyError::RsaLength(..=1024))));
    let mut even = modulus.clone();
    even[255] &= 0xfe;
    assert_eq!(PublicKey::from_rsa_modulus(&even), Err(PublicKeyError::RsaFactor(2)));
    // e = 3, made by changing the exponent in the encoded key.
    let exponent = [3];
    let key = RsaPublicKey {
        modulus: UintRef::new(&modulus).unwrap(),
        public_exponent: UintRef::new(&exponent).unwrap(),
    };
    let refused = PublicKey::encode(RSA_ENCRYPTION, Some(&[0x05, 0x00]), &key.to_der().unwrap());
    assert_eq!(refused, Err(PublicKeyError::RsaExponent));
    // RFC 3279: absent parameters are wrong.
    let good = PublicKey::from_rsa_modulus(&modulus).unwrap();
    let info = SubjectPublicKeyInfoRef::from_der(good.spki()).unwrap();
    let bits = info.subject_public_key.as_bytes().unwrap();
    assert_eq!(PublicKey::encode(RSA_ENCRYPTION, None, bits), Err(PublicKeyError::NotCanonical));
}

#[test]
fn other_curves_are_refused_by_name() {
    let p521 = EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_ASN1_SIGNING).unwrap();
    let refusal = PublicKey::from_spki(&spki_of(&p521)).unwrap_err();
    assert_eq!(refusal, PublicKeyError::Unsupported("curve 1.3.132.0.35".into()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = PublicKey::from_spki(&bytes);
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_key(index in 0usize..91, bit in 0u8..8) {
        let good = PublicKey::from_spki(&hex::decode(
            "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
             6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
             4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5").unwrap()).unwrap();
        let mut bytes = good.spki().to_vec();
        bytes[index] ^= 1 << bit;
        if let Ok(other) = PublicKey::from_spki(&bytes) {
            prop_assert_ne!(other.id(), good.id());
        }
    }
}

#[test]
fn a_digest_is_verified_as_its_message_and_nothing_else_is() {
    use crate::digest::{DigestAlgorithm, MessageDigest};
    let (ec, rsa, rng) = (p256(), rsa(), SystemRandom::new());
    let key = PublicKey::from_spki(&ec.public_key().der_bytes()).unwrap();
    let rsa_key = PublicKey::from_spki(&spki_of(&rsa)).unwrap();
    let digest = |message: &[u8]| MessageDigest::of(DigestAlgorithm::Sha256, message);
    let signature = ec.sign(&rng, b"message").unwrap();
    let signature = signature.as_ref();
    key.verify_digest(Alg::EcdsaP256Sha256, &digest(b"message"), signature).unwrap();
    for (algorithm, digest) in [
        (Alg::EcdsaP256Sha256, digest(b"massage")),
        (Alg::EcdsaP384Sha384, digest(b"message")),
        (Alg::RsaPssSha256, digest(b"message")),
        (Alg::Ed25519, digest(b"message")),
        (Alg::EcdsaP256Sha256, MessageDigest::of(DigestAlgorithm::Sha384, b"message")),
    ] {
        assert!(key.verify_digest(algorithm, &digest, signature).is_err(), "{algorithm} {digest:?}");
    }
    for (padding, algorithm, other) in [
        (&RSA_PKCS1_SHA256, Alg::RsaPkcs1Sha256, Alg::RsaPssSha256),
        (&RSA_PSS_SHA256, Alg::RsaPssSha256, Alg::RsaPkcs1Sha256),
    ] {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &rng, b"message", &mut signature).unwrap();
        rsa_key.verify_digest(algorithm, &digest(b"message"), &signature).unwrap();
        assert!(rsa_key.verify_digest(other, &digest(b"message"), &signature).is_err());
        assert!(rsa_key.verify_digest(algorithm, &digest(b"massage"), &signature).is_err());
    }
}
