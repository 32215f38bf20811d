//! What a responder sends: OCSPResponse (RFC 6960 section 4.2.1).

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Enumerated, Sequence};
use undercroft_keys::SignatureAlgorithm;

/// The most bytes of a request that are read. One for a certificate has about a hundred.
pub const MOST_REQUEST: usize = 4096;

/// OCSPResponseStatus, those that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
pub enum ResponseStatus {
    /// There is a response.
    Successful = 0,
    /// It is no request.
    MalformedRequest = 1,
    /// There is no response that is good now; there may be one later.
    TryLater = 3,
    /// We cannot say anything about that certificate (RFC 5019 section 2.2.3).
    Unauthorized = 6,
}

/// id-pkix-ocsp-basic.
const BASIC: ObjectIdentifier = const_oid::db::rfc6960::ID_PKIX_OCSP_BASIC;

#[derive(Sequence)]
struct OcspResponse<'a> {
    status: ResponseStatus,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    bytes: Option<ResponseBytes<'a>>,
}

#[derive(Sequence)]
struct ResponseBytes<'a> {
    kind: ObjectIdentifier,
    response: &'a OctetStringRef,
}

#[derive(Sequence)]
struct BasicResponse<'a> {
    data: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    certificates: Vec<AnyRef<'a>>,
}

/// A response that says no more than why there is none. It is not signed.
///
/// # Errors
/// It cannot be encoded.
pub fn unsigned(status: ResponseStatus) -> Result<Vec<u8>, der::Error> {
    OcspResponse { status, bytes: None }.to_der()
}

/// Puts a response together: the ResponseData, the signature over it, and the certificate of whoever signed.
pub(crate) fn signed(
    data: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
    signer: &[u8],
) -> Result<Vec<u8>, der::Error> {
    let basic = BasicResponse {
        data: AnyRef::from_der(data)?,
        algorithm: AnyRef::from_der(algorithm.der())?,
        signature: BitStringRef::from_bytes(signature)?,
        certificates: vec![AnyRef::from_der(signer)?],
    }
    .to_der()?;
    let bytes = ResponseBytes { kind: BASIC, response: OctetStringRef::new(&basic)? };
    OcspResponse { status: ResponseStatus::Successful, bytes: Some(bytes) }.to_der()
}

/// The ResponseData of each response of a batch, as it is signed.
///
/// # Errors
/// It is no SEQUENCE OF.
pub fn each_response(batch: &[u8]) -> Result<Vec<Vec<u8>>, der::Error> {
    Vec::<AnyRef<'_>>::from_der(batch)?.iter().map(Encode::to_der).collect()
}

/// The signatures of a batch, in the order of its responses.
///
/// # Errors
/// It is no SEQUENCE OF BIT STRING.
pub fn each_signature(blob: &[u8]) -> Result<Vec<Vec<u8>>, der::Error> {
    Ok(Vec::<BitStringRef<'_>>::from_der(blob)?.iter().map(|bits| bits.raw_bytes().to_vec()).collect())
}
