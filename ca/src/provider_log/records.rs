//! Records in files of JSON: an array, an object that holds one, or one value behind the other.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a file is none of a provider's.
#[derive(Debug, thiserror::Error)]
pub enum NoLog {
    /// It is compressed.
    #[error("it is compressed; gunzip it")]
    Compressed,
    /// It does not parse, or holds nothing.
    #[error("it is no file of {0}: {1}")]
    Malformed(&'static str, String),
}

/// The records of a file of `what`, in which `member` may hold them.
pub(super) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    member: &str,
) -> Result<Vec<T>, NoLog> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(NoLog::Compressed);
    }
    let malformed = |error: serde_json::Error| NoLog::Malformed(what, error.to_string());
    let mut records = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
        let held = match value.map_err(malformed)? {
            Value::Array(held) => held,
            Value::Object(mut object) => match object.remove(member) {
                Some(Value::Array(held)) => held,
                Some(_) => return Err(NoLog::Malformed(what, format!("`{member}` is no array"))),
                None => vec![Value::Object(object)],
            },
            other => vec![other],
        };
        for record in held {
            records.push(serde_json::from_value(record).map_err(malformed)?);
        }
    }
    match records.is_empty() {
        false => Ok(records),
        true => Err(NoLog::Malformed(what, "it holds no record".to_owned())),
    }
}
