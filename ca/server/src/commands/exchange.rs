//! `undercroft request` and `undercroft import`: the online side of the air gap.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::json;
use undercroft_ca::exchange::{
    Asked, Change, Difference, Direction, Expected, Kind, Message, Opened, Part, PartName, Refusal, Response,
    State, Terms,
};
use undercroft_ca::log_key::LogKey;
use undercroft_ca::time::Lifetime;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{
    Failure, StrictArgs, Terminal, hand_over, nonce, parts_below, read_aloud, read_bytes, read_text,
    read_vkey, told, write_file,
};
use undercroft_keymgr::KeyUri;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::Clock as _;
use undercroft_log::leaf::Digest;

use crate::config::Installation;

/// Arguments of `request`.
#[derive(Debug, clap::Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    installation: InstallationArgs,
    /// The folder with what `keys create` has written.
    #[arg(long)]
    requests: PathBuf,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// The plan of the ceremony, if it is written already.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// The checkpoint of the control log, from its export.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// A text that says what the next CRLs should revoke, for whoever writes the plan.
    #[arg(long)]
    revocations: Option<PathBuf>,
    /// How long it is good for, 90d at most.
    #[arg(long, default_value = "14d")]
    valid: Lifetime,
    /// An Ed25519 key that signs in place of the control log's.
    #[arg(long)]
    key: Option<KeyUri>,
    /// Write the key that verifies the file here, for the offline side.
    #[arg(long)]
    vkey_out: Option<PathBuf>,
    /// Show the file as a QR code.
    #[arg(long)]
    qr: bool,
    /// Collect and check everything, and sign and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    installation: InstallationArgs,
    /// The response.
    response: PathBuf,
    /// The key (vkey) of the ceremony's transcript.
    #[arg(long)]
    key: PathBuf,
    /// The folder that its files go to.
    #[arg(long)]
    into: PathBuf,
    /// Write them, without asking.
    #[arg(long, conflicts_with = "rehearsal")]
    accept: bool,
    /// Look at what a rehearsal has made. Nothing is written.
    #[arg(long)]
    rehearsal: bool,
}

#[derive(Debug, clap::Args)]
struct InstallationArgs {
    /// The configuration file.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
}

impl InstallationArgs {
    fn read(&self) -> Result<Installation, Failure> {
        let secrecy = self.strict.secrecy();
        Installation::read(&self.config, secrecy, crate::backends(secrecy))
    }
}

impl RequestArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let installation = self.installation.read()?;
        if self.out.exists() {
            return Err(Failure::usage(format!(
                "{} exists already, and nothing is overwritten",
                self.out.display()
            )));
        }
        let created = whole_seconds(SystemClock.now());
        let terms = Terms {
            origin: installation.origin.clone(),
            policy: installation.policy,
            plan: self.plan.as_deref().map(digest_of).transpose()?,
            nonce: nonce()?,
            created,
            expires: created + self.valid.0,
            answers: None,
        };
        let request = Message::new(terms, self.parts()?)?;
        let keys = request.keys()?;
        if self.dry_run {
            return terminal.result(&json!({ "made": false, "keys": keys.len() }), || {
                let parts = request.parts().len();
                format!(
                    "{parts} parts with requests for {} keys are in order; nothing was signed.\n",
                    keys.len()
                )
            });
        }
        let uri = self.key.as_ref().unwrap_or(&installation.log_key);
        let (file, signer) = block_on(async {
            let key = installation.tokens.open(uri, KeyAlgorithm::Ed25519).await?;
            let signer = LogKey::new(installation.origin.clone(), key);
            let signer = signer.map_err(|error| Failure::usage(format!("{uri}: {error}")))?;
            Ok::<_, Failure>((request.seal(&signer).await?, signer))
        })?;
        if let Some(path) = &self.vkey_out {
            write_file(path, format!("{}\n", signer.verifier()).as_bytes())?;
        }
        // Remembered before it leaves: an answer to what is not remembered is refused.
        let digest = Digest::of(file.as_bytes());
        let asked = Asked::of(&request, digest)?;
        let json = serde_json::to_vec_pretty(&asked).map_err(|error| Failure::failed(error.to_string()))?;
        write_file(&installation.exchange.join(format!("{digest}.asked.json")), &json)?;
        hand_over(&self.out, &file, &request, signer.verifier(), self.qr, terminal)
    }

    fn parts(&self) -> Result<Vec<Part>, Failure> {
        let kind = |name: &str| match name {
            name if name.ends_with(".csr.pem") => Some(Kind::Csr),
            name if name.ends_with(".custody.json") => Some(Kind::Custody),
            _ => None,
        };
        let mut parts = parts_below(&self.requests, kind)?;
        for (path, name, kind) in [
            (&self.checkpoint, "checkpoint", Kind::Checkpoint),
            (&self.revocations, "revocations", Kind::Revocations),
        ] {
            if let Some(path) = path {
                parts.push(Part { name: name.parse()?, kind, bytes: read_text(path)?.into_bytes() });
            }
        }
        if parts.is_empty() {
            return Err(Failure::usage(format!(
                "{} has no *.csr.pem and no *.custody.json; make keys with `undercroft keys create`",
                self.requests.display()
            )));
        }
        Ok(parts)
    }
}

