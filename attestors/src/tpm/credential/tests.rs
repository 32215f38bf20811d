//! Credentials are opened here as a TPM opens them (Part 1, section 24), by code that shares nothing with what makes them.
//! `keymgr/tpm/tests/activation.rs` has swtpm and tpm2-tools do the same.

use aws_lc_rs::cipher::{DecryptingKey, DecryptionContext};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use undercroft_tpm_wire::endorsement::EndorsementKind;
use undercroft_tpm_wire::{Curve, Scheme};

use super::*;

const SEED: [u8; 64] = [0x5e; 64];

/// HMAC by its definition (RFC 2104), so that none of ours judges ours.
fn mac(hash: HashAlgorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    let block = if hash == HashAlgorithm::Sha256 { 64 } else { 128 };
    let mut padded = key.to_vec();
    padded.resize(block, 0);
    let pad = |with: u8| padded.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = hash.digest(&[pad(0x36), message.to_vec()].concat());
    hash.digest(&[pad(0x5c), inner].concat())
}

/// What a TPM finds that has this seed, and a key of this Name: nothing if the outer HMAC is wrong.
fn opened(hash: HashAlgorithm, seed: &[u8], name: &Name, made: &[u8]) -> Option<Vec<u8>> {
    let size = usize::from(u16::from_be_bytes([made[0], made[1]]));
    assert_eq!(size, hash.size());
    let (outer, identity) = (&made[2..2 + size], &made[2 + size..]);
    let bits = (size as u32 * 8).to_be_bytes();
    let integrity = mac(hash, seed, &[&[0, 0, 0, 1], &b"INTEGRITY\0"[..], &bits].concat());
    if mac(hash, &integrity, &[identity, name.as_bytes()].concat()) != outer {
        return None;
    }
    let (length, algorithm) = if hash == HashAlgorithm::Sha256 { (16, &AES_128) } else { (32, &AES_256) };
    let bits = (length as u32 * 8).to_be_bytes();
    let storage = mac(hash, seed, &[&[0, 0, 0, 1], &b"STORAGE\0"[..], name.as_bytes(), &bits].concat());
    let key = UnboundCipherKey::new(algorithm, &storage[..length]).unwrap();
    let mut plain = identity.to_vec();
    let zeros = DecryptionContext::Iv128(FixedLength::from([0; 16]));
    DecryptingKey::cfb128(key).unwrap().decrypt(&mut plain, zeros).unwrap();
    assert_eq!(usize::from(u16::from_be_bytes([plain[0], plain[1]])), plain.len() - 2);
    Some(plain[2..].to_vec())
}

fn with_key(kind: EndorsementKind, key: &PublicKey) -> PublicArea {
    let mut area = kind.template();
    match (&mut area.kind, key.numbers()) {
        (PublicKind::Rsa(rsa), Numbers::Rsa { n, .. }) => rsa.modulus = n.to_vec(),
        (PublicKind::Ecc(ecc), Numbers::Ec { x, y }) => (ecc.x, ecc.y) = (x.to_vec(), y.to_vec()),
        other => panic!("{other:?}"),
    }
    area
}

/// Two Names that differ in one bit.
fn names() -> [Name; 2] {
    let area = EndorsementKind::P256.template();
    let mut other = area.clone();
    other.auth_policy[0] ^= 1;
    [area.name(), other.name()]
}

fn rsa(size: KeySize, kind: EndorsementKind) -> (OaepPrivateDecryptingKey, PublicArea) {
    let key = PrivateDecryptingKey::generate(size).unwrap();
    let spki = key.public_key().as_der().unwrap();
    let area = with_key(kind, &PublicKey::from_spki(spki.as_ref()).unwrap());
    (OaepPrivateDecryptingKey::new(key).unwrap(), area)
}

#[test]
fn an_rsa_key_opens_what_is_for_it_and_for_the_name() {
    for (size, kind, algorithm) in [
        (KeySize::Rsa2048, EndorsementKind::Rsa2048, &OAEP_SHA256_MGF1SHA256),
        (KeySize::Rsa3072, EndorsementKind::Rsa3072, &OAEP_SHA384_MGF1SHA384),
    ] {
        let (key, area) = rsa(size, kind);
        let (hash, [name, other]) = (area.name_algorithm, names());
        for secret in [&[1_u8; 16][..], &[2; 32]] {
            let made = make(&area, &name, secret, &SEED).unwrap();
            let mut out = vec![0; key.min_output_size()];
            let seed = key.decrypt(algorithm, &made.secret, &mut out, Some(b"IDENTITY\0")).unwrap();
            assert_eq!(seed, &SEED[..hash.size()]);
            assert_eq!(opened(hash, seed, &name, &made.credential).as_deref(), Some(secret));
            assert_eq!(opened(hash, seed, &other, &made.credential), None);
            assert!(made.credential.len() <= 2 + hash.size() + 2 + 32);
            assert!(!made.credential.windows(16).any(|some| some == &secret[..16]), "in clear");
        }
    }
}

