//! TPMT_SIGNATURE (Part 2, section 11.3.4).

use der::asn1::UintRef;
use der::{Decode as _, Encode as _, Sequence};

use crate::public_area::{ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA};
use crate::wire::{Reader, WireError, push_buffer};
use crate::{Curve, HashAlgorithm, Scheme};

/// The longest signature: RSA of 4096 bits.
const MAX_SIGNATURE: usize = 512;

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A signature by a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// ECDSA: r and s as the TPM wrote them, big-endian.
    Ecdsa {
        /// The hash.
        hash: HashAlgorithm,
        /// r.
        r: Vec<u8>,
        /// s.
        s: Vec<u8>,
    },
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(HashAlgorithm, Vec<u8>),
    /// RSASSA-PSS.
    RsaPss(HashAlgorithm, Vec<u8>),
}

impl Signature {
    /// Parses a TPMT_SIGNATURE.
    ///
    /// # Errors
    /// Everything that is not exactly one of a known scheme.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16("TPMT_SIGNATURE.sigAlg")?;
        let hash = HashAlgorithm::from_id(reader.u16("TPMT_SIGNATURE.hash")?, "TPMT_SIGNATURE.hash")?;
        let mut part = |field| reader.buffer(MAX_SIGNATURE, field).map(<[u8]>::to_vec);
        let signature = match scheme {
            ALG_ECDSA => Self::Ecdsa { hash, r: part("signatureR")?, s: part("signatureS")? },
            ALG_RSASSA => Self::RsaSsa(hash, part("sig")?),
            ALG_RSAPSS => Self::RsaPss(hash, part("sig")?),
            value => {
                return Err(WireError::Unknown { field: "TPMT_SIGNATURE.sigAlg", value: value.into() });
            }
        };
        reader.end()?;
        Ok(signature)
    }

    /// The TPMT_SIGNATURE as a TPM encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let (scheme, hash) = match self {
            Self::Ecdsa { hash, .. } => (ALG_ECDSA, hash),
            Self::RsaSsa(hash, _) => (ALG_RSASSA, hash),
            Self::RsaPss(hash, _) => (ALG_RSAPSS, hash),
        };
        let mut out = Vec::with_capacity(72);
        out.extend(scheme.to_be_bytes());
        out.extend(hash.id().to_be_bytes());
        match self {
            Self::Ecdsa { r, s, .. } => {
                push_buffer(&mut out, r);
                push_buffer(&mut out, s);
            }
            Self::RsaSsa(_, signature) | Self::RsaPss(_, signature) => push_buffer(&mut out, signature),
        }
        out
    }

    /// The same signature as X.509 carries it: DER ECDSA-Sig-Value (RFC 3279 section 2.2.3), or the RSA integer.
    ///
    /// # Errors
    /// r or s is longer than any.
    pub fn to_x509(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Ecdsa { r, s, .. } => {
                let part = |bytes| UintRef::new(bytes).map_err(|_| WireError::NotCanonical("TPMT_SIGNATURE"));
                let signature = EcdsaSigValue { r: part(r)?, s: part(s)? };
                signature.to_der().map_err(|_| WireError::NotCanonical("TPMT_SIGNATURE"))
            }
            Self::RsaSsa(_, signature) | Self::RsaPss(_, signature) => Ok(signature.clone()),
        }
    }

    /// A signature as X.509 carries it, as a TPM would have given it: r and s have the length of the curve's order.
    ///
    /// # Errors
    /// It is no signature of the scheme.
    pub fn from_x509(scheme: Scheme, curve: Option<Curve>, signature: &[u8]) -> Result<Self, WireError> {
        let width = match curve {
            Some(Curve::P384) => 48,
            Some(Curve::P256) | None => 32,
        };
        match scheme {
            Scheme::Ecdsa(hash) => {
                let not = |_| WireError::NotCanonical("ECDSA-Sig-Value");
                let value = EcdsaSigValue::from_der(signature).map_err(not)?;
                let part = |part: UintRef<'_>| {
                    let bytes = part.as_bytes();
                    let mut padded = vec![0; width - width.min(bytes.len())];
                    padded.extend(bytes);
                    padded
                };
                Ok(Self::Ecdsa { hash, r: part(value.r), s: part(value.s) })
            }
            Scheme::RsaSsa(hash) => Ok(Self::RsaSsa(hash, signature.to_vec())),
            Scheme::RsaPss(hash) => Ok(Self::RsaPss(hash, signature.to_vec())),
            Scheme::None => Err(WireError::NotCanonical("a signature without a scheme")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Leading zeros are what differs between the encodings.
    #[test]
    fn both_encodings_say_the_same() {
        for (first, last) in [(0x80, 1), (0x7f, 2), (0, 3), (0, 0x80)] {
            let mut r = vec![0x11; 32];
            let mut s = vec![0x22; 32];
            (r[0], s[0]) = (first, last);
            let tpm = Signature::Ecdsa { hash: HashAlgorithm::Sha256, r, s };
            let x509 = tpm.to_x509().unwrap();
            let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
            assert_eq!(Signature::from_x509(scheme, Some(Curve::P256), &x509).unwrap(), tpm);
            assert_eq!(Signature::parse(&tpm.encode()).unwrap(), tpm);
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        for der in [&[][..], &[0x30, 0], &[0x30, 3, 2, 1, 1], &[0x30, 6, 2, 1, 1, 2, 1, 1, 0]] {
            assert!(Signature::from_x509(scheme, Some(Curve::P256), der).is_err(), "{der:?}");
        }
        for tpm in [
            "",
            "0018",
            "0018000b0001",
            "0018000b0001010001",
            "0018000b000101000101ff",
            "001a000b000101000101",
        ] {
            assert!(Signature::parse(&hex::decode(tpm).unwrap()).is_err(), "{tpm}");
        }
    }

    proptest! {
        /// What is taken for a signature is given back byte for byte, in either encoding.
        #[test]
        fn what_parses_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..160), at in 0..80usize, to in any::<u8>()) {
            let good = Signature::Ecdsa { hash: HashAlgorithm::Sha256, r: vec![0x81; 32], s: vec![0x11; 32] };
            let (mut tpm, mut x509) = (good.encode(), good.to_x509().unwrap());
            (tpm.get_mut(at).into_iter().chain(x509.get_mut(at))).for_each(|byte| *byte = to);
            for bytes in [&bytes, &tpm, &x509] {
                if let Ok(signature) = Signature::parse(bytes) {
                    prop_assert_eq!(&signature.encode(), bytes);
                    let _ = signature.to_x509();
                }
                for scheme in [Scheme::Ecdsa(HashAlgorithm::Sha256), Scheme::Ecdsa(HashAlgorithm::Sha384)] {
                    if let Ok(signature) = Signature::from_x509(scheme, Some(Curve::P256), bytes) {
                        prop_assert_eq!(&signature.to_x509().unwrap(), bytes);
                    }
                }
            }
        }
    }
}
