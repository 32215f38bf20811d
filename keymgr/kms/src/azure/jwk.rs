//! Keys and signatures as JSON Web Keys and Signatures carry them (RFC 7517, RFC 7518), and as we do.

use azure_security_keyvault_keys::models::{
    CurveName, JsonWebKey, KeyType as AzureKeyType, SignatureAlgorithm,
};
use der::asn1::UintRef;
use der::{Encode as _, Sequence};
use undercroft_keys::{KeyAlgorithm, KeyType, PublicKey};

/// What the vault calls a way of signing. A vault binds none to an RSA key: the same key signs by both paddings.
pub(super) fn to_azure(algorithm: KeyAlgorithm) -> Option<SignatureAlgorithm> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(SignatureAlgorithm::Es256),
        KeyAlgorithm::EcdsaP384 => Some(SignatureAlgorithm::Es384),
        // MGF1 with SHA-256 and a salt of 32 bytes (RFC 7518 section 3.5).
        KeyAlgorithm::RsaPss(_) => Some(SignatureAlgorithm::Ps256),
        KeyAlgorithm::RsaPkcs1(_) => Some(SignatureAlgorithm::Rs256),
        KeyAlgorithm::Ed25519 => None,
    }
}

/// The public half, if it is of a kind that we use; why not, otherwise.
pub(super) fn public_key(key: &JsonWebKey) -> Result<PublicKey, String> {
    let part =
        |value: &Option<Vec<u8>>, name: &str| value.clone().ok_or_else(|| format!("it has no `{name}`"));
    let read = match key.kty {
        Some(AzureKeyType::Ec | AzureKeyType::EcHsm) => {
            let curve = match &key.crv {
                Some(CurveName::P256) => KeyType::P256,
                Some(CurveName::P384) => KeyType::P384,
                other => return Err(format!("it is on the curve {other:?}")),
            };
            let point = [vec![4], part(&key.x, "x")?, part(&key.y, "y")?].concat();
            PublicKey::from_ec_point(curve, &point)
        }
        Some(AzureKeyType::Rsa | AzureKeyType::RsaHsm) => {
            if part(&key.e, "e")? != [1, 0, 1] {
                return Err("its exponent is not 65537".into());
            }
            PublicKey::from_rsa_modulus(&part(&key.n, "n")?)
        }
        ref other => return Err(format!("it is of the type {other:?}")),
    };
    read.map_err(|error| error.to_string())
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A signature as X.509 carries it; nothing if it does not have the length that its curve gives (RFC 7518 section 3.4).
pub(super) fn signature(algorithm: KeyAlgorithm, raw: &[u8]) -> Option<Vec<u8>> {
    let width = match algorithm {
        KeyAlgorithm::EcdsaP256 => 32,
        KeyAlgorithm::EcdsaP384 => 48,
        KeyAlgorithm::RsaPss(bits) | KeyAlgorithm::RsaPkcs1(bits) => {
            return (raw.len() == usize::from(bits.bits() / 8)).then(|| raw.to_vec());
        }
        KeyAlgorithm::Ed25519 => return None,
    };
    if raw.len() != 2 * width {
        return None;
    }
    let (r, s) = raw.split_at(width);
    EcdsaSignature { r: UintRef::new(r).ok()?, s: UintRef::new(s).ok()? }.to_der().ok()
}

#[cfg(test)]
mod tests {
    use undercroft_keys::RsaBits;

    use super::*;

    #[test]
    fn numbers_are_padded_in_jws_and_minimal_in_der() {
        let mut raw = [0; 64];
        (raw[31], raw[32]) = (0x80, 0x01);
        let der = signature(KeyAlgorithm::EcdsaP256, &raw).unwrap();
        // r = 128 needs a zero in front, s = 2^248 has 32 bytes.
        assert_eq!(der[..6], [0x30, 0x26, 0x02, 0x02, 0x00, 0x80]);
        assert_eq!(der[6..9], [0x02, 0x20, 0x01]);
    }

    #[test]
    fn signatures_of_other_lengths_are_none() {
        for length in [0, 63, 65, 96, 256] {
            assert_eq!(signature(KeyAlgorithm::EcdsaP256, &vec![1; length]), None);
        }
        assert_eq!(signature(KeyAlgorithm::EcdsaP384, &[1; 64]), None);
        assert_eq!(signature(KeyAlgorithm::RsaPss(RsaBits::B2048), &[1; 255]), None);
        assert!(signature(KeyAlgorithm::RsaPss(RsaBits::B2048), &[1; 256]).is_some());
    }

    #[test]
    fn keys_of_other_kinds_are_told() {
        let mut key = JsonWebKey::default();
        assert!(public_key(&key).unwrap_err().contains("type"));
        key.kty = Some(AzureKeyType::EcHsm);
        key.crv = Some(CurveName::P521);
        assert!(public_key(&key).unwrap_err().contains("curve"));
        key.crv = Some(CurveName::P256);
        assert!(public_key(&key).unwrap_err().contains("`x`"));
        (key.x, key.y) = (Some(vec![1; 32]), Some(vec![1; 32]));
        assert!(public_key(&key).is_err(), "a point off the curve");
        key.kty = Some(AzureKeyType::RsaHsm);
        (key.n, key.e) = (Some(vec![0xff; 256]), Some(vec![3]));
        assert!(public_key(&key).unwrap_err().contains("65537"));
    }
}
