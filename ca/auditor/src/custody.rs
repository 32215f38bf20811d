//! `undercroft-audit custody`: where the CA's keys live, judged again from the evidence by whom the auditor believes.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use undercroft_attestors::custody::{self, Custody, Grade};
use undercroft_attestors::tpm::evidence;
use undercroft_attestors::trust::Trust;
use undercroft_audit::{Known, Scope, audit_as};
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::custody::CustodyFile;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Failure, Terminal, hsm_anchors, makers, read_text};
use undercroft_keys::PublicKey;
use undercroft_log::Clock as _;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Key, KeyEvidence, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::TILE_WIDTH;
use undercroft_log_files::Folder;

use crate::{no_audit, size, unread};

/// Who is believed about TPMs.
#[derive(Debug, clap::Args)]
pub(crate) struct TrustArgs {
    /// A file with the key (vkey) of a witness who certifies attestation keys and whom you believe. May be given several
    /// times.
    #[arg(long)]
    activator: Vec<PathBuf>,
    /// A folder of certificates of makers of TPMs and tokens (PEM) and of SmartCard-HSMs (`.cvc`) whom you believe.
    #[arg(long)]
    endorsement_anchors: Option<PathBuf>,
    /// A folder with the folders `manufacturers` and `owners` of certificates (PEM): whom you believe about HSMs in clouds.
    #[arg(long)]
    hsm_anchors: Option<PathBuf>,
}

impl TrustArgs {
    pub(crate) fn read(&self) -> Result<Trust, Failure> {
        let activators = self.activator.iter().map(|path| {
            let key = read_text(path)?.trim_end().parse();
            key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
        });
        let makers = self.endorsement_anchors.as_deref().map(makers).transpose()?;
        let (endorsement, cards) = makers.unwrap_or_default();
        Ok(Trust {
            endorsement,
            cards,
            activators: activators.collect::<Result<_, _>>()?,
            hsm: self.hsm_anchors.as_deref().map(hsm_anchors).transpose()?.unwrap_or_default(),
        })
    }
}

/// What a grade is written as on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Required {
    /// The token says so.
    Declared,
    /// A manufacturer and a party other than the CA vouch for it.
    Proven,
}

impl Required {
    fn grade(self) -> Grade {
        match self {
            Self::Declared => Grade::Declared,
            Self::Proven => Grade::Proven,
        }
    }
}

/// A key, and what its evidence is worth.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Judged {
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<u64>,
    at: Timestamp,
    purpose: String,
    key_id: String,
    format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    grade: String,
    findings: Vec<String>,
    #[serde(skip)]
    wrong: Option<String>,
}

/// Of every key that a log has a record of.
pub(crate) fn of_log(
    folder: &Folder,
    key: &VerifierKey,
    known: &Known,
    required: Option<Required>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let progress = terminal.progress(size(folder, key)?, "verify");
    let report =
        audit_as(folder, key, Scope::Tree, known, |entries| progress.advance(entries)).map_err(no_audit)?;
    drop(progress);
    if let Some(finding) = report.findings.first() {
        return Err(Failure::tampered(format!("{}: {finding}", report.origin)));
    }
    let note = folder.checkpoint().map_err(|error| unread(&error))?.unwrap_or_default();
    let size = Checkpoint::open(&note, key).map_err(|error| Failure::tampered(error.to_string()))?.size;
    let mut judged = Vec::new();
    for bundle in 0..size.div_ceil(TILE_WIDTH as u64) {
        let entries = folder.bundle(bundle, size).map_err(|error| unread(&error))?;
        for (at, entry) in entries.into_iter().enumerate() {
            let index = bundle * TILE_WIDTH as u64 + at as u64;
            let leaf =
                Leaf::parse(&entry).map_err(|error| Failure::tampered(format!("entry {index}: {error}")))?;
            if let Body::Key(key) = leaf.body {
                judged.push(judge_entry(folder, index, leaf.time, key, known, required)?);
            }
        }
    }
    told(&judged, terminal)
}

