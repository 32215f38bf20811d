//! Keys of Google Cloud KMS (`google-kms-v1`): what Google says of a key, what the HSM states of it, and everyone else
//! who may sign with it.

mod certificates;
mod statement;

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;
use serde::Deserialize;
use undercroft_keys::PublicKey;

use super::{Custody, Grade};
pub use certificates::{BadAnchor, HsmAnchors};

/// The domain that Google's own endpoints are in, private ones (`….p.googleapis.com`) included.
const DOMAIN_OF_GOOGLE: &str = ".googleapis.com";

/// Predefined roles whose members may sign (Cloud KMS, "Permissions and roles").
const SIGNING: [&str; 4] = [
    "roles/cloudkms.signer",
    "roles/cloudkms.signerVerifier",
    "roles/cloudkms.cryptoOperator",
    "roles/owner",
];

/// Predefined roles whose members may let others sign, or themselves.
const ADMINISTERING: [&str; 3] = ["roles/cloudkms.admin", "roles/iam.securityAdmin", "roles/owner"];

/// Predefined roles whose members can do neither.
const HARMLESS: [&str; 5] = [
    "roles/cloudkms.viewer",
    "roles/cloudkms.publicKeyViewer",
    "roles/cloudkms.verifier",
    "roles/iam.securityReviewer",
    "roles/viewer",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    endpoint: Option<String>,
    key: KeySays,
    attestation: Option<Attestation>,
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySays {
    name: String,
    spki: String,
    algorithm: String,
    protection_level: String,
    state: String,
    imported: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attestation {
    format: String,
    content: String,
    manufacturer_chain: Vec<String>,
    owner_card: Vec<String>,
    owner_partition: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    resource: String,
    unread: Option<String>,
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    role: String,
    members: Vec<String>,
    condition: Option<String>,
}

/// What a statement of the HSM is worth.
enum Looked {
    /// It is the HSM's, and says that the key was made in it and never leaves it.
    Verified(String),
    /// It was not judged, for this reason; nothing is known to be wrong.
    Not(String),
    /// Somebody lies.
    Wrong(String),
}

/// Judges what Google said of a key. A statement of the HSM that verifies up to `anchors` proves it.
pub(super) fn judge(evidence: &[u8], key: &PublicKey, anchors: &HsmAnchors, now: Timestamp) -> Custody {
    let evidence: Evidence = match serde_json::from_slice(evidence) {
        Ok(evidence) => evidence,
        Err(error) => return Custody::unknown(format!("the evidence cannot be read: {error}")),
    };
    if evidence.key.spki != hex::encode(key.spki()) {
        return Custody::unknown("the evidence is about another key");
    }
    let KeySays { name, algorithm, protection_level, state, .. } = &evidence.key;
    let mut findings = vec![format!("{name}: {algorithm}, protection level {protection_level}, {state}")];
    findings.extend(evidence.signers());
    let (grade, reason) = evidence.grade(key, anchors, now);
    findings.push(reason);
    Custody::new(grade, findings)
}

/// The name of the version that evidence is about.
pub(super) fn name(evidence: &[u8]) -> Option<String> {
    serde_json::from_slice::<Evidence>(evidence).ok().map(|evidence| evidence.key.name)
}

impl Evidence {
    fn grade(&self, key: &PublicKey, anchors: &HsmAnchors, now: Timestamp) -> (Grade, String) {
        let unknown = |reason: &str| (Grade::Unknown, reason.to_owned());
        if self.key.imported {
            return unknown("its key material was imported: a copy of it is or was elsewhere");
        }
        match self.key.protection_level.as_str() {
            "HSM" | "HSM_SINGLE_TENANT" => {}
            "SOFTWARE" => return (Grade::Software, "Google keeps it in software".to_owned()),
            "EXTERNAL" | "EXTERNAL_VPC" => {
                return unknown("its key material is outside of Google, and Google does not know where");
            }
            _ => return unknown("it is not said where it is kept"),
        }
        let looked = match &self.attestation {
            Some(attestation) => attestation.look(key, anchors, now),
            None => Looked::Not("no statement of the HSM came with it".to_owned()),
        };
        let reason = match looked {
            Looked::Verified(what) => return (Grade::Proven, what),
            Looked::Wrong(what) => return (Grade::Unknown, format!("the statement of the HSM: {what}")),
            Looked::Not(why) => why,
        };
        match self.endpoint.as_deref().map(host) {
            None => {}
            Some(None) => {
                return (
                    Grade::Software,
                    "Google was asked at an address of the CA's own machine: whatever answers there is a simulator, or somebody in between".to_owned(),
                );
            }
            Some(Some(host)) if host.ends_with(DOMAIN_OF_GOOGLE) => {}
            Some(Some(host)) => {
                return unknown(&format!("Google was asked at {host}, which is no name of Google's"));
            }
        }
        (Grade::Declared, format!("Google says so; {reason}"))
    }

    /// Everyone who may sign with the key, or let others.
    fn signers(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for policy in &self.policies {
            let of = &policy.resource;
            if let Some(why) = &policy.unread {
                findings.push(format!("who may sign by the policy of {of} is not known: {why}"));
            }
            for Binding { role, members, condition } in &policy.bindings {
                let members = members.join(", ");
                let when = condition.as_ref().map(|text| format!(" when {text}")).unwrap_or_default();
                let role_is = |of: &[&str]| of.contains(&role.as_str());
                if role_is(&SIGNING) {
                    findings.push(format!("{members} may sign{when} ({role} on {of})"));
                }
                if role_is(&ADMINISTERING) {
                    findings.push(format!("{members} may let others sign{when} ({role} on {of})"));
                }
                if !role_is(&SIGNING) && !role_is(&ADMINISTERING) && !role_is(&HARMLESS) {
                    findings.push(format!(
                        "{members} may do what {role} allows, which is not known here{when} (on {of})"
                    ));
                }
            }
        }
        findings.push(
            "who may sign by what is granted on the project and above it is not in the evidence".to_owned(),
        );
        findings
    }
}

impl Attestation {
    fn look(&self, key: &PublicKey, anchors: &HsmAnchors, now: Timestamp) -> Looked {
        if anchors.is_empty() {
            return Looked::Not(
                "its HSM's statement is there, and no roots of the manufacturer and of Google were given to verify it"
                    .to_owned(),
            );
        }
        if self.format != "CAVIUM_V2_COMPRESSED" {
            return Looked::Not(format!("statements of the format {} are not judged here", self.format));
        }
        let content = match Base64::decode_vec(&self.content) {
            Ok(content) => content,
            Err(_) => return Looked::Wrong("it is no base64".to_owned()),
        };
        let statement = match statement::Statement::parse(&content) {
            Ok(statement) => statement,
            Err(why) => return Looked::Wrong(why),
        };
        let chains = (&self.manufacturer_chain[..], &self.owner_card[..], &self.owner_partition[..]);
        let partition = match certificates::partition(chains, anchors, now) {
            Ok(partition) => partition,
            Err(looked) => return looked,
        };
        if let Err(why) = partition.has_signed(statement.signed(), statement.signature()) {
            return Looked::Wrong(why);
        }
        match statement.says_of(key) {
            Ok(()) => Looked::Verified(format!(
                "the HSM states that the key was made in it and never leaves it; {}, certified by its manufacturer and by Google",
                partition.name()
            )),
            Err(looked) => looked,
        }
    }
}

/// The host of an endpoint; nothing for addresses of this machine.
fn host(endpoint: &str) -> Option<&str> {
    let authority = endpoint.strip_prefix("https://")?;
    Some(authority.split(':').next().unwrap_or(authority))
}

#[cfg(test)]
mod tests;
