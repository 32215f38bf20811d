//! `undercroft-audit certificate`: one certificate, by the files that came with it.

use std::path::PathBuf;

use serde_json::json;
use undercroft_ca::certificate::certificates_from_pem;
use undercroft_ca::verify::{VerifyError, standing};
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::note::VerifierKey;
use undercroft_log::proof::{TlogProof, TlogProofError};
use undercroft_log::witnesses::WitnessPolicy;

/// The files that come with a certificate.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) entry: PathBuf,
    pub(crate) proof: PathBuf,
}

pub(crate) fn verify(
    files: &Files,
    key: &VerifierKey,
    policy: Option<&WitnessPolicy>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let shown = files.certificate.display();
    let wrong = |what: &dyn std::fmt::Display, rule| Failure::tampered(format!("{shown}: {what} ({rule})"));
    let ders = certificates_from_pem(&read_text(&files.certificate)?)
        .map_err(|error| Failure::from(error).during(&shown))?;
    let leaf = ders.first().ok_or_else(|| Failure::usage("no certificate"))?;
    let (entry, proof) = (read_text(&files.entry)?, read_text(&files.proof)?);
    let standing =
        standing(leaf, entry.as_bytes(), &proof, key).map_err(|error| wrong(&error, rule(&error)))?;
    let cosigned = match policy {
        Some(policy) => {
            let proof: TlogProof = proof.parse().map_err(|error| wrong(&error, "proof"))?;
            let cosigned = policy.cosigned(&proof.checkpoint).map_err(|error| wrong(&error, "witnesses"))?;
            cosigned.into_iter().map(|(name, time)| (name.to_owned(), time)).collect()
        }
        None => Vec::new(),
    };
    let value = json!({
        "log": key.name().to_string(),
        "index": standing.index,
        "size": standing.checkpoint.size,
        "caller": standing.intent.caller.id,
        "rule": standing.intent.rule,
        "witnesses": cosigned.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    });
    terminal.result(&value, || {
        let mut text = format!(
            "It stands in {} as entry {} of {}, asked for by {} and granted by `{}`.\n",
            key.name(),
            standing.index,
            standing.checkpoint.size,
            standing.intent.caller.id,
            standing.intent.rule
        );
        for (name, time) in &cosigned {
            text += &format!("Cosigned by {name} at {time}.\n");
        }
        text
    })
}

/// The name of what is wrong, as docs/log.md lists them.
fn rule(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::Proof(TlogProofError::Checkpoint(_)) => "checkpoint",
        VerifyError::Proof(_) => "proof",
        VerifyError::Leaf(_) => "leaf",
        VerifyError::OtherPlace { .. } => "index",
        _ => "certificate",
    }
}
