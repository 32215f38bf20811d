//! `azurekv:` URIs.

use std::fmt;

use super::Scheme;
use super::cloud::{self, Attribute, Cloud, ENDPOINT_RULE, is_endpoint, is_hex, is_host, is_made_of};

/// An Azure Key Vault or Managed HSM, or a key in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AzureKvUri {
    /// The host name of the vault, which also says of which kind and in which cloud it is: `prod.vault.azure.net`,
    /// `prod.managedhsm.azure.net`.
    pub vault: Option<String>,
    /// Where the vault answers, if not at its own host name.
    pub endpoint: Option<String>,
    /// The key's name.
    pub key: Option<String>,
    /// The version of the key, 32 hexadecimal digits.
    pub version: Option<String>,
}

impl Cloud for AzureKvUri {
    const SCHEME: Scheme = Scheme::AzureKv;
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute {
            name: "vault",
            of_key: false,
            holds: |value| is_host(value) && value.contains('.'),
            rule: "it must be the host name of a vault or a managed HSM, such as prod.vault.azure.net or prod.managedhsm.azure.net",
            of: |uri| &uri.vault,
            of_mut: |uri| &mut uri.vault,
        },
        Attribute {
            name: "key",
            of_key: true,
            holds: |value| is_made_of(value, 1..=127, |byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            rule: "it must have 1 to 127 letters, digits and hyphens",
            of: |uri| &uri.key,
            of_mut: |uri| &mut uri.key,
        },
        Attribute {
            name: "version",
            of_key: true,
            holds: |value| is_made_of(value, 32..=32, is_hex),
            rule: "it must be a version of 32 hexadecimal digits in lower case",
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

impl fmt::Display for AzureKvUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cloud::print(self, f)
    }
}