fn judge_entry(
    folder: &Folder,
    index: u64,
    at: Timestamp,
    key: Key,
    known: &Known,
    required: Option<Required>,
) -> Result<Judged, Failure> {
    let wrong = |what: String| Failure::tampered(format!("entry {index}: {what}"));
    let evidence = match key.evidence {
        KeyEvidence::Inline(bytes) => bytes.0,
        KeyEvidence::Blob(blob) => {
            let bytes = folder.blob(blob.sha256).map_err(|error| unread(&error))?;
            bytes.ok_or_else(|| wrong(format!("its blob {} is missing", blob.sha256)))?
        }
    };
    let public_key = PublicKey::from_spki(&key.spki.0).map_err(|error| wrong(error.to_string()))?;
    let custody = custody::judge(&key.format, &evidence, &public_key, &known.trust, at);
    let said = format!("{:?}", key.grade).to_lowercase();
    // What the entry says holds, and what the auditor asks for.
    let least = match required {
        Some(required) => required.grade(),
        None => said_grade(&said),
    };
    let wrong = (custody.grade < least).then(|| {
        format!(
            "entry {index}: the key of {} is graded `{}`, and `{least}` was to be",
            key.purpose, custody.grade
        )
    });
    let Custody { grade, findings } = custody;
    Ok(Judged {
        entry: Some(index),
        at,
        purpose: key.purpose,
        key_id: public_key.id().to_string(),
        format: key.format,
        said: Some(said),
        grade: grade.to_string(),
        findings,
        wrong,
    })
}

fn said_grade(said: &str) -> Grade {
    [Grade::Software, Grade::Declared, Grade::Proven]
        .into_iter()
        .find(|grade| grade.to_string() == said)
        .unwrap_or(Grade::Unknown)
}

/// What `undercroft-audit custody` is given of one key.
pub(crate) struct Single<'a> {
    /// The custody file.
    pub(crate) file: &'a Path,
    /// The certificate that the key must be that of.
    pub(crate) certificate: Option<&'a Path>,
    /// What the evidence must answer.
    pub(crate) challenge: Option<&'a str>,
}

/// Of the key of a custody file, now.
pub(crate) fn of_file(
    single: &Single<'_>,
    trust: &Trust,
    required: Option<Required>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", single.file.display()));
    let file: CustodyFile =
        serde_json::from_str(&read_text(single.file)?).map_err(|error| wrong(error.to_string()))?;
    let public_key = match (single.certificate, custody::public_area_of(&file.format, &file.evidence.0)) {
        (Some(path), _) => {
            let certificate = AuthorityCertificate::from_pem(&read_text(path)?);
            let certificate = certificate.map_err(|error| Failure::from(error).during(path.display()))?;
            certificate.public_key().clone()
        }
        (None, Some(area)) => {
            area.and_then(|area| area.public_key().map_err(|error| error.to_string())).map_err(wrong)?
        }
        (None, None) => {
            return Err(wrong(format!(
                "evidence of the format {} is judged with --certificate",
                file.format
            )));
        }
    };
    let now = SystemClock.now();
    let custody = custody::judge(&file.format, &file.evidence.0, &public_key, trust, now);
    let least = required.unwrap_or(Required::Declared).grade();
    let answers = match single.challenge {
        None => true,
        Some(text) => evidence::challenge(&file.evidence.0).is_some_and(|own| own.eq_ignore_ascii_case(text)),
    };
    let what = file.uri;
    let wrong = match answers {
        false => Some(format!("the evidence of {what} does not answer the challenge")),
        true => (custody.grade < least)
            .then(|| format!("the key {what} is graded `{}`, and `{least}` was to be", custody.grade)),
    };
    let judged = Judged {
        entry: None,
        at: now,
        purpose: what,
        key_id: public_key.id().to_string(),
        format: file.format,
        said: None,
        grade: custody.grade.to_string(),
        findings: custody.findings,
        wrong,
    };
    told(&[judged], terminal)
}

fn told(judged: &[Judged], terminal: &Terminal) -> Result<(), Failure> {
    terminal.result(&judged, || {
        let mut text = String::new();
        for key in judged {
            let entry = key.entry.map(|entry| format!("entry {entry}, ")).unwrap_or_default();
            text += &format!("{}{}: {} ({}, {})\n", entry, key.purpose, key.grade, key.format, key.at);
            text += &format!("  key {}\n", key.key_id);
            for finding in &key.findings {
                text += &format!("  {finding}\n");
            }
        }
        text
    })?;
    let mut wrong = judged.iter().filter_map(|key| Some((key.wrong.as_ref()?, key.findings.last())));
    match wrong.next() {
        None => Ok(()),
        Some((what, found)) => Err(Failure::tampered(match found {
            Some(found) => format!("{what}: {found}"),
            None => what.clone(),
        })),
    }
}
