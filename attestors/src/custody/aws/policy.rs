//! Key policies (AWS IAM User Guide, "IAM JSON policy element reference"), as far as they say who may do something.
//!
//! It errs on the side of naming too many: conditions and denials are told and not weighed, and an element that is not
//! known makes the policy unreadable.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// A key policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Policy {
    #[serde(rename = "Version", default)]
    _version: Option<String>,
    #[serde(rename = "Id", default)]
    _id: Option<String>,
    statement: OneOrMany<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Statement {
    #[serde(default)]
    sid: Option<String>,
    effect: Effect,
    #[serde(default)]
    principal: Option<Principals>,
    #[serde(default)]
    not_principal: Option<Principals>,
    #[serde(default)]
    action: Option<OneOrMany<String>>,
    #[serde(default)]
    not_action: Option<OneOrMany<String>>,
    // A key policy is about its key alone, whatever stands here.
    #[serde(rename = "Resource", default)]
    _resource: Option<Value>,
    #[serde(default)]
    condition: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Many(many) => many,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

/// `"*"`, or kinds of principals with their names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Principals {
    Everyone(String),
    Named(std::collections::BTreeMap<String, OneOrMany<String>>),
}

impl Policy {
    /// Reads a policy as AWS keeps it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for statement in policy.statement.as_slice() {
            let principals =
                usize::from(statement.principal.is_some()) + usize::from(statement.not_principal.is_some());
            let actions =
                usize::from(statement.action.is_some()) + usize::from(statement.not_action.is_some());
            if principals != 1 || actions != 1 {
                return Err("a statement without principal or action, or with two of one".to_owned());
            }
        }
        Ok(policy)
    }

    /// Who is allowed one of `actions` by which statement.
    pub(super) fn allowing(&self, actions: &[&str]) -> Vec<Allowance<'_>> {
        let statements = self.statement.as_slice().iter();
        statements
            .filter(|statement| statement.effect == Effect::Allow)
            .filter(|statement| actions.iter().any(|action| statement.covers(action)))
            .map(Allowance)
            .collect()
    }

    /// Whether it takes something away, too.
    pub(super) fn denies(&self) -> bool {
        self.statement.as_slice().iter().any(|statement| statement.effect == Effect::Deny)
    }
}

impl Statement {
    fn covers(&self, action: &str) -> bool {
        let matched = |patterns: &OneOrMany<String>| {
            patterns.as_slice().iter().any(|pattern| {
                matches(pattern.to_ascii_lowercase().as_bytes(), action.to_ascii_lowercase().as_bytes())
            })
        };
        match (&self.action, &self.not_action) {
            (Some(patterns), _) => matched(patterns),
            (None, Some(patterns)) => !matched(patterns),
            (None, None) => true,
        }
    }
}

/// A statement that allows something, in words.
pub(super) struct Allowance<'a>(&'a Statement);

impl fmt::Display for Allowance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(statement) = self;
        let (principals, except) = match (&statement.principal, &statement.not_principal) {
            (Some(principals), _) => (principals, ""),
            (None, Some(principals)) => (principals, "everyone except "),
            (None, None) => return f.write_str("everyone"),
        };
        write!(f, "{except}{principals}")?;
        if let Some(sid) = &statement.sid {
            write!(f, " (statement `{sid}`)")?;
        }
        if let Some(condition) = &statement.condition {
            write!(f, ", if {condition},")?;
        }
        Ok(())
    }
}

impl fmt::Display for Principals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = match self {
            Self::Everyone(name) if name == "*" => return f.write_str("everyone in every account"),
            Self::Everyone(name) => return f.write_str(name),
            Self::Named(named) => named,
        };
        let mut separator = "";
        for (kind, names) in named {
            for name in names.as_slice() {
                f.write_str(separator)?;
                separator = ", ";
                match (kind.as_str(), account_of(name)) {
                    ("AWS", _) if name == "*" => f.write_str("everyone in every account")?,
                    // The account as a principal stands for whomever its administrators let (AWS KMS Developer Guide,
                    // "Default key policy").
                    ("AWS", Some(account)) => {
                        write!(f, "whomever IAM policies of the account {account} let")?
                    }
                    ("AWS", None) => f.write_str(name)?,
                    (kind, _) => write!(f, "{name} ({kind})")?,
                }
            }
        }
        Ok(())
    }
}

/// The account that a principal stands for as a whole: `arn:aws:iam::111122223333:root`, or its 12 digits alone.
fn account_of(principal: &str) -> Option<&str> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_account(principal) {
        return Some(principal);
    }
    let parts: Vec<_> = principal.split(':').collect();
    match parts[..] {
        ["arn", _, "iam", "", account, "root"] if is_account(account) => Some(account),
        _ => None,
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for any number of characters and `?` for one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // The last `*` that was met, and how much of the text it stands for: on a mismatch it takes one byte more.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_aws_matches_them() {
        for (pattern, text, expected) in [
            ("*", "kms:sign", true),
            ("kms:*", "kms:sign", true),
            ("kms:s*", "kms:sign", true),
            ("kms:?ign", "kms:sign", true),
            ("kms:*g*", "kms:sign", true),
            ("kms:sign", "kms:sign", true),
            ("kms:sign*", "kms:sign", true),
            ("kms:verify", "kms:sign", false),
            ("kms:sign?", "kms:sign", false),
            ("kms:describe*", "kms:sign", false),
            ("*:verify", "kms:sign", false),
            ("s3:*", "kms:sign", false),
            ("", "kms:sign", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_whatever_was_cut_out(text in "[a-c]{0,12}", from in 0usize..12, to in 0usize..12) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            prop_assume!(from <= to);
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn arbitrary_policies_never_panic(text in "\\PC{0,80}") {
            let _ = Policy::parse(&text);
        }
    }
}
