//! How each algorithm is made and signed with, and what tokens give back.

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::Attribute;
use der::asn1::UintRef;
use der::{Encode, Sequence};
use undercroft_keymgr::{Error, ErrorKind, ToSign};
use undercroft_keys::{KeyAlgorithm, KeyType};

/// DER of OBJECT IDENTIFIER secp256r1, as CKA_EC_PARAMS wants it.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// DER of OBJECT IDENTIFIER secp384r1.
const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// DER of OBJECT IDENTIFIER id-Ed25519 (PKCS #11 3.1 section 6.3.5 allows it beside the curve's name).
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// DigestInfo of SHA-256 up to the digest itself (RFC 8017 section 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// The mechanism that makes a key pair, and what its public template must say besides.
pub(crate) fn generation(algorithm: KeyAlgorithm) -> (Mechanism<'static>, Vec<Attribute>) {
    match algorithm.key_type() {
        KeyType::P256 => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.to_vec())]),
        KeyType::P384 => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P384.to_vec())]),
        KeyType::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, vec![Attribute::EcParams(ED25519.to_vec())]),
        KeyType::Rsa(bits) => (
            Mechanism::RsaPkcsKeyPairGen,
            vec![
                Attribute::ModulusBits(u64::from(bits.bits()).into()),
                Attribute::PublicExponent(vec![0x01, 0x00, 0x01]),
            ],
        ),
    }
}

/// The mechanism that signs, and the bytes that it takes for `input`.
pub(crate) fn signing(
    algorithm: KeyAlgorithm,
    input: &ToSign,
) -> Result<(Mechanism<'static>, Vec<u8>), Error> {
    let bytes = input.bytes(algorithm)?;
    Ok(match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => (Mechanism::Ecdsa, bytes),
        KeyAlgorithm::RsaPkcs1(_) => (Mechanism::RsaPkcs, [&SHA256_DIGEST_INFO[..], &bytes].concat()),
        KeyAlgorithm::RsaPss(_) => {
            let parameters = PkcsPssParams {
                hash_alg: MechanismType::SHA256,
                mgf: PkcsMgfType::MGF1_SHA256,
                s_len: 32.into(),
            };
            (Mechanism::RsaPkcsPss(parameters), bytes)
        }
        KeyAlgorithm::Ed25519 => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), bytes),
    })
}

/// A token's signature, as X.509 carries it.
pub(crate) fn x509_signature(algorithm: KeyAlgorithm, raw: Vec<u8>) -> Result<Vec<u8>, Error> {
    let coordinate = match algorithm {
        KeyAlgorithm::EcdsaP256 => 32,
        KeyAlgorithm::EcdsaP384 => 48,
        KeyAlgorithm::RsaPss(_) | KeyAlgorithm::RsaPkcs1(_) | KeyAlgorithm::Ed25519 => return Ok(raw),
    };
    let malformed = || {
        Error::new(
            ErrorKind::Fault,
            format!("the token gave a malformed {algorithm} signature of {} bytes", raw.len()),
        )
    };
    // PKCS #11 3.1 section 6.3.1: r and s, each padded to the length of the order.
    if raw.len() != 2 * coordinate {
        return Err(malformed());
    }
    let (r, s) = raw.split_at(coordinate);
    let (r, s) = (UintRef::new(r).map_err(|_| malformed())?, UintRef::new(s).map_err(|_| malformed())?);
    EcdsaSignature { r, s }.to_der().map_err(|_| malformed())
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecdsa_signatures_become_der_with_minimal_integers() {
        let mut raw = vec![0; 64];
        raw[31] = 0x7f; // r = 127
        raw[32] = 0x80; // s has its top bit set
        let der = x509_signature(KeyAlgorithm::EcdsaP256, raw).unwrap();
        assert_eq!(der[..7], [0x30, 0x26, 0x02, 0x01, 0x7f, 0x02, 0x21]);
        assert_eq!(der[7..9], [0x00, 0x80]);
    }

    #[test]
    fn ecdsa_signatures_of_another_length_are_a_fault() {
        for length in [0, 63, 65, 96] {
            let error = x509_signature(KeyAlgorithm::EcdsaP256, vec![1; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fault);
            assert!(error.to_string().contains(&format!("{length} bytes")));
        }
    }
}
