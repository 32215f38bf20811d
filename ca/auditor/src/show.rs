//! `undercroft-audit show`: entries as people read them.

use serde_json::{Value, json};
use undercroft_audit::prove;
use undercroft_cli::{Failure, Terminal};
use undercroft_log::leaf::{Body, Kind, Leaf, Object, ToBeSigned};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::{size, unproven};

pub(crate) fn show(
    folder: &Folder,
    key: &VerifierKey,
    indexes: &[u64],
    kind: Option<Kind>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let indexes = if indexes.is_empty() { (0..size(folder, key)?).collect() } else { indexes.to_vec() };
    for index in indexes {
        let (entry, _) = prove(folder, key, index).map_err(unproven)?;
        let leaf =
            Leaf::parse(&entry).map_err(|error| Failure::tampered(format!("entry {index}: {error}")))?;
        if kind.is_some_and(|kind| kind != leaf.body.kind()) {
            continue;
        }
        let mut value: Value = serde_json::from_slice(&entry)
            .map_err(|error| Failure::tampered(format!("entry {index}: {error}")))?;
        if let Some(certificate) = certificate(&leaf.body) {
            value["certificate"] = certificate;
        }
        let pretty =
            serde_json::to_string_pretty(&value).map_err(|error| Failure::failed(error.to_string()))?;
        terminal.result(&value, || pretty)?;
    }
    Ok(())
}

/// What the certificate of an intent says.
fn certificate(body: &Body) -> Option<Value> {
    let Body::Intent(intent) = body else { return None };
    let (Object::Certificate, ToBeSigned::Der(der)) = (intent.object, &intent.tbs) else { return None };
    let (_, tbs) = TbsCertificate::from_der(&der.0).ok()?;
    let mut names = Vec::new();
    for extension in tbs.extensions() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            names.extend(san.general_names.iter().map(|name| match name {
                GeneralName::URI(text) | GeneralName::DNSName(text) => (*text).to_owned(),
                other => other.to_string(),
            }));
        }
    }
    Some(json!({
        "serial": tbs.raw_serial_as_string(),
        "issuer": tbs.issuer.to_string(),
        "subject": tbs.subject.to_string(),
        "names": names,
        "not-before": tbs.validity.not_before.to_rfc2822().unwrap_or_default(),
        "not-after": tbs.validity.not_after.to_rfc2822().unwrap_or_default(),
        "authority": tbs.is_ca(),
    }))
}
