#![no_main]
//! Names and URLs.
use undercroft_ca::names::{DnsName, parse_spiffe_id, parse_trust_domain};
use undercroft_ca::tbs::HttpUrl;

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Each has one spelling.
    parse_spiffe_id(text).into_iter().for_each(|id| assert_eq!(id.to_string(), text));
    parse_trust_domain(text).into_iter().for_each(|domain| assert_eq!(domain.as_str(), text));
    text.parse::<DnsName>().into_iter().for_each(|name| assert_eq!(name.as_str(), text));
    text.parse::<HttpUrl>().into_iter().for_each(|url| assert_eq!(url.as_str(), text));
});
