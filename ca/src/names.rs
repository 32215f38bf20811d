//! The names that certificates speak for.

mod tpm;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
pub use spiffe::{SpiffeId, TrustDomain};
pub(crate) use tpm::read_permanent_identifier;
pub use tpm::{PERMANENT_IDENTIFIER, TpmNames};

/// The longest SPIFFE ID that anyone must accept (SPIFFE-ID section 2.3).
pub const MAX_SPIFFE_ID: usize = 2048;

/// Path segments at the front of an ID that no grant ever matches: ours, and SPIRE's own agents and servers.
const RESERVED: [&str; 2] = ["undercroft", "spire"];

/// The SPIFFE ID by which the daemon is known in a domain.
pub const SERVER_PATH: &str = "/undercroft/server";

/// Parses a SPIFFE ID as it must stand in a certificate: scheme and trust domain in lower case, no query, no empty or
/// dot segment (SPIFFE-ID section 2; X509-SVID section 2).
///
/// # Errors
/// It is none, or longer than 2048 bytes, or spelled in another way than certificates have it.
pub fn parse_spiffe_id(text: &str) -> Result<SpiffeId, NameError> {
    let wrong = |rule: String| NameError::SpiffeId { id: text.chars().take(200).collect(), rule };
    if text.len() > MAX_SPIFFE_ID {
        return Err(wrong(format!("it is longer than {MAX_SPIFFE_ID} bytes")));
    }
    let id = SpiffeId::new(text).map_err(|error| wrong(error.to_string()))?;
    if id.to_string() != text {
        return Err(wrong(format!("write it as {id}")));
    }
    Ok(id)
}

/// Parses the name of a trust domain: `prod.example`, without scheme or path.
///
/// # Errors
/// It is none.
pub fn parse_trust_domain(text: &str) -> Result<TrustDomain, NameError> {
    let wrong = |rule: String| NameError::TrustDomain { name: text.chars().take(200).collect(), rule };
    let domain = TrustDomain::new(text).map_err(|error| wrong(error.to_string()))?;
    if domain.as_str() != text {
        return Err(wrong(format!("write it as {}", domain.as_str())));
    }
    Ok(domain)
}

/// Whether an ID lies below a path that is ours or SPIRE's.
pub fn is_reserved(id: &SpiffeId) -> bool {
    id.path().split('/').nth(1).is_some_and(|first| RESERVED.contains(&first))
}

/// A DNS name that may stand in a certificate: lower-case letters, digits and hyphens, at least one dot is not needed,
/// and no wildcard (RFC 1034 section 3.5, RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name of digits alone would be read as an IP address by some.
        let last_is_number = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if text.len() <= 253 && text.split('.').all(label) && !last_is_number {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Dns(text.chars().take(200).collect()))
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DnsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The names in a certificate's subjectAltName: at most one URI (X509-SVID section 2) and DNS names, or those of a TPM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The URI: a SPIFFE ID; with a path in leaves, without one in authorities.
    pub uri: Option<String>,
    /// DNS names.
    pub dns_names: Vec<DnsName>,
    /// Which TPM it is, in certificates of attestation keys alone.
    pub tpm: Option<TpmNames>,
}

impl Identity {
    /// The identity of a leaf.
    pub fn leaf(id: &SpiffeId, dns_names: Vec<DnsName>) -> Self {
        Self { uri: Some(id.to_string()), dns_names, tpm: None }
    }

    /// The identity of an authority of one trust domain (SPIFFE-ID section 3.1).
    pub fn authority(domain: &TrustDomain) -> Self {
        Self { uri: Some(domain.id_string()), dns_names: Vec::new(), tpm: None }
    }

    /// The identity of a TPM's attestation key.
    pub fn tpm(tpm: TpmNames) -> Self {
        Self { tpm: Some(tpm), ..Self::default() }
    }

    /// How lists of certificates call it, if it is named at all.
    pub fn text(&self) -> Option<String> {
        let tpm = || self.tpm.as_ref().map(TpmNames::text);
        self.uri.clone().or_else(tpm)
    }
}

/// What cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a SPIFFE ID.
    #[error("`{id}` is no SPIFFE ID: {rule}")]
    SpiffeId {
        /// What was written.
        id: String,
        /// What is wrong.
        rule: String,
    },
    /// Not a trust domain.
    #[error("`{name}` is no trust domain: {rule}")]
    TrustDomain {
        /// What was written.
        name: String,
        /// What is wrong.
        rule: String,
    },
    /// Not a DNS name.
    #[error(
        "`{0}` is no DNS name that may stand in a certificate: lower-case letters, digits and hyphens, no wildcard"
    )]
    Dns(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_read_as_certificates_have_them() {
        for id in ["spiffe://prod.example/ns/a/sa/b", "spiffe://prod.example", "spiffe://a_b-c.1/X.y-z_0"] {
            assert_eq!(parse_spiffe_id(id).unwrap().to_string(), id);
        }
        for id in [
            "",
            "prod.example/a",
            "https://prod.example/a",
            "SPIFFE://prod.example/a",
            "spiffe://Prod.example/a",
            "spiffe://prod.example/",
            "spiffe://prod.example/a/",
            "spiffe://prod.example//a",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example/./a",
            "spiffe://prod.example/a%2fb",
            "spiffe://prod.example/a?b=c",
            "spiffe://prod.example/a#b",
            "spiffe://prod.example:443/a",
            "spiffe://user@prod.example/a",
            "spiffe:///a",
            "spiffe://prod.example/\u{e4}",
            " spiffe://prod.example/a",
        ] {
            assert!(parse_spiffe_id(id).is_err(), "{id}");
        }
        let long = format!("spiffe://prod.example/{}", "a".repeat(2048));
        assert!(parse_spiffe_id(&long).unwrap_err().to_string().contains("2048"));
    }

    #[test]
    fn trust_domains_are_names_alone() {
        assert_eq!(parse_trust_domain("prod.example").unwrap().as_str(), "prod.example");
        for name in ["", "spiffe://prod.example", "prod.example/a", "Prod.example", "prod example"] {
            assert!(parse_trust_domain(name).is_err(), "{name}");
        }
    }

    #[test]
    fn reserved_paths_are_those_segments_and_no_others() {
        for (id, reserved) in [
            ("spiffe://a/undercroft", true),
            ("spiffe://a/undercroft/server", true),
            ("spiffe://a/spire/agent/x", true),
            ("spiffe://a/undercrofts", false),
            ("spiffe://a/ns/undercroft", false),
            ("spiffe://a", false),
        ] {
            assert_eq!(is_reserved(&parse_spiffe_id(id).unwrap()), reserved, "{id}");
        }
    }

    #[test]
    fn dns_names_have_no_wildcards_numbers_or_odd_labels() {
        for name in ["a", "a-1.prod.example", "xn--bcher-kva.example", "1a.example"] {
            assert_eq!(name.parse::<DnsName>().unwrap().as_str(), name);
        }
        let long = format!("{}.example", "a".repeat(64));
        for name in
            ["", ".", "a.", ".a", "a..b", "*.a", "A.example", "-a", "a-", "a_b", "10.0.0.1", "1", &long]
        {
            assert!(name.parse::<DnsName>().is_err(), "{name}");
        }
    }
}
