//! `undercroft-ceremony respond`: packs what a finished ceremony has made, for the way back.

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::json;
use undercroft_ca::exchange::{
    Answers, Direction, Expected, Kind, Message, Opened, Part, REHEARSAL, Refusal, Terms, is_rehearsal,
};
use undercroft_ca::log_key::{CEREMONY, LogKey, ORIGIN_PART};
use undercroft_ca::plan::Plan;
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{
    Environment, Failure, StrictArgs, Terminal, hand_over, nonce, parts_below, read_bytes, read_vkey,
    write_file,
};
use undercroft_keymgr::{Key, KeyUri, Pkcs11Uri, Tokens};
use undercroft_log::Clock as _;
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::{Body, Ceremony, CeremonyEvent, Leaf};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::open::{REQUEST, REQUEST_KEY, answered, is_for, record};

/// Where transcripts are in a response, each below the name of its ceremony: none takes the place of another.
const TRANSCRIPTS: &str = "transcripts";

/// How many entries a bundle holds, and hashes a tile (C2SP tlog-tiles).
const TILE_WIDTH: u64 = 256;

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
        let (key, checkpoint) = closed(&transcript, &plan)?;
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
        let response = Message::new(terms, self.parts(&plan, &transcript, &checkpoint)?)?;
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

    fn parts(&self, plan: &Plan, transcript: &Path, head: &Checkpoint) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for (output, kind) in outputs(plan) {
            let bytes = read_bytes(&self.from.join(output))?;
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

/// What a plan makes: the path of each output, and what it is.
fn outputs(plan: &Plan) -> impl Iterator<Item = (&str, Kind)> {
    let roots = plan.roots().iter().map(|root| (root.output(), Kind::Certificate));
    let intermediates = plan.intermediates().iter().map(|artefact| (artefact.output(), Kind::Certificate));
    let crls = plan.crls().iter().map(|crl| (crl.output(), Kind::Crl));
    roots.chain(intermediates).chain(crls)
}

/// Whether a file of a log's folder belongs to the log of that size, and is not what was there when it was shorter: the
/// partial tiles `tile/<level>/<index>.p/<width>` (C2SP tlog-tiles).
fn is_of_size(name: &str, size: u64) -> bool {
    let Some((tile, width)) = name.rsplit_once(".p/") else { return true };
    let level = tile.split('/').nth(1).unwrap_or_default();
    let level: u32 = if level == "entries" { 0 } else { level.parse().unwrap_or_default() };
    let at_level = TILE_WIDTH.checked_pow(level).map_or(0, |hashes| size / hashes);
    width.parse() == Ok(at_level % TILE_WIDTH)
}

/// The key and the head of a transcript that is closed, of that plan.
fn closed(folder: &Path, plan: &Plan) -> Result<(VerifierKey, Checkpoint), Failure> {
    let wrong = |what: String| Failure::tampered(format!("the transcript {}: {what}", folder.display()));
    let key = read_vkey(&folder.join("log.vkey"))?;
    let rehearsal = plan.origin().as_str().replacen(
        &format!("/{ORIGIN_PART}/{CEREMONY}/"),
        &format!("/{ORIGIN_PART}/{REHEARSAL}/"),
        1,
    );
    if key.name() != plan.origin() && key.name().as_str() != rehearsal {
        return Err(wrong(format!("it is {}, and the plan's is {}", key.name(), plan.origin())));
    }
    let log = Folder::new(folder);
    let unfinished = |what: &str| {
        Failure::refused(format!("the transcript {}: {what}; run the ceremony to its end", folder.display()))
    };
    let note = log.checkpoint().map_err(|error| wrong(error.to_string()))?;
    let note = note.ok_or_else(|| unfinished("it has no checkpoint"))?;
    let checkpoint = Checkpoint::open(&note, &key).map_err(|error| wrong(error.to_string()))?;
    let last = checkpoint.size.checked_sub(1).ok_or_else(|| unfinished("it is empty"))?;
    let bundle = log.bundle(last / TILE_WIDTH, checkpoint.size).map_err(|error| wrong(error.to_string()))?;
    let entry = bundle.last().ok_or_else(|| unfinished("it is empty"))?;
    let leaf = Leaf::parse(entry).map_err(|error| wrong(error.to_string()))?;
    match leaf.body {
        Body::Ceremony(Ceremony { event: CeremonyEvent::Closed, plan: of, .. }) if of == plan.digest() => {
            Ok((key, checkpoint))
        }
        Body::Ceremony(Ceremony { event: CeremonyEvent::Closed, plan: found, .. }) => {
            Err(Refusal::OtherPlan { found, expected: plan.digest() }.into())
        }
        _ => Err(unfinished("its last entry does not close it")),
    }
}

async fn transcript_key(tokens: &Tokens, plan: &Plan) -> Result<Key, Failure> {
    let planned = plan.transcript();
    let device = tokens.device(&planned.device)?;
    let KeyUri::Pkcs11(uri) = &device.uri else {
        return Err(Failure::usage(format!(
            "the transcript's key is in device `{}`, which is no PKCS#11 token",
            planned.device
        )));
    };
    let uri = KeyUri::Pkcs11(Pkcs11Uri { object: Some(planned.label.clone()), ..uri.clone() });
    Ok(tokens.manager(device)?.open(&uri, planned.algorithm).await?)
}
