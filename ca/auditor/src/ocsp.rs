//! OCSP requests as responders keep them, in files and in logs of requests.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding as _};
use percent_encoding::percent_decode_str;
pub use undercroft_ca::revocation::AskedFor;

/// What a line of a log asks for: a request in hexadecimal or base64, or the path of a GET (RFC 6960 appendix A.1),
/// whatever stands in front of the request in it.
///
/// # Errors
/// It holds no OCSPRequest.
pub fn read_line(line: &str) -> Result<Vec<AskedFor>, NoRequest> {
    let line = line.trim();
    let line = line.strip_prefix("GET ").unwrap_or(line);
    let line = line.split(' ').next().unwrap_or_default();
    let text = percent_decode_str(line).decode_utf8().map_err(|_| NoRequest::Encoding)?;
    // Base64 has slashes of its own, which some clients do not encode.
    let starts = std::iter::once(0).chain(text.match_indices('/').map(|(at, _)| at + 1));
    let decoded = starts.flat_map(|start| encodings(&text[start..]));
    let mut told = NoRequest::Encoding;
    for request in decoded {
        match AskedFor::read(&request) {
            Ok(asked) => return Ok(asked),
            Err(error) => told = error.into(),
        }
    }
    Err(told)
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
