//! Keys of AWS KMS (`aws-kms-v1`): what AWS says of a key, and everyone else who may sign with it.

mod policy;

use serde::Deserialize;
use undercroft_keys::PublicKey;

use super::{Custody, Grade};
use policy::Policy;

/// The action that signs.
const SIGN: &str = "kms:Sign";

/// The actions by which somebody may let others sign, or themselves.
const ADMINISTERING: [&str; 2] = ["kms:PutKeyPolicy", "kms:CreateGrant"];

/// The domains that AWS's own endpoints are in (AWS General Reference, "AWS service endpoints").
const DOMAINS_OF_AWS: [&str; 4] = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    endpoint: Option<String>,
    key: KeySays,
    policy: String,
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySays {
    arn: String,
    spki: String,
    spec: Option<String>,
    usage: Option<String>,
    state: Option<String>,
    manager: Option<String>,
    origin: Option<String>,
    multi_region: Option<String>,
    custom_key_store: Option<String>,
    cloud_hsm_cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    id: Option<String>,
    grantee: Option<String>,
    retiring: Option<String>,
    operations: Vec<String>,
}

/// Judges what AWS said of a key. AWS attests nothing, so that `declared` is the best.
pub(super) fn judge(evidence: &[u8], key: &PublicKey) -> Custody {
    let evidence: Evidence = match serde_json::from_slice(evidence) {
        Ok(evidence) => evidence,
        Err(error) => return Custody::unknown(format!("the evidence cannot be read: {error}")),
    };
    if evidence.key.spki != hex::encode(key.spki()) {
        return Custody::unknown("the evidence is about another key");
    }
    let policy = match Policy::parse(&evidence.policy) {
        Ok(policy) => policy,
        Err(error) => return Custody::unknown(format!("the key policy cannot be read: {error}")),
    };
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "not said".to_owned());
    let KeySays { arn, spec, usage, state, manager, origin, .. } = &evidence.key;
    let mut findings = vec![format!(
        "{arn}: {}, for {}, origin {}, managed by {}, state {}",
        said(spec),
        said(usage),
        said(origin),
        said(manager),
        said(state)
    )];
    if let Some(store) = &evidence.key.custom_key_store {
        let cluster = evidence.key.cloud_hsm_cluster.as_deref().unwrap_or("not of CloudHSM");
        findings.push(format!("it is in the custom key store {store}, cluster {cluster}"));
    }
    if let Some(kind) = &evidence.key.multi_region {
        findings.push(format!(
            "it is a multi-region key ({kind}): replicas of it may be in other regions, with policies of their own"
        ));
    }
    findings.extend(evidence.signers(&policy));
    let (grade, reason) = evidence.grade();
    findings.push(reason);
    Custody::new(grade, findings)
}

/// The ARN of the key that evidence is about.
pub(super) fn arn(evidence: &[u8]) -> Option<String> {
    serde_json::from_slice::<Evidence>(evidence).ok().map(|evidence| evidence.key.arn)
}

impl Evidence {
    fn grade(&self) -> (Grade, String) {
        let unknown = |reason: &str| (Grade::Unknown, reason.to_owned());
        match self.key.origin.as_deref() {
            Some("AWS_KMS" | "AWS_CLOUDHSM") => {}
            Some("EXTERNAL") => {
                return unknown("its key material was imported: a copy of it is or was elsewhere");
            }
            Some("EXTERNAL_KEY_STORE") => {
                return unknown("its key material is outside of AWS, and AWS does not know where");
            }
            _ => return unknown("it is not said where its key material comes from"),
        }
        if self.key.usage.as_deref() != Some("SIGN_VERIFY") || self.key.manager.as_deref() != Some("CUSTOMER")
        {
            return unknown("a key of an authority is the customer's and for SIGN_VERIFY alone");
        }
        match self.endpoint.as_deref().map(host) {
            None => {}
            Some(None) => {
                return (
                    Grade::Software,
                    "AWS was asked at an address of the CA's own machine: whatever answers there is a simulator, or somebody in between".to_owned(),
                );
            }
            Some(Some(host)) if DOMAINS_OF_AWS.iter().any(|domain| host.ends_with(domain)) => {}
            Some(Some(host)) => {
                return unknown(&format!("AWS was asked at {host}, which is no name of AWS's"));
            }
        }
        (Grade::Declared, "AWS says so and attests nothing".to_owned())
    }

    /// Everyone who may sign with the key, or let others.
    fn signers(&self, policy: &Policy) -> Vec<String> {
        let mut findings = Vec::new();
        for statement in policy.allowing(&[SIGN]) {
            findings.push(format!("{statement} may sign"));
        }
        for statement in policy.allowing(&ADMINISTERING) {
            findings.push(format!("{statement} may let others sign"));
        }
        if policy.denies() {
            findings.push("the policy also denies some of that, which is not weighed here".to_owned());
        }
        for grant in self.grants.iter().filter(|grant| grant.operations.iter().any(|name| name == "Sign")) {
            let (id, grantee) =
                (grant.id.as_deref().unwrap_or("-"), grant.grantee.as_deref().unwrap_or("somebody"));
            let retiring = grant.retiring.as_deref().unwrap_or("nobody");
            findings.push(format!("the grant {id} lets {grantee} sign ({retiring} may retire it)"));
        }
        for grant in
            self.grants.iter().filter(|grant| grant.operations.iter().any(|name| name == "CreateGrant"))
        {
            let (id, grantee) =
                (grant.id.as_deref().unwrap_or("-"), grant.grantee.as_deref().unwrap_or("somebody"));
            findings.push(format!("the grant {id} lets {grantee} pass on what it grants"));
        }
        findings
    }
}

/// The host of an endpoint that is reached by TLS; none for one that is not, which is on the asker's machine.
fn host(endpoint: &str) -> Option<&str> {
    let authority = endpoint.strip_prefix("https://")?;
    // A port is after the last colon, unless that is one of an IPv6 address in its brackets.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let is_local = host == "localhost"
        || host.ends_with(".localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    (!is_local).then_some(host)
}

#[cfg(test)]
mod tests;
