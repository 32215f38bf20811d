//! Evidence of where a key of AWS KMS lives, and of who may use it.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::types::{GrantListEntry, GrantOperation, KeyMetadata};
use serde::Serialize;
use undercroft_keymgr::{CustodyEvidence, Error, ErrorKind, ProveCustody};
use undercroft_keys::PublicKey;

use super::error::{Failure, sort};
use super::service::Service;

/// The format of this evidence: a JSON object of the shape below, UTF-8, in which every value is what AWS said when it
/// was asked; what AWS leaves out is null.
///
/// ```json
/// { "endpoint": "http://127.0.0.1:5000, or null for AWS's own in the region of the key",
///   "key":      {"arn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-…", "spki": "<hex>",
///                "spec": "ECC_NIST_P256", "usage": "SIGN_VERIFY", "state": "Enabled", "manager": "CUSTOMER",
///                "origin": "AWS_KMS", "multi_region": "PRIMARY", "custom_key_store": null, "cloud_hsm_cluster": null},
///   "policy":   "<the key policy, JSON, as AWS keeps it>",
///   "grants":   [{"id": "…", "grantee": "arn:…", "retiring": "arn:…", "operations": ["Sign"]}] }
/// ```
///
/// AWS attests nothing: whoever answers for it controls every value. It is graded `declared` at best.
pub const CUSTODY_FORMAT: &str = "aws-kms-v1";

#[derive(Serialize)]
struct Evidence<'a> {
    endpoint: Option<&'a str>,
    key: KeySays<'a>,
    policy: String,
    grants: Vec<Grant>,
}

#[derive(Serialize)]
struct KeySays<'a> {
    arn: &'a str,
    spki: String,
    spec: Option<&'a str>,
    usage: Option<&'a str>,
    state: Option<&'a str>,
    manager: Option<&'a str>,
    origin: Option<&'a str>,
    multi_region: Option<&'a str>,
    custom_key_store: Option<&'a str>,
    cloud_hsm_cluster: Option<&'a str>,
}

#[derive(Serialize)]
struct Grant {
    id: Option<String>,
    grantee: Option<String>,
    retiring: Option<String>,
    operations: Vec<String>,
}

/// Asks AWS about one of its keys.
#[derive(Debug)]
pub(super) struct Custody {
    pub(super) service: Arc<Service>,
    pub(super) arn: String,
    pub(super) public_key: PublicKey,
    pub(super) subject: String,
}

#[async_trait]
impl ProveCustody for Custody {
    async fn custody_evidence(&self) -> Result<CustodyEvidence, Error> {
        let metadata = self.metadata().await?;
        let evidence = Evidence {
            endpoint: self.service.uri.endpoint.as_deref(),
            key: KeySays {
                arn: metadata.arn().unwrap_or_default(),
                spki: hex::encode(self.public_key.spki()),
                spec: metadata.key_spec().map(|spec| spec.as_str()),
                usage: metadata.key_usage().map(|usage| usage.as_str()),
                state: metadata.key_state().map(|state| state.as_str()),
                manager: metadata.key_manager().map(|manager| manager.as_str()),
                origin: metadata.origin().map(|origin| origin.as_str()),
                multi_region: match metadata.multi_region() {
                    Some(true) => Some(
                        (metadata.multi_region_configuration())
                            .and_then(|configuration| configuration.multi_region_key_type())
                            .map_or("UNKNOWN", |kind| kind.as_str()),
                    ),
                    _ => None,
                },
                custom_key_store: metadata.custom_key_store_id(),
                cloud_hsm_cluster: metadata.cloud_hsm_cluster_id(),
            },
            policy: self.policy().await?,
            grants: self.grants().await?,
        };
        let bytes = serde_json::to_vec(&evidence)
            .map_err(|error| Error::with_source(ErrorKind::Fault, "cannot write custody evidence", error))?;
        Ok(CustodyEvidence { format: CUSTODY_FORMAT, bytes })
    }
}

impl Custody {
    fn failure(&self, operation: &'static str) -> Failure {
        Failure { subject: self.subject.clone(), operation }
    }

    async fn metadata(&self) -> Result<KeyMetadata, Error> {
        let request = self.service.client.describe_key().key_id(&self.arn);
        let failure = self.failure("DescribeKey");
        let answer = self.service.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| sort(&failure, error)) }
        });
        let nothing = || Error::new(ErrorKind::Fault, format!("{}: AWS KMS describes nothing", self.subject));
        answer.await?.key_metadata.filter(|found| found.arn() == Some(&self.arn)).ok_or_else(nothing)
    }

    async fn policy(&self) -> Result<String, Error> {
        let request = self.service.client.get_key_policy().key_id(&self.arn).policy_name("default");
        let failure = self.failure("GetKeyPolicy");
        let answer = self.service.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| sort(&failure, error)) }
        });
        let nothing =
            || Error::new(ErrorKind::Fault, format!("{}: AWS KMS gave no key policy", self.subject));
        answer.await?.policy.ok_or_else(nothing)
    }

    async fn grants(&self) -> Result<Vec<Grant>, Error> {
        let mut grants = Vec::new();
        let mut marker = None;
        loop {
            let request = self.service.client.list_grants().key_id(&self.arn).set_marker(marker);
            let failure = self.failure("ListGrants");
            let page = self.service.calls.run(move || {
                let (request, failure) = (request.clone(), failure.clone());
                async move { request.send().await.map_err(|error| sort(&failure, error)) }
            });
            let page = page.await?;
            grants.extend(page.grants.unwrap_or_default().into_iter().map(Grant::from));
            match page.next_marker {
                Some(next) if page.truncated => marker = Some(next),
                _ => return Ok(grants),
            }
        }
    }
}

impl From<GrantListEntry> for Grant {
    fn from(entry: GrantListEntry) -> Self {
        let operations = entry.operations.unwrap_or_default();
        Self {
            id: entry.grant_id,
            grantee: entry.grantee_principal,
            retiring: entry.retiring_principal,
            operations: operations.iter().map(GrantOperation::as_str).map(str::to_owned).collect(),
        }
    }
}