#[test]
fn an_ecc_key_agrees_on_the_seed_of_what_is_for_it() {
    for (kind, algorithm) in
        [(EndorsementKind::P256, &agreement::ECDH_P256), (EndorsementKind::P384, &agreement::ECDH_P384)]
    {
        let key = agreement::PrivateKey::generate(algorithm).unwrap();
        let public = key.compute_public_key().unwrap();
        let width = public.as_ref().len() / 2;
        let key_type = if width == 32 { KeyType::P256 } else { KeyType::P384 };
        let area = with_key(kind, &PublicKey::from_ec_point(key_type, public.as_ref()).unwrap());
        let (hash, [name, other]) = (area.name_algorithm, names());
        let made = make(&area, &name, &[3; 32], &[]).unwrap();
        // TPMS_ECC_POINT, each coordinate as wide as the curve.
        let length = (width as u16).to_be_bytes();
        assert_eq!(made.secret.len(), 2 * (2 + width));
        assert!(made.secret.starts_with(&length) && made.secret[2 + width..].starts_with(&length));
        let (x, y) = (&made.secret[2..2 + width], &made.secret[4 + width..]);
        let theirs = agreement::UnparsedPublicKey::new(algorithm, [&[4], x, y].concat());
        let own = &public.as_ref()[1..=width];
        let seed = agreement::agree(&key, theirs, (), |z| {
            Ok(hash.digest(&[&[0, 0, 0, 1], z, &b"IDENTITY\0"[..], x, own].concat()))
        });
        let seed = seed.unwrap();
        assert_eq!(opened(hash, &seed, &name, &made.credential).as_deref(), Some(&[3; 32][..]));
        assert_eq!(opened(hash, &seed, &other, &made.credential), None);
        assert_ne!(make(&area, &name, &[3; 32], &[]).unwrap().secret, made.secret, "an ephemeral key");
    }
}

#[test]
fn what_no_endorsement_key_is_and_what_no_secret_is() {
    let ([name, _], (_, area)) = (names(), rsa(KeySize::Rsa2048, EndorsementKind::Rsa2048));
    for length in [0, 15, 33, 64] {
        assert_eq!(make(&area, &name, &vec![1; length], &SEED), Err(CredentialError::Secret(length)));
    }
    assert_eq!(make(&area, &name, &[1; 16], &SEED[..31]), Err(CredentialError::Seed(31)));
    assert!(make(&area, &name, &[1; 16], &SEED[..32]).is_ok());
    let with = |change: &dyn Fn(&mut PublicArea)| {
        let mut area = area.clone();
        change(&mut area);
        make(&area, &name, &[1; 16], &SEED).unwrap_err()
    };
    assert_eq!(with(&|area| area.name_algorithm = HashAlgorithm::Sha512), CredentialError::Hash);
    let symmetric = |to: Symmetric| {
        with(&|area| {
            if let PublicKind::Rsa(rsa) = &mut area.kind {
                rsa.symmetric = to;
            }
        })
    };
    for other in [Symmetric::None, Symmetric::AesCfb(192)] {
        assert_eq!(symmetric(other), CredentialError::Symmetric(other));
    }
    let unsound = with(&|area| area.kind = EndorsementKind::P256.template().kind);
    assert!(matches!(unsound, CredentialError::Key(_)), "{unsound}");
    assert_eq!((area.scheme(), area.curve()), (Scheme::None, None::<Curve>));
}

/// SP 800-108 in counter mode, over more blocks than one and over parts of one.
#[test]
fn a_long_key_is_of_several_blocks() {
    let block = |counter: u8, bits: u32| {
        let fixed = [&[0, 0, 0, counter], &b"LABEL\0"[..], b"context", &bits.to_be_bytes()].concat();
        mac(HashAlgorithm::Sha256, b"key", &fixed)
    };
    for bits in [8_u32, 128, 256, 264, 512, 520] {
        let whole = [block(1, bits), block(2, bits), block(3, bits)].concat();
        let made = kdfa(HashAlgorithm::Sha256, b"key", b"LABEL\0", b"context", bits);
        assert_eq!(made, whole[..bits as usize / 8], "{bits}");
    }
    let wide = hmac(HashAlgorithm::Sha512, b"key", &[b"a", b"bc"]);
    assert_eq!(wide, mac(HashAlgorithm::Sha512, b"key", b"abc"));
}
