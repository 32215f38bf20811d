//! OCSP requests (RFC 6960 section 4.1): what somebody wants to know of which certificate.

use aws_lc_rs::digest::{self, Algorithm};
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Sequence};

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
    /// The hash over the DER of the issuer's name.
    issuer_name: Vec<u8>,
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
    pub fn read(request: &[u8]) -> Result<Vec<Self>, der::Error> {
        let request = OcspRequest::from_der(request)?;
        let ids = request.tbs.requests.iter().map(|request| &request.certificate);
        Ok(ids.filter_map(Self::of).collect())
    }

    fn of(id: &CertificateId<'_>) -> Option<Self> {
        let (_, hash) = HASHES.iter().find(|(oid, _)| id.hash.oid.to_string() == *oid)?;
        let issuer_key = id.issuer_key.as_bytes().to_vec();
        let issuer_name = id.issuer_name.as_bytes().to_vec();
        Some(Self { hash, issuer_name, issuer_key, serial: without_zeros(id.serial.value()).to_vec() })
    }

    /// Whether the issuer has the key with these bits.
    pub fn is_by(&self, key_bits: &[u8]) -> bool {
        digest::digest(self.hash, key_bits).as_ref() == self.issuer_key
    }

    /// Whether it names the issuer by these hashes over its name and the bits of its key.
    pub(crate) fn names(&self, name: &[u8], key: &[u8]) -> bool {
        self.issuer_name == name && self.issuer_key == key
    }

    /// The serial number, without leading zeros.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// The content of an INTEGER as serial numbers are compared.
pub fn without_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}
