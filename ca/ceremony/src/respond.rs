//! `undercroft-ceremony respond`: packs what a finished ceremony has made, for the way back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::json;
use undercroft_ca::certificate::certificates_from_pem;
use undercroft_ca::exchange::{
    Answers, Direction, Expected, Kind, Message, Opened, Part, Refusal, Terms, is_rehearsal,
};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::plan::{Plan, Step, What};
use undercroft_ca::signed::Signed;
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{
    Environment, Failure, StrictArgs, Terminal, hand_over, nonce, parts_below, read_bytes, read_vkey,
    write_file,
};
use undercroft_keymgr::{Key, Tokens};
use undercroft_log::Clock as _;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, CeremonyEvent, Digest, ToBeSigned};
use undercroft_log::note::VerifierKey;
use undercroft_log::tree::TILE_WIDTH;

use crate::devices::locate;
use crate::open::{REQUEST, REQUEST_KEY, answered, is_for, record};
use crate::transcript::Read;

/// Where transcripts are in a response, each below the name of its ceremony: none takes the place of another.
const TRANSCRIPTS: &str = "transcripts";

/// Arguments of `respond`.
#[derive(Debug, clap::Args)]
pub(crate) struct RespondArgs {
    /// The plan that was run.
    plan: PathBuf,
    /// Where the devices are: the transcript's key signs the response.
    #[arg(long)]
    environment: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
    /// The folder that `requests open` has unpacked the request to.
    #[arg(long)]
    requests: PathBuf,
    /// The folder that the ceremony wrote to.
    #[arg(long)]
    from: PathBuf,
    /// The folder of the transcript; `transcript` in that folder if absent.
    #[arg(long)]
    transcript: Option<PathBuf>,
    /// The folder that remembers which requests were answered.
    #[arg(long)]
    state: PathBuf,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// Leave the transcript out, save its checkpoint.
    #[arg(long)]
    checkpoint_only: bool,
    /// How long it is good for, 90d at most.
    #[arg(long, default_value = "14d")]
    valid: Lifetime,
    /// Show the file as a QR code.
    #[arg(long)]
    qr: bool,
    /// Collect and check everything, and sign and write nothing.
    #[arg(long)]
    dry_run: bool,
}

impl RespondArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let plan = crate::read_plan(&self.plan)?;
        if self.out.exists() {
            return Err(Failure::usage(format!(
                "{} exists already, and nothing is overwritten",
                self.out.display()
            )));
        }
        let now = SystemClock.now();
        let request = self.request(&plan, now)?;
        let transcript = self.transcript.clone().unwrap_or_else(|| self.from.join("transcript"));
        let Closed { key, head: checkpoint, signed } = closed(&transcript, &plan)?;
        // One ceremony may pack its answer twice, and another may not answer at all.
        let answer = format!("{} at size {}, root {}", checkpoint.origin, checkpoint.size, checkpoint.root);
        if let Some(other) = answered(&self.state, request.digest())?.filter(|other| *other != answer) {
            return Err(Refusal::Replayed(format!("the request was answered: {other}")).into());
        }
        let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let asked = request.message().terms();
        let terms = Terms {
            origin: asked.origin.clone(),
            policy: asked.policy,
            plan: Some(plan.digest()),
            nonce: nonce()?,
            created,
            expires: created + self.valid.0,
            answers: Some(Answers { request: request.digest(), ceremony: key.name().clone() }),
        };
        let response = Message::new(terms, self.parts(&plan, &transcript, &checkpoint, &signed)?)?;
        if self.dry_run {
            let parts = response.parts().len();
            return terminal.result(&json!({ "made": false, "files": parts }), || {
                format!("{parts} files would be packed; nothing was signed.\n")
            });
        }
        let environment = Environment::read(&self.environment, self.strict.secrecy(), crate::backends())?;
        let signer = block_on(transcript_key(&environment.tokens, &plan))?;
        if signer.signer.public_key() != key.key() {
            return Err(Failure::usage(format!(
                "the key `{}` in device `{}` is not the one that has signed the transcript {}",
                plan.transcript().label,
                plan.transcript().device,
                transcript.display()
            )));
        }
        let signer = LogKey::new(key.name().clone(), signer);
        let signer = signer.map_err(|error| Failure::usage(format!("the transcript's key: {error}")))?;
        let file = block_on(response.seal(&signer))?;
        if !is_rehearsal(key.name())? {
            write_file(&record(&self.state, request.digest()), format!("{answer}\n").as_bytes())?;
        }
        hand_over(&self.out, &file, &response, &key, self.qr, terminal)
    }

    /// The request, verified once more: days may lie between.
    fn request(&self, plan: &Plan, now: Timestamp) -> Result<Opened, Failure> {
        let path = self.requests.join(REQUEST);
        let key = read_vkey(&self.requests.join(REQUEST_KEY))?;
        let file = read_bytes(&path)?;
        let during = |refusal: Refusal| Failure::from(refusal).during(path.display());
        // Its policy was compared when it was opened.
        let policy = Opened::policy_of(&file, &key).map_err(during)?;
        let expected = Expected { origin: key.name(), policy, plan: Some(plan.digest()), now };
        let opened = Opened::open(&file, Direction::Request, &key, &expected).map_err(during)?;
        is_for(plan, &opened).map_err(during)?;
        Ok(opened)
    }

    fn parts(
        &self,
        plan: &Plan,
        transcript: &Path,
        head: &Checkpoint,
        signed: &BTreeSet<Digest>,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for (output, kind) in outputs(plan) {
            let path = self.from.join(output);
            let bytes = read_bytes(&path)?;
            let wrong = |what: String| Failure::tampered(format!("{}: {what}", path.display()));
            let der = match kind {
                Kind::Certificate => {
                    let pem = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
                    let ders = certificates_from_pem(pem).map_err(|error| wrong(error.to_string()))?;
                    ders.into_iter().next().unwrap_or_default()
                }
                _ => bytes.clone(),
            };
            let tbs = Signed::from_der(&der).map_err(|error| wrong(error.to_string()))?.tbs;
            if !signed.contains(&Digest::of(&tbs)) {
                return Err(wrong("the transcript does not say that the ceremony has signed it".to_owned()));
            }
            parts.push(Part { name: output.parse()?, kind, bytes });
        }
        let kind = |name: &str| match name {
            "checkpoint" => Some(Kind::Checkpoint),
            // What the next run of the ceremony alone would need.
            "lock" | "head.json" => None,
            name if self.checkpoint_only || !is_of_size(name, head.size) => None,
            _ => Some(Kind::Transcript),
        };
        let ceremony = head.origin.as_str().split('/').nth(3).unwrap_or_default();
        for part in parts_below(transcript, kind)? {
            parts.push(Part { name: format!("{TRANSCRIPTS}/{ceremony}/{}", part.name).parse()?, ..part });
        }
        Ok(parts)
    }
}

