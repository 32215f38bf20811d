//! What the schemes of clouds share: each has a table of attributes, all of them text under a rule, and everything
//! else follows from the table.

use std::fmt;
use std::net::SocketAddr;

use super::attributes::{complete, each, encode, set, text};
use super::{Scheme, UriError};

/// One attribute of a scheme.
pub(super) struct Attribute<U> {
    /// As it is written.
    pub(super) name: &'static str,
    /// Whether it names a key, which the URI of a device must not do.
    pub(super) of_key: bool,
    /// What holds for its values.
    pub(super) holds: fn(&str) -> bool,
    /// The same in words, for whoever wrote another value.
    pub(super) rule: &'static str,
    /// Where the value stands.
    pub(super) of: fn(&U) -> &Option<String>,
    /// The same, to fill it in.
    pub(super) of_mut: fn(&mut U) -> &mut Option<String>,
}

/// A URI whose attributes a table describes.
pub(super) trait Cloud: Default + 'static {
    /// Its scheme.
    const SCHEME: Scheme;
    /// Its attributes, in the order in which they are printed.
    const ATTRIBUTES: &'static [Attribute<Self>];
}

/// Reads what follows the scheme.
pub(super) fn parse<U: Cloud>(rest: &str) -> Result<U, UriError> {
    let known: Vec<_> = U::ATTRIBUTES.iter().map(|attribute| attribute.name).collect();
    let mut uri = U::default();
    each(U::SCHEME, &known, rest, ';', |name, value| {
        let Some(attribute) = U::ATTRIBUTES.iter().find(|attribute| attribute.name == name) else {
            return Ok(false);
        };
        let value = text(attribute.name, value)?;
        if !(attribute.holds)(&value) {
            return Err(UriError::Value { attribute: attribute.name, value, rule: attribute.rule });
        }
        set((attribute.of_mut)(&mut uri), name, value)
    })?;
    Ok(uri)
}

/// The key's attributes, and where it has none, the device's.
pub(super) fn completed_by<U: Cloud>(key: &U, device: &U) -> Result<U, UriError> {
    let mut uri = U::default();
    for attribute in U::ATTRIBUTES {
        *(attribute.of_mut)(&mut uri) =
            complete(attribute.name, (attribute.of)(key), (attribute.of)(device))?;
    }
    Ok(uri)
}

/// Whether an attribute of a key is there.
pub(super) fn names_a_key<U: Cloud>(uri: &U) -> bool {
    U::ATTRIBUTES.iter().any(|attribute| attribute.of_key && (attribute.of)(uri).is_some())
}

/// Writes the URI as [`parse`] reads it.
pub(super) fn print<U: Cloud>(uri: &U, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}:", U::SCHEME)?;
    let mut separator = "";
    for attribute in U::ATTRIBUTES {
        if let Some(value) = (attribute.of)(uri) {
            write!(f, "{separator}{}={}", attribute.name, encode(value))?;
            separator = ";";
        }
    }
    Ok(())
}

/// The rule of [`is_endpoint`].
pub(super) const ENDPOINT_RULE: &str = "it must be https://host or https://host:port, or http:// and a loopback address (127.0.0.1 or [::1]) with its port; requests carry credentials";

/// Whether requests may be sent there: to a host by TLS, or in the clear to this very machine. A name such as
/// `localhost` is no address: what it stands for is up to a resolver.
pub(super) fn is_endpoint(value: &str) -> bool {
    if let Some(authority) = value.strip_prefix("https://") {
        return is_authority(authority);
    }
    let address = value.strip_prefix("http://").and_then(|authority| authority.parse::<SocketAddr>().ok());
    address.is_some_and(|address| address.ip().is_loopback())
}

/// `host` or `host:port`, where the host is a name or an address.
fn is_authority(authority: &str) -> bool {
    if authority.starts_with('[') {
        return authority.parse::<SocketAddr>().is_ok()
            || (authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')))
                .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    is_host(host)
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A DNS name in lower case, or an IPv4 address (RFC 1123 section 2.1).
pub(super) fn is_host(value: &str) -> bool {
    let is_label = |label: &str| {
        is_made_of(label, 1..=63, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    value.len() <= 253 && value.split('.').all(is_label)
}

/// Whether a text has a length within bounds and is made of such bytes alone.
pub(super) fn is_made_of(
    value: &str,
    length: std::ops::RangeInclusive<usize>,
    byte: impl Fn(u8) -> bool,
) -> bool {
    length.contains(&value.len()) && value.bytes().all(byte)
}

/// A hexadecimal digit as all three clouds print it.
pub(super) fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}
