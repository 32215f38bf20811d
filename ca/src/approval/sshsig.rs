//! Whether a signature is a key's over what SSHSIG has signed (OpenSSH PROTOCOL.sshsig, PROTOCOL.u2f).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64ct::{Base64, Encoding as _};
use der::asn1::UintRef;
use der::{Encode as _, Sequence};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey as SshPublicKey, SshSig};
use undercroft_keys::{KeyType, PublicKey, SignatureAlgorithm};

/// FIDO: the person touched the key (WebAuthn section 6.1, bit 0 of the flags).
const USER_PRESENT: u8 = 1;

/// FIDO: the key knew the person, by PIN or finger (WebAuthn section 6.1, bit 2 of the flags).
const USER_VERIFIED: u8 = 4;

/// The bytes behind the signature of a FIDO key: flags, and a counter of 32 bits.
const FIDO_TRAILER: usize = 5;

/// The shortest RSA modulus that counts, in bits. The longest is what the library verifies.
const MIN_RSA: usize = 2048;
const MAX_RSA: usize = 8192;

/// The longest armoured signature that is read: one by an RSA key of 8192 bits has some 3,000 bytes.
const MAX_SIGNATURE: usize = 16 * 1024;

/// What stands before the strings of a signature: `SSHSIG`, and the version in 32 bits.
const PREAMBLE: usize = 6 + 4;

/// Why a signature counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSigned {
    #[error("does not verify: something else was signed")]
    Wrong,
    #[error(
        "is of another algorithm than its key's, or of one that does not count; RSA keys sign with rsa-sha2-256 or rsa-sha2-512"
    )]
    Algorithm,
    #[error("is of a FIDO key that nobody touched")]
    NotPresent,
    #[error(
        "is of a FIDO key that did not verify who touched it; make one that asks for its PIN: ssh-keygen -t ed25519-sk -O verify-required"
    )]
    NotVerified,
}

/// Reads an armoured signature (PROTOCOL.sshsig).
pub(super) fn parse(armoured: &str) -> Result<SshSig, String> {
    if armoured.len() > MAX_SIGNATURE {
        return Err(format!("it has {} bytes, more than any signature", armoured.len()));
    }
    let signature = SshSig::from_pem(armoured).map_err(|error| error.to_string())?;
    // Verifiers MUST reject other versions; the library lets older ones pass.
    if signature.version() != SshSig::VERSION {
        return Err(format!("it is of version {}", signature.version()));
    }
    // Neither does it mind strings that say to be longer than what is left.
    let body: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
    let blob = Base64::decode_vec(body.trim()).map_err(|error| error.to_string())?;
    match fills(&blob, &signature) {
        true => Ok(signature),
        false => Err("its parts do not fill it".to_owned()),
    }
}

/// Whether the lengths in a signature are those of its parts: public key, namespace, reserved, hash algorithm and
/// signature, and nothing behind them.
fn fills(blob: &[u8], signature: &SshSig) -> bool {
    let parts = || -> Option<bool> {
        let mut rest = blob.get(PREAMBLE..)?;
        let key = string(&mut rest)?;
        let (_namespace, _reserved, _hash) = (string(&mut rest)?, string(&mut rest)?, string(&mut rest)?);
        let mut signed = string(&mut rest)?;
        let (_algorithm, _raw) = (string(&mut signed)?, string(&mut signed)?);
        let trailer = match signature.algorithm() {
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => FIDO_TRAILER,
            _ => 0,
        };
        let own = SshPublicKey::from(signature.public_key().clone()).to_bytes().ok()?;
        Some(rest.is_empty() && signed.len() == trailer && own == key)
    };
    parts().unwrap_or(false)
}

/// Takes a string off the front (RFC 4251 section 5): its length in 32 bits, and its bytes.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(value)
}

/// Why a key can be nobody's on a roster: no signature of it would ever count.
pub(super) fn unfit(key: &KeyData) -> Option<String> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            None
        }
        KeyData::Rsa(key) => match modulus_bits(key) {
            MIN_RSA..=MAX_RSA => None,
            bits => Some(format!("an RSA key of {bits} bits; {MIN_RSA} to {MAX_RSA} count")),
        },
        other => Some(format!("a key of the algorithm {}, which does not count", other.algorithm())),
    }
}