/// What a plan has the ceremony sign for the installation: the path of each output, and what it is. Requests to corporate
/// roots, and their answers, are carried by other ways.
fn outputs(plan: &Plan) -> Vec<(&str, Kind)> {
    let steps = plan.steps();
    let of = |step: &Step<'_>| match step.what {
        What::Root(_) | What::CrossCertificate(_) | What::Intermediate(_) | What::OcspSigner(_) => {
            Some(Kind::Certificate)
        }
        What::Crl(_) => Some(Kind::Crl),
        What::Manual(_)
        | What::Open(_)
        | What::CertificateRequest(_)
        | What::Import(_)
        // Its text and approval stand in the transcript, which comes with the response.
        | What::BundleStatement(_)
        | What::Destruction(_) => None,
    };
    steps.iter().filter_map(|step| Some((step.output()?, of(step)?))).collect()
}

/// Whether a file of a log's folder belongs to the log of that size, and is not what was there when it was shorter: the
/// partial tiles `tile/<level>/<index>.p/<width>` (C2SP tlog-tiles).
fn is_of_size(name: &str, size: u64) -> bool {
    let Some((tile, width)) = name.rsplit_once(".p/") else { return true };
    let level = tile.split('/').nth(1).unwrap_or_default();
    let level: u32 = if level == "entries" { 0 } else { level.parse().unwrap_or_default() };
    let at_level = (TILE_WIDTH as u64).checked_pow(level).map_or(0, |hashes| size / hashes);
    width.parse() == Ok(at_level % TILE_WIDTH as u64)
}

/// A transcript that is closed.
struct Closed {
    key: VerifierKey,
    head: Checkpoint,
    /// SHA-256 of all to-be-signed bytes that it has intents for.
    signed: BTreeSet<Digest>,
}

/// Reads a transcript that must be of the plan, or of a rehearsal of it, whole and closed.
fn closed(folder: &Path, plan: &Plan) -> Result<Closed, Failure> {
    let wrong = |what: String| Failure::tampered(format!("the transcript {}: {what}", folder.display()));
    let key = read_vkey(&folder.join("log.vkey"))?;
    let rehearsal = plan.clone().rehearsed()?;
    if key.name() != plan.origin() && key.name() != rehearsal.origin() {
        return Err(wrong(format!("it is {}, and the plan's is {}", key.name(), plan.origin())));
    }
    let read = Read::folder(folder, Some(key.clone()))?;
    let signed = read
        .leaves
        .iter()
        .filter_map(|leaf| match &leaf.body {
            Body::Intent(intent) => Some(match &intent.tbs {
                ToBeSigned::Der(tbs) => Digest::of(&tbs.0),
                ToBeSigned::Blob { sha256, .. } => *sha256,
            }),
            _ => None,
        })
        .collect();
    let standing = read.standing();
    match (standing.ended, standing.plan) {
        (Some(CeremonyEvent::Closed), Some(of)) if of == plan.digest() => {
            Ok(Closed { key, head: read.checkpoint, signed })
        }
        (Some(CeremonyEvent::Closed), Some(found)) => {
            Err(Refusal::OtherPlan { found, expected: plan.digest() }.into())
        }
        _ => {
            let folder = folder.display();
            Err(Failure::refused(format!(
                "the transcript {folder} is not closed; run the ceremony to its end"
            )))
        }
    }
}

async fn transcript_key(tokens: &Tokens, plan: &Plan) -> Result<Key, Failure> {
    let (manager, uri) = locate(tokens, plan.transcript())?;
    Ok(manager.open(&uri, plan.transcript().algorithm).await?)
}
