//! OCSP requests (RFC 6960 section 4.1), as responders keep them: what somebody wanted to know of which certificate.

use aws_lc_rs::digest::{self, Algorithm};
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding as _};
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Sequence};
use percent_encoding::percent_decode_str;

/// The hashes that name issuers: SHA-1, which nearly everybody uses, and those of SHA-2.
const HASHES: [(&str, &Algorithm); 4] = [
    ("1.3.14.3.2.26", &digest::SHA1_FOR_LEGACY_USE_ONLY),
    ("2.16.840.1.101.3.4.2.1", &digest::SHA256),
    ("2.16.840.1.101.3.4.2.2", &digest::SHA384),
    ("2.16.840.1.101.3.4.2.3", &digest::SHA512),
];

#[derive(Sequence)]
struct OcspRequest<'a> {
    tbs: TbsRequest<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    signature: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct TbsRequest<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    version: Option<AnyRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    requestor: Option<AnyRef<'a>>,
    requests: Vec<Request<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct Request<'a> {
    certificate: CertificateId<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct CertificateId<'a> {
    hash: HashAlgorithm<'a>,
    issuer_name: &'a OctetStringRef,
    issuer_key: &'a OctetStringRef,
    /// An INTEGER, which may be negative in what strangers write.
    serial: AnyRef<'a>,
}

#[derive(Sequence)]
struct HashAlgorithm<'a> {
    oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    parameters: Option<AnyRef<'a>>,
}

/// A certificate that somebody asked for (RFC 6960 section 4.1.1, CertID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedFor {
    hash: &'static Algorithm,
    /// The hash over the bits of the issuer's public key.
    issuer_key: Vec<u8>,
    /// The serial number, without leading zeros.
    serial: Vec<u8>,
}

impl AskedFor {
    /// What a request (DER) asks for. What names its issuer by a hash that is none of ours is left out.
    ///
    /// # Errors
    /// It is no OCSPRequest.
    pub fn read(request: &[u8]) -> Result<Vec<Self>, NoRequest> {
        let request = OcspRequest::from_der(request)?;
        let ids = request.tbs.requests.iter().map(|request| &request.certificate);
        Ok(ids.filter_map(Self::of).collect())
    }

    /// What a line of a log asks for: a request in hexadecimal or base64, or the path of a GET (RFC 6960 appendix A.1),
    /// whatever stands in front of the request in it.
    ///
    /// # Errors
    /// It holds no OCSPRequest.
    pub fn read_line(line: &str) -> Result<Vec<Self>, NoRequest> {
        let line = line.trim();
        let line = line.strip_prefix("GET ").unwrap_or(line);
        let line = line.split(' ').next().unwrap_or_default();
        let text = percent_decode_str(line).decode_utf8().map_err(|_| NoRequest::Encoding)?;
        // Base64 has slashes of its own, which some clients do not encode.
        let starts = std::iter::once(0).chain(text.match_indices('/').map(|(at, _)| at + 1));
        let decoded = starts.flat_map(|start| encodings(&text[start..]));
        let mut told = NoRequest::Encoding;
        for request in decoded {
            match Self::read(&request) {
                Ok(asked) => return Ok(asked),
                Err(error) => told = error,
            }
        }
        Err(told)
    }

    fn of(id: &CertificateId<'_>) -> Option<Self> {
        let (_, hash) = HASHES.iter().find(|(oid, _)| id.hash.oid.to_string() == *oid)?;
        let issuer_key = id.issuer_key.as_bytes().to_vec();
        Some(Self { hash, issuer_key, serial: without_zeros(id.serial.value()).to_vec() })
    }

    /// Whether the issuer has the key with these bits.
    pub(crate) fn is_by(&self, key_bits: &[u8]) -> bool {
        digest::digest(self.hash, key_bits).as_ref() == self.issuer_key
    }

    /// The serial number, without leading zeros.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// The content of an INTEGER as serial numbers are compared.
pub(crate) fn without_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}

/// What a text may be, decoded.
fn encodings(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let decoded = [
        hex::decode(text).ok(),
        Base64::decode_vec(text).ok(),
        Base64Unpadded::decode_vec(text).ok(),
        Base64Url::decode_vec(text).ok(),
        Base64UrlUnpadded::decode_vec(text).ok(),
    ];
    decoded.into_iter().flatten()
}

/// Why something is no OCSP request.
#[derive(Debug, thiserror::Error)]
pub enum NoRequest {
    /// Neither hexadecimal nor base64.
    #[error("it is neither hexadecimal nor base64")]
    Encoding,
    /// DER of something else.
    #[error("it is no OCSPRequest: {0}")]
    Der(#[from] der::Error),
}
