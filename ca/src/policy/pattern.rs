//! Patterns of SPIFFE IDs and DNS names.

use std::fmt;
use std::str::FromStr;

use crate::names::{DnsName, SpiffeId, TrustDomain, is_reserved, parse_spiffe_id, parse_trust_domain};

/// A pattern of SPIFFE IDs, segment by segment: `*` is exactly one segment, `**` at the end is one or more. Nothing
/// matches inside a segment, so no caller can smuggle a name past a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    domain: TrustDomain,
    segments: Vec<Segment>,
    /// Whether the last segment may repeat.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    Any,
}

impl IdPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It would not be a SPIFFE ID with its stars replaced, or a star stands where it means nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |rule: &str| format!("`{text}` is no pattern of SPIFFE IDs: {rule}");
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| wrong("it must begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| wrong("it must have a path"))?;
        let domain = parse_trust_domain(domain).map_err(|error| error.to_string())?;
        let mut segments = Vec::new();
        let mut parts = path.split('/').peekable();
        let mut open = false;
        while let Some(part) = parts.next() {
            match part {
                "*" => segments.push(Segment::Any),
                "**" if parts.peek().is_none() => {
                    segments.push(Segment::Any);
                    open = true;
                }
                _ if part.contains('*') => {
                    return Err(wrong("a star stands for a whole segment, and ** only at the end"));
                }
                _ => {
                    let example = format!("spiffe://{}/{part}", domain.as_str());
                    parse_spiffe_id(&example).map_err(|error| error.to_string())?;
                    segments.push(Segment::Exactly(part.to_owned()));
                }
            }
        }
        Ok(Self { domain, segments, open })
    }

    /// The trust domain of all IDs that match.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whether it names a reserved path outright. A star never matches one: see [`IdPattern::matches`].
    pub(super) fn is_reserved(&self) -> bool {
        match self.segments.first() {
            Some(Segment::Exactly(first)) => first == "undercroft" || first == "spire",
            _ => false,
        }
    }

    /// Whether an ID matches. Reserved IDs match only patterns that name them outright.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        if id.trust_domain() != &self.domain || (is_reserved(id) && !self.is_reserved()) {
            return false;
        }
        let path: Vec<_> = id.path().split('/').skip(1).collect();
        let long_enough = match self.open {
            true => path.len() >= self.segments.len(),
            false => path.len() == self.segments.len(),
        };
        long_enough
            && self.segments.iter().zip(&path).all(|(segment, part)| match segment {
                Segment::Any => true,
                Segment::Exactly(exactly) => exactly == part,
            })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.domain.as_str())?;
        for (number, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Exactly(text) => write!(f, "/{text}")?,
                Segment::Any if self.open && number + 1 == self.segments.len() => f.write_str("/**")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        Ok(())
    }
}

/// A pattern of DNS names: a name, or `*.` and a name, where the star is exactly one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPattern {
    star: bool,
    name: DnsName,
}

impl DnsPattern {
    /// Whether a name matches.
    pub fn matches(&self, name: &DnsName) -> bool {
        match self.star {
            false => *name == self.name,
            true => name.as_str().split_once('.').is_some_and(|(_, parent)| parent == self.name.as_str()),
        }
    }
}

impl FromStr for DnsPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (star, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name
            .parse()
            .map_err(|_| format!("`{text}` is no pattern of DNS names; write a name, or *. and a name"))?;
        Ok(Self { star, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, id: &str) -> bool {
        IdPattern::parse(pattern).unwrap().matches(&parse_spiffe_id(id).unwrap())
    }

    #[test]
    fn stars_are_whole_segments() {
        let pattern = "spiffe://prod.example/ns/*/sa/*";
        assert!(matches(pattern, "spiffe://prod.example/ns/a/sa/b"));
        for id in [
            "spiffe://prod.example/ns/a/sa",
            "spiffe://prod.example/ns/a/sa/b/c",
            "spiffe://prod.example/ns/a/x/sa/b",
            "spiffe://prod.example/nt/a/sa/b",
            "spiffe://other.example/ns/a/sa/b",
            "spiffe://prod.example",
        ] {
            assert!(!matches(pattern, id), "{id}");
        }
    }

    #[test]
    fn two_stars_are_one_segment_or_more() {
        let pattern = "spiffe://prod.example/ns/**";
        assert!(matches(pattern, "spiffe://prod.example/ns/a"));
        assert!(matches(pattern, "spiffe://prod.example/ns/a/b/c"));
        assert!(!matches(pattern, "spiffe://prod.example/ns"));
        assert_eq!(IdPattern::parse(pattern).unwrap().to_string(), pattern);
    }

    #[test]
    fn a_star_never_reaches_reserved_paths() {
        for id in ["spiffe://prod.example/undercroft/server", "spiffe://prod.example/spire/agent/x"] {
            assert!(!matches("spiffe://prod.example/**", id));
            assert!(!matches("spiffe://prod.example/*/*", id));
        }
        assert!(matches("spiffe://prod.example/spire/server", "spiffe://prod.example/spire/server"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "prod.example/a",
            "spiffe://*/a",
            "spiffe://*.example/a",
            "spiffe://prod.example/a*",
            "spiffe://prod.example/**/a",
            "spiffe://prod.example/***",
            "spiffe://prod.example//a",
            "spiffe://prod.example/..",
            "spiffe://prod.example/a b",
        ] {
            assert!(IdPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dns_stars_are_one_label() {
        let pattern: DnsPattern = "*.prod.example".parse().unwrap();
        let matches = |name: &str| pattern.matches(&name.parse().unwrap());
        assert!(matches("a.prod.example"));
        assert!(!matches("prod.example"));
        assert!(!matches("a.b.prod.example"));
        assert!(!matches("aprod.example"));
        for text in ["*", "*.*.a", "a.*.b", "*a.b", "", "*."] {
            assert!(text.parse::<DnsPattern>().is_err(), "{text}");
        }
    }
}