impl ImportArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let installation = self.installation.read()?;
        let during = |failure: Failure| failure.during(self.response.display());
        let response = self.judge(&installation).map_err(during)?;
        let existing = |name: &PartName| -> Result<Option<Vec<u8>>, Failure> {
            let path = self.into.join(name.as_str());
            if path.exists() { read_bytes(&path).map(Some) } else { Ok(None) }
        };
        let difference = Difference::new(&response, &installation.roots, existing)?;
        let opened = response.opened();
        let show = |imported: bool| {
            let mut value = told(opened.message(), opened.digest());
            if let serde_json::Value::Object(members) = &mut value {
                members.insert("difference".into(), json!(difference));
                members.insert("imported".into(), json!(imported));
            }
            value
        };
        let shown = text(opened, &difference);
        // Shown before it is asked about, and not once more afterwards.
        let asks = !self.accept && response.rehearsal().is_none() && is_interactive(terminal);
        let accepted = match asks {
            true => says_yes(&shown, terminal)?,
            false => self.accept && response.rehearsal().is_none(),
        };
        let shown = if asks { "" } else { &*shown };
        if !accepted {
            return terminal.result(&show(false), || {
                let way = match response.rehearsal() {
                    Some(_) => "it is a rehearsal's",
                    None => "give --accept to take it in",
                };
                format!("{shown}Nothing was written; {way}.\n")
            });
        }
        for part in opened.message().parts() {
            write_file(&self.into.join(part.name.as_str()), &part.bytes)?;
        }
        self.remember(&installation, opened)?;
        terminal.result(&show(true), || format!("{shown}It was imported into {}.\n", self.into.display()))
    }

    fn judge(&self, installation: &Installation) -> Result<Response, Failure> {
        let key = read_vkey(&self.key)?;
        let file = read_bytes(&self.response)?;
        let expected = Expected {
            origin: &installation.origin,
            policy: installation.policy,
            plan: None,
            now: SystemClock.now(),
        };
        let opened = Opened::open(&file, Direction::Response, &key, &expected)?;
        let answers = opened.message().terms().answers.clone();
        let request = answers.map(|answers| answers.request).unwrap_or(opened.digest());
        let remembered = installation.exchange.join(format!("{request}.asked.json"));
        if !remembered.exists() {
            return Err(Refusal::OtherRequest(format!(
                "the response answers the request {request}, which this installation has not made ({} is not there)",
                remembered.display()
            ))
            .into());
        }
        let asked: Asked = serde_json::from_str(&read_text(&remembered)?)
            .map_err(|error| Failure::tampered(format!("{}: {error}", remembered.display())))?;
        let response = Response::judge(opened, &asked, &key, &installation.roots)?;
        match (response.rehearsal(), self.rehearsal) {
            (Some(ceremony), false) => return Err(Refusal::Rehearsal(ceremony.to_string()).into()),
            (None, true) => {
                return Err(Failure::usage("it is a ceremony's and no rehearsal's; leave --rehearsal out"));
            }
            (Some(_), true) | (None, false) => {}
        }
        let imported = imported(installation, request);
        if imported.exists() {
            let what = read_text(&imported)?;
            return Err(Refusal::Replayed(format!(
                "the request {request} was answered: {}",
                what.trim_end()
            ))
            .into());
        }
        Ok(response)
    }

    fn remember(&self, installation: &Installation, opened: &Opened) -> Result<(), Failure> {
        let Some(answers) = &opened.message().terms().answers else { return Ok(()) };
        let text = format!("imported response {} at {}\n", opened.digest(), whole_seconds(SystemClock.now()));
        write_file(&imported(installation, answers.request), text.as_bytes())
    }
}

fn imported(installation: &Installation, request: Digest) -> PathBuf {
    installation.exchange.join(format!("{request}.imported"))
}

/// What people see before they accept.
fn text(opened: &Opened, difference: &Difference) -> String {
    let terms = opened.message().terms();
    let ceremony = terms.answers.as_ref().map(|answers| answers.ceremony.to_string()).unwrap_or_default();
    let mut text = format!("response of {ceremony}, made {}\n{}", terms.created, read_aloud(opened.digest()));
    if let Some(plan) = terms.plan {
        text += &format!("plan       {plan}\n");
    }
    let transcript = |change: &&Change| change.kind == Kind::Transcript;
    for Change { name, kind, state, says } in difference.files.iter().filter(|change| !transcript(change)) {
        text += &format!("{:10} {kind} {name}\n", mark(*state));
        text += &says.iter().map(|line| format!("             {line}\n")).collect::<String>();
    }
    for state in [State::New, State::Same, State::Changed] {
        let files = difference.files.iter().filter(transcript).filter(|change| change.state == state).count();
        if files > 0 {
            text += &format!("{:10} {files} files of the transcript\n", mark(state));
        }
    }
    for (what, roots) in [("ROOT COMES", &difference.roots_added), ("ROOT GOES", &difference.roots_removed)] {
        text += &roots.iter().map(|root| format!("{what:10} {root}\n")).collect::<String>();
    }
    text
}

fn mark(state: State) -> &'static str {
    match state {
        State::New => "new",
        State::Same => "same",
        State::Changed => "OVERWRITES",
    }
}

/// Whether people are at both ends.
fn is_interactive(terminal: &Terminal) -> bool {
    terminal.is_for_people() && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Shows the difference and takes a typed `yes`.
fn says_yes(shown: &str, terminal: &Terminal) -> Result<bool, Failure> {
    terminal.result(&(), || shown.to_owned())?;
    terminal.raw(b"Type yes to write this: ")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    Ok(answer.trim_end() == "yes")
}

fn digest_of(path: &Path) -> Result<Digest, Failure> {
    Ok(Digest::of(read_text(path)?.as_bytes()))
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
