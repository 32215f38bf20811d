//! `gcpkms:` URIs.

use std::fmt;

use super::Scheme;
use super::cloud::{self, Attribute, Cloud, ENDPOINT_RULE, is_endpoint, is_made_of};

/// A key ring of Google Cloud KMS, or a key version in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GcpKmsUri {
    /// The project's ID.
    pub project: Option<String>,
    /// The location: a region, a multi-region or `global`.
    pub location: Option<String>,
    /// The key ring.
    pub key_ring: Option<String>,
    /// Where Cloud KMS answers, if not at Google's own address.
    pub endpoint: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// The number of the key's version; a key made by us has one version, 1.
    pub version: Option<String>,
}

impl Cloud for GcpKmsUri {
    const SCHEME: Scheme = Scheme::GcpKms;
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute {
            name: "project",
            of_key: false,
            holds: is_project,
            rule: "it must be a project ID: 6 to 30 lower-case letters, digits and hyphens, a letter first and no hyphen last",
            of: |uri| &uri.project,
            of_mut: |uri| &mut uri.project,
        },
        Attribute {
            name: "location",
            of_key: false,
            holds: |value| {
                is_made_of(value, 1..=63, |byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
                })
            },
            rule: "it must be a location such as europe-west3 or global",
            of: |uri| &uri.location,
            of_mut: |uri| &mut uri.location,
        },
        Attribute {
            name: "key-ring",
            of_key: false,
            holds: is_name,
            rule: NAME_RULE,
            of: |uri| &uri.key_ring,
            of_mut: |uri| &mut uri.key_ring,
        },
        Attribute {
            name: "key",
            of_key: true,
            holds: is_name,
            rule: NAME_RULE,
            of: |uri| &uri.key,
            of_mut: |uri| &mut uri.key,
        },
        Attribute {
            name: "version",
            of_key: true,
            holds: |value| is_made_of(value, 1..=10, |byte| byte.is_ascii_digit()) && !value.starts_with('0'),
            rule: "it must be the number of a version, from 1",
            of: |uri| &uri.version,
            of_mut: |uri| &mut uri.version,
        },
        Attribute {
            name: "endpoint",
            of_key: false,
            holds: is_endpoint,
            rule: ENDPOINT_RULE,
            of: |uri| &uri.endpoint,
            of_mut: |uri| &mut uri.endpoint,
        },
    ];
}

const NAME_RULE: &str = "it must have 1 to 63 letters, digits, `_` and `-`";

fn is_name(value: &str) -> bool {
    is_made_of(value, 1..=63, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn is_project(value: &str) -> bool {
    is_made_of(value, 6..=30, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && value.starts_with(|first: char| first.is_ascii_lowercase())
        && !value.ends_with('-')
}

impl fmt::Display for GcpKmsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cloud::print(self, f)
    }
}
