//! Where a log is: in a folder, or behind a URL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use undercroft_cli::{Failure, Terminal};
use undercroft_log::note::VerifierKey;
use undercroft_log_files::Folder;

use crate::fetch::Server;
use crate::mirror::{self, Mirrored};
use crate::read_key;

/// The log that a command is about.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The folder with the log: the one that holds `checkpoint`. Or the URL of one that is served (http:// or https://,
    /// C2SP tlog-tiles): the one that `/checkpoint` comes behind.
    log: PathBuf,
    /// The key (vkey) that must have signed it, from somebody whom you trust.
    #[arg(long)]
    key: PathBuf,
    /// With a URL: the folder that the log is copied to and kept in. Only what is new is fetched, and the log must be
    /// the continuation of what is there.
    #[arg(long)]
    mirror: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
}

/// The same, where something else may be given in place of a log.
#[derive(Debug, clap::Args)]
pub(crate) struct PerhapsLogArgs {
    /// The folder with the log: the one that holds `checkpoint`. Or the URL of one that is served (http:// or https://,
    /// C2SP tlog-tiles): the one that `/checkpoint` comes behind.
    #[arg(requires = "key")]
    log: Option<PathBuf>,
    /// The key (vkey) that must have signed it, from somebody whom you trust.
    #[arg(long, requires = "log")]
    key: Option<PathBuf>,
    /// With a URL: the folder that the log is copied to and kept in. Only what is new is fetched, and the log must be
    /// the continuation of what is there.
    #[arg(long, requires = "log")]
    mirror: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
}

impl PerhapsLogArgs {
    /// The log, if one was given.
    pub(crate) fn given(self) -> Option<LogArgs> {
        let Self { log, key, mirror, patience } = self;
        log.zip(key).map(|(log, key)| LogArgs { log, key, mirror, patience })
    }
}

/// `undercroft-audit mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct MirrorArgs {
    /// The URL of the log: the one that `/checkpoint` comes behind.
    url: String,
    /// The folder. It is made if it is not there.
    folder: PathBuf,
    /// The key (vkey) that must have signed the log, from somebody whom you trust.
    #[arg(long)]
    key: PathBuf,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, clap::Args)]
struct Patience {
    /// With a URL: how many seconds the answer to a request may take.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time_limit: u64,
}

impl Patience {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.time_limit)
    }
}

/// A log that is there.
pub(crate) struct Log {
    folder: Folder,
    /// Where it was fetched to; gone when it is dropped.
    _fetched: Option<TempDir>,
}

impl Log {
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl LogArgs {
    /// The log, fetched if need be, and its key.
    pub(crate) fn open(&self, terminal: &Terminal) -> Result<(Log, VerifierKey), Failure> {
        let key = read_key(&self.key)?;
        let log = match (url(&self.log), &self.mirror) {
            (None, None) => Log { folder: Folder::new(&self.log), _fetched: None },
            (None, Some(_)) => {
                let log = self.log.display();
                return Err(Failure::usage(format!(
                    "{log} is no URL: --mirror is for logs that are fetched"
                )));
            }
            (Some(url), Some(to)) => {
                update(url, to, &key, &self.patience, terminal)?;
                Log { folder: Folder::new(to), _fetched: None }
            }
            (Some(url), None) => {
                let server = Server::new(url, self.patience.limit())?;
                let to = tempfile::tempdir();
                let to = to.map_err(|error| Failure::failed(format!("a temporary folder: {error}")))?;
                block_on(mirror::copy(&server, &key, to.path(), terminal))?;
                Log { folder: Folder::new(to.path()), _fetched: Some(to) }
            }
        };
        Ok((log, key))
    }
}

impl MirrorArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<(), Failure> {
        let key = read_key(&self.key)?;
        let Mirrored { size, before } = update(&self.url, &self.folder, &key, &self.patience, terminal)?;
        let new = size - before;
        let value =
            json!({ "log": key.name().to_string(), "entries": size, "new": new, "folder": self.folder });
        terminal.result(&value, || {
            format!("{size} entries of {} ({new} new) in {}\n", key.name(), self.folder.display())
        })
    }
}

fn update(
    url: &str,
    to: &Path,
    key: &VerifierKey,
    patience: &Patience,
    terminal: &Terminal,
) -> Result<Mirrored, Failure> {
    let server = Server::new(url, patience.limit())?;
    block_on(mirror::update(&server, key, &Folder::new(to), terminal))
}

/// The URL that a log's place is, if it is one.
fn url(place: &Path) -> Option<&str> {
    place.to_str().filter(|place| place.starts_with("http://") || place.starts_with("https://"))
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?.block_on(work)
}
