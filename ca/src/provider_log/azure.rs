//! Key Vault's diagnostic logs: what Azure keeps of each call of a vault or Managed HSM (category `AuditEvent`), where somebody
//! has switched it on.
//!
//! A file is a record a line, as a storage account has them, an array of them, or an object with `records`. Records are Azure's
//! to extend, so that members which are not known are passed over.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use undercroft_log::leaf::Digest;

use super::records::{self, NoLog};
use super::{Provider, ProviderLog, Signed};

/// What it is called in errors.
const WHAT: &str = "Key Vault's diagnostic logs";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    time: Timestamp,
    category: String,
    operation_name: String,
    #[serde(default)]
    result_type: Option<String>,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default, rename = "callerIpAddress")]
    caller: Option<String>,
    #[serde(default)]
    identity: Option<Identity>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    claim: HashMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    request_uri: Option<String>,
    #[serde(default)]
    http_status_code: Option<i64>,
}

/// Claims that say who asked, the best first.
const CLAIMS: [&str; 4] = [
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "upn",
    "appid",
    "http://schemas.microsoft.com/identity/claims/objectidentifier",
];

/// Reads files one after the other. A record that is in several counts once.
#[derive(Debug, Default)]
pub struct KeyVaultAudit {
    seen: HashSet<Digest>,
    log: ProviderLog,
}

impl KeyVaultAudit {
    /// Reads a file.
    ///
    /// # Errors
    /// It is none of Key Vault's.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), NoLog> {
        for value in records::read::<Value>(bytes, WHAT, "records")? {
            // Records have no name of their own, and callers choose the correlation: the same record is the same in all.
            let digest = Digest::of(value.to_string().as_bytes());
            let record =
                serde_json::from_value(value).map_err(|error| NoLog::Malformed(WHAT, error.to_string()))?;
            if self.seen.insert(digest) {
                self.enter(record);
            }
        }
        Ok(())
    }

    /// What was in them.
    pub fn finish(self) -> ProviderLog {
        ProviderLog { provider: Provider::Azure, ..self.log }
    }

    fn enter(&mut self, record: Record) {
        self.log.cover(record.time);
        if record.category != "AuditEvent" || !record.operation_name.eq_ignore_ascii_case("KeySign") {
            return;
        }
        let properties = record.properties;
        let status = properties.as_ref().and_then(|properties| properties.http_status_code);
        // Whichever says that it was done.
        let done = status.is_some_and(|status| (200..300).contains(&status))
            || record.result_type.is_some_and(|result| result.eq_ignore_ascii_case("Success"));
        if !done {
            self.log.refused += 1;
            return;
        }
        let key = properties.and_then(|properties| properties.id.or(properties.request_uri));
        let claims = record.identity.map(|identity| identity.claim).unwrap_or_default();
        let by = CLAIMS.iter().find_map(|claim| claims.get(*claim)?.as_str().map(str::to_owned));
        self.log.signed.push(Signed {
            time: record.time,
            event: record.correlation_id.unwrap_or_else(|| "a call".to_owned()),
            key,
            by: by.or(record.caller).unwrap_or_else(|| "somebody".to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &str = "https://prod.vault.azure.net/keys/ca/0123456789abcdef0123456789abcdef";

    /// As Azure shows it ("Azure Key Vault logging"), shortened.
    fn record(id: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut record = json!({
            "time": "2026-11-22T08:00:03.2691226Z", "resourceId": "/SUBSCRIPTIONS/1/…/VAULTS/PROD",
            "operationName": "KeySign", "operationVersion": "7.4", "category": "AuditEvent",
            "resultType": "Success", "resultSignature": "OK", "durationMs": "78", "callerIpAddress": "10.0.0.1",
            "correlationId": id, "identity": {"claim": {"appid": "6f2c", "oid": "x"}},
            "properties": {
                "clientInfo": "azsdk-rust", "id": KEY, "httpStatusCode": 200,
                "requestUri": format!("{KEY}/sign?api-version=7.4"),
            },
        });
        change(&mut record);
        record
    }

    fn read(records: &[Value]) -> ProviderLog {
        let mut audit = KeyVaultAudit::default();
        audit.read(json!({ "records": records }).to_string().as_bytes()).unwrap();
        audit.finish()
    }

    #[test]
    fn signatures_are_read_and_nothing_else() {
        let log = read(&[
            record("1", |_| ()),
            record("1", |_| ()),
            // Callers choose it.
            record("1", |record| record["time"] = "2026-11-22T08:00:04Z".into()),
            record("2", |record| record["operationName"] = "KeyGet".into()),
            record("3", |record| record["category"] = "AzurePolicyEvaluationDetails".into()),
            record("4", |record| {
                record["resultType"] = "Failed".into();
                record["properties"]["httpStatusCode"] = 403.into();
            }),
            record("5", |record| {
                record["resultType"] = Value::Null;
                record["properties"]["httpStatusCode"] = Value::Null;
            }),
            record("6", |record| record["properties"]["httpStatusCode"] = Value::Null),
            record("7", |record| record["resultType"] = "Failed".into()),
            record("8", |record| record["time"] = "2026-11-22T09:00:00Z".into()),
        ]);
        assert_eq!((log.provider, log.signed.len(), log.refused), (Provider::Azure, 5, 2));
        assert_eq!((log.signed[0].key.as_deref(), log.signed[0].by.as_str()), (Some(KEY), "6f2c"));
        assert_eq!(log.covers.unwrap().1.to_string(), "2026-11-22T09:00:00Z");
    }

    #[test]
    fn who_asked_and_by_which_key_is_taken_from_where_it_stands() {
        let first = |change: fn(&mut Value)| read(&[record("1", change)]).signed[0].clone();
        let by_uri = first(|record| record["properties"]["id"] = Value::Null).key.unwrap();
        assert_eq!(by_uri, format!("{KEY}/sign?api-version=7.4"));
        assert_eq!(first(|record| record["properties"] = Value::Null).key, None);
        assert_eq!(first(|record| record["identity"] = Value::Null).by, "10.0.0.1");
        let person = first(|record| record["identity"]["claim"]["upn"] = "eve@example.com".into());
        assert_eq!(person.by, "eve@example.com");
    }

    #[test]
    fn what_is_no_file_of_key_vault_is_refused() {
        let refusal = |bytes: &[u8]| KeyVaultAudit::default().read(bytes).unwrap_err().to_string();
        assert!(refusal(&[0x1f, 0x8b, 8]).contains("gunzip"));
        for text in ["", "{}", "[]", "{\"records\": []}", "{\"records\": 1}", "{\"time\": 1}", "[] x"] {
            assert!(refusal(text.as_bytes()).contains("no file of Key Vault's"), "{text}");
        }
        let lines = format!("{}\n{}\n", record("1", |_| ()), record("2", |_| ()));
        let mut audit = KeyVaultAudit::default();
        audit.read(lines.as_bytes()).unwrap();
        assert_eq!(audit.finish().signed.len(), 2);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeyVaultAudit::default().read(&bytes);
        }
    }
}
