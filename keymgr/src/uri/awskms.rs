//! `awskms:` URIs.

use std::fmt;

use super::cloud::{self, Attribute, Cloud, ENDPOINT_RULE, is_endpoint, is_hex, is_made_of};
use super::{Scheme, UriError};

/// AWS KMS in a region, or a key in it.
///
/// A key is named by its alias or by its key ID and never by both: an alias can be made to point to another key, so
/// that the two may come to contradict each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AwsKmsUri {
    /// The region, `eu-central-1`.
    pub region: Option<String>,
    /// The account that the keys belong to, 12 digits. What belongs to another is refused.
    pub account: Option<String>,
    /// Where KMS answers, if not at the region's own address.
    pub endpoint: Option<String>,
    /// The alias of the key, without the `alias/` that AWS writes before it.
    pub alias: Option<String>,
    /// The key ID: a UUID, or `mrk-` and 32 hexadecimal digits for a multi-region key.
    pub key_id: Option<String>,
}

impl Cloud for AwsKmsUri {
    const SCHEME: Scheme = Scheme::AwsKms;
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute {
            name: "region",
            of_key: false,
            holds: is_region,
            rule: "it must be a region such as eu-central-1",
            of: |uri| &uri.region,
            of_mut: |uri| &mut uri.region,
        },
        Attribute {
            name: "account",
            of_key: false,
            holds: |value| is_made_of(value, 12..=12, |byte| byte.is_ascii_digit()),
            rule: "it must be an account of 12 digits",
            of: |uri| &uri.account,
            of_mut: |uri| &mut uri.account,
        },
        Attribute {
            name: "alias",
            of_key: true,
            holds: is_alias,
            rule: "it must be an alias of letters, digits, `/`, `_` and `-` without the `alias/` before it, 250 characters at most, and those that begin with `aws/` are AWS's own",
            of: |uri| &uri.alias,
            of_mut: |uri| &mut uri.alias,
        },
        Attribute {
            name: "key-id",
            of_key: true,
            holds: is_key_id,
            rule: "it must be the ID of a key, 1234abcd-12ab-34cd-56ef-1234567890ab or mrk- and 32 digits, in lower case; an ARN's region and account are attributes of their own",
            of: |uri| &uri.key_id,
            of_mut: |uri| &mut uri.key_id,
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

impl AwsKmsUri {
    pub(super) fn parse(rest: &str) -> Result<Self, UriError> {
        let uri: Self = cloud::parse(rest)?;
        match (&uri.alias, uri.key_id) {
            (Some(_), Some(value)) => Err(UriError::Value {
                attribute: "key-id",
                value,
                rule: "the URI has an alias, too, and they may come to mean two keys; give one of them",
            }),
            (_, key_id) => Ok(Self { key_id, ..uri }),
        }
    }
}

fn is_region(value: &str) -> bool {
    let parts: Vec<_> = value.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| is_made_of(word, 1..=16, |byte| byte.is_ascii_lowercase()))
        && is_made_of(number, 1..=2, |byte| byte.is_ascii_digit())
}

/// CreateAlias, parameter AliasName.
fn is_alias(value: &str) -> bool {
    is_made_of(value, 1..=250, |byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte))
        && !value.starts_with("alias/")
        && !value.starts_with("aws/")
}

fn is_key_id(value: &str) -> bool {
    if let Some(digits) = value.strip_prefix("mrk-") {
        return is_made_of(digits, 32..=32, is_hex);
    }
    let parts: Vec<_> = value.split('-').collect();
    parts.len() == 5
        && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| is_made_of(part, length..=length, is_hex))
}

impl fmt::Display for AwsKmsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cloud::print(self, f)
    }
}
