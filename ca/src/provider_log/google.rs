//! Cloud Audit Logs: what Google keeps of each call of Cloud KMS, in entries of Cloud Logging (`LogEntry` with an `AuditLog` as
//! its `protoPayload`). Signatures are Data Access entries (DATA_READ), which are kept where somebody has switched them on.
//!
//! A file is an array of entries, as `gcloud logging read --format json` prints it, or an entry a line, as a sink leaves it in a
//! bucket. Entries are Google's to extend, so that members which are not known are passed over.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::records::{self, NoLog};
use super::{Provider, ProviderLog, Signed};

/// What it is called in errors.
const WHAT: &str = "Cloud Audit Logs";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    insert_id: String,
    timestamp: Timestamp,
    #[serde(default)]
    proto_payload: Option<AuditLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditLog {
    #[serde(default)]
    service_name: String,
    #[serde(default)]
    method_name: String,
    #[serde(default)]
    resource_name: Option<String>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    authentication_info: Option<AuthenticationInfo>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationInfo {
    #[serde(default)]
    principal_email: Option<String>,
    #[serde(default)]
    principal_subject: Option<String>,
}

/// Reads files one after the other. An entry that is in several counts once.
#[derive(Debug, Default)]
pub struct CloudAudit {
    seen: HashSet<(Timestamp, String)>,
    log: ProviderLog,
}

impl CloudAudit {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none of Cloud Logging's.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), NoLog> {
        for entry in records::read::<Entry>(bytes, WHAT, "entries")? {
            self.enter(entry);
        }
        Ok(())
    }

    /// What was in them.
    pub fn finish(self) -> ProviderLog {
        ProviderLog { provider: Provider::Google, ..self.log }
    }

    fn enter(&mut self, entry: Entry) {
        // One insertId stands once at one time (LogEntry.insertId).
        if !self.seen.insert((entry.timestamp, entry.insert_id.clone())) {
            return;
        }
        self.log.cover(entry.timestamp);
        let Some(call) = entry.proto_payload else { return };
        let method = call.method_name.rsplit('.').next().unwrap_or_default();
        if call.service_name != "cloudkms.googleapis.com" || method != "AsymmetricSign" {
            return;
        }
        if call.status.is_some_and(|status| status.code != 0) {
            self.log.refused += 1;
            return;
        }
        let who = call.authentication_info;
        let by = who.and_then(|who| who.principal_email.or(who.principal_subject));
        self.log.signed.push(Signed {
            time: entry.timestamp,
            event: entry.insert_id,
            key: call.resource_name.filter(|name| name.contains("/cryptoKeyVersions/")),
            by: by.unwrap_or_else(|| "somebody".to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str =
        "projects/acme-ca/locations/europe-west3/keyRings/prod/cryptoKeys/ca/cryptoKeyVersions/1";

    /// As Google shows Data Access entries of Cloud KMS ("Cloud KMS audit logging"), shortened.
    fn entry(id: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut entry = json!({
            "protoPayload": {
                "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
                "authenticationInfo": {"principalEmail": "ca@acme-ca.iam.gserviceaccount.com"},
                "requestMetadata": {"callerIp": "10.0.0.1"}, "serviceName": "cloudkms.googleapis.com",
                "methodName": "AsymmetricSign", "resourceName": KEY, "request": {}, "response": {},
            },
            "insertId": id, "resource": {"type": "cloudkms_cryptokeyversion"}, "severity": "INFO",
            "timestamp": "2026-11-22T08:00:03.123456789Z",
            "logName": "projects/acme-ca/logs/cloudaudit.googleapis.com%2Fdata_access",
        });
        change(&mut entry);
        entry
    }

    fn read(entries: &[Value]) -> ProviderLog {
        let mut audit = CloudAudit::default();
        audit.read(json!(entries).to_string().as_bytes()).unwrap();
        audit.finish()
    }

    #[test]
    fn signatures_are_read_and_nothing_else() {
        let log = read(&[
            entry("1", |_| ()),
            entry("2", |entry| entry["protoPayload"]["methodName"] = "GetPublicKey".into()),
            entry("3", |entry| entry["protoPayload"]["serviceName"] = "storage.googleapis.com".into()),
            entry("4", |entry| entry["protoPayload"]["status"] = json!({"code": 7, "message": "denied"})),
            entry("5", |entry| entry["timestamp"] = "2026-11-22T09:00:00Z".into()),
            entry("5", |entry| entry["timestamp"] = "2026-11-22T09:00:00Z".into()),
            // Another of the same name is another.
            entry("5", |_| ()),
            entry("6", |entry| entry["protoPayload"] = Value::Null),
            entry("7", |entry| {
                entry["protoPayload"]["methodName"] =
                    "google.cloud.kms.v1.KeyManagementService.AsymmetricSign".into();
                entry["protoPayload"]["status"] = json!({});
            }),
        ]);
        assert_eq!((log.provider, log.signed.len(), log.refused), (Provider::Google, 4, 1));
        assert_eq!(log.signed[0].key.as_deref(), Some(KEY));
        assert_eq!(log.signed[0].by, "ca@acme-ca.iam.gserviceaccount.com");
        assert_eq!(log.covers.unwrap().1.to_string(), "2026-11-22T09:00:00Z");
    }

    #[test]
    fn a_key_is_a_version_of_a_key() {
        for name in [json!(null), json!(KEY.split("/cryptoKeyVersions").next())] {
            let log = read(&[entry("1", |entry| entry["protoPayload"]["resourceName"] = name)]);
            assert_eq!(log.signed[0].key, None);
        }
    }

    #[test]
    fn what_is_no_file_of_cloud_logging_is_refused() {
        let refusal = |bytes: &[u8]| CloudAudit::default().read(bytes).unwrap_err().to_string();
        assert!(refusal(&[0x1f, 0x8b, 8]).contains("gunzip"));
        for text in ["", "{}", "[]", "1", "[1]", "{\"entries\": []}", "[{\"insertId\": \"1\"}]", "[] x"] {
            assert!(refusal(text.as_bytes()).contains("no file of Cloud Audit Logs"), "{text}");
        }
        // What another provider keeps.
        assert!(refusal(br#"{"Records": [{"eventID": "1"}]}"#).contains("no file of"));
        let lines = format!("{}\n{}\n", entry("1", |_| ()), entry("2", |_| ()));
        let mut audit = CloudAudit::default();
        audit.read(lines.as_bytes()).unwrap();
        assert_eq!(audit.finish().signed.len(), 2);
        assert!(refusal(format!("{lines}x").as_bytes()).contains("no file of"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CloudAudit::default().read(&bytes);
        }
    }
}
