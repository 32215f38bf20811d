//! Files: what came out, and what went in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::csr::{Csr, der_from_pem};
use undercroft_ca::plan::{Import, Keys, Mode, Plan, Root, What};
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_ca::signed::Signed;
use undercroft_log::leaf::Digest;
use undercroft_log_files::{FolderError, read_plain};
use x509_parser::prelude::FromDer as _;

use super::Given;
use super::order::{Replay, StepSeen};
use super::signatures::SignedObject;
use super::verdict::{Checks, Subject};
use crate::leftovers::files;

/// The longest file that is read: a CRL, or what people gave as evidence.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What the names of a rehearsal's files begin with.
const REHEARSAL: &str = "REHEARSAL-";

/// A file that a step wrote, and that is what it should be.
#[derive(Debug)]
pub(crate) struct OutputTold {
    pub(crate) number: u64,
    pub(crate) path: String,
    pub(crate) sha256: Digest,
    /// Its DER; of a statement about roots the text.
    pub(crate) der: Vec<u8>,
}

/// Judges the files that came out; gives those that are there.
pub(crate) fn judge(
    given: &Given<'_>,
    plan: &Plan,
    replay: &Replay<'_>,
    keys: &Keys,
    signed: &[SignedObject],
    checks: &mut Checks,
) -> Result<Vec<OutputTold>, FolderError> {
    let Some(folder) = given.outputs else {
        checks.not_looked_at(Subject::Outputs, "give the folder of outputs (--out)");
        return Ok(Vec::new());
    };
    let mut told = Vec::new();
    let mut known = BTreeSet::new();
    for seen in &replay.steps {
        let Some(output) = seen.step.output() else { continue };
        let name = in_mode(plan, output);
        let path = folder.join(&name);
        known.insert(path.clone());
        let Some(bytes) = read(&path)? else {
            checks.wrong(
                Subject::Outputs,
                "output-missing",
                format!("{name}, which `{}` wrote, is missing", seen.step.name()),
            );
            continue;
        };
        let sha256 = Digest::of(&bytes);
        if let Some((entry, _)) = seen.done
            && seen.output.is_some_and(|written| written != sha256)
        {
            let what =
                format!("{name} is not the file that `{}` wrote: its SHA-256 is {sha256}", seen.step.name());
            checks.entry(Subject::Outputs, entry, "output-digest", what);
        }
        let wrong = |checks: &mut Checks, rule, what: String| {
            checks.wrong(Subject::Outputs, rule, format!("{name}: {what}"))
        };
        // Its text was judged by its digest (`super::statements`), which was compared above.
        if let What::BundleStatement(_) = seen.step.what {
            told.push(OutputTold { number: seen.step.number, path: name, sha256, der: bytes });
            continue;
        }
        let Some(der) = der(&bytes) else {
            wrong(checks, "output-content", "it holds neither DER nor one block of PEM".into());
            continue;
        };
        if let What::Import(import) = seen.step.what {
            if let Err(what) = import_is_sound(plan, keys, import, &der) {
                wrong(checks, "output-chain", what);
            }
        } else if let Err((rule, what)) = is_signed(seen, keys, signed, &der) {
            wrong(checks, rule, what);
        }
        told.push(OutputTold { number: seen.step.number, path: name, sha256, der });
    }
    extra(given, plan, folder, &known, checks)?;
    checks.compared(
        Subject::Outputs,
        format!("{} of {} files: digest, signed bytes, signature under its root", told.len(), known.len()),
    );
    Ok(told)
}

