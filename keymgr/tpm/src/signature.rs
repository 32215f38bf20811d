//! TPM signatures as X.509 carries them.

use der::asn1::UintRef;
use der::{Encode, Sequence};
use tss_esapi::structures::Signature;
use undercroft_keymgr::{Error, ErrorKind};

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

pub(crate) fn x509_signature(signature: &Signature) -> Result<Vec<u8>, Error> {
    match signature {
        Signature::EcDsa(ecc) => {
            let encoded = UintRef::new(ecc.signature_r().value()).and_then(|r| {
                let s = UintRef::new(ecc.signature_s().value())?;
                EcdsaSignature { r, s }.to_der()
            });
            encoded.map_err(|error| {
                Error::with_source(ErrorKind::Fault, "the TPM gave a malformed ECDSA signature", error)
            })
        }
        Signature::RsaSsa(rsa) | Signature::RsaPss(rsa) => Ok(rsa.signature().value().to_vec()),
        Signature::EcDaa(_)
        | Signature::Sm2(_)
        | Signature::EcSchnorr(_)
        | Signature::Hmac(_)
        | Signature::Null => {
            Err(Error::new(ErrorKind::Fault, "the TPM signed with another scheme than it was asked to"))
        }
    }
}
