//! `undercroft-ceremony requests open`: verifies a request from across the air gap, and unpacks it for `run`.

use std::path::{Path, PathBuf};

use serde_json::json;
use undercroft_ca::exchange::{Direction, Expected, Opened, Refusal, operator};
use undercroft_ca::plan::Plan;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Failure, Terminal, read_aloud, read_bytes, read_text, read_vkey, told, write_file};
use undercroft_log::Clock as _;
use undercroft_log::leaf::Digest;

/// The request itself, beside what it was unpacked to.
pub(crate) const REQUEST: &str = "request.ucr";

/// The key that has signed it.
pub(crate) const REQUEST_KEY: &str = "request.vkey";

/// Arguments of `requests open`.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// The request.
    request: PathBuf,
    /// The key (vkey) that must have signed it: of the installation's control log, or what `request --vkey-out` wrote.
    #[arg(long)]
    key: PathBuf,
    /// The plan that it is for.
    #[arg(long)]
    plan: PathBuf,
    /// The policy that was reviewed with the plan.
    #[arg(long)]
    policy: PathBuf,
    /// The folder that remembers which requests were answered. It stays with the offline machine.
    #[arg(long)]
    state: PathBuf,
    /// The folder to unpack it to: what `run --requests` reads.
    #[arg(long)]
    out: PathBuf,
    /// Verify and show it, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

impl OpenArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let during = |failure: Failure| failure.during(self.request.display());
        let key = read_vkey(&self.key)?;
        let plan = crate::read_plan(&self.plan)?;
        let policy = Digest::of(read_text(&self.policy)?.as_bytes());
        let file = read_bytes(&self.request)?;
        let expected =
            Expected { origin: key.name(), policy, plan: Some(plan.digest()), now: SystemClock.now() };
        let opened = Opened::open(&file, Direction::Request, &key, &expected)
            .map_err(|refusal| during(refusal.into()))?;
        is_for(&plan, &opened).map_err(|refusal| during(refusal.into()))?;
        if let Some(answered) = answered(&self.state, opened.digest())? {
            return Err(during(Refusal::Replayed(format!("it was answered: {answered}")).into()));
        }
        let keys = opened.message().keys().map_err(|refusal| during(refusal.into()))?;
        if !self.dry_run {
            self.unpack(&file, &opened, &key.to_string())?;
        }
        let digest = opened.digest();
        let value = json!({ "request": told(opened.message(), digest), "unpacked": !self.dry_run });
        terminal.result(&value, || {
            let terms = opened.message().terms();
            let parts = opened.message().parts().iter();
            let lines = parts.map(|part| format!("  {:12} {}\n", part.kind, part.name));
            let done = match self.dry_run {
                true => "Nothing was written.".to_owned(),
                false => format!("It was unpacked into {}.", self.out.display()),
            };
            format!(
                "request of {}, made {}, good until {}\n{}{}It asks certificates for {} keys. {done}\n",
                terms.origin,
                terms.created,
                terms.expires,
                read_aloud(digest),
                lines.collect::<String>(),
                keys.len()
            )
        })
    }

    /// Writes the parts, over nothing that is another's.
    fn unpack(&self, file: &[u8], opened: &Opened, key: &str) -> Result<(), Failure> {
        let parts = opened.message().parts().iter();
        let files = parts.map(|part| (self.out.join(part.name.as_str()), part.bytes.clone()));
        let own = [
            (self.out.join(REQUEST), file.to_vec()),
            (self.out.join(REQUEST_KEY), format!("{key}\n").into_bytes()),
        ];
        let files: Vec<(PathBuf, Vec<u8>)> = files.chain(own).collect();
        for (path, bytes) in &files {
            if path.exists() && read_bytes(path)? != *bytes {
                return Err(Failure::usage(format!(
                    "{} is another already, and nothing is overwritten; choose another folder",
                    path.display()
                )));
            }
        }
        files.iter().try_for_each(|(path, bytes)| write_file(path, bytes))
    }
}

/// Whether a request comes from the operator of the plan.
pub(crate) fn is_for(plan: &Plan, opened: &Opened) -> Result<(), Refusal> {
    let origin = &opened.message().terms().origin;
    match operator(origin) == operator(plan.origin()) {
        true => Ok(()),
        false => Err(Refusal::OtherOrigin {
            found: origin.to_string(),
            expected: format!("an installation of {}, whose plan this is", operator(plan.origin())),
        }),
    }
}

/// Where it stands that a request was answered.
pub(crate) fn record(state: &Path, request: Digest) -> PathBuf {
    state.join(format!("{request}.answered"))
}

/// What stands there: nothing if the request was not answered yet.
pub(crate) fn answered(state: &Path, request: Digest) -> Result<Option<String>, Failure> {
    let path = record(state, request);
    match path.exists() {
        true => Ok(Some(read_text(&path)?.trim_end().to_owned())),
        false => Ok(None),
    }
}
