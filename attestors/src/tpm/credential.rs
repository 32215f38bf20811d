//! MakeCredential without a TPM (Part 1, sections 24 and 11.4.10): a secret that only the TPM which holds an endorsement
//! key opens, and only if it holds the key of a given Name too.

use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::{hmac, rand};
use undercroft_keys::{KeyType, Numbers, PublicKey};
use undercroft_tpm_wire::{HashAlgorithm, Name, PublicArea, PublicKind, Symmetric};

/// The lengths that a secret may have: enough to be guessed by nobody, and no longer than any endorsement key takes.
pub const SECRET: std::ops::RangeInclusive<usize> = 16..=32;

/// The labels, each with its final zero where the specification has it (Part 1, section 24.4; annexes B.10.3 and C.6.3).
const IDENTITY: &[u8] = b"IDENTITY\0";
const STORAGE: &[u8] = b"STORAGE\0";
const INTEGRITY: &[u8] = b"INTEGRITY\0";

/// What TPM2_ActivateCredential takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The content of TPM2B_ID_OBJECT: TPMS_ID_OBJECT.
    pub credential: Vec<u8>,
    /// The content of TPM2B_ENCRYPTED_SECRET.
    pub secret: Vec<u8>,
}

/// Encloses `secret` for the TPM of `endorsement`, to be opened if it holds the key of `name`.
///
/// `seed` is random, as long as the digest of the endorsement key's nameAlg at least; an ECC endorsement key makes its seed
/// by Diffie-Hellman instead. OAEP's padding and that exchange's ephemeral key come from the library's random generator.
///
/// # Errors
/// The key is of a kind that no endorsement key is, or the secret or the seed is of a wrong length.
pub fn make(
    endorsement: &PublicArea,
    name: &Name,
    secret: &[u8],
    seed: &[u8],
) -> Result<Credential, CredentialError> {
    let hash = endorsement.name_algorithm;
    if !SECRET.contains(&secret.len()) {
        return Err(CredentialError::Secret(secret.len()));
    }
    let key = endorsement.public_key().map_err(|error| CredentialError::Key(error.to_string()))?;
    let (symmetric, seed, encrypted) = match &endorsement.kind {
        PublicKind::Rsa(rsa) => {
            let seed = seed.get(..hash.size()).ok_or(CredentialError::Seed(seed.len()))?.to_vec();
            let encrypted = enclosed(&key, hash, &seed)?;
            (rsa.symmetric, seed, encrypted)
        }
        PublicKind::Ecc(ecc) => {
            let (seed, point) = exchanged(&key, hash)?;
            (ecc.symmetric, seed, point)
        }
    };
    let bits = match symmetric {
        Symmetric::AesCfb(bits @ (128 | 256)) => bits,
        other => return Err(CredentialError::Symmetric(other)),
    };
    let symmetric_key = kdfa(hash, &seed, STORAGE, name.as_bytes(), u32::from(bits));
    let integrity_key = kdfa(hash, &seed, INTEGRITY, &[], hash.size() as u32 * 8);
    let mut identity = sized(secret);
    encrypt(&symmetric_key, &mut identity).map_err(|_| CredentialError::Library)?;
    let outer = hmac(hash, &integrity_key, &[&identity, name.as_bytes()]);
    let credential = [sized(&outer), identity].concat();
    Ok(Credential { credential, secret: encrypted })
}

/// RSAES-OAEP of the seed, hash and mask by the key's nameAlg (annex B.4).
fn enclosed(key: &PublicKey, hash: HashAlgorithm, seed: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let algorithm = match hash {
        HashAlgorithm::Sha256 => &OAEP_SHA256_MGF1SHA256,
        HashAlgorithm::Sha384 => &OAEP_SHA384_MGF1SHA384,
        HashAlgorithm::Sha512 => return Err(CredentialError::Hash),
    };
    let library = |_| CredentialError::Library;
    let key = PublicEncryptingKey::from_der(key.spki()).map_err(|_| CredentialError::Library)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(library)?;
    let mut out = vec![0; key.ciphertext_size()];
    key.encrypt(algorithm, seed, &mut out, Some(IDENTITY)).map_err(library)?;
    Ok(out)
}

/// A seed by one-pass Diffie-Hellman, and the TPMS_ECC_POINT of the ephemeral key (annex C.6.3).
fn exchanged(key: &PublicKey, hash: HashAlgorithm) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let algorithm = match key.key_type() {
        KeyType::P256 => &agreement::ECDH_P256,
        KeyType::P384 => &agreement::ECDH_P384,
        KeyType::Rsa(_) | KeyType::Ed25519 => return Err(CredentialError::Library),
    };
    let Numbers::Ec { x, y } = key.numbers() else { return Err(CredentialError::Library) };
    let library = |_| CredentialError::Library;
    let ephemeral = EphemeralPrivateKey::generate(algorithm, &rand::SystemRandom::new()).map_err(library)?;
    let own = ephemeral.compute_public_key().map_err(library)?;
    let (_, coordinates) = own.as_ref().split_first().ok_or(CredentialError::Library)?;
    let (own_x, own_y) = coordinates.split_at(coordinates.len() / 2);
    let peer = UnparsedPublicKey::new(algorithm, [&[0x04][..], x, y].concat());
    let seed = agree_ephemeral(ephemeral, peer, CredentialError::Library, |shared| {
        Ok(kdfe(hash, shared, IDENTITY, own_x, x))
    })?;
    Ok((seed, [sized(own_x), sized(own_y)].concat()))
}

/// KDFa (Part 1, section 11.4.10.2): SP 800-108 in counter mode, with HMAC. Bits are whole bytes.
fn kdfa(hash: HashAlgorithm, key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let length = bits as usize / 8;
    let mut out = Vec::new();
    for counter in 1u32.. {
        if out.len() >= length {
            break;
        }
        out.extend(hmac(hash, key, &[&counter.to_be_bytes(), label, context, &bits.to_be_bytes()]));
    }
    out.truncate(length);
    out
}

/// KDFe (Part 1, section 11.4.10.3) of as many bits as the hash has: SP 800-56A, one round.
fn kdfe(hash: HashAlgorithm, shared: &[u8], label: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    hash.digest(&[&1u32.to_be_bytes(), shared, label, from, to].concat())
}

fn hmac(hash: HashAlgorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match hash {
        HashAlgorithm::Sha256 => hmac::HMAC_SHA256,
        HashAlgorithm::Sha384 => hmac::HMAC_SHA384,
        HashAlgorithm::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

/// AES in CFB mode with an IV of zeros: the key is used once.
fn encrypt(key: &[u8], data: &mut [u8]) -> Result<(), Unspecified> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key)?)?;
    key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from([0; 16])))?;
    Ok(())
}

/// A TPM2B.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Why no credential was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Too short to be a secret, or too long.
    #[error("a credential encloses 16 to 32 bytes, and not {0}")]
    Secret(usize),
    /// Too short.
    #[error("a seed of {0} bytes is shorter than the digests of the endorsement key")]
    Seed(usize),
    /// The key is unsound.
    #[error("the endorsement key is unsound: {0}")]
    Key(String),
    /// A hash that no template has.
    #[error("no endorsement key has SHA-512")]
    Hash,
    /// A symmetric algorithm that no template has.
    #[error("the endorsement key protects with {0:?}, and not with AES-128 or AES-256 in CFB mode")]
    Symmetric(Symmetric),
    /// The cryptographic library refused.
    #[error("the cryptographic library refused the endorsement key")]
    Library,
}

#[cfg(test)]
mod tests;