/// Verifies that `signature` is its key's over `signed`.
pub(super) fn verify(signature: &SshSig, signed: &[u8]) -> Result<(), NotSigned> {
    let raw = signature.signature().as_bytes();
    match (signature.public_key(), signature.algorithm()) {
        (KeyData::Ed25519(key), Algorithm::Ed25519) => ed25519(&key.0, signed, raw),
        (KeyData::Ecdsa(key), Algorithm::Ecdsa { curve }) if key.curve() == curve => {
            ecdsa(curve, key.as_sec1_bytes(), signed, raw)
        }
        (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => rsa(key, hash, signed, raw),
        (KeyData::SkEd25519(key), Algorithm::SkEd25519) => {
            let (framed, bytes) = fido(key.application(), raw, signed)?;
            ed25519(&key.public_key().0, &framed, bytes)
        }
        (KeyData::SkEcdsaSha2NistP256(key), Algorithm::SkEcdsaSha2NistP256) => {
            let (framed, bytes) = fido(key.application(), raw, signed)?;
            ecdsa(EcdsaCurve::NistP256, key.ec_point().as_bytes(), &framed, bytes)
        }
        _ => Err(NotSigned::Algorithm),
    }
}

fn ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), NotSigned> {
    let key = PublicKey::from_ed25519(key).map_err(|_| NotSigned::Wrong)?;
    key.verify(SignatureAlgorithm::Ed25519, message, signature).map_err(|_| NotSigned::Wrong)
}

/// RFC 5656 section 6.2.1 says which hash goes with which curve.
fn ecdsa(curve: EcdsaCurve, point: &[u8], message: &[u8], raw: &[u8]) -> Result<(), NotSigned> {
    let der = ecdsa_der(raw).ok_or(NotSigned::Wrong)?;
    let (key_type, algorithm) = match curve {
        EcdsaCurve::NistP256 => (KeyType::P256, SignatureAlgorithm::EcdsaP256Sha256),
        EcdsaCurve::NistP384 => (KeyType::P384, SignatureAlgorithm::EcdsaP384Sha384),
        // No key of ours is one, so that our own keys do not know the curve.
        EcdsaCurve::NistP521 => {
            let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_ASN1, point);
            return key.verify(message, &der).map_err(|_| NotSigned::Wrong);
        }
    };
    let key = PublicKey::from_ec_point(key_type, point).map_err(|_| NotSigned::Wrong)?;
    key.verify(algorithm, message, &der).map_err(|_| NotSigned::Wrong)
}

/// RFC 8332 section 3. OpenSSH's PROTOCOL.sshsig forbids `ssh-rsa`, which is SHA-1.
fn rsa(key: &RsaPublicKey, hash: HashAlg, message: &[u8], signature: &[u8]) -> Result<(), NotSigned> {
    let parameters: &RsaParameters = match hash {
        HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(NotSigned::Algorithm),
    };
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return Err(NotSigned::Wrong);
    };
    let key = RsaPublicKeyComponents { n, e };
    key.verify(parameters, message, signature).map_err(|_| NotSigned::Wrong)
}

fn modulus_bits(key: &RsaPublicKey) -> usize {
    let modulus = key.n.as_positive_bytes().unwrap_or_default();
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (modulus.len() * 8).saturating_sub(unused)
}

/// What a FIDO key has signed (OpenSSH PROTOCOL.u2f): SHA-256 of the application, flags, counter, SHA-256 of the message;
/// and the signature without flags and counter. Whether the flags are true the signature tells, which covers them.
fn fido<'a>(application: &str, raw: &'a [u8], message: &[u8]) -> Result<(Vec<u8>, &'a [u8]), NotSigned> {
    let (bytes, trailer) = raw.split_last_chunk::<FIDO_TRAILER>().ok_or(NotSigned::Wrong)?;
    let [flags, counter @ ..] = trailer;
    if flags & USER_PRESENT == 0 {
        return Err(NotSigned::NotPresent);
    }
    if flags & USER_VERIFIED == 0 {
        return Err(NotSigned::NotVerified);
    }
    let mut framed = digest(&SHA256, application.as_bytes()).as_ref().to_vec();
    framed.push(*flags);
    framed.extend(counter);
    framed.extend(digest(&SHA256, message).as_ref());
    Ok((framed, bytes))
}

/// RFC 5656 section 3.1.2: two SSH integers, r and s; as DER ECDSA-Sig-Value.
fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    let mut rest = raw;
    let (r, s) = (string(&mut rest)?, string(&mut rest)?);
    let unsigned = |value: &[u8]| value.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    let (r, s) = (unsigned(r), unsigned(s));
    let signature = EcdsaSigValue { r: UintRef::new(&r).ok()?, s: UintRef::new(&s).ok()? };
    rest.is_empty().then(|| signature.to_der().ok()).flatten()
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}
