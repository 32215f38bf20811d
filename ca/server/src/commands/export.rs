//! `undercroft log export`: a log as static tiles in a folder, for any web server and any auditor.

use std::path::{Path, PathBuf};

use serde_json::json;
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::checkpoint::Checkpoint;
use undercroft_log::leaf::Leaf;
use undercroft_log::note::VerifierKey;
use undercroft_log_files::{Folder, FolderError};
use undercroft_proto::v1;
use undercroft_proto::v1::admin_client::AdminClient;

use super::client::{AdminArgs, block_on, told};

/// Commands about logs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum LogCommand {
    /// Write a log to a folder, as static tiles. Only what is new is fetched if the folder holds a part already.
    Export(ExportArgs),
}

/// Arguments of `log export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The trust domain whose log it is.
    domain: String,
    /// The folder.
    #[arg(long)]
    to: PathBuf,
    /// The key (vkey) that must have signed the log; the one that the daemon names if absent.
    #[arg(long)]
    log_key: Option<PathBuf>,
}

impl LogCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let Self::Export(args) = self;
        block_on(export(&args, terminal))
    }
}

async fn export(args: &ExportArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut client = AdminClient::new(args.admin.connect().await?);
    let status = client.get_status(v1::GetStatusRequest {}).await.map_err(told)?.into_inner();
    let domain = status.domains.into_iter().find(|domain| domain.name == args.domain).ok_or_else(|| {
        Failure::usage(format!("no domain `{}`; see `undercroft domain list`", args.domain))
    })?;
    let key_text = match &args.log_key {
        Some(path) => read_text(path)?,
        None => domain.log_key,
    };
    let key: VerifierKey =
        key_text.trim_end().parse().map_err(|error| Failure::usage(format!("the log's key: {error}")))?;
    let folder = Folder::new(&args.to);
    let start = exported(&folder, &key)?;
    if start > domain.log_size {
        return Err(Failure::tampered(format!(
            "{} holds {start} signed entries of {}, and the daemon's log has {}: it has lost or hidden some; keep the folder",
            folder.path().display(),
            key.name(),
            domain.log_size
        )));
    }
    let progress = terminal.progress(domain.log_size - start, "export");
    let request = v1::ReadLogRequest { domain: args.domain.clone(), start };
    let mut stream = client.read_log(request).await.map_err(told)?.into_inner();
    let (mut size, mut blobs, mut checkpoint) = (start, Vec::new(), None);
    while let Some(chunk) = stream.message().await.map_err(told)? {
        if !chunk.entries.is_empty() {
            let leaves = chunk.entries.iter().filter_map(|entry| Leaf::parse(entry).ok());
            blobs.extend(leaves.flat_map(|leaf| leaf.body.blobs()));
            folder.append(size, chunk.entries.iter().map(Vec::as_slice)).map_err(|error| told_of(&error))?;
            size += chunk.entries.len() as u64;
            progress.advance(chunk.entries.len() as u64);
        }
        if !chunk.checkpoint.is_empty() {
            checkpoint = Some(chunk.checkpoint);
        }
    }
    for (digest, _) in blobs {
        let request = v1::GetBlobRequest { domain: args.domain.clone(), sha256: digest.0.to_vec() };
        let blob = client.get_blob(request).await.map_err(told)?.into_inner().blob;
        folder.write_blob(&blob).map_err(|error| told_of(&error))?;
    }
    drop(progress);
    let note = checkpoint
        .ok_or_else(|| Failure::unreachable("the daemon stopped in the middle of the log; run it again"))?;
    complete(&folder, &note, size, &key)?;
    let value = json!({ "log": key.name().to_string(), "entries": size, "new": size - start, "to": args.to });
    terminal.result(&value, || {
        format!("{size} entries of {} ({} new) in {}\n", key.name(), size - start, args.to.display())
    })
}

/// How many entries of the log the folder holds already, by its own checkpoint.
fn exported(folder: &Folder, key: &VerifierKey) -> Result<u64, Failure> {
    let Some(note) = folder.checkpoint().map_err(|error| told_of(&error))? else { return Ok(0) };
    let checkpoint = Checkpoint::open(&note, key).map_err(|error| {
        Failure::tampered(format!(
            "{} holds something else than the log {}: {error}; choose an empty folder",
            folder.path().display(),
            key.name()
        ))
    })?;
    Ok(checkpoint.size)
}

/// Compares what was written with the checkpoint, and only then writes the checkpoint.
fn complete(folder: &Folder, note: &str, size: u64, key: &VerifierKey) -> Result<(), Failure> {
    let forked = |what: String| {
        Failure::tampered(format!("{}: {what}; keep it, and compare the two", show(folder.path())))
    };
    let checkpoint = Checkpoint::open(note, key).map_err(|error| forked(error.to_string()))?;
    let root = folder.tree(size).map_err(|error| told_of(&error))?.root();
    if checkpoint.size != size || checkpoint.root != root {
        return Err(forked(format!(
            "the {size} entries here have the root {root}, and the daemon's checkpoint of {} entries says {}",
            checkpoint.size, checkpoint.root
        )));
    }
    folder.write_checkpoint(note).map_err(|error| told_of(&error))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn told_of(error: &FolderError) -> Failure {
    match error {
        FolderError::Io { .. } => Failure::failed(error.to_string()),
        _ => Failure::tampered(error.to_string()),
    }
}