/// Judges what went in: requests, answers, and what people gave.
pub(crate) fn evidence(
    given: &Given<'_>,
    replay: &Replay<'_>,
    keys: &Keys,
    outputs: &[OutputTold],
    checks: &mut Checks,
) -> Result<(), FolderError> {
    let expects = |seen: &&StepSeen<'_>| match seen.step.what {
        What::Manual(manual) => manual.evidence().is_some(),
        What::Intermediate(_) | What::OcspSigner(_) | What::Import(_) => true,
        _ => false,
    };
    let steps: Vec<_> = replay.steps.iter().filter(expects).collect();
    if steps.is_empty() {
        checks.not_applicable(Subject::Evidence, "the plan takes nothing in");
        return Ok(());
    }
    let Some(folder) = given.requests else {
        checks.not_looked_at(Subject::Evidence, "give the folder of requests (--requests)");
        return Ok(());
    };
    checks.compared(Subject::Evidence, format!("{} files that went in", steps.len()));
    // A step that was not done has taken in nothing; that it was not is told elsewhere.
    for (seen, index) in steps.into_iter().filter_map(|seen| Some((seen, seen.done?.0))) {
        let name = match seen.step.what {
            What::Manual(manual) => manual.evidence().unwrap_or_default().to_owned(),
            What::Import(it) => it.answer().to_owned(),
            _ => match seen.step.requested() {
                Some(requested) => format!("{}.csr.pem", requested.request),
                None => continue,
            },
        };
        let Some(bytes) = read(&folder.join(&name))? else {
            let what = format!("{name}, which `{}` took in, is missing", seen.step.name());
            checks.wrong(Subject::Evidence, "evidence-missing", what);
            continue;
        };
        match seen.step.what {
            What::Manual(_) if seen.output != Some(Digest::of(&bytes)) => {
                let what =
                    format!("{name} is not the file that people gave: its SHA-256 is {}", Digest::of(&bytes));
                checks.entry(Subject::Evidence, index, "evidence-digest", what);
            }
            What::Intermediate(_) | What::OcspSigner(_) => {
                let artefact = seen.step.name();
                let own = keys.requests.get(artefact);
                let csr = String::from_utf8(bytes).ok().and_then(|text| Csr::from_pem(&text).ok());
                let is_own = csr.zip(own).is_some_and(|(csr, (key, digest))| {
                    csr.public_key() == key && *digest == Some(csr.digest())
                });
                if !is_own {
                    let what = format!("{name} is not the request that `{artefact}` was signed from");
                    checks.entry(Subject::Evidence, index, "request-digest", what);
                }
            }
            What::Import(it) => {
                let written = outputs.iter().find(|output| output.number == seen.step.number);
                if written.is_some_and(|written| der(&bytes).as_ref() != Some(&written.der)) {
                    let what = format!("{name} is not the answer that `{}` took in", it.name());
                    checks.entry(Subject::Evidence, index, "evidence-digest", what);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The name of an output in this mode.
fn in_mode(plan: &Plan, output: &str) -> String {
    match plan.mode() {
        Mode::Production => output.to_owned(),
        Mode::Rehearsal => of_rehearsal(output),
    }
}

/// The name of an output in a rehearsal.
fn of_rehearsal(output: &str) -> String {
    match output.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{REHEARSAL}{name}"),
        None => format!("{REHEARSAL}{output}"),
    }
}

/// Whether a file is what its step has signed, under the key of its root.
fn is_signed(
    seen: &StepSeen<'_>,
    keys: &Keys,
    signed: &[SignedObject],
    der: &[u8],
) -> Result<(), (&'static str, String)> {
    let content = |what: String| ("output-content", what);
    let read = Signed::from_der(der).map_err(|error| content(error.to_string()))?;
    let own = signed.iter().rfind(|object| object.number == seen.step.number);
    let own = own.ok_or_else(|| content("the transcript has no signature for it".into()))?;
    if (&read.tbs, read.algorithm, &read.signature) != (&own.tbs, own.algorithm, &own.signature) {
        return Err(content("it is not what the transcript says was signed".into()));
    }
    let key = seen.step.signer().and_then(|name| keys.roots.get(name));
    let verifies = key.is_some_and(|key| read.verify(key).is_ok());
    let self_signed = match seen.step.what {
        What::Root(_) => AuthorityCertificate::from_der(der).is_ok_and(|it| it.is_self_signed()),
        _ => true,
    };
    match verifies && self_signed {
        true => Ok(()),
        false => Err(("output-chain", "it does not verify under its root".into())),
    }
}

fn import_is_sound(plan: &Plan, keys: &Keys, import: &Import, der: &[u8]) -> Result<(), String> {
    let root = plan.root(import.root()).ok_or("its root is not in the plan")?;
    // In a rehearsal the key in the simulator is a stand-in; the answer is for the real one.
    let certified = root.certificate().map(AuthorityCertificate::public_key);
    let key =
        certified.or_else(|| keys.roots.get(Root::name(root))).ok_or("the key of its root is not known")?;
    let answer = AuthorityCertificate::from_der(der).map_err(|error| error.to_string())?;
    import.judge(root, key, &answer)
}

/// Certificates, CRLs, requests and statements about roots that look like the ceremony's by their names and that no step made, and those of
/// rehearsals. Others may lie there: ceremonies may share a folder with each other and with their installation.
fn extra(
    given: &Given<'_>,
    plan: &Plan,
    folder: &Path,
    known: &BTreeSet<PathBuf>,
    checks: &mut Checks,
) -> Result<(), FolderError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let others: Vec<_> = [Some(given.transcript.path()), given.requests]
        .into_iter()
        .flatten()
        .chain(given.rehearsal.iter().chain(&given.previous).map(|(folder, _)| folder.path()))
        .map(real)
        .collect();
    // Beside the ceremony's own; a folder of a rehearsal may lie below.
    let rehearsed: BTreeSet<_> = match plan.mode() {
        Mode::Production => {
            let outputs = plan.steps().into_iter().filter_map(|step| step.output());
            outputs.map(|output| folder.join(of_rehearsal(output))).collect()
        }
        Mode::Rehearsal => BTreeSet::new(),
    };
    let is_named = |name: &str| {
        let stem = name.split('.').next().unwrap_or(name);
        plan.steps().iter().any(|step| step.name() == stem)
    };
    for path in files(folder)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_other = known.contains(&path) || others.iter().any(|other| real(&path).starts_with(other));
        let is_ours = is_named(&name) || rehearsed.contains(&path);
        if !is_other && is_ours && read(&path)?.as_deref().is_some_and(is_artefact) {
            let shown = path.strip_prefix(folder).unwrap_or(&path).display();
            let what = format!("{shown} is called like an artefact of the ceremony, and no step has made it");
            checks.wrong(Subject::Outputs, "output-extra", what);
        }
    }
    Ok(())
}

/// Whether bytes are what a ceremony makes: a certificate, a CRL, a request or a statement about roots.
fn is_artefact(bytes: &[u8]) -> bool {
    const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CRL", "CERTIFICATE REQUEST"];
    let text = String::from_utf8_lossy(bytes);
    LABELS.iter().any(|label| text.contains(&format!("-----BEGIN {label}-----")))
        || text.find('{').is_some_and(|begin| RootsStatement::parse(&text[begin..]).is_ok())
        || x509_parser::certificate::X509Certificate::from_der(bytes).is_ok()
        || x509_parser::revocation_list::CertificateRevocationList::from_der(bytes).is_ok()
        || x509_parser::certification_request::X509CertificationRequest::from_der(bytes).is_ok()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    match read_plain(path, MAX_FILE) {
        // A link, a folder, or something too long is not the file.
        Err(FolderError::Io { path, error }) => Err(FolderError::Io { path, error }),
        Err(_) => Ok(None),
        read => read,
    }
}

/// The DER in a file: as it is, or the one block of PEM in it, in front of which text may stand (RFC 7468 section 5.2).
fn der(bytes: &[u8]) -> Option<Vec<u8>> {
    let Some(begin) = bytes.windows(10).position(|window| window == b"-----BEGIN") else {
        return Some(bytes.to_vec());
    };
    let block = std::str::from_utf8(&bytes[begin..]).ok()?.trim_end();
    if let Ok(request) = der_from_pem(block) {
        return Some(request);
    }
    ::der::pem::decode_vec(block.as_bytes()).ok().map(|(_, der)| der)
}
