//! What a plan will make: its steps, what is new against the ceremony before, and who is valid when.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::json;
use undercroft_ca::plan::{Plan, Step, What};
use undercroft_ca::spoken;
use undercroft_ca::time::Validity;
use undercroft_cli::{Environment, Failure, Qr, Terminal};

use crate::continued::Continued;
use crate::lint;

/// How many columns the timeline has.
const COLUMNS: usize = 48;

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
    previous: Option<&Path>,
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
        let bar = terminal.progress(lint::objects(plan), "lint");
        block_on(lint::lint(plan, &environment.tokens, &[], &bar))?;
    }
    let linted = environment.is_some();
    let before = match previous {
        Some(path) => block_on(Continued::read(plan, Some(path), environment))?.map(|it| it.plan),
        None => None,
    };
    let steps = plan.steps();
    let value = json!({
        "title": plan.title(),
        "digest": plan.digest().to_string(),
        "digest_groups": spoken::groups(&digest),
        "digest_words": spoken::words(&digest).join(" "),
        "heard": aloud.heard.is_some(),
        "transcript": plan.origin().as_str(),
        "linted": linted,
        "steps": steps.iter().map(|step| json!({
            "number": step.number,
            "name": step.name(),
            "does": step.in_words(),
            "follows": step.follows(),
            "signer": step.signer(),
            "output": step.output(),
            "expected_seconds": step.expected().as_secs(),
            "new": before.as_ref().map(|before| !stood(before, step)),
            "not_before": validity(plan, step).map(|validity| validity.not_before().to_string()),
            "not_after": validity(plan, step).map(|validity| validity.not_after().to_string()),
        })).collect::<Vec<_>>(),
    });
    terminal.result(&value, || text(plan, &steps, before.as_ref(), linted, aloud.heard.is_some()))?;
    match aloud.qr {
        true => terminal.qr(&Qr::of_digest(&digest)?),
        false => Ok(()),
    }
}

fn text(plan: &Plan, steps: &[Step<'_>], before: Option<&Plan>, linted: bool, heard: bool) -> String {
    let digest = plan.digest().0;
    let mut text = format!(
        "{}
  digest of the plan  {}
",
        plan.title(),
        spoken::groups(&digest)
    );
    for line in spoken::words(&digest).chunks(8) {
        let _ = writeln!(text, "                      {}", line.join(" "));
    }
    if heard {
        let _ = writeln!(text, "                      is what was heard");
    }
    let _ = writeln!(text, "  transcript          {}", plan.origin());
    if let Some(terms) = plan.terms() {
        let names: Vec<_> = terms.roster.names().collect();
        let _ = writeln!(
            text,
            "  approved by         {} of {}, asked by {}",
            terms.roster.quorum(),
            names.join(", "),
            terms.requester
        );
        let _ = writeln!(text, "  window              {} to {}", terms.window.begins, terms.window.ends);
        for change in before.and_then(Plan::terms).iter().flat_map(|old| old.roster.changes(&terms.roster)) {
            let _ = writeln!(text, "  the roster changes  {change}");
        }
        if terms.rehearse_next {
            let _ = writeln!(
                text,
                "  closes              when the next ceremony was rehearsed from what this one makes"
            );
        }
        for device in &terms.devices {
            let _ = writeln!(
                text,
                "  device              {}: {}, firmware {}",
                device.name, device.model, device.firmware
            );
        }
    }
    let minutes = steps.iter().map(|step| step.expected().as_secs()).sum::<u64>() / 60;
    let _ = writeln!(text, "\n{} steps, about {minutes} min:", steps.len());
    for step in steps {
        let mark = match before {
            None => ' ',
            Some(_) if matches!(step.what, What::Destruction(_)) => '-',
            Some(before) if stood(before, step) => '=',
            Some(_) => '+',
        };
        let signer = step.signer().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
        let _ = writeln!(text, "{mark} {:>3}  {} ({}{signer})", step.number, step.in_words(), step.follows());
    }
    if before.is_some() {
        text += "\n+ new, = stood in the ceremony before, - ends\n";
    }
    text += &timeline(plan, steps);
    let _ = match linted {
        true => writeln!(text, "\nEvery object was linted with throwaway keys; no key was made."),
        false => writeln!(text, "\nNothing was linted; give --environment to lint with throwaway keys."),
    };
    text
}

/// Whether the ceremony before had the same subject: a root by its name, everything else by the artefact's.
fn stood(before: &Plan, step: &Step<'_>) -> bool {
    match step.what {
        What::Open(root) | What::Root(root) => {
            before.roots().iter().any(|old| old.subject() == root.subject())
        }
        _ => before.steps().iter().any(|old| old.name() == step.name()),
    }
}

fn validity(plan: &Plan, step: &Step<'_>) -> Option<Validity> {
    match step.what {
        What::Open(root) | What::Root(root) => Some(root.validity()),
        What::CrossCertificate(it) => Some(it.validity()),
        What::Intermediate(it) => Some(it.validity()),
        What::OcspSigner(it) => Some(it.validity()),
        What::Crl(it) => Some(it.period()),
        What::BundleStatement(it) => Some(it.validity()),
        What::CertificateRequest(it) => plan.root(it.root()).map(undercroft_ca::plan::Root::validity),
        What::Manual(_) | What::Import(_) | What::Destruction(_) => None,
    }
}

/// Who is valid when, as bars between the first notBefore and the last notAfter.
fn timeline(plan: &Plan, steps: &[Step<'_>]) -> String {
    let bars: BTreeMap<u64, (&str, Validity)> = steps
        .iter()
        .filter(|step| !matches!(step.what, What::CertificateRequest(_)))
        .filter_map(|step| Some((step.number, (step.name(), validity(plan, step)?))))
        .collect();
    let first = bars.values().map(|(_, validity)| validity.not_before()).min();
    let last = bars.values().map(|(_, validity)| validity.not_after()).max();
    let (Some(first), Some(last)) = (first, last) else { return String::new() };
    let span = (last.as_second() - first.as_second()).max(1);
    let column = |time: Timestamp| {
        let at = (time.as_second() - first.as_second()) * COLUMNS as i64 / span;
        usize::try_from(at).unwrap_or_default().min(COLUMNS - 1)
    };
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let mut text = format!("\n{:24} {} {:>width$}\n", "valid", day(first), day(last), width = COLUMNS - 11);
    for (name, validity) in bars.values() {
        let (from, to) = (column(validity.not_before()), column(validity.not_after()));
        let bar: String = (0..COLUMNS).map(|at| if (from..=to).contains(&at) { '#' } else { '.' }).collect();
        let _ = writeln!(text, "{name:24} {bar}");
    }
    text
}
