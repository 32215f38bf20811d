//! `undercroft backup`: the running daemon's state, as files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::json;
use undercroft_cli::{Failure, Terminal, write_file};
use undercroft_log::leaf::Digest;
use undercroft_proto::recovery as v1;
use undercroft_proto::recovery::recovery_client::RecoveryClient;

use super::client::{AdminArgs, block_on, told};
use crate::backup::{COPY, CopyOf, MANIFEST, Manifest};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The folder that it is written to. It must not hold a backup yet.
    #[arg(long)]
    out: PathBuf,
}

impl BackupArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        block_on(self.take(terminal))
    }

    async fn take(&self, terminal: &Terminal) -> Result<(), Failure> {
        let (place, manifest_at) = (self.out.join(COPY), self.out.join(MANIFEST));
        if let Some(there) = [&place, &manifest_at].into_iter().find(|path| path.exists()) {
            return Err(Failure::usage(format!(
                "{} is there already, and a backup overwrites nothing; choose another folder",
                there.display()
            )));
        }
        let mut client = RecoveryClient::new(self.admin.connect().await?);
        let mut stream = client.backup(v1::BackupRequest {}).await.map_err(told)?.into_inner();
        let first = stream.message().await.map_err(told)?;
        let first = first.ok_or_else(|| Failure::unreachable("the daemon sent no backup"))?;
        let mut manifest =
            Manifest::parse(&first.manifest).map_err(|error| Failure::tampered(error.to_string()))?;
        let failed = |error: std::io::Error| {
            Failure::failed(format!("{} cannot be written: {error}", place.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(failed)?;
        // Whole or not at all. It tells who has certificates, and so it is its owner's alone.
        let mut file = tempfile::NamedTempFile::new_in(&self.out).map_err(failed)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let progress = terminal.progress(first.length, "backup");
        let (mut digest, mut length) = (Context::new(&SHA256), 0);
        while let Some(chunk) = stream.message().await.map_err(told)? {
            file.write_all(&chunk.bytes).map_err(failed)?;
            digest.update(&chunk.bytes);
            length += chunk.bytes.len() as u64;
            progress.advance(chunk.bytes.len() as u64);
        }
        drop(progress);
        if length != first.length {
            return Err(Failure::unreachable(format!(
                "the daemon stopped after {length} of {} bytes; run it again",
                first.length
            )));
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&place).map_err(|error| failed(error.error))?;
        let sha256 = finished(digest);
        manifest.copy = Some(CopyOf { length, sha256 });
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Failure::failed(format!("the manifest: {error}")))?;
        write_file(&manifest_at, (text + "\n").as_bytes())?;
        File::open(&self.out).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let sizes = manifest.logs.iter().map(|log| json!({ "origin": log.origin, "size": log.head.size }));
        let value = json!({
            "folder": self.out,
            "length": length,
            "sha256": sha256.to_string(),
            "logs": sizes.collect::<Vec<_>>(),
        });
        terminal.result(&value, || {
            let logs = manifest.logs.iter().map(|log| format!("  {:10} {}\n", log.head.size, log.origin));
            format!(
                "{} holds {length} bytes, with the entries of\n{}",
                self.out.display(),
                logs.collect::<String>()
            )
        })
    }
}

/// The digest of everything that was read.
pub(super) fn finished(context: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest(bytes)
}
