//! What the URI schemes share: attribute lists, percent-encoding, and filling one URI in from another.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Scheme, UriError};

/// The characters that stand for themselves: `pk11-pchar` of RFC 7512 section 2.3, which also serves the query and
/// the `tpm:` scheme, and `/`, which stays readable in the query, where paths are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b'[')
    .remove(b']')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=');

/// Splits `a=b;c=d` and hands each attribute, decoded, to `take`, which says whether it knows the name.
pub(super) fn each(
    scheme: Scheme,
    known: &[&str],
    text: &str,
    separator: char,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<bool, UriError>,
) -> Result<(), UriError> {
    for attribute in text.split(separator).filter(|part| !part.is_empty()) {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        if !take(name, percent_decode_str(value).collect())? {
            return Err(UriError::UnknownAttribute {
                scheme,
                attribute: name.to_owned(),
                known: known.join(", "),
            });
        }
    }
    Ok(())
}

/// Sets `field` once.
pub(super) fn set<T>(field: &mut Option<T>, name: &str, value: T) -> Result<bool, UriError> {
    match field.replace(value) {
        None => Ok(true),
        Some(_) => Err(UriError::Repeated(name.to_owned())),
    }
}

/// Reads a decoded value as text.
pub(super) fn text(attribute: &'static str, value: Vec<u8>) -> Result<String, UriError> {
    let value = String::from_utf8(value).map_err(|error| UriError::Value {
        attribute,
        value: String::from_utf8_lossy(error.as_bytes()).into_owned(),
        rule: "it must be UTF-8",
    })?;
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(UriError::Value {
            attribute,
            value: value.escape_default().to_string(),
            rule: "it must not be empty or hold control characters",
        });
    }
    Ok(value)
}

/// The key's value if it has one, else the device's; an error if both have one and they differ.
pub(super) fn complete<T: Clone + PartialEq + fmt::Debug>(
    attribute: &'static str,
    key: &Option<T>,
    device: &Option<T>,
) -> Result<Option<T>, UriError> {
    match (key, device) {
        (Some(key), Some(device)) if key != device => {
            Err(UriError::Conflict { attribute, key: plain(key), device: plain(device) })
        }
        (Some(value), _) | (None, Some(value)) => Ok(Some(value.clone())),
        (None, None) => Ok(None),
    }
}

fn plain(value: &impl fmt::Debug) -> String {
    format!("{value:?}").trim_matches('"').to_owned()
}

/// Percent-encodes an attribute value.
pub(super) fn encode(value: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(value, RESERVED)
}
