//! What all artefacts of a plan are written in: times, files, the clause that they follow, and who decides.

use jiff::Timestamp;
use undercroft_log::leaf::{Caller, Channel, Digest};

use super::{Plan, Root};
use crate::issuance::Decision;
use crate::profile::{Kind, Profile};
use crate::time::Validity;

/// The plan is what decides in a ceremony: it was approved by its digest.
pub(super) fn decision(
    plan: &Plan,
    domain: &str,
    profile: &Profile,
    artefact: &str,
    request: Option<Digest>,
) -> Decision {
    Decision {
        domain: domain.to_owned(),
        profile: profile.name().to_owned(),
        caller: Caller { id: plan.origin().to_string(), by: Channel::Ceremony },
        rule: artefact.to_owned(),
        policy: plan.digest(),
        request,
        withheld: Vec::new(),
        evidence: Vec::new(),
    }
}

pub(super) fn find<'a>(roots: &'a [Root], name: &str) -> Result<&'a Root, String> {
    roots.iter().find(|root| root.name == name).ok_or_else(|| {
        let known: Vec<_> = roots.iter().map(Root::name).collect();
        format!("its issuer `{name}` is no root of this plan; known are {}", known.join(", "))
    })
}

pub(super) fn validity(
    kind: Kind,
    not_before: &toml::value::Datetime,
    not_after: &toml::value::Datetime,
) -> Result<Validity, String> {
    let validity =
        Validity::new(timestamp(not_before)?, timestamp(not_after)?).map_err(|error| error.to_string())?;
    let longest = Profile::standard(kind).max_lifetime();
    if validity.not_after() > validity.not_before() + longest.0 {
        return Err(format!("it would be valid for longer than {longest}, which is the most for a {kind:?}"));
    }
    Ok(validity)
}

pub(super) fn timestamp(datetime: &toml::value::Datetime) -> Result<Timestamp, String> {
    datetime
        .to_string()
        .parse::<Timestamp>()
        .ok()
        .filter(|time| time.subsec_nanosecond() == 0)
        .ok_or_else(|| format!("`{datetime}` is no time in UTC; write 2026-11-22T00:00:00Z"))
}

/// Artefacts are written below the output folder, wherever the plan comes from.
pub(super) fn output(path: String) -> Result<String, String> {
    let sound = !path.is_empty()
        && path.len() <= 200
        && path.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        });
    if sound {
        Ok(path)
    } else {
        Err(format!("`{path}` is no relative path of letters, digits, `-`, `_` and `.`"))
    }
}

/// Each artefact names the section of the policy document that it follows.
pub(super) fn follows(text: String) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("follows is empty; name the policy document and section that it follows".into()),
        false => Ok(text),
    }
}
