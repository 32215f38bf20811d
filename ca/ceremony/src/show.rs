//! What a plan will make.

use std::fmt::Write as _;

use futures::executor::block_on;
use serde_json::json;
use undercroft_ca::names::TrustDomain;
use undercroft_ca::plan::Plan;
use undercroft_ca::spoken;
use undercroft_cli::{Environment, Failure, Qr, Terminal};

use crate::lint;

/// How the digest is compared with what others in the room have.
#[derive(Clone, Copy)]
pub(crate) struct Aloud<'a> {
    /// As a QR code, too.
    pub(crate) qr: bool,
    /// What somebody else has read aloud.
    pub(crate) heard: Option<&'a str>,
}

pub(crate) fn show(
    plan: &Plan,
    environment: Option<&Environment>,
    aloud: Aloud<'_>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let digest = plan.digest().0;
    if let Some(heard) = aloud.heard {
        spoken::compare(heard, &digest).map_err(|error| {
            Failure::tampered(format!("what was heard is not the digest of this plan: {error}"))
        })?;
    }
    if let Some(environment) = environment {
        let step = terminal.progress(lint::objects(plan), "lint");
        block_on(lint::lint(plan, &environment.tokens, |_| None, &step))?;
    }
    let linted = environment.is_some();
    let roots: Vec<_> = plan
        .roots()
        .iter()
        .map(|root| {
            json!({
                "name": root.name(),
                "domains": root.domains().iter().map(TrustDomain::as_str).collect::<Vec<_>>(),
                "subject": root.subject().to_string(),
                "algorithm": root.key().algorithm.to_string(),
                "device": root.key().device,
                "not_before": root.validity().not_before().to_string(),
                "not_after": root.validity().not_after().to_string(),
                "output": root.output(),
            })
        })
        .collect();
    let intermediates: Vec<_> = plan
        .intermediates()
        .iter()
        .map(|artefact| {
            json!({
                "name": artefact.name(),
                "domain": artefact.domain().as_str(),
                "issuer": artefact.issuer(),
                "subject": artefact.subject().to_string(),
                "algorithm": artefact.algorithm().to_string(),
                "constrained": artefact.constraints().is_some(),
                "not_before": artefact.validity().not_before().to_string(),
                "not_after": artefact.validity().not_after().to_string(),
                "output": artefact.output(),
            })
        })
        .collect();
    let value = json!({
        "title": plan.title(),
        "digest": plan.digest().to_string(),
        "digest_groups": spoken::groups(&digest),
        "digest_words": spoken::words(&digest).join(" "),
        "heard": aloud.heard.is_some(),
        "transcript": plan.origin().as_str(),
        "linted": linted,
        "roots": roots,
        "intermediates": intermediates,
        "crls": plan.crls().iter().map(|crl| json!({"name": crl.name(), "issuer": crl.issuer()})).collect::<Vec<_>>(),
    });
    terminal.result(&value, || text(plan, linted, aloud.heard.is_some()))?;
    match aloud.qr {
        true => terminal.qr(&Qr::of_digest(&digest)?),
        false => Ok(()),
    }
}

fn text(plan: &Plan, linted: bool, heard: bool) -> String {
    let digest = plan.digest().0;
    let mut text = format!("{}\n  digest of the plan  {}\n", plan.title(), spoken::groups(&digest));
    for line in spoken::words(&digest).chunks(8) {
        let _ = writeln!(text, "                      {}", line.join(" "));
    }
    if heard {
        let _ = writeln!(text, "                      is what was heard");
    }
    let _ = writeln!(text, "  transcript          {}", plan.origin());
    for root in plan.roots() {
        let domains: Vec<_> = root.domains().iter().map(TrustDomain::as_str).collect();
        let _ = writeln!(
            text,
            "  root                {} for {}: {} in device `{}`, {}",
            root.subject(),
            domains.join(", "),
            root.key().algorithm,
            root.key().device,
            root.validity()
        );
    }
    for intermediate in plan.intermediates() {
        let _ = writeln!(
            text,
            "  intermediate        {} for {}: signed by {}, {}",
            intermediate.subject(),
            intermediate.domain().as_str(),
            intermediate.issuer(),
            intermediate.validity()
        );
    }
    for crl in plan.crls() {
        let _ = writeln!(text, "  CRL                 {}: signed by {}", crl.name(), crl.issuer());
    }
    let _ = match linted {
        true => writeln!(text, "Every object was linted with throwaway keys; no key was made."),
        false => writeln!(text, "Nothing was linted; give --environment to lint with throwaway keys."),
    };
    text
}
