#![no_main]
//! What rules and profiles are made of: patterns, lifetimes, OIDs.
use undercroft_ca::names::parse_spiffe_id;
use undercroft_ca::policy::{DnsPattern, IdPattern};
use undercroft_ca::{profile::PolicyArc, time::Lifetime};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ =
        (text.parse::<PolicyArc>(), text.parse::<DnsPattern>().map(|it| it.matches(&"a.b".parse().unwrap())));
    text.parse::<Lifetime>().into_iter().for_each(|it| assert_eq!(it.to_string().parse(), Ok(it)));
    let Ok(pattern) = IdPattern::parse(text) else { return };
    assert_eq!(IdPattern::parse(&pattern.to_string()), Ok(pattern.clone()));
    // An ID without wildcards is a pattern that it matches.
    parse_spiffe_id(text).into_iter().for_each(|id| assert!(pattern.matches(&id), "{id}"));
});
