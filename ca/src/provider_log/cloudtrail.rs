//! CloudTrail's log files: what AWS keeps of each call of KMS (AWS CloudTrail User Guide, "CloudTrail record contents").
//!
//! Its records are AWS's to extend, so that members which are not known are passed over. A file is an object with
//! `Records`, as CloudTrail leaves it in a bucket (without the compression), or one such record a line.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::{ProviderLog, Signed};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(rename = "eventID")]
    event_id: String,
    event_time: Timestamp,
    event_source: String,
    event_name: String,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    user_identity: Option<UserIdentity>,
    #[serde(default)]
    request_parameters: Option<RequestParameters>,
    #[serde(default)]
    resources: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserIdentity {
    #[serde(default)]
    arn: Option<String>,
    #[serde(default)]
    principal_id: Option<String>,
    #[serde(default)]
    invoked_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestParameters {
    #[serde(default)]
    key_id: Option<String>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "ARN", default)]
    arn: Option<String>,
}

/// Why a file is none of CloudTrail's.
#[derive(Debug, thiserror::Error)]
pub enum NoCloudTrail {
    /// It is compressed.
    #[error("it is compressed; gunzip it")]
    Compressed,
    /// It does not parse.
    #[error("it is no log file of CloudTrail: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads files one after the other. A record that is in several counts once.
#[derive(Debug, Default)]
pub struct CloudTrail {
    seen: HashSet<String>,
    log: ProviderLog,
}

impl CloudTrail {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none of CloudTrail's.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), NoCloudTrail> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(NoCloudTrail::Compressed);
        }
        let file = serde_json::from_slice::<File>(bytes).map(|file| file.records);
        let records = file.or_else(|error| match lines(bytes) {
            Ok(records) if !records.is_empty() => Ok(records),
            _ => Err(error),
        });
        for record in records? {
            self.enter(record);
        }
        Ok(())
    }

    /// What was in them.
    pub fn finish(self) -> ProviderLog {
        self.log
    }

    fn enter(&mut self, record: Record) {
        if !self.seen.insert(record.event_id.clone()) {
            return;
        }
        let time = record.event_time;
        self.log.cover(time);
        if record.event_source != "kms.amazonaws.com" || record.event_name != "Sign" {
            return;
        }
        if record.error_code.is_some() {
            self.log.refused += 1;
            return;
        }
        let resources = record.resources.unwrap_or_default();
        let mut arns = resources.into_iter().filter_map(|resource| resource.arn);
        let asked_for = record.request_parameters.and_then(|parameters| parameters.key_id);
        // The resource is the key itself; what was asked for may be an alias of it.
        let arn = arns
            .find(|arn| arn.contains(":key/"))
            .or_else(|| asked_for.filter(|name| name.starts_with("arn:") && name.contains(":key/")));
        let by = record.user_identity.and_then(|who| who.arn.or(who.invoked_by).or(who.principal_id));
        self.log.signed.push(Signed {
            time,
            event: record.event_id,
            key: arn,
            by: by.unwrap_or_else(|| "somebody".to_owned()),
        });
    }
}

fn lines(bytes: &[u8]) -> Result<Vec<Record>, serde_json::Error> {
    serde_json::Deserializer::from_slice(bytes).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    /// As AWS shows it ("Sign" in the AWS KMS Developer Guide's CloudTrail examples), shortened.
    fn record(id: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut record = json!({
            "eventVersion": "1.08",
            "userIdentity": {"type": "AssumedRole", "principalId": "AROA:i-1", "arn": "arn:aws:sts::111122223333:assumed-role/ca/i-1"},
            "eventTime": "2026-11-22T08:00:03Z", "eventSource": "kms.amazonaws.com", "eventName": "Sign",
            "awsRegion": "eu-central-1", "sourceIPAddress": "10.0.0.1", "userAgent": "aws-sdk-rust",
            "requestParameters": {"messageType": "DIGEST", "keyId": KEY, "signingAlgorithm": "ECDSA_SHA_256"},
            "responseElements": null, "eventID": id, "readOnly": true,
            "resources": [{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": KEY}],
            "eventType": "AwsApiCall", "recipientAccountId": "111122223333",
        });
        change(&mut record);
        record
    }

    fn read(records: &[Value]) -> ProviderLog {
        let mut trail = CloudTrail::default();
        trail.read(json!({ "Records": records }).to_string().as_bytes()).unwrap();
        trail.finish()
    }

    #[test]
    fn signatures_are_read_and_nothing_else() {
        let log = read(&[
            record("1", |_| ()),
            record("2", |record| record["eventName"] = "GetPublicKey".into()),
            record("3", |record| record["eventSource"] = "s3.amazonaws.com".into()),
            record("4", |record| record["errorCode"] = "ThrottlingException".into()),
            record("5", |record| record["eventTime"] = "2026-11-22T09:00:00Z".into()),
            record("5", |_| ()),
        ]);
        assert_eq!((log.signed.len(), log.refused), (2, 1));
        assert_eq!(log.signed[0].key.as_deref(), Some(KEY));
        assert_eq!(log.signed[0].by, "arn:aws:sts::111122223333:assumed-role/ca/i-1");
        let (first, last) = log.covers.unwrap();
        assert_eq!(
            (first.to_string(), last.to_string()),
            ("2026-11-22T08:00:03Z".into(), "2026-11-22T09:00:00Z".into())
        );
    }

    #[test]
    fn the_key_is_the_resource_and_an_alias_is_no_key() {
        let arns = |change: fn(&mut Value)| read(&[record("1", change)]).signed[0].key.clone();
        assert_eq!(
            arns(|record| record["requestParameters"]["keyId"] = "alias/ca".into()).as_deref(),
            Some(KEY)
        );
        assert_eq!(arns(|record| record["resources"] = Value::Null).as_deref(), Some(KEY));
        assert_eq!(
            arns(|record| {
                record["resources"] = Value::Null;
                record["requestParameters"] = Value::Null;
            }),
            None
        );
        assert_eq!(
            arns(|record| {
                record["resources"] = json!([]);
                record["requestParameters"]["keyId"] =
                    "arn:aws:kms:eu-central-1:111122223333:alias/ca".into();
            }),
            None
        );
        assert_eq!(
            read(&[
                record("1", |record| record["userIdentity"] = json!({"invokedBy": "backup.amazonaws.com"}))
            ])
            .signed[0]
                .by,
            "backup.amazonaws.com"
        );
    }

    #[test]
    fn what_is_no_file_of_cloudtrail_is_refused() {
        let refusal = |bytes: &[u8]| CloudTrail::default().read(bytes).unwrap_err().to_string();
        assert!(refusal(&[0x1f, 0x8b, 8]).contains("gunzip"));
        for text in ["", "{}", "[]", "{\"Records\": 1}", "{\"Records\": [{}]}", "{\"Records\": [] } x"] {
            assert!(refusal(text.as_bytes()).contains("no log file of CloudTrail"), "{text}");
        }
        let untimed = json!({ "Records": [record("1", |record| record["eventTime"] = "yesterday".into())] });
        assert!(refusal(untimed.to_string().as_bytes()).contains("no log file"));
        // A record a line, as CloudTrail Lake and CloudWatch export them.
        let lines = format!("{}\n{}\n", record("1", |_| ()), record("2", |_| ()));
        let mut trail = CloudTrail::default();
        trail.read(lines.as_bytes()).unwrap();
        assert_eq!(trail.finish().signed.len(), 2);
        assert!(refusal(format!("{lines}x").as_bytes()).contains("no log file"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CloudTrail::default().read(&bytes);
        }
    }
}
